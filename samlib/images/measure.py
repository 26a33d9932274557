"""What is measured of a finetuned network: errors by group, both probes, importance weights."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.images.backbones import Backbone
from samlib.images.importance import importance_weights, phantom_readings, signed_contributions
from samlib.images.photograph_config import FinetuneConfig
from samlib.images.photograph_splits import N_GROUPS, AttributeSplits
from samlib.images.prepared import PreparedSet
from samlib.images.train_pairs import CHOICES, CURVE_STRENGTH, feature_metrics
from samlib.images.training import predict
from samlib.images.views import Views
from samlib.measures.probe import STRENGTHS, FrozenFeatures, ProbeResult, balanced_rows, group_errors, probe_error
from samlib.shapes import Float, Int64
from samlib.streams import stream

CURVE_PER_GROUP = 250  # most test images of a group on which the probes after each epoch are tested: our choice


class Part(NamedTuple):
    """The images of one set of a run: inputs, and both labels (column 0: what is trained on)."""

    views: Views
    labels: Int64[Tensor, "example 2"]

    @property
    def groups(self) -> Int64[Tensor, " example"]:
        """2 label + attribute."""
        return 2 * self.labels[:, 0] + self.labels[:, 1]


class Parts(NamedTuple):
    """All images of a run; `probe_places` are the places of the probe training images in `validation`."""

    train: Part
    validation: Part
    test: Part
    probe_places: Int64[Tensor, " row"]
    train_frequencies: list[float]


def labels_of(data: PreparedSet, rows: Int64[Tensor, " row"]) -> Int64[Tensor, "row 2"]:
    """Return label and attribute of some rows."""
    return torch.from_numpy(data.table[["label", "attribute"]].to_numpy(np.int64)[rows.numpy()])


def places_of(splits: AttributeSplits) -> Int64[Tensor, " row"]:
    """Return where the probe training images stand among the validation images, whose row numbers ascend."""
    return torch.searchsorted(splits.validation, splits.probe_train)


def evaluate(
    network: Backbone, part: Part, config: FinetuneConfig, places: Int64[Tensor, " row"] | None = None
) -> tuple[Float[Tensor, "row feature"], Int64[Tensor, " row"]]:
    """Return features and predicted labels of a set's images, or of some `places` in it; see `predict`."""
    places = torch.arange(len(part.labels)) if places is None else places
    return predict(network, part.views, places, precision=config.precision)


def weighted_error(
    answers: Int64[Tensor, " example"], part: Part, frequencies: Sequence[float]
) -> tuple[float, list[float], list[int]]:
    """Return the error weighted by the training split's group frequencies (Appendix B), group errors and counts."""
    errors, counts = group_errors(answers != part.labels[:, 0], part.groups, n_groups=N_GROUPS)
    return sum(error * share for error, share in zip(errors, frequencies, strict=True)), errors, counts


def validation_error(network: Backbone, parts: Parts, config: FinetuneConfig) -> float:
    """Return the validation error, weighted like the test error."""
    _, answers = evaluate(network, parts.validation, config)
    return weighted_error(answers, parts.validation, parts.train_frequencies)[0]


def probed_features(network: Backbone, parts: Parts, config: FinetuneConfig) -> Float[Tensor, "row feature"]:
    """Return the features of the probe training images."""
    return evaluate(network, parts.validation, config, parts.probe_places)[0]


def probe_both(
    network: Backbone,
    parts: Parts,
    config: FinetuneConfig,
    probed: Float[Tensor, "row feature"],
    *,
    strengths: Sequence[float] = STRENGTHS,
    n_folds: int = 0,
    test_places: Int64[Tensor, " row"] | None = None,
) -> tuple[dict[str, ProbeResult], Int64[Tensor, " row"]]:
    """Probe both features; return the results by feature, and the network's own answers on the test images.

    Args:
        network: as trained so far.
        parts: the run's images.
        config: the run.
        probed: features of the probe training images.
        strengths: values of C to choose from.
        n_folds: of that choice; 0 is one held-out quarter.
        test_places: which test images; None is all.
    """
    places = torch.arange(len(parts.test.labels)) if test_places is None else test_places
    test, answers = evaluate(network, parts.test, config, places)
    return _probe(parts, config, probed, test, places, strengths=strengths, n_folds=n_folds), answers


