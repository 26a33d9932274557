"""The small network and its training: equal to a plain reference, and what stays reproducible."""

import dataclasses
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from interruption import Interrupted, Memory
from torch import nn

from samlib.images import (
    Block,
    ConvNet,
    PairConfig,
    PairSource,
    Tiles,
    build_backbone,
    demo_config,
    evaluate,
    learning_rate_at,
    load_pair,
    mean_pixel,
    normalize,
    pair_sets,
    train_pair,
)
from samlib.images.train_pairs import CURVE_STRENGTH
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


TINY = PairConfig(pair="digits_patches", n_train=200, n_epochs=2, batch_size=20, n_probe=100)


@pytest.fixture(scope="module")
def coloured() -> PairSource:
    return coloured_source(200)


@pytest.fixture(scope="module")
def embedded() -> PairSource:
    return load_pair("digits_patches")


# Network


def test_network_is_the_papers() -> None:
    network = build_backbone("convnet", n_classes=5, seed=0)
    sizes = [tuple(p.shape) for p in network.parameters()]
    assert sizes == [(32, 3, 5, 5), (32,), (64, 32, 3, 3), (64,), (128, 64, 3, 3), (128,), (5, 4096), (5,)]
    images = torch.zeros(2, 3, 64, 32)
    assert network.trunk(images).shape == (2, 4096)
    assert network(images).shape == (2, 5)


def test_initialization_is_torchs_distribution_from_its_own_stream() -> None:
    state = torch.get_rng_state()
    network, again, other = (build_backbone("convnet", n_classes=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(network.head.weight, other.head.weight)
    torch.manual_seed(0)
    default = ConvNet(2)
    torch.set_rng_state(state)
    for ours, theirs in zip(network.parameters(), default.parameters(), strict=True):
        bound = theirs.abs().max().item()
        assert ours.abs().max().item() <= 1.3 * bound + 0.05 * (ours.numel() < 40)
        if ours.numel() > 1000:
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.05)
            assert ours.abs().max().item() == pytest.approx(bound, rel=0.01)


def test_unknown_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="backbone: expected one of 'convnet', got 'mlp'"):
        build_backbone("mlp", n_classes=2, seed=0)


# Training


def test_images_are_scaled_and_centred_on_the_mean_pixel() -> None:
    images = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    images[1] = 255
    assert mean_pixel(images) == 0.5
    assert normalize(images, 0.5).unique().tolist() == [-0.5, 0.5]
    assert images.unique().tolist() == [0, 255]


def test_learning_rate_follows_a_half_cosine() -> None:
    rates = [learning_rate_at(step, 4, 0.8) for step in range(4)]
    assert rates == pytest.approx([0.8, 0.4 + 0.4 * math.sqrt(0.5), 0.4, 0.4 - 0.4 * math.sqrt(0.5)])


def reference_network(config: PairConfig, source: PairSource) -> ConvNet:
    """Equations 2 and 3 with momentum, written out parameter by parameter."""
    sets = pair_sets(source, config)
    network = build_backbone("convnet", n_classes=2, seed=config.seed)
    parameters = list(network.parameters())
    mean = sets.train.images.double().mean().item() / 255
    images, labels = sets.train.images.float() / 255 - mean, sets.train.labels[:, 0]
    order, velocity, step = stream(config.seed, "batch order"), [torch.zeros_like(p) for p in parameters], 0
    n_steps = config.n_epochs * math.ceil(len(labels) / config.batch_size)
    for _ in range(config.n_epochs):
        for rows in torch.randperm(len(labels), generator=order).split(config.batch_size):
            w = [p.detach().clone() for p in parameters]
            loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
            g = torch.autograd.grad(loss, parameters)
            if config.rho:
                norm = torch.sqrt(sum((x**2).sum() for x in g))
                with torch.no_grad():
                    for p, x in zip(parameters, g, strict=True):
                        p.add_(x, alpha=config.rho / norm.item())
                g = torch.autograd.grad(nn.functional.cross_entropy(network(images[rows]), labels[rows]), parameters)
            rate = config.learning_rate * (1 + math.cos(math.pi * step / n_steps)) / 2
            with torch.no_grad():
                for p, start, x, v in zip(parameters, w, g, velocity, strict=True):
                    v.mul_(config.momentum).add_(x)
                    p.copy_(start - rate * v)
            step += 1
    return network


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_training_matches_a_plain_reference(coloured: PairSource, rho: float) -> None:
    config = dataclasses.replace(TINY, n_train=50, rho=rho, learning_rate=0.1)
    ours, reference = train_pair(config, coloured).network, reference_network(config, coloured)
    start = build_backbone("convnet", n_classes=2, seed=0)
    for p, q, w in zip(ours.parameters(), reference.parameters(), start.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-5)
        assert (p - w).abs().max() > 1e-3


