"""Train a backbone on a pair with SGD or SAM, and probe both features."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from samlib.images.convnet import ConvNet, build_backbone
from samlib.images.pair_config import PairConfig
from samlib.images.pairs import ImageSet, PairSets, pair_sets
from samlib.images.tiles import PairSource
from samlib.measures.probe import STRENGTHS, FrozenFeatures, ProbeResult, group_errors, probe_error
from samlib.optim import SAM
from samlib.shapes import Bool, Float, Int64, UInt8
from samlib.streams import stream

CHUNK = 500  # images a forward pass without gradients
# Other ways to a probe's C, recorded beside a cross-validated choice.
CHOICES = {"held-out quarter": STRENGTHS, "C = 0.001": (0.001,), "C = 0.003": (0.003,), "C = 0.01": (0.01,)}
CURVE_STRENGTH = 0.003  # C of the probes after each epoch: between those that held-out data choose on CIFAR-MNIST


class Checkpointer(Protocol):
    """Keeps the state of a run; see `edition.records.checkpoint.Checkpoint`."""

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from; None begins anew."""

    def save(self, state: dict[str, Any], fraction: float) -> None:
        """Keep the state after an epoch, with the share of the epochs that are done."""


class PairResult(NamedTuple):
    """What one configuration gave.

    Attributes:
        metrics: plain numbers and lists; see `train_pair`.
        network: the trained network, on the device it was trained on.
    """

    metrics: dict[str, Any]
    network: ConvNet


def train_pair(
    config: PairConfig,
    source: PairSource,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Checkpointer | None = None,
) -> PairResult:
    """Train one network (Eq 2 or 3) and measure test error and both probing errors (Eq 1).

    The same configuration gives the same metrics on one machine with one thread: all randomness comes from
    streams of the seed, and SGD and SAM of one seed share images, initialization, batch order and probe sets.

    Args:
        config: the run.
        source: what `load_pair` returned for `config.pair`.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again: a resumed run's metrics equal those of
            an uninterrupted one. None saves nothing.
    Returns:
        Metrics, errors as shares of 1:
            test_error, validation_error: on correlated images, where either feature suffices.
            curves: train_loss (mean over the epoch's batches, at w), validation_error, by epoch; and, where the
                configuration asks for them, <feature>_probe_error at C = `CURVE_STRENGTH`.
            <feature>_probe_error, <feature>_probe_worst_group_error, <feature>_probe_group_errors,
            <feature>_probe_group_counts, <feature>_probe_strength (C): the probe for one feature, on the
                balanced test set; group = upper label * K + lower label. Which is easy is not decided here.
            <feature>_probe_sensitivity, where C is cross-validated: the probing error under each of `CHOICES`.
            <feature>_head_error: how often the network's own answer differs from this feature's label on the
                balanced test set, i.e. how little it relies on the feature.
            n_train, n_validation, n_test, n_probe_train, n_probe_test: images in each set.
            mean_pixel: what was subtracted, 0..1.
            diverged: whether training stopped at a loss that is not finite; all errors are then None.
    Raises:
        ValueError: source and configuration do not fit.
        Exception: whatever the checkpoint raises to stop the run.
    """
    sets = pair_sets(source, config)
    network = build_backbone(config.backbone, n_classes=sets.n_classes, seed=config.seed, device=device)
    mean = mean_pixel(sets.train.images)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        curves = _fit(network, sets, config, mean, checkpoint)
        metrics = pair_metrics(network, sets, curves, mean=mean, seed=config.seed, n_folds=config.probe_folds)
        return PairResult(metrics, network)


def pair_metrics(
    network: ConvNet, sets: PairSets, curves: dict[str, list[float]], *, mean: float, seed: int, n_folds: int = 0
) -> dict[str, Any]:
    """Measure a trained network; see `train_pair` for the names. One that has diverged has no errors.

    Args:
        network: as trained.
        sets: the run's sets.
        curves: by epoch, up to the first loss that is not finite.
        mean: what `mean_pixel` returned for the training images.
        seed: root seed.
        n_folds: of the probes; 0 is one held-out quarter.
    """
    probed, _ = evaluate(network, sets.probe_train.images, mean=mean)
    diverged = not (all(map(math.isfinite, curves["train_loss"])) and is_finite(network, probed))
    metrics = _no_errors(sets) if diverged else measure(network, sets, mean=mean, seed=seed, n_folds=n_folds)
    metrics |= {f"n_{name}": len(getattr(sets, name).labels) for name in _SETS}
    metrics["validation_error"] = None if diverged else curves["validation_error"][-1]
    return metrics | {"mean_pixel": mean, "diverged": diverged, "curves": {n: _plain(c) for n, c in curves.items()}}


