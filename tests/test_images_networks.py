"""Pretrained networks in parts, what they are loaded from, and the views of images that they see."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import hflip, resized_crop

from samlib.images.augment import augmented_view, centre_view, jittered, random_boxes, resized_boxes
from samlib.images.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, build_backbone, state_sha256
from samlib.streams import stream

State = dict[str, Tensor]


def made_up_state(name: str) -> State:
    """A state with torchvision's names and shapes, whose activations neither vanish nor explode."""
    with torch.device("meta"):
        network = getattr(models, name)()
    generator = stream(0, name)
    state = {}
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            state[key] = noise * math.sqrt(1 / tensor[0].numel())
        else:  # weight and variance of a norm are near 1, bias and mean near 0
            state[key] = 0.1 * noise + (1 if key.endswith(("weight", "var")) else 0)
            if key.endswith("var"):
                state[key].abs_()
    return state


@pytest.fixture(scope="module")
def densenet() -> State:
    return made_up_state("densenet121")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, densenet: State) -> None:
    """Let torchvision's enumerations of weights return made-up ones."""

    def get_state_dict(self: Any, *, check_hash: bool, progress: bool) -> State:
        assert check_hash
        name = type(self).__name__.removesuffix("_Weights").lower()
        return dict(densenet) if name == "densenet121" else made_up_state(name)

    monkeypatch.delenv("SAMLIB_WEIGHTS", raising=False)
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", get_state_dict)


@pytest.fixture
def weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[State], Path]:
    """Write a state in half precision, and point the variable at it."""

    def write(state: State) -> Path:
        path = tmp_path / "densenet121_imagenet_fp16.safetensors"
        save_file({key: value.half() for key, value in state.items()}, path)
        monkeypatch.setenv("SAMLIB_WEIGHTS", str(path))
        return path

    return write


def images_for(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=stream(0, "images"))


def build(name: str, trained: str = "all", seed: int = 0) -> Backbone:
    return build_backbone(name, n_classes=2, trained=trained, seed=seed)


def epsilons(network: nn.Module) -> set[float]:
    return {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)}


# Parts


@pytest.mark.parametrize(
    ("name", "n_features", "channels"),
    [("smallnet", 32, 16), ("resnet18", 512, 256), ("resnet50", 2048, 1024), ("densenet121", 1024, 512)],
)
@pytest.mark.usefixtures("offline")
def test_frozen_part_and_trunk_are_the_whole_network(name: str, n_features: int, channels: int) -> None:
    whole, parts = build(name).eval(), build(name, "last block").eval()
    images = images_for(64)
    assert isinstance(whole.lower, nn.Identity)
    between = parts.lower(images)
    kept = between.clone()
    features = parts.trunk(between)
    assert torch.equal(between, kept), "the trunk does not write into its inputs, which are stored ones"
    assert between.shape[1] == channels
    assert features.shape == (2, n_features) == (2, parts.n_features)
    assert 0.01 < features.std() < 100
    torch.testing.assert_close(features, whole.trunk(images))
    torch.testing.assert_close(parts(between), whole(images))
    assert parts.weights_sha256 == whole.weights_sha256
    assert (parts.weights_sha256 is None) == (name == "smallnet")


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.usefixtures("offline")
def test_features_are_torchvisions(name: str) -> None:
    reference = getattr(models, name)()
    reference.load_state_dict(made_up_state(name), strict=False)
    setattr(reference, "fc" if name == "resnet18" else "classifier", nn.Identity())
    images, ours = images_for(64), build(name)
    for training in (True, False):  # with the batch's means; with those that it has moved
        found, expected = (ours.train(training).trunk(images), reference.train(training)(images))
        # The two lay images out differently in memory.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["smallnet", "resnet18", "densenet121"])
@pytest.mark.usefixtures("offline")
def test_numbers_come_from_their_own_streams(name: str) -> None:
    state = torch.get_rng_state()
    first, again, other = (build(name, "last block", seed) for seed in (0, 0, 1))
    assert state_sha256(first.state_dict()) == state_sha256(again.state_dict())
    assert not torch.equal(first.head.weight, other.head.weight)
    bound = 1 / math.sqrt(first.n_features)
    drawn = torch.empty(2, first.n_features).uniform_(-bound, bound, generator=stream(0, "initialization"))
    assert torch.equal(first.head.weight, drawn)
    same = state_sha256(first.trunk.state_dict()) == state_sha256(other.trunk.state_dict())
    assert same == (name != "smallnet")
    assert torch.equal(torch.get_rng_state(), state)


def test_convnet_is_the_papers() -> None:
    network = build_backbone("convnet", n_classes=5, seed=0)
    sizes = [tuple(p.shape) for p in network.parameters()]
    assert sizes == [(32, 3, 5, 5), (32,), (64, 32, 3, 3), (64,), (128, 64, 3, 3), (128,), (5, 4096), (5,)]
    images = torch.zeros(2, 3, 64, 32)
    assert network.trunk(images).shape == (2, 4096) and network(images).shape == (2, 5)