def test_training_lowers_the_loss_and_measures_everything(coloured: PairSource) -> None:
    metrics = train_pair(TINY, coloured).metrics
    assert metrics["curves"]["train_loss"][-1] < 0.2 < 0.5 < math.log(2)
    assert len(metrics["curves"]["train_loss"]) == len(metrics["curves"]["validation_error"]) == 2
    assert metrics["test_error"] < 0.05
    assert metrics["shade_probe_error"] <= metrics["shade_probe_worst_group_error"] < 0.1
    assert metrics["shade_head_error"] < 0.1 < metrics["stripes_head_error"]
    assert metrics["stripes_probe_group_counts"] == [25] * 4
    assert not metrics["diverged"]
    sizes = [metrics[f"n_{name}"] for name in ("train", "validation", "test", "probe_train", "probe_test")]
    assert sizes == [200, 22, 400, 100, 100]
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_same_configuration_same_metrics_and_global_generators_untouched(coloured: PairSource) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    config = dataclasses.replace(TINY, rho=0.05, n_epochs=1)
    first, again = train_pair(config, coloured).metrics, train_pair(config, coloured).metrics
    assert json.dumps(first) == json.dumps(again)
    assert first != train_pair(dataclasses.replace(config, seed=1), coloured).metrics
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(coloured: PairSource, rho: float) -> None:
    config = dataclasses.replace(TINY, n_epochs=4, rho=rho, n_train=150, probe_each_epoch=rho > 0)
    memory = Memory(epochs=2)
    with pytest.raises(Interrupted):
        train_pair(config, coloured, checkpoint=memory)
    resumed, whole = train_pair(config, coloured, checkpoint=memory), train_pair(config, coloured)
    assert memory.fractions == [0.25, 0.5, 0.75, 1.0]
    assert resumed.metrics == whole.metrics
    for p, q in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_probes_after_each_epoch_follow_the_training_and_leave_it_as_it_is(
    coloured: PairSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samlib.images.train_pairs.STRENGTHS", (CURVE_STRENGTH,))  # the final probes use the curves' C
    plain, probed = (train_pair(dataclasses.replace(TINY, probe_each_epoch=each), coloured) for each in (False, True))
    curves = dict(probed.metrics["curves"])
    for feature in ("shade", "stripes"):
        curve = curves.pop(f"{feature}_probe_error")
        assert len(curve) == 2
        assert curve[-1] == probed.metrics[f"{feature}_probe_error"]
    assert plain.metrics == probed.metrics | {"curves": curves}
    for p, q in zip(plain.network.parameters(), probed.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_network_that_diverges_in_the_last_step_is_not_probed(coloured: PairSource) -> None:
    config = dataclasses.replace(TINY, probe_each_epoch=True, learning_rate=1e38, batch_size=200, n_epochs=1)
    metrics = train_pair(config, coloured).metrics
    assert metrics["diverged"] and math.isfinite(metrics["curves"]["train_loss"][0])
    assert "shade_probe_error" not in metrics["curves"]


def test_diverged_run_reports_no_errors(coloured: PairSource) -> None:
    config = dataclasses.replace(TINY, learning_rate=1e6, n_epochs=5)
    metrics = train_pair(config, coloured).metrics
    assert metrics["diverged"]
    assert metrics["test_error"] is metrics["shade_probe_error"] is metrics["validation_error"] is None
    finite = train_pair(TINY, coloured).metrics
    assert metrics.keys() == finite.keys()
    json.dumps(metrics, allow_nan=False)


def test_evaluation_in_chunks_matches_one_pass(coloured: PairSource, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pair_sets(coloured, TINY).validation.images
    network = build_backbone("convnet", n_classes=2, seed=0)
    monkeypatch.setattr("samlib.images.train_pairs.CHUNK", 7)
    features, answers = evaluate(network, images, mean=0.4)
    with torch.no_grad():
        expected = network.trunk(images.float() / 255 - 0.4)
    assert torch.allclose(features, expected, atol=1e-5)
    assert torch.equal(answers, network.head(expected).argmax(1))
    assert network.training


def test_demo_configurations_fit_their_pairs(embedded: PairSource) -> None:
    config = demo_config("digits_patches", rho=0.1)
    assert (config.pair, config.rho) == ("digits_patches", 0.1)
    sets = pair_sets(embedded, config)
    assert torch.equal(sets.train.labels[:, 0], sets.train.labels[:, 1])
    assert Counter(map(tuple, sets.probe_test.labels.tolist())).keys() == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_cross_validated_run_trains_the_same_network_and_records_other_choices_of_c(coloured: PairSource) -> None:
    plain, folded = (train_pair(dataclasses.replace(TINY, probe_folds=n), coloured).metrics for n in (0, 3))
    assert folded["test_error"] == plain["test_error"]
    added = {name.removesuffix("_probe_sensitivity") for name in set(folded) - set(plain)}
    assert len(added) == 2
    for feature in added:
        ways = folded[f"{feature}_probe_sensitivity"]
        assert list(ways) == ["held-out quarter", "C = 0.001", "C = 0.003", "C = 0.01"]
        assert ways["held-out quarter"] == plain[f"{feature}_probe_error"]
