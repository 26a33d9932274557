"""The one training loop as pairs, photographs and domains use it: equal to a plain loop, repeatable, resumable."""

import copy
import dataclasses
import functools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from interruption import Interrupted, Memory
from torch import nn

from samlib.images.backbones import build_backbone
from samlib.images.config import DomainConfig, FinetuneConfig, PairConfig
from samlib.images.domains import draw_batches, train_domains
from samlib.images.image_sets import digit_domains, digits_on_patches
from samlib.images.pairs import train_pair
from samlib.images.photographs import train_finetune, weighted_error
from samlib.images.probing import CHOICES, CURVE_STRENGTH, LASSO, Seen
from samlib.images.splits import domain_splits, pair_sets, photograph_splits
from samlib.images.tiles import Block, PairSource, Tiles
from samlib.images.training import Result, evaluate
from samlib.images.views import PairViews, make_views
from samlib.streams import stream


def coloured_source(n: int) -> PairSource:
    """An easy feature (upper tile bright or dark) and a hard one (faint stripes in noise), `n` tiles a class."""
    blocks = []
    for feature, scale in (("shade", 60.0), ("stripes", 12.0)):
        splits = []
        for split in ("train", "test"):
            labels = torch.arange(2).repeat_interleave(n)
            sign = (2.0 * labels - 1)[:, None, None, None]
            stripes = torch.tensor([1.0, -1.0]).repeat(16) if feature == "stripes" else torch.ones(32)
            noise = 20 * torch.randn(2 * n, 1, 32, 32, generator=stream(0, f"{feature} {split}"))
            images = (128 + scale * sign * stripes + noise).clamp(0, 255).to(torch.uint8)
            splits.append(Tiles(images, labels))
        blocks.append(Block(feature, *splits))
    return PairSource("digits_patches", *blocks)


EMBEDDED = {"stored_size": 32, "image_size": 32, "backbone": "smallnet", "n_epochs": 2, "weight_decay": 0.01}
CONFIGS = {
    "pairs": PairConfig(pair="digits_patches", n_train=200, n_epochs=2, batch_size=20, n_probe=100),
    "photographs": FinetuneConfig(
        image_set="digits_on_patches", n_train=100, per_group=20, batch_size=32, learning_rate=0.01, **EMBEDDED
    ),
    "domains": DomainConfig(
        image_set="digit_domains", target="thick", batch_per_domain=16, learning_rate=0.02, **EMBEDDED
    ),
}
TRAIN = {"pairs": train_pair, "photographs": train_finetune, "domains": train_domains}
DATA = {"pairs": lambda: coloured_source(200), "photographs": digits_on_patches, "domains": digit_domains}

every = pytest.mark.parametrize("name", CONFIGS)
two_features = pytest.mark.parametrize("name", ["pairs", "photographs"])


@functools.cache
def data_of(name: str) -> Any:
    return DATA[name]()


def changed(name: str, **values: object) -> Any:
    """The small configuration of one of the three, changed."""
    return dataclasses.replace(CONFIGS[name], **values)


def run(name: str, checkpoint: Memory | None = None, **values: object) -> Result:
    return TRAIN[name](changed(name, **values), data_of(name), checkpoint=checkpoint)


# A plain loop


def train_plainly(network: nn.Module, batches: list, config: Any) -> None:
    """SGD with momentum and weight decay written out; SAM's ascent too, its pass without new running statistics."""
    weights = [p for p in network.parameters() if p.requires_grad]
    velocity = [torch.zeros_like(p) for p in weights]
    for step, (inputs, labels) in enumerate(batches):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), labels), weights)
        if config.rho:
            norm = math.sqrt(sum((g.double() ** 2).sum().item() for g in gradients))
            there = copy.deepcopy(network)
            moved = [p for p in there.parameters() if p.requires_grad]
            with torch.no_grad():
                for p, g in zip(moved, gradients, strict=True):
                    p += config.rho / norm * g
            gradients = torch.autograd.grad(nn.functional.cross_entropy(there(inputs), labels), moved)
        rate = config.learning_rate * (1 + math.cos(math.pi * step / len(batches))) / 2
        with torch.no_grad():
            for p, g, v in zip(weights, gradients, velocity, strict=True):
                v.mul_(config.momentum).add_(g + getattr(config, "weight_decay", 0.0) * p)
                p -= rate * v


