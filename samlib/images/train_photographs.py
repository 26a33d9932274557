"""Finetune a pretrained network with SGD or SAM on an annotated image set, and probe both features."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.images.backbones import Backbone, build_backbone
from samlib.images.embedded import digits_on_patches
from samlib.images.measure import (
    Part,
    Parts,
    curve_errors,
    final_errors,
    labels_of,
    places_of,
    probed_features,
    validation_error,
    weigh,
)
from samlib.images.photograph_config import FinetuneConfig
from samlib.images.photograph_splits import AttributeSplits, attribute_splits
from samlib.images.prepared import PreparedSet, load_prepared
from samlib.images.train_pairs import Checkpointer, is_finite, no_feature_metrics
from samlib.images.training import make_optimizer, restore, snapshot, train_epoch
from samlib.images.views import make_views
from samlib.streams import stream

Curves = dict[str, list[float]]
Weighed = list[dict[str, Tensor]]  # by recorded epoch; see `samlib.images.measure.weigh`


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
            <feature>_probe_error and the other probe metrics of `train_pair`, on the test images;
            <feature>_head_error: how often the network's own answer differs from this feature's label there, mean
                over the groups.
            curves: by epoch, train_loss, validation_error and, where asked for, <feature>_probe_error (see
                `samlib.images.measure.curve_errors`).
            n_train, n_validation, n_test, n_probe_train, train_frequencies, n_features, weights_sha256,
            images_sha256, coverage: what was used.
            diverged: whether training stopped at a loss that is not finite; all errors are then None.
        Arrays, where `importance_epochs` asks for them: importance_real, importance_phantom (epoch, example) and
        contributions (epoch, 2, example), the features in the order of `config.features`; labels, attributes. With
        `phantom_readings`, in place of the first two: readings_real (epoch, reading, example) and readings_phantom
        (epoch, reading, radius, example) in the order of `samlib.images.importance.READINGS` and `READING_RADII`.
    Raises:
        ValueError: the set does not fit the configuration.
        Exception: whatever the checkpoint raises to stop the run.
    """
    splits = attribute_splits(data, config)
    network = build_backbone(config.backbone, n_classes=2, trained=config.trained, seed=config.seed, device=device)
    network.frozen_statistics = config.statistics == "frozen"
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU 1.7 times as fast
    parts = _parts(data, splits, network, config, folder, device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        curves, weighed = _fit(network, parts, config, checkpoint)
        probed = probed_features(network, parts, config)
        diverged = not (math.isfinite(curves["train_loss"][-1]) and is_finite(network, probed))
        metrics = _no_errors(config) if diverged else final_errors(network, parts, config, probed)
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
    optimizer = make_optimizer(network, config)
    labels = parts.train.labels[:, 0]
    streams = {purpose: stream(config.seed, purpose) for purpose in ("batch order", "augmentation")}
    curves: Curves = {"train_loss": [], "validation_error": []}
    weighed: Weighed = []
    state = checkpoint.load() if checkpoint else None
    if state:
        restore(state, network, optimizer, streams)
        curves, weighed = state["curves"], state["weighed"]
    for epoch in range(len(curves["train_loss"]), config.n_epochs):
        batches = _batches(len(labels), config.batch_size, streams["batch order"])
        loss = train_epoch(
            network,
            optimizer,
            parts.train.views,
            labels,
            batches,
            config,
            epoch=epoch,
            generator=streams["augmentation"],
        )
        curves["train_loss"].append(loss)
        probed = probed_features(network, parts, config)
        if not (math.isfinite(loss) and is_finite(network, probed)):
            break
        curves["validation_error"].append(validation_error(network, parts, config))
        if config.probe_each_epoch:
            for feature, error in curve_errors(network, parts, config, probed).items():
                curves.setdefault(f"{feature}_probe_error", []).append(error)
        if epoch + 1 in config.importance_epochs:
            weighed.append(weigh(network, parts, config, probed))
        if checkpoint:
            state = snapshot(network, optimizer, streams) | {"curves": curves, "weighed": weighed}
            checkpoint.save(state, (epoch + 1) / config.n_epochs)
    return curves, weighed


def _batches(n: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw an epoch's batches of n images; a last, smaller one, of noisier batch statistics, is left out."""
    n_batches = max(1, n // batch_size)
    return torch.randperm(n, generator=generator)[: n_batches * batch_size].split(batch_size)


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
    once = ("labels", "attributes")
    arrays = {name: torch.stack([point[name] for point in weighed]).numpy() for name in weighed[0] if name not in once}
    return arrays | {name: weighed[0][name].numpy() for name in once}


def _no_errors(config: FinetuneConfig) -> dict[str, Any]:
    """The names of all errors with None, for a run that diverged."""
    names = [f"test_{name}" for name in ("error", "worst_group_error", "group_errors", "group_counts")]
    return dict.fromkeys(names) | no_feature_metrics(config.features)
