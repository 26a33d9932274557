"""Finetune a pretrained network with SGD or SAM on annotated photographs, and probe both features (Section 4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.images.backbones import Backbone, build_backbone, repeatable
from samlib.images.config import FinetuneConfig
from samlib.images.image_sets import PreparedSet
from samlib.images.importance import READING_RADII, READINGS, image_importance, signed_contributions
from samlib.images.probing import CURVE_STRENGTH, Seen, curve_errors, feature_errors, feature_metrics
from samlib.images.splits import N_GROUPS, photograph_splits
from samlib.images.training import Checkpoint, Result, evaluate, fit, has_diverged, is_finite, origin
from samlib.images.views import Views, make_views
from samlib.measures.probe import balanced_rows, group_errors
from samlib.shapes import Int64
from samlib.streams import stream

CURVE_PER_GROUP = 250  # most test images of a group on which the probes after each epoch are tested: our choice
TEST_METRICS = ("test_error", "test_worst_group_error", "test_group_errors", "test_group_counts")


class Part(NamedTuple):
    """The images of one set of a run: inputs, and label (which is trained on) and attribute."""

    views: Views
    labels: Int64[Tensor, "example 2"]

    def see(self, network: Backbone, config: FinetuneConfig, places: Int64[Tensor, " row"] | None = None) -> Seen:
        """Return what the network makes of the images, or of those at some places."""
        places = torch.arange(len(self.labels)) if places is None else places
        return Seen(*evaluate(network, self.views, places, precision=config.precision), self.labels[places])


def train_finetune(
    config: FinetuneConfig,
    data: PreparedSet,
    *,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Train one network (Eq 2 or 3) and measure group errors, both probing errors (Eq 1) and importance weights.

    The same configuration gives the same metrics on one processor with one thread; on a GPU sums may have no fixed
    order. SGD and SAM of one seed share images, head, batch order and augmentation.

    Args:
        config: the run.
        data: what `samlib.images.image_sets.load_images` returned for it.
        folder: where activations of a frozen lower part are kept; None computes them anew.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again.
    Returns:
        Metrics, errors as shares of 1; group = 2 label + attribute:
            test_error, validation_error: group errors weighted by the training split's group frequencies
                (Appendix B); test_worst_group_error, test_group_errors, test_group_counts.
            <feature>_probe_error and the others of `samlib.images.probing.feature_errors`, on the test images.
            curves: by epoch, train_loss, validation_error and, where asked for, <feature>_probe_error: at one fixed C,
                on at most `CURVE_PER_GROUP` test images of a group, the same ones for all runs.
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
    splits = photograph_splits(data, config)
    network = build_backbone(config.backbone, n_classes=2, trained=config.trained, seed=config.seed, device=device)
    network.frozen_statistics = config.statistics == "frozen"
    columns = torch.tensor(data.table[["label", "attribute"]].to_numpy(np.int64))
    train, validation, test = (
        Part(make_views(data, rows, network, config, mirrored=i == 0, folder=folder, device=device), columns[rows])
        for i, rows in enumerate(splits[:3])
    )
    labels = train.labels[:, 0]
    groups = 2 * test.labels[:, 0] + test.labels[:, 1]
    per_group = min(CURVE_PER_GROUP, int(torch.bincount(groups).min()))
    # Drawn at random: a set's first images may be of a few species.
    few = balanced_rows(groups, n_groups=N_GROUPS, generator=stream(0, "curve test"), per_group=per_group)

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        n_used = max(1, len(labels) // config.batch_size) * config.batch_size
        # A last, smaller batch, of noisier batch statistics, is left out.
        return torch.randperm(len(labels), generator=generator)[:n_used].split(config.batch_size)

    def look(epoch: int) -> dict[str, Any] | None:
        probed = validation.see(network, config, splits.probe_places)
        if not is_finite(network, probed.features):
            return None
        error, _, _ = weighted_error(validation.see(network, config), splits.train_frequencies)
        seen: dict[str, Any] = {"validation_error": error}
        if config.probe_each_epoch:
            tested = test.see(network, config, few)
            seen |= curve_errors(config.features, probed, tested, seed=config.seed)
        if epoch + 1 in config.importance_epochs:
            seen["weighed"] = _weigh(network, train, config, probed)
        return seen

    with repeatable():
        curves = fit(
            network,
            train.views,
            labels,
            config,
            draw=draw,
            look=look,
            checkpoint=checkpoint,
            weight_decay=config.weight_decay,
            precision=config.precision,
        )
        weighed = curves.pop("weighed", [])
        probed = validation.see(network, config, splits.probe_places)
        diverged = has_diverged(network, probed.features, curves)
        if diverged:
            metrics: dict[str, Any] = dict.fromkeys([*TEST_METRICS, *feature_metrics(config.features)])
        else:
            tested, folds = test.see(network, config), config.probe_folds
            error, errors, counts = weighted_error(tested, splits.train_frequencies)
            metrics = dict(zip(TEST_METRICS, (error, max(errors), errors, counts), strict=True))
            metrics |= feature_errors(config.features, probed, tested, seed=config.seed, n_folds=folds, lasso=True)
    metrics["validation_error"] = None if diverged else curves["validation_error"][-1]
    metrics |= {f"n_{name}": len(getattr(splits, name)) for name in ("train", "validation", "test", "probe_train")}
    metrics |= {"train_frequencies": splits.train_frequencies} | origin(data, network)
    return Result(metrics | {"diverged": diverged, "curves": curves}, network, _stacked(weighed))


def weighted_error(seen: Seen, frequencies: Sequence[float]) -> tuple[float, list[float], list[int]]:
    """Return the error weighted by the training split's group frequencies (Appendix B), group errors and counts."""
    errors, counts = group_errors(seen.answers != seen.labels[:, 0], seen.groups, n_groups=N_GROUPS)
    return sum(error * share for error, share in zip(errors, frequencies, strict=True)), errors, counts