def plain_batches(name: str, config: Any, network: nn.Module) -> list:
    """Inputs and labels of every step, drawn as each protocol says."""
    order, augmentation = stream(config.seed, "batch order"), stream(config.seed, "augmentation")
    data, epochs = data_of(name), []
    if name == "pairs":
        train = pair_sets(data, config).train
        inputs, labels = train.images.float() / 255 - train.images.double().mean().item() / 255, train.labels[:, 0]
        rows = [torch.randperm(len(labels), generator=order).split(config.batch_size) for _ in range(config.n_epochs)]
        return [(inputs[places], labels[places]) for epoch in rows for places in epoch]
    places = torch.arange(len(data.table))
    if name == "domains":
        splits, labels = domain_splits(data, config), torch.tensor([int(kind) for kind in data.table["class"]])
        epochs = [draw_batches(splits.train, config.batch_per_domain, order) for _ in range(config.n_epochs)]
    else:
        places, size = photograph_splits(data, config).train, config.batch_size
        labels = torch.tensor(data.table["label"].to_numpy())[places]
        for _ in range(config.n_epochs):
            permutation = torch.randperm(len(labels), generator=order)
            epochs.append([permutation[start : start + size] for start in range(0, len(labels) - size + 1, size)])
    views = make_views(data, places, network, config, mirrored=True, folder=None, device="cpu")
    return [(views.augmented(rows, augmentation), labels[rows]) for epoch in epochs for rows in epoch]


@pytest.mark.parametrize("rho", [0.0, 0.1])
@pytest.mark.parametrize(
    ("name", "values", "atol"),
    [
        ("pairs", {"n_train": 50, "learning_rate": 0.1}, 1e-4),
        ("photographs", {"trained": "all"}, 2e-5),
        ("photographs", {"trained": "last block"}, 2e-5),
        # Ten steps: rounding grows with their number.
        ("domains", {"trained": "all", "batch_per_domain": 64, "learning_rate": 0.01}, 2e-4),
        ("domains", {"trained": "last block", "batch_per_domain": 64, "learning_rate": 0.01}, 2e-4),
    ],
)
def test_training_equals_a_plain_loop(name: str, values: dict, atol: float, rho: float) -> None:
    config = changed(name, rho=rho, **values)
    n_classes = 10 if name == "domains" else 2
    expected, start = (
        build_backbone(config.backbone, n_classes=n_classes, trained=values.get("trained", "all"), seed=config.seed)
        for _ in range(2)
    )
    train_plainly(expected.train(), plain_batches(name, config, expected), config)
    found = run(name, rho=rho, **values).network.state_dict()
    for key, value in start.state_dict().items():
        torch.testing.assert_close(found[key].double(), expected.state_dict()[key].double(), atol=atol, rtol=0)
        assert "num_batches" in key or torch.equal(found[key], value) == key.startswith("lower"), key


# Promises of all three


def assert_equal(one: Result, other: Result) -> None:
    """Every bit of metrics, arrays and network."""
    assert one.metrics == other.metrics and one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@every
def test_a_run_repeats_differs_by_seed_and_leaves_global_generators_alone(name: str) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (run(name, rho=0.05, n_epochs=1, seed=seed) for seed in (0, 0, 1))
    assert_equal(first, again)
    assert first.metrics != other.metrics
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    json.dumps(first.metrics, allow_nan=False)


