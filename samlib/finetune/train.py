"""Finetune a pretrained network with SGD or SAM on an annotated image set, and probe both features."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.finetune.backbones import Backbone, build_backbone
from samlib.finetune.config import FinetuneConfig
from samlib.finetune.embedded import digits_on_patches
from samlib.finetune.measure import (
    Part,
    Parts,
    curve_errors,
    evaluate,
    final_errors,
    labels_of,
    places_of,
    weigh,
    weighted_error,
)
from samlib.finetune.prepared import PreparedSet, load_prepared
from samlib.finetune.splits import AttributeSplits, attribute_splits
from samlib.finetune.views import make_views
from samlib.optim import SAM
from samlib.streams import stream
from samlib.vision.train import PROBE_METRICS, Checkpointer, learning_rate_at, take_step

Curves = dict[str, list[float]]
Weighed = list[dict[str, Tensor]]  # by recorded epoch; see `samlib.finetune.measure.weigh`


class FinetuneResult(NamedTuple):
    """What one configuration gave.

    Attributes:
        metrics: plain numbers and lists; see `train_finetune`.
        arrays: importance weights by recorded epoch; see `train_finetune`.
        network: the trained network, on the device it was trained on.
    """

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]
    network: Backbone


def load_images(config: FinetuneConfig, root: Path | None) -> PreparedSet:
    """Read the prepared set that a configuration names; the embedded one needs no files.

    Raises:
        FileNotFoundError, ValueError: the set is not there or damaged; see `load_prepared`.
    """
    if config.image_set == "digits_on_patches":
        return digits_on_patches()
    return load_prepared(config.image_set, config.stored_size, root)


def train_finetune(
    config: FinetuneConfig,
    data: PreparedSet,
    *,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpointer | None = None,
) -> FinetuneResult:
    """Train one network (Eq 2 or 3) and measure group errors, both probing errors (Eq 1) and importance weights.

    The same configuration gives the same metrics on one processor with one thread; on a GPU sums may have no fixed
    order. SGD and SAM of one seed share images, head, batch order and augmentation.

    Args:
        config: the run.
        data: what `load_images` returned for it.
        folder: where activations of a frozen lower part are kept; None computes them anew.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again.
    Returns:
        Metrics, errors as shares of 1; group = 2 label + attribute:
            test_error, validation_error: group errors weighted by the training split's group frequencies
                (Appendix B); test_worst_group_error, test_group_errors, test_group_counts.
            <feature>_probe_error and the other probe metrics of `samlib.vision.train.train_pair`, on the test images;
            <feature>_head_error: how often the network's own answer differs from this feature's label there, mean
                over the groups.
            curves: by epoch, train_loss, validation_error and, where asked for, <feature>_probe_error (see
                `samlib.finetune.measure.curve_errors`).
            n_train, n_validation, n_test, n_probe_train, train_frequencies, n_features, weights_sha256,
            images_sha256, coverage: what was used.
            diverged: whether training stopped at a loss that is not finite; all errors are then None.
        Arrays, where `importance_epochs` asks for them: importance_real, importance_phantom (epoch, example) and
        contributions (epoch, 2, example), the features in the order of `config.features`; labels, attributes.
    Raises:
        ValueError: the set does not fit the configuration.
        Exception: whatever the checkpoint raises to stop the run.
    """
    splits = attribute_splits(data, config)
    network = build_backbone(config.backbone, n_classes=2, trained=config.trained, seed=config.seed, device=device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU 1.7 times as fast
    parts = _parts(data, splits, network, config, folder, device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        curves, weighed = _fit(network, parts, config, checkpoint)
        diverged = not (math.isfinite(curves["train_loss"][-1]) and _is_finite(network, parts, config))
        metrics = _no_errors(config) if diverged else final_errors(network, parts, config)
    metrics["validation_error"] = None if diverged else curves["validation_error"][-1]
    metrics |= _origin(data, splits, network)
    metrics |= {"diverged": diverged, "curves": {name: list(curve) for name, curve in curves.items()}}
    return FinetuneResult(metrics, _stacked(weighed), network)


def _parts(
    data: PreparedSet,
    splits: AttributeSplits,
    network: Backbone,
    config: FinetuneConfig,
    folder: Path | None,
    device: torch.device | str,
) -> Parts:
    """Put inputs and labels of all sets together."""

    def part(rows: Tensor, mirrored: bool) -> Part:
        views = make_views(data, rows, network, config, mirrored=mirrored, folder=folder, device=device)
        return Part(views, labels_of(data, rows))

    return Parts(
        train=part(splits.train, mirrored=True),
        validation=part(splits.validation, mirrored=False),
        test=part(splits.test, mirrored=False),
        probe_places=places_of(splits),
        train_frequencies=splits.train_frequencies,
    )


def _fit(
    network: Backbone, parts: Parts, config: FinetuneConfig, checkpoint: Checkpointer | None
) -> tuple[Curves, Weighed]:
    """Run all epochs, stopping early at a loss that is not finite; return the curves and the importance weights."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = SAM(
        parameters,
        torch.optim.SGD,
        rho=config.rho,
        module=network,
        check_finite=False,  # the epoch's loss is looked at instead, once
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    streams = {purpose: stream(config.seed, purpose) for purpose in ("batch order", "augmentation")}
    curves: Curves = {"train_loss": [], "validation_error": []}
    weighed: Weighed = []
    state = checkpoint.load() if checkpoint else None
    if state:
        network.trunk.load_state_dict(state["trunk"])
        network.head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        for purpose, generator in streams.items():
            generator.set_state(state["streams"][purpose])
        curves, weighed = state["curves"], state["weighed"]
    for epoch in range(len(curves["train_loss"]), config.n_epochs):
        loss = _epoch(network, optimizer, parts.train, config, epoch, streams)
        curves["train_loss"].append(loss)
        if not (math.isfinite(loss) and _is_finite(network, parts, config)):
            break
        _measure_epoch(network, parts, config, epoch + 1, curves, weighed)
        if checkpoint:
            state = {"trunk": network.trunk.state_dict(), "head": network.head.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "curves": curves, "weighed": weighed}
            state["streams"] = {purpose: generator.get_state() for purpose, generator in streams.items()}
            checkpoint.save(state, (epoch + 1) / config.n_epochs)
    return curves, weighed