@pytest.mark.parametrize("name", ["convnet", "smallnet"])
def test_new_weights_have_torchs_distribution_and_norms_are_plain(name: str) -> None:
    for layer in build(name).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):  # uniform on +-1 / sqrt(fan-in)
            bound = layer.weight[0].numel() ** -0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound >= layer.bias.abs().max()
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all() and layer.num_batches_tracked == 0
            assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()


def test_digest_covers_names_values_and_types_but_no_counter() -> None:
    state = {"a": torch.zeros(2), "b": torch.ones(1)}
    base = state_sha256(state)
    assert state_sha256({"b": state["b"], "a": state["a"], "n.num_batches_tracked": torch.tensor(3)}) == base
    others = [{"a": torch.zeros(2)}, state | {"a": torch.ones(2)}, state | {"a": torch.zeros(2).half()}]
    assert len({base, *map(state_sha256, others)}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "vgg"}, "backbone: expected one of 'convnet', 'densenet121'"),
        ({"name": "convnet", "trained": "last block"}, "trained: expected one of 'all', got 'last block'"),
        ({"trained": "head"}, "trained: expected one of 'all', 'last block'"),
        ({"n_classes": 1}, "n_classes: expected a whole number"),
    ],
)
def test_bad_requests_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_backbone(**{"name": "smallnet", "n_classes": 2, "seed": 0} | change)


# Weights


def test_file_gives_its_values_and_keras_epsilon(
    densenet: State, weights_file: Callable[[State], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights_file(densenet)
    backbone = build("densenet121", "last block")
    assert epsilons(backbone) == {1.001e-5}
    assert all(module.num_batches_tracked == 0 for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32, torch.int64}
    assert not any(tensor.is_meta for tensor in backbone.state_dict().values())
    assert backbone.weights_sha256 == state_sha256(
        {key: value.half().float() for key, value in densenet.items() if not key.startswith("classifier")}
    )
    monkeypatch.setenv("SAMLIB_WEIGHTS", str(path.parent))
    assert build("densenet121").weights_sha256 == backbone.weights_sha256


def test_a_folder_of_weights_serves_every_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = made_up_state("resnet18")
    monkeypatch.setenv("SAMLIB_WEIGHTS", str(tmp_path))
    save_file(state, tmp_path / "resnet18_imagenet_fp16.safetensors")
    backbone = build("resnet18")
    assert torch.equal(backbone.trunk.conv1.weight, state["conv1.weight"])
    assert epsilons(backbone) == {1e-5}
    for place in (tmp_path, tmp_path / "absent"):
        monkeypatch.setenv("SAMLIB_WEIGHTS", str(place))
        with pytest.raises(FileNotFoundError, match=r"SAMLIB_WEIGHTS: .*densenet121_imagenet_fp16\.safetensors.*unset"):
            build("densenet121")


@pytest.mark.usefixtures("offline")
def test_torchvisions_weights_keep_torchs_epsilon_and_may_have_old_names(
    densenet: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = build("densenet121")
    assert epsilons(new) == {1e-5}
    old_names = {re.sub(r"(denselayer.*)([12])\.", r"\1.\2.", key): densenet[key] for key in densenet}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old_names
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda self, **options: old_names)
    assert build("densenet121").weights_sha256 == new.weights_sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {k: v for k, v in state.items() if "running_mean" not in k},
            r"(?s)expected the weights of .* densenet121.*Missing.*features\.norm5\.running_mean",
        ),
        (lambda state: state | {"features.more": torch.zeros(1)}, r"(?s)Unexpected key.*features\.more"),
        (lambda state: state | {"features.norm5.bias": torch.zeros(3)}, r"(?s)size mismatch for features\.norm5\.bias"),
    ],
    ids=["missing", "unexpected", "wrong shape"],
)
def test_other_weights_are_refused(
    change: Callable[[State], State], message: str, densenet: State, weights_file: Callable[[State], Path]
) -> None:
    path = weights_file(change(densenet))
    with pytest.raises(ValueError, match=message) as error:
        build("densenet121", "last block")
    assert str(error.value).startswith(str(path))


def test_truncated_file_is_refused(densenet: State, weights_file: Callable[[State], Path]) -> None:
    path = weights_file(densenet)
    for length in (path.stat().st_size - 1, 100, 3, 0):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(ValueError, match=r"expected a safetensors file.*copy it again"):
            build("densenet121", "last block")


@pytest.mark.parametrize("name", ["densenet121", "resnet18"])
def test_failed_download_names_the_ways_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, **options: Any) -> State:
        raise OSError("no network")

    monkeypatch.delenv("SAMLIB_WEIGHTS", raising=False)
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", fail)
    ways = rf"no network.*after copying https://.*checkpoints.*SAMLIB_WEIGHTS.*{name}_imagenet_fp16\.safetensors"
    with pytest.raises(RuntimeError, match=ways):
        build(name)


# Views