def _weigh(network: Backbone, train: Part, config: FinetuneConfig, probed: Seen) -> dict[str, Tensor]:
    """Return importance weights and signed contributions of training images (Figures 3, 5, 7 and 8).

    The images and their batches are the same for all runs of one number of training images.

    Returns:
        importance_real, importance_phantom (example,), or readings_real (reading, example) and readings_phantom
        (reading, radius, example); contributions (2, example); labels, attributes (example,).
    """
    places = torch.randperm(len(train.labels), generator=stream(0, "importance"))[: config.n_importance]
    labels, attributes = train.labels[places].T
    readings, radii = READINGS, READING_RADII
    if not config.phantom_readings:  # as a step of training does
        readings, radii = (("training", config.batch_size),), (config.importance_rho,)
    real, phantom = image_importance(
        network, lambda rows: train.views.plain(places[rows]), labels, readings=readings, radii=radii
    )
    weighed = train.see(network, config, places)
    contributions = torch.stack(
        [
            signed_contributions(probed.features, column, weighed.features, labels, strength=CURVE_STRENGTH)
            for column in probed.labels.T
        ]
    )
    found = {"importance_real": real[0], "importance_phantom": phantom[0, 0], "contributions": contributions}
    if config.phantom_readings:  # many numbers
        halves = {"readings_real": _shortened(real), "readings_phantom": _shortened(phantom)}
        found = halves | {"contributions": contributions.half()}
    return found | {"labels": labels, "attributes": attributes}


def _shortened(weights: Tensor) -> Tensor:
    """Round to half precision without its last three bits, to 0.4 %: so the record of a run stays below 200 KB."""
    return ((weights.half().view(torch.int16) + 4) & ~7).view(torch.float16)


def _stacked(weighed: Sequence[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """Importance weights and contributions with a first axis of epochs; the labels once."""
    if not weighed:
        return {}
    once = ("labels", "attributes")
    arrays = {name: torch.stack([point[name] for point in weighed]).numpy() for name in weighed[0] if name not in once}
    return arrays | {name: weighed[0][name].numpy() for name in once}