def _epoch(
    network: Backbone,
    optimizer: SAM,
    part: Part,
    config: FinetuneConfig,
    epoch: int,
    streams: dict[str, torch.Generator],
) -> float:
    """Take the steps of one epoch; return the mean of the batches' losses at w."""
    device = network.head.weight.device

    def forward(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False):
            return network(inputs).float()

    network.train()
    n = len(part.labels)
    n_batches = max(1, n // config.batch_size)  # a last, smaller batch would have noisier batch statistics
    order = torch.randperm(n, generator=streams["batch order"])[: n_batches * config.batch_size]
    total = torch.zeros((), device=device)
    for i, places in enumerate(order.split(config.batch_size)):
        step, n_steps = epoch * n_batches + i, config.n_epochs * n_batches
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, n_steps, config.learning_rate)
        inputs = part.views.augmented(places, streams["augmentation"])
        total += take_step(forward, optimizer, inputs, part.labels[places, 0].to(device))
    return total.item() / n_batches


def _measure_epoch(
    network: Backbone, parts: Parts, config: FinetuneConfig, epoch: int, curves: Curves, weighed: Weighed
) -> None:
    """Append what is measured after epoch number `epoch` (1, 2, ...) to curves and importance weights."""
    _, answers = evaluate(network, parts.validation, config)
    curves["validation_error"].append(weighted_error(answers, parts.validation, parts.train_frequencies)[0])
    if config.probe_each_epoch:
        for feature, error in curve_errors(network, parts, config).items():
            curves.setdefault(f"{feature}_probe_error", []).append(error)
    if epoch in config.importance_epochs:
        weighed.append(weigh(network, parts, config))


def _is_finite(network: Backbone, parts: Parts, config: FinetuneConfig) -> bool:
    """Whether the network can be measured: after a finite loss, the last step may still have blown it up."""
    features, _ = evaluate(network, parts.validation, config, parts.probe_places)
    return all(bool(tensor.isfinite().all()) for tensor in (features, *network.parameters()))


def _origin(data: PreparedSet, splits: AttributeSplits, network: Backbone) -> dict[str, Any]:
    """What the run was made from."""
    names = ("train", "validation", "test", "probe_train")
    return {f"n_{name}": len(getattr(splits, name)) for name in names} | {
        "train_frequencies": splits.train_frequencies,
        "n_features": network.n_features,
        "weights_sha256": network.weights_sha256,
        "images_sha256": data.images_sha256,
        "coverage": data.coverage,
    }


def _stacked(weighed: Weighed) -> dict[str, np.ndarray]:
    """Importance weights and contributions with a first axis of epochs; the labels once."""
    if not weighed:
        return {}
    arrays = {
        name: torch.stack([point[name] for point in weighed]).numpy()
        for name in ("importance_real", "importance_phantom", "contributions")
    }
    return arrays | {name: weighed[0][name].numpy() for name in ("labels", "attributes")}


def _no_errors(config: FinetuneConfig) -> dict[str, Any]:
    """The names of all errors with None, for a run that diverged."""
    names = [f"test_{name}" for name in ("error", "worst_group_error", "group_errors", "group_counts")]
    for feature in config.features:
        names += [*(f"{feature}_probe_{name}" for name in PROBE_METRICS), f"{feature}_head_error"]
    return dict.fromkeys(names)