MEASURED = {"probe_each_epoch": True, "importance_epochs": (1, 3), "n_importance": 40}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pairs", {}),
        ("pairs", {"rho": 0.1, "probe_each_epoch": True}),
        ("photographs", {"rho": 0.05, "trained": "all"} | MEASURED),
        ("photographs", {"rho": 0.05, "trained": "last block"} | MEASURED),
        ("domains", {"rho": 0.05}),
    ],
)
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one_and_tells_its_progress(name, values) -> None:
    memory = Memory(epochs=2)
    with pytest.raises(Interrupted):
        run(name, memory, n_epochs=4, **values)
    resumed = run(name, memory, n_epochs=4, **values)
    assert memory.fractions == [0.25, 0.5, 0.75, 1.0]
    assert_equal(resumed, run(name, n_epochs=4, **values))


# The loss is not finite; the loss is, but the last step makes the network's weights infinite.
@pytest.mark.parametrize(("rate", "n_epochs"), [(1e8, 4), (1e38, 1)])
@every
def test_a_diverged_run_stops_and_reports_no_errors(name: str, rate: float, n_epochs: int) -> None:
    one_batch = {"batch_size": 200} if name == "pairs" and n_epochs == 1 else {}
    measured = {} if name == "domains" else {"probe_each_epoch": True}
    metrics = run(name, learning_rate=rate, n_epochs=n_epochs, **one_batch, **measured).metrics
    assert metrics["diverged"] and len(metrics["curves"]["train_loss"]) < 4
    assert all(value is None for key, value in metrics.items() if key.endswith(("_error", "_rank", "_strength")))
    assert metrics.keys() == run(name, n_epochs=1).metrics.keys()
    assert not any(key.endswith("_probe_error") for key in metrics["curves"])


@every
def test_evaluation_in_chunks_equals_one_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, data, places = CONFIGS[name], data_of(name), torch.arange(20)
    network = build_backbone(config.backbone, n_classes=2, seed=0)
    if name == "pairs":
        views = PairViews(pair_sets(data, config).validation.images, 0.4)
    else:
        views = make_views(data, places, network, config, mirrored=False, folder=None, device="cpu")
    monkeypatch.setattr(type(views), "chunk", 7)
    features, answers = evaluate(network, views, places)
    assert network.training
    network.eval()
    with torch.no_grad():
        expected = network.trunk(views.plain(places))
        assert torch.allclose(features, expected, atol=1e-5)
        assert torch.equal(answers, network.head(expected).argmax(1))


# Pairs and photographs: both features are probed


@two_features
def test_measuring_on_the_way_changes_no_number_of_the_training(name: str, monkeypatch) -> None:
    monkeypatch.setattr("samlib.images.probing.STRENGTHS", (CURVE_STRENGTH,))
    plain, measured = run(name), run(name, probe_each_epoch=True)
    curves = dict(measured.metrics["curves"])
    probed = [curves.pop(key) for key in list(curves) if key.endswith("_probe_error")]
    assert [len(curve) for curve in probed] == [2, 2]
    assert_equal(plain, measured._replace(metrics=measured.metrics | {"curves": curves}))


@two_features
def test_a_cross_validated_run_trains_the_same_network_and_records_other_choices_of_c(name: str) -> None:
    plain, folded = (run(name, probe_folds=n).metrics for n in (0, 3))
    assert folded["test_error"] == plain["test_error"]
    added = {key.removesuffix("_probe_sensitivity") for key in set(folded) - set(plain)}
    assert len(added) == 2
    for feature in added:
        ways = folded[f"{feature}_probe_sensitivity"]
        assert list(ways) == [*CHOICES, *([] if name == "pairs" else [LASSO])]
        assert ways["held-out quarter"] == plain[f"{feature}_probe_error"]


# Pairs