def mean_pixel(images: UInt8[Tensor, "example 3 64 32"]) -> float:
    """Mean over all images, channels and pixels, scaled to 0..1, in double precision.

    >>> mean_pixel(torch.full((1, 3, 64, 32), 51, dtype=torch.uint8))
    0.2
    """
    return images.sum(dtype=torch.int64).item() / images.numel() / 255


def normalize(images: UInt8[Tensor, "batch 3 64 32"], mean: float) -> Float[Tensor, "batch 3 64 32"]:
    """Scale images to 0..1 and subtract the training set's mean pixel value, on the images' device.

    Appendix B: "We normalize the images by the mean pixel value"; that this means subtracting one number is
    our reading.

    Args:
        images: 0..255.
        mean: what `mean_pixel` returned.
    Returns:
        A new tensor, single precision.
    """
    return images.float().div_(255).sub_(mean)


def learning_rate_at(step: int, n_steps: int, initial: float) -> float:
    """Step size of step 0..n_steps-1 on a half cosine from `initial` down to (just before) 0.

    >>> learning_rate_at(0, 10, 0.1), round(learning_rate_at(5, 10, 0.1), 6)
    (0.1, 0.05)
    """
    return initial * (1 + math.cos(math.pi * step / n_steps)) / 2


@torch.no_grad()
def evaluate(
    network: ConvNet, images: UInt8[Tensor, "example 3 64 32"], *, mean: float
) -> tuple[Float[Tensor, "example feature"], Int64[Tensor, " example"]]:
    """Return the trunk's features and the predicted classes of all images, on the CPU.

    Args:
        network: as trained; used in evaluation mode, its mode is put back afterwards.
        images: 0..255, on any device.
        mean: what `mean_pixel` returned for the training images.
    """
    device, mode = network.head.weight.device, network.training
    network.eval()
    parts = [network.trunk(normalize(chunk.to(device), mean)) for chunk in images.split(CHUNK)]
    answers = [network.head(part).argmax(1) for part in parts]
    network.train(mode)
    return torch.cat(parts).cpu(), torch.cat(answers).cpu()


def measure(network: ConvNet, sets: PairSets, *, mean: float, seed: int, n_folds: int = 0) -> dict[str, Any]:
    """Measure test error, probing errors and head errors of a network; see `train_pair` for the names.

    Args:
        network: the trained network.
        sets: the run's sets.
        mean: what `mean_pixel` returned for the training images.
        seed: root seed; the stream "probe" decides what a probe holds out while its C is chosen.
        n_folds: of the choice of C; 0 is one held-out quarter.
    """
    metrics: dict[str, Any] = {"test_error": _error(network, sets.test, mean)}
    probed, _ = evaluate(network, sets.probe_train.images, mean=mean)
    test = evaluate(network, sets.probe_test.images, mean=mean)
    results, answers = _probe(sets, probed, test, seed=seed, strengths=STRENGTHS, n_folds=n_folds)
    groups = _groups(sets.probe_test, sets.n_classes)
    for i, (feature, result) in enumerate(results.items()):
        wrong = answers != sets.probe_test.labels[:, i]
        metrics |= feature_metrics(feature, result, wrong, groups, n_groups=sets.n_classes**2)
    if n_folds:
        for way, strengths in CHOICES.items():
            for feature, result in _probe(sets, probed, test, seed=seed, strengths=strengths)[0].items():
                metrics.setdefault(f"{feature}_probe_sensitivity", {})[way] = result.error
    return metrics


def feature_metrics(
    feature: str,
    result: ProbeResult,
    wrong: Bool[Tensor, " example"],
    groups: Int64[Tensor, " example"],
    *,
    n_groups: int,
) -> dict[str, Any]:
    """Name a probe's results after its feature, and add how often the network's own answer misses the feature's label.

    Args:
        feature: its name.
        result: of its probe.
        wrong: which probe test images the network's own answer misses.
        groups: of these images.
        n_groups: number of groups.
    """
    errors, _ = group_errors(wrong, groups, n_groups=n_groups)
    named = {f"{feature}_probe_{name}": getattr(result, name) for name in PROBE_METRICS}
    return named | {f"{feature}_head_error": sum(errors) / n_groups}


def no_feature_metrics(features: Sequence[str]) -> dict[str, None]:
    """The same names with None, for a run that diverged."""
    names = [f"{feature}_probe_{name}" for feature in features for name in PROBE_METRICS]
    return dict.fromkeys([*names, *(f"{feature}_head_error" for feature in features)])


_SETS = ("train", "validation", "test", "probe_train", "probe_test")
PROBE_METRICS = ("error", "worst_group_error", "group_errors", "group_counts", "strength")


