"""Train a network on a pair with SGD or SAM, and probe both features (Section 4.1)."""

from typing import Any

import torch
from torch import Tensor

from samlib.images.backbones import Backbone, build_backbone, repeatable
from samlib.images.config import PairConfig
from samlib.images.probing import Seen, curve_errors, feature_errors, feature_metrics
from samlib.images.splits import PairImages, PairSets, pair_sets
from samlib.images.tiles import PairSource
from samlib.images.training import Checkpoint, Result, evaluate, fit, has_diverged, is_finite
from samlib.images.views import PairViews, mean_pixel

_SETS = ("train", "validation", "test", "probe_train", "probe_test")


def train_pair(
    config: PairConfig,
    source: PairSource,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Train one network (Eq 2 or 3) and measure test error and both probing errors (Eq 1).

    The same configuration gives the same metrics on one machine with one thread: all randomness comes from
    streams of the seed, and SGD and SAM of one seed share images, initialization, batch order and probe sets.

    Args:
        config: the run.
        source: what `load_pair` returned for `config.pair`.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again; None saves nothing.
    Returns:
        Metrics, errors as shares of 1:
            test_error, validation_error: on correlated images, where either feature suffices.
            curves: train_loss (mean over the epoch's batches, at w), validation_error, by epoch; and, where the
                configuration asks for them, <feature>_probe_error (see `samlib.images.probing.curve_errors`).
            <feature>_probe_error and the others of `samlib.images.probing.feature_errors`, on the balanced test set.
                Which feature is easy is not decided here.
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
    labels = sets.train.labels[:, 0]

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        return torch.randperm(len(labels), generator=generator).split(config.batch_size)

    def look(epoch: int) -> dict[str, float]:
        seen = {"validation_error": _see(network, sets.validation, sets, mean).error}
        if config.probe_each_epoch:
            probed, tested = (_see(network, part, sets, mean) for part in (sets.probe_train, sets.probe_test))
            if is_finite(network, probed.features):
                seen |= curve_errors(sets.features, probed, tested, seed=config.seed)
        return seen

    with repeatable():
        views = PairViews(sets.train.images, mean, device=device)
        curves = fit(network, views, labels.to(device), config, draw=draw, look=look, checkpoint=checkpoint)
        if len(curves["validation_error"]) < len(curves["train_loss"]):
            # Records of pairs have the error after the last epoch also where that epoch's loss was not finite.
            curves["validation_error"].append(_see(network, sets.validation, sets, mean).error)
        diverged = has_diverged(network, _see(network, sets.probe_train, sets, mean).features, curves)
        if diverged:
            metrics: dict[str, Any] = dict.fromkeys(["test_error", *feature_metrics(sets.features)])
        else:
            metrics = measure(network, sets, mean=mean, seed=config.seed, n_folds=config.probe_folds)
    metrics |= {f"n_{name}": len(getattr(sets, name).labels) for name in _SETS}
    metrics["validation_error"] = None if diverged else curves["validation_error"][-1]
    return Result(metrics | {"mean_pixel": mean, "diverged": diverged, "curves": curves}, network, {})


def measure(network: Backbone, sets: PairSets, *, mean: float, seed: int, n_folds: int = 0) -> dict[str, Any]:
    """Measure test error, probing errors and head errors of a network; see `train_pair` for the names.

    Args:
        network: the trained network.
        sets: the run's sets.
        mean: what `mean_pixel` returned for the training images.
        seed: root seed of the probes.
        n_folds: of the choice of C; 0 is one held-out quarter.
    """
    probed, tested = (_see(network, part, sets, mean) for part in (sets.probe_train, sets.probe_test))
    errors = feature_errors(sets.features, probed, tested, seed=seed, n_folds=n_folds)
    return {"test_error": _see(network, sets.test, sets, mean).error} | errors


def _see(network: Backbone, data: PairImages, sets: PairSets, mean: float) -> Seen:
    views = PairViews(data.images, mean, device=network.head.weight.device)
    return Seen(*evaluate(network, views, torch.arange(len(data.labels))), data.labels, sets.n_classes)