def test_a_pair_is_learned_by_its_easy_feature_and_everything_is_measured() -> None:
    metrics = run("pairs", probe_each_epoch=True).metrics
    assert metrics["curves"]["train_loss"][-1] < 0.2 < 0.5 < math.log(2)
    assert {len(curve) for curve in metrics["curves"].values()} == {2}
    assert metrics["test_error"] < 0.05
    assert metrics["shade_probe_error"] <= metrics["shade_probe_worst_group_error"] < 0.1
    assert metrics["shade_head_error"] < 0.1 < metrics["stripes_head_error"]
    assert metrics["stripes_probe_group_counts"] == [25] * 4
    sizes = [metrics[f"n_{name}"] for name in ("train", "validation", "test", "probe_train", "probe_test")]
    assert sizes == [200, 22, 400, 100, 100]


# Photographs


def test_the_last_smaller_batch_is_left_out_and_a_small_set_makes_one_batch() -> None:
    for n_train, expected in ((100, 6), (20, 2)):
        state = run("photographs", n_train=n_train).network.state_dict()
        assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {expected}


def test_errors_of_photographs_are_by_group_and_weights_by_epoch() -> None:
    result = run("photographs", importance_epochs=(1, 2), n_importance=40)
    metrics = result.metrics
    assert metrics["n_train"] == 100 and metrics["n_test"] == 80 and metrics["n_probe_train"] == 80
    assert metrics["test_group_counts"] == metrics["digit_probe_group_counts"] == [20, 20, 20, 20]
    weighted = sum(e * f for e, f in zip(metrics["test_group_errors"], metrics["train_frequencies"], strict=True))
    assert metrics["test_error"] == pytest.approx(weighted)
    assert metrics["test_worst_group_error"] == max(metrics["test_group_errors"])
    assert metrics["digit_head_error"] == pytest.approx(sum(metrics["test_group_errors"]) / 4)
    shapes = {name: array.shape for name, array in result.arrays.items()}
    assert shapes["importance_real"] == shapes["importance_phantom"] == (2, 40)
    assert shapes["contributions"] == (2, 2, 40) and shapes["labels"] == shapes["attributes"] == (40,)
    assert (result.arrays["importance_real"] != result.arrays["importance_phantom"]).any()


def test_readings_of_the_phantom_are_recorded_small_and_change_no_number_of_the_training() -> None:
    plain = run("photographs")
    read = run("photographs", phantom_readings=True, importance_epochs=(1, 2), n_importance=40)
    assert_equal(plain, read._replace(arrays={}))
    shapes = {name: (array.shape, array.dtype.name) for name, array in read.arrays.items()}
    assert shapes["readings_real"] == ((2, 6, 40), "float16")
    assert shapes["readings_phantom"] == ((2, 6, 4, 40), "float16")
    assert shapes["contributions"] == ((2, 2, 40), "float16")


def test_frozen_statistics_stay_the_pretrained_ones_and_make_both_modes_agree() -> None:
    network = run("photographs", statistics="frozen", rho=0.05).network
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and all((layer.running_mean == 0).all() and (layer.running_var == 1).all() for layer in norms)
    assert not all((layer.weight == 1).all() for layer in norms)  # they were trained
    images = torch.rand(4, 3, 32, 32, generator=stream(0, "images"))
    with torch.no_grad():
        assert torch.equal(network.train()(images), network.eval()(images))


def test_errors_are_weighted_by_training_frequencies() -> None:
    labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]])
    answers = torch.tensor([0, 1, 1, 1, 1, 1])  # group errors 1/2, 1, 0, 0
    error, errors, counts = weighted_error(Seen(torch.empty(6, 0), answers, labels), [0.7, 0.1, 0.1, 0.1])
    assert (errors, counts) == ([0.5, 1.0, 0.0, 0.0], [2, 1, 1, 2])
    assert error == pytest.approx(0.7 * 0.5 + 0.1 * 1.0)


def test_bfloat16_trains_nearly_the_same_network() -> None:
    rough, exact = (
        run("photographs", precision=name, rho=0.05).metrics["curves"]["train_loss"] for name in ("bfloat16", "float32")
    )
    assert rough != exact and rough == pytest.approx(exact, abs=0.03)