def _fit(
    network: ConvNet, sets: PairSets, config: PairConfig, mean: float, checkpoint: Checkpointer | None
) -> dict[str, list[float]]:
    """Run all epochs, stopping early at a loss that is not finite; return the curves."""
    device = network.head.weight.device
    images, labels = sets.train.images.to(device), sets.train.labels[:, 0].to(device)
    optimizer = SAM(
        network.parameters(),
        torch.optim.SGD,
        rho=config.rho,
        check_finite=False,  # the epoch's loss is looked at instead, once
        lr=config.learning_rate,
        momentum=config.momentum,
    )
    order = stream(config.seed, "batch order")
    curves: dict[str, list[float]] = {"train_loss": [], "validation_error": []}
    state = checkpoint.load() if checkpoint else None
    if state:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        order.set_state(state["order"])
        curves = state["curves"]
    for epoch in range(len(curves["train_loss"]), config.n_epochs):
        rows = torch.randperm(len(labels), generator=order).to(device)
        loss = _epoch(network, optimizer, (images, labels, rows), mean, epoch, config)
        curves["train_loss"].append(loss)
        curves["validation_error"].append(_error(network, sets.validation, mean))
        if not math.isfinite(loss):
            break
        if config.probe_each_epoch:
            probed, _ = evaluate(network, sets.probe_train.images, mean=mean)
            if is_finite(network, probed):
                test = evaluate(network, sets.probe_test.images, mean=mean)
                results, _ = _probe(sets, probed, test, seed=config.seed, strengths=(CURVE_STRENGTH,))
                for feature, result in results.items():
                    curves.setdefault(f"{feature}_probe_error", []).append(result.error)
        if checkpoint:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "curves": curves}
            checkpoint.save(state | {"order": order.get_state()}, (epoch + 1) / config.n_epochs)
    return curves


def _epoch(
    network: ConvNet, optimizer: SAM, data: tuple[Tensor, Tensor, Tensor], mean: float, epoch: int, config: PairConfig
) -> float:
    """Take the steps of one epoch on (images, labels, rows in their order); return the mean of the batches' losses."""
    images, labels, order = data
    batches = order.split(config.batch_size)
    total = torch.zeros((), device=order.device)
    for i, rows in enumerate(batches):
        step, n_steps = epoch * len(batches) + i, config.n_epochs * len(batches)
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, n_steps, config.learning_rate)
        total += take_step(network, optimizer, normalize(images[rows], mean), labels[rows])
    return total.item() / len(batches)


def take_step(network: Callable[[Tensor], Tensor], optimizer: SAM, images: Tensor, labels: Tensor) -> Tensor:
    """Take one step on the cross-entropy of the network's logits and return the batch's loss at w."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert isinstance(loss, Tensor), "step(closure) returns what the closure returned"
    return loss


def is_finite(network: nn.Module, features: Tensor) -> bool:
    """Whether a network with these features can be probed: after a finite loss, the last step may have blown it up."""
    return all(bool(tensor.isfinite().all()) for tensor in (features, *network.parameters()))


def _error(network: ConvNet, data: ImageSet, mean: float) -> float:
    """Share of a correlated set's labels that the network misses."""
    _, answers = evaluate(network, data.images, mean=mean)
    return (answers != data.labels[:, 0]).double().mean().item()


def _probe(
    sets: PairSets,
    train: Tensor,
    measured: tuple[Tensor, Tensor],
    *,
    seed: int,
    strengths: Sequence[float],
    n_folds: int = 0,
) -> tuple[dict[str, ProbeResult], Tensor]:
    """Probe both features, trained on `train`; return results by feature, and the own answers on the probe test set.

    `measured` is what `evaluate` returned for the probe test images.
    """
    test, answers = measured
    results = {
        feature: probe_error(
            _frozen(train, sets.probe_train, i, sets.n_classes),
            _frozen(test, sets.probe_test, i, sets.n_classes),
            n_groups=sets.n_classes**2,
            generator=stream(seed, "probe"),
            strengths=strengths,
            n_folds=n_folds,
        )
        for i, feature in enumerate(sets.features)
    }
    return results, answers


def _groups(data: ImageSet, n_classes: int) -> Int64[Tensor, " example"]:
    """Number the label pairs: upper label * K + lower label."""
    return data.labels[:, 0] * n_classes + data.labels[:, 1]


def _frozen(features: Tensor, data: ImageSet, column: int, n_classes: int) -> FrozenFeatures:
    """Features of a set with the labels of one of its two features."""
    return FrozenFeatures(features, data.labels[:, column], _groups(data, n_classes))


def _plain(values: list[float]) -> list[float | None]:
    """Replace what JSON cannot hold by None."""
    return [value if math.isfinite(value) else None for value in values]


def _no_errors(sets: PairSets) -> dict[str, Any]:
    """The same names with None, for a run that diverged."""
    return {"test_error": None} | no_feature_metrics(sets.features)
