"""Networks trained together: each is the one that it would be alone."""

import dataclasses
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samlib.bench.ensemble import grouped, measure_ensemble
from samlib.streams import stream
from samlib.vision import ConvNet, PairConfig, PairResult, PairSource, build_backbone, load_pair, train_pair
from samlib.vision.engine import Ensemble, convolve
from samlib.vision.ensemble import train_pairs
from samlib.vision.pairs import ImageSet
from samlib.vision.reference import sam_step

# 210 images in batches of 40: the last batch of an epoch has 10.
TINY = PairConfig(pair="digits_patches", n_train=210, n_epochs=3, batch_size=40, n_probe=100)
SWEEP = [
    dataclasses.replace(TINY, learning_rate=rate, rho=rho, seed=seed)
    for rate, rho, seed in ((0.01, 0.0, 0), (0.05, 0.1, 0), (0.05, 0.03, 1), (0.1, 0.0, 1))
]


@pytest.fixture(scope="module")
def embedded() -> PairSource:
    return load_pair("digits_patches")


@pytest.fixture(scope="module")
def together(embedded: PairSource) -> list[PairResult]:
    return train_pairs(SWEEP, embedded)


def vector(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def networks(n: int, n_classes: int = 2) -> list[ConvNet]:
    return [build_backbone("convnet", n_classes=n_classes, seed=seed).double() for seed in range(n)]


def noise(n: int, n_classes: int = 2) -> ImageSet:
    images = torch.randint(256, (n, 3, 64, 32), dtype=torch.uint8, generator=stream(0, "images"))
    labels = torch.randint(n_classes, (n,), generator=stream(0, "labels"))
    return ImageSet(images, torch.stack([labels, 1 - labels], 1))


def ensemble_of(members: list[ConvNet], data: ImageSet, rho: list[float], **options: Any) -> Ensemble:
    means = [0.4 + 0.01 * i for i in range(len(members))]
    return Ensemble(members, data, mean=means, rho=rho, **({"momentum": 0.0, "batch_size": 8} | options))


def filled(ensemble: Ensemble, members: list[ConvNet]) -> list[Tensor]:
    ensemble.fill(members)
    return [vector(member) for member in members]


# Whole runs


def assert_close(ours: Any, alone: Any) -> None:
    """Equal metrics, except that a few images may be answered differently: 2,544 test images, 25 in a probe's group."""
    assert list(ours) == list(alone)
    for name, expected in alone.items():
        if "error" in name and expected is not None:
            assert ours[name] == pytest.approx(expected, abs=0.1 if "probe" in name else 0.005), name
        elif not name.endswith("strength"):  # the smallest of the best C: one image may decide it
            assert ours[name] == expected, name


@pytest.mark.parametrize("member", range(len(SWEEP)))
def test_member_is_the_network_of_the_one_network_path(
    embedded: PairSource, together: list[PairResult], member: int
) -> None:
    """A ReLU that flips at zero and SAM's division by the norm enlarge float32's rounding: 1e-7 becomes up to 1e-3."""
    ours, alone = together[member], train_pair(SWEEP[member], embedded)
    difference = (vector(ours.network) - vector(alone.network)).norm() / vector(alone.network).norm()
    assert difference < 1e-3
    curves, expected = ours.metrics.pop("curves"), alone.metrics.pop("curves")
    assert curves["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    assert curves["validation_error"] == pytest.approx(expected["validation_error"], abs=0.1)  # 24 images
    assert_close(ours.metrics, alone.metrics)


def test_diverged_member_reports_what_it_would_alone_and_leaves_the_others(embedded: PairSource) -> None:
    small = dataclasses.replace(TINY, n_train=40, n_epochs=4)
    good, bad = (dataclasses.replace(small, learning_rate=rate, rho=0.05) for rate in (0.01, 1e12))
    ours, alone = train_pairs([good, bad], embedded), train_pair(bad, embedded)
    first, expected = (result.metrics["curves"] for result in (ours[1], alone))
    assert first["train_loss"][0] == pytest.approx(expected["train_loss"][0], rel=1e-5)
    assert [x is None for x in first["train_loss"]] == [x is None for x in expected["train_loss"]]
    assert 1 < len(first["train_loss"]) == len(first["validation_error"]) < 4
    assert {**ours[1].metrics, "curves": None} == {**alone.metrics, "curves": None}
    assert vector(ours[0].network).isfinite().all()
    assert torch.allclose(vector(ours[0].network), vector(train_pair(good, embedded).network), atol=1e-5)


class Memory:
    """A checkpoint that stops the run after some epochs."""

    def __init__(self, stop_after: int) -> None:
        self.file, self.fractions, self.stop_after = io.BytesIO(), list[float](), stop_after

    def load(self) -> dict[str, Any] | None:
        self.file.seek(0)
        return torch.load(self.file, weights_only=True) if self.fractions else None

    def save(self, state: dict[str, Any], fraction: float) -> None:
        self.file = io.BytesIO()
        torch.save(state, self.file)
        self.fractions.append(fraction)
        if len(self.fractions) == self.stop_after:
            raise InterruptedError


@pytest.mark.parametrize("stop_after", [1, 2])
def test_resumed_run_has_the_same_bits(embedded: PairSource, stop_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samlib.vision.train.measure", lambda *args, **options: {})
    configs = [dataclasses.replace(c, n_train=60, batch_size=25, n_epochs=2) for c in SWEEP[1:]]
    whole, checkpoint = train_pairs(configs, embedded), Memory(stop_after)
    with pytest.raises(InterruptedError):
        train_pairs(configs, embedded, checkpoint=checkpoint)
    for ours, expected in zip(train_pairs(configs, embedded, checkpoint=checkpoint), whole, strict=True):
        assert ours.metrics == expected.metrics
        assert torch.equal(vector(ours.network), vector(expected.network))
    assert checkpoint.fractions == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"checkpoint: expected the state of these 2 configurations"):
        train_pairs(configs[1:], embedded, checkpoint=checkpoint)


def test_reduced_precision_of_the_process_is_not_used_and_is_put_back(
    embedded: PairSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step = [], Ensemble._step

    def watched(*arguments: Any) -> None:
        seen.append(torch.get_float32_matmul_precision())
        step(*arguments)

    monkeypatch.setattr(Ensemble, "_step", watched)
    monkeypatch.setattr("samlib.vision.train.measure", lambda *args, **options: {})
    torch.set_float32_matmul_precision("high")
    try:
        train_pairs([dataclasses.replace(TINY, n_train=20, n_epochs=1)], embedded)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest"]


# Refusals


def test_no_configurations_are_refused(embedded: PairSource) -> None:
    with pytest.raises(ValueError, match="configs: expected one or more configurations, got none"):
        train_pairs([], embedded)


@pytest.mark.parametrize("change", [{"batch_size": 41}, {"n_epochs": 2}, {"momentum": 0.5}, {"n_train": 200}])
def test_several_shapes_are_refused_by_name(embedded: PairSource, change: dict[str, Any]) -> None:
    (name, value), *_ = change.items()
    with pytest.raises(ValueError, match=rf"'{name}': \({getattr(TINY, name)}, {value}\).*PairConfig.shape"):
        train_pairs([TINY, dataclasses.replace(TINY, **change)], embedded)


def test_another_pairs_source_is_refused(embedded: PairSource) -> None:
    with pytest.raises(ValueError, match="source: expected the pair 'cifar_mnist'"):
        train_pairs([dataclasses.replace(TINY, pair="cifar_mnist")], embedded)


# Steps, in double precision


def test_each_member_takes_the_reference_step_with_its_own_norm() -> None:
    """Batches of 8, 8 and 4; each member has its own order, radius, step sizes and mean pixel."""
    data, rho = noise(30, n_classes=3), [0.0, 0.1, 2.0]
    rates = torch.tensor([[0.1, 0.2, 0.05], [0.3, 0.1, 0.05], [0.05, 0.1, 0.2]], dtype=torch.float64)
    order = torch.stack([torch.randperm(30, generator=stream(seed, "order"))[:20] for seed in range(3)])
    references, losses = networks(3, 3), []
    for i, network in enumerate(references):
        for rows, rate in zip(order[i].split(8), rates[:, i].tolist(), strict=True):
            images, labels = data.images[rows].double() / 255 - (0.4 + 0.01 * i), data.labels[rows, 0]

            def loss(network: ConvNet = network, x: Tensor = images, y: Tensor = labels) -> Tensor:
                return nn.functional.cross_entropy(network(x), y)

            losses.append(loss().item())
            sam_step(network, loss, rho=rho[i], learning_rate=rate)
    ensemble = ensemble_of(networks(3, 3), data, rho)
    seen = ensemble.run(order, rates)
    assert seen == pytest.approx(torch.tensor(losses).view(3, 3).mean(1).tolist(), rel=1e-6)
    for ours, reference, start in zip(filled(ensemble, networks(3, 3)), references, networks(3, 3), strict=True):
        assert torch.allclose(ours, vector(reference), rtol=0, atol=1e-13)
        assert (vector(reference) - vector(start)).abs().max() > 1e-3


def test_radius_zero_is_sgd_with_momentum_beside_sam() -> None:
    data, order = noise(24), torch.arange(24).expand(2, -1)
    network = networks(1)[0]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for rows in order[0].split(8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(data.images[rows].double() / 255 - 0.4), data.labels[rows, 0]).backward()
        optimizer.step()
    for rho in ([0.0, 0.1], [0.0, 0.0]):  # with the second pass and without
        ensemble = ensemble_of(networks(2), data, rho, momentum=0.9)
        ensemble.run(order, torch.full((3, 2), 0.1, dtype=torch.float64))
        assert torch.allclose(filled(ensemble, networks(2))[0], vector(network), rtol=0, atol=1e-13)


def test_second_pass_is_skipped_where_no_member_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, gradient = [], Ensemble._gradient
    monkeypatch.setattr(Ensemble, "_gradient", lambda *args: passes.append(1) or gradient(*args))
    for rho, expected in (([0.0, 0.0], 1), ([0.0, 0.1], 2)):
        passes.clear()
        ensemble_of(networks(2), noise(8), rho).run(torch.arange(8).expand(2, -1), torch.ones(1, 2))
        assert len(passes) == expected


def test_member_is_the_same_alone_and_beside_one_that_diverges() -> None:
    data, order = noise(16), torch.arange(16).expand(3, -1)
    rates = torch.tensor([0.1, 1e200, 0.1], dtype=torch.float64).expand(2, -1)
    three = ensemble_of(networks(3), data, [0.1, 0.1, 0.0])
    alone = ensemble_of(networks(1), data, [0.1])
    for _ in range(2):
        losses = three.run(order, rates)
        alone.run(order[:1], rates[:, :1])
    assert not torch.tensor(losses[1]).isfinite()
    assert torch.allclose(three.weights[0], alone.weights[0], rtol=0, atol=1e-13)
    assert three.weights[2].isfinite().all()


def test_zero_gradient_gives_no_perturbation() -> None:
    """All weights 0 and both labels equally often: the gradient is exactly 0."""
    data = ImageSet(noise(8).images, torch.arange(8)[:, None].expand(-1, 2) % 2)
    ensemble = ensemble_of(networks(1), data, [0.1])
    ensemble.weights.zero_()
    assert ensemble.run(torch.arange(8)[None], torch.ones(1, 1)) == pytest.approx([torch.tensor(2.0).log().item()])
    assert torch.equal(ensemble.weights, torch.zeros_like(ensemble.weights))


def test_misses_are_counted_on_each_members_own_rows() -> None:
    data, members = noise(30), networks(2)
    rows = torch.stack([torch.arange(20), torch.arange(10, 30)])
    misses = ensemble_of(members, data, [0.0, 0.0]).misses(data, rows)
    for i, network in enumerate(members):
        answers = network(data.images[rows[i]].double() / 255 - (0.4 + 0.01 * i)).argmax(1)
        assert misses[i] == (answers != data.labels[rows[i], 0]).sum()
    assert 0 < min(misses) <= max(misses) < 20


@pytest.mark.parametrize("convolution", [convolve, grouped])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 2, 2), (3, 2, 1), (3, 2, 0), (1, 1, 0)])
def test_convolution_and_its_gradient_match_the_librarys(
    convolution: Any, kernel: int, stride: int, padding: int
) -> None:
    generator = stream(0, "numbers")
    shapes = ((2, 3, 8, 9, 4), (2, kernel**2 * 4, 6), (2, 1, 6))
    inputs = [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]
    images, weight, bias = inputs
    ours = convolution(images, weight, bias, kernel=kernel, stride=stride, padding=padding)
    filters = weight.view(2, kernel, kernel, 4, 6).permute(0, 4, 3, 1, 2)
    expected = torch.stack(
        [nn.functional.conv2d(images[i].permute(0, 3, 1, 2), filters[i], bias[i, 0], stride, padding) for i in range(2)]
    ).permute(0, 1, 3, 4, 2)
    assert torch.allclose(ours, expected, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad((y**3).sum(), inputs) for y in (ours, expected)), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