def _probe(
    parts: Parts,
    config: FinetuneConfig,
    probed: Float[Tensor, "row feature"],
    test: Float[Tensor, "place feature"],
    places: Int64[Tensor, " place"],
    *,
    strengths: Sequence[float],
    n_folds: int = 0,
) -> dict[str, ProbeResult]:
    """Probe both features on features that are known already; see `probe_both`."""
    results = {}
    for i, feature in enumerate(config.features):
        sets = (
            FrozenFeatures(features, part.labels[rows, i], part.groups[rows])
            for features, part, rows in ((probed, parts.validation, parts.probe_places), (test, parts.test, places))
        )
        generator = stream(config.seed, "probe")
        results[feature] = probe_error(
            *sets, n_groups=N_GROUPS, generator=generator, strengths=strengths, n_folds=n_folds
        )
    return results


def curve_errors(network: Backbone, parts: Parts, config: FinetuneConfig, probed: Tensor) -> dict[str, float]:
    """Return both probing errors after an epoch: one fixed C, at most `CURVE_PER_GROUP` test images of a group.

    They are drawn at random, the same ones for all runs: a set's first images may be of a few species.
    """
    groups = parts.test.groups
    size = min(CURVE_PER_GROUP, int(torch.bincount(groups).min()))
    chosen = balanced_rows(groups, n_groups=N_GROUPS, generator=stream(0, "curve test"), per_group=size)
    results, _ = probe_both(network, parts, config, probed, strengths=(CURVE_STRENGTH,), test_places=chosen)
    return {feature: result.error for feature, result in results.items()}


def final_errors(network: Backbone, parts: Parts, config: FinetuneConfig, probed: Tensor) -> dict[str, Any]:
    """Return all errors of the trained network; see `samlib.images.train_photographs.train_finetune` for the names."""
    places = torch.arange(len(parts.test.labels))
    test, answers = evaluate(network, parts.test, config, places)
    results = _probe(parts, config, probed, test, places, strengths=STRENGTHS, n_folds=config.probe_folds)
    error, errors, counts = weighted_error(answers, parts.test, parts.train_frequencies)
    metrics: dict[str, Any] = {"test_error": error, "test_worst_group_error": max(errors)}
    metrics |= {"test_group_errors": errors, "test_group_counts": counts}
    for i, (feature, result) in enumerate(results.items()):
        wrong = answers != parts.test.labels[:, i]
        metrics |= feature_metrics(feature, result, wrong, parts.test.groups, n_groups=N_GROUPS)
    if config.probe_folds:
        for way, strengths in CHOICES.items():
            for feature, result in _probe(parts, config, probed, test, places, strengths=strengths).items():
                metrics.setdefault(f"{feature}_probe_sensitivity", {})[way] = result.error
    return metrics


class _Plain:
    """The middle crops of some training images, by slices, for `importance_weights`."""

    def __init__(self, views: Views, places: Tensor) -> None:
        self._views, self._places = views, places

    def __getitem__(self, rows: slice) -> Tensor:
        return self._views.plain(self._places[rows])


def weigh(network: Backbone, parts: Parts, config: FinetuneConfig, probed: Tensor) -> dict[str, Tensor]:
    """Return importance weights and signed contributions of training images (Figures 3, 5, 7 and 8).

    The images and their batches are the same for all runs of one number of training images.

    Args:
        network: as trained so far.
        parts: the run's images.
        config: the run.
        probed: features of the probe training images.
    Returns:
        importance_real, importance_phantom (example,), or readings_real (reading, example) and readings_phantom
        (reading, radius, example); contributions (2, example); labels, attributes (example,).
    """
    places = torch.randperm(len(parts.train.labels), generator=stream(0, "importance"))[: config.n_importance]
    labels, attributes = parts.train.labels[places].T
    inputs = _Plain(parts.train.views, places)
    if config.phantom_readings:
        real, phantom = (part.half() for part in phantom_readings(network, inputs, labels))
    else:
        real, phantom = importance_weights(
            network, inputs, labels, rho=config.importance_rho, batch_size=config.batch_size
        )
    weighed, _ = evaluate(network, parts.train, config, places)
    columns = parts.validation.labels[parts.probe_places].T
    contributions = torch.stack(
        [signed_contributions(probed, column, weighed, labels, strength=CURVE_STRENGTH) for column in columns]
    )
    kind = "readings" if config.phantom_readings else "importance"
    return {
        f"{kind}_real": real,
        f"{kind}_phantom": phantom,
        "contributions": contributions.half() if config.phantom_readings else contributions,
        "labels": labels,
        "attributes": attributes,
    }