def test_centre_view_is_the_middle_in_imagenets_units() -> None:
    image = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    image[0, 1:3, 1:3] = 255
    view, whole = centre_view(image, 2), centre_view(image, 4)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        torch.testing.assert_close(view[0, channel], torch.full((2, 2), (1 - mean) / std))
        assert whole[0, channel, 0, 0].item() == pytest.approx(-mean / std)
    with pytest.raises(ValueError, match=r"size: expected a whole number in \[1, 4\], got 5"):
        centre_view(image, 5)


def test_images_that_are_not_square_are_refused() -> None:
    wide = torch.zeros(2, 4, 6, 3, dtype=torch.uint8)
    for view in (lambda: centre_view(wide, 2), lambda: augmented_view(wide, 2, stream(0, "boxes"))):
        with pytest.raises(ValueError, match="images: expected square ones, got 2 of 4 x 6 pixels"):
            view()


def test_boxes_lie_in_the_image_have_the_stated_shapes_and_are_distributed_like_torchvisions() -> None:
    side, n = 1000, 4000
    ours = random_boxes(n, side, stream(0, "boxes")).double()
    top, left, height, width = ours.unbind(1)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= side).all() and (left + width <= side).all()
    area, ratio = height * width / side**2, width / height
    assert 0.699 <= area.min() < 0.705 and 0.95 < area.max() <= 1  # rounding moves a side by half a pixel
    assert 0.749 <= ratio.min() < 0.77 and 1.3 < ratio.max() <= 1.335
    places = torch.stack([top / (side - height + 1), left / (side - width + 1)])
    assert places.corrcoef()[0, 1].abs() < 0.07  # drawn independently: four standard deviations
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(3, side, side)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.7, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    for a, b in zip(ours.T, theirs.double().T, strict=True):
        assert abs(a.mean() - b.mean()) < 4 * math.sqrt((a.var() + b.var()) / n)
        assert 0.93 < a.std() / b.std() < 1.07


@pytest.mark.parametrize("size", [13, 20, 31])
def test_resized_boxes_equal_torchvisions(size: int) -> None:
    images = torch.randint(0, 256, (32, 23, 23, 3), generator=stream(0, "photographs")).to(torch.uint8)
    boxes, flipped = random_boxes(32, 23, stream(0, "boxes")), torch.arange(32) % 3 == 0
    ours = resized_boxes(images, boxes, flipped, size)
    for image, box, flip, result in zip(images, boxes.tolist(), flipped, ours, strict=True):
        expected = resized_crop(image.permute(2, 0, 1).float(), *box, [size, size], antialias=False)
        torch.testing.assert_close(result, hflip(expected) if flip else expected, rtol=0, atol=1e-3)


def test_box_that_never_fits_is_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samlib.images.augment.SCALE", (1.5, 2.0))
    assert random_boxes(2, 7, stream(0, "boxes")).tolist() == [[0, 0, 7, 7]] * 2


def test_augmented_view_draws_for_each_image_from_its_generator() -> None:
    state = torch.get_rng_state()
    ramp = torch.arange(64, dtype=torch.uint8)[None, None, :, None].expand(200, 64, 64, 3)
    views, again = (augmented_view(ramp, 32, stream(0, "augmentation")) for _ in range(2))
    assert views.shape == (200, 3, 32, 32)
    assert torch.equal(views, again) and torch.equal(torch.get_rng_state(), state)
    slopes = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    assert 70 <= (slopes < 0).sum() <= 130  # flipped: half of them, give or take four standard deviations
    assert len(slopes.unique()) > 10
    # The brightest white stays white under any crop, in the units of centre_view.
    white = torch.full((3, 64, 64, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(
        augmented_view(white, 32, stream(0, "augmentation")), centre_view(white, 32).expand(3, -1, -1, -1)
    )


def test_colours_change_as_much_as_in_domainbed_and_some_images_are_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    grey = torch.full((400, 3, 2, 2), 0.5)  # of a grey image brightness alone changes
    factors = jittered(grey, stream(0, "augmentation"))[:, 0, 0, 0] / 0.5
    assert 0.7 <= factors.min() < 0.72 and 1.28 < factors.max() <= 1.3
    assert abs(factors.mean() - 1) < 4 * 0.6 / math.sqrt(12 * 400)
    red = torch.tensor([0.8, 0.2, 0.2])[None, :, None, None].expand(400, 3, 2, 2)
    views, again = (jittered(red, stream(0, "augmentation"))[:, :, 0, 0] for _ in range(2))
    assert torch.equal(views, again) and torch.equal(torch.get_rng_state(), state)
    colourless = (views.amax(1) - views.amin(1) < 1e-6).sum()
    assert 16 <= colourless <= 64  # a tenth, give or take four standard deviations
    assert (views.argmax(1) == 0).sum() < 300  # a hue further than a sixth of the circle away is no longer red
    monkeypatch.setattr("samlib.images.augment.JITTER", 0)
    monkeypatch.setattr("samlib.images.augment.GREY", 0)
    torch.testing.assert_close(jittered(red, stream(0, "augmentation")), red)