# On a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: a CUDA graph is captured")
def test_captured_step_equals_steps_launched_one_by_one() -> None:
    data = ImageSet(*(part.cuda() for part in noise(60, n_classes=5)))
    members = [build_backbone("convnet", n_classes=5, seed=seed, device="cuda") for seed in range(3)]
    captured, eager = (ensemble_of(members, data, [0.0, 0.05, 0.1], momentum=0.9, batch_size=25) for _ in range(2))
    assert captured._graph is not None
    assert torch.equal(captured.weights, torch.stack([w for w in eager.weights]))
    assert not captured.velocity.any()
    eager._graph = None
    order = torch.stack([torch.randperm(60, generator=stream(seed, "order")) for seed in range(3)])
    rates = torch.full((3, 3), 0.05)
    assert captured.run(order, rates) == pytest.approx(eager.run(order, rates), rel=1e-5)
    assert torch.allclose(captured.weights, eager.weights, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: compares it with the CPU")
def test_cuda_equals_the_one_network_path_on_the_cpu(embedded: PairSource) -> None:
    for config, ours in zip(SWEEP, train_pairs(SWEEP, embedded, device="cuda"), strict=True):
        alone = train_pair(config, embedded)
        difference = (vector(ours.network).cpu() - vector(alone.network)).norm() / vector(alone.network).norm()
        assert difference < 1e-2
        assert ours.metrics["curves"]["train_loss"] == pytest.approx(alone.metrics["curves"]["train_loss"], rel=1e-3)


# Benchmark


def test_benchmark_names_every_method_once_for_each_size() -> None:
    rows = measure_ensemble((1, 2), batch_size=4, n_batches=1, rounds=1)
    assert [(row["method"], row["members"]) for row in rows] == [
        ("one network", 1),
        ("ensemble", 1),
        ("ensemble, grouped", 1),
        ("ensemble", 2),
        ("ensemble, grouped", 2),
    ]
    assert all(row["images_per_s"] > 0 and row["device"] == "cpu" for row in rows)
