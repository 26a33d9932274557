"""Errors of both features of two-feature images, as pairs and photographs report them (Eq 1)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from samlib.measures.probe import STRENGTHS, FrozenFeatures, ProbeResult, group_errors, probe_error
from samlib.shapes import Float, Int64
from samlib.streams import stream

# Other ways to a probe's C, recorded beside a cross-validated choice; and on photographs another penalty.
CHOICES = {"held-out quarter": STRENGTHS, "C = 0.001": (0.001,), "C = 0.003": (0.003,), "C = 0.01": (0.01,)}
LASSO = "L1, held-out quarter"  # with the seven values of C of Kirichenko et al. (2022)
CURVE_STRENGTH = 0.003  # C of the probes after each epoch: between those that held-out data choose on CIFAR-MNIST
PROBE_METRICS = ("error", "worst_group_error", "group_errors", "group_counts", "strength")


class Seen(NamedTuple):
    """What a network makes of some two-feature images.

    Attributes:
        features: the trunk's.
        answers: the network's own, for the label that it is trained on.
        labels: of both features; column 0 is what it is trained on.
        n_classes: of either feature, K.
    """

    features: Float[Tensor, "example feature"]
    answers: Int64[Tensor, " example"]
    labels: Int64[Tensor, "example 2"]
    n_classes: int = 2

    @property
    def groups(self) -> Int64[Tensor, " example"]:
        """Numbers of the label pairs: first label * K + second label."""
        return self.n_classes * self.labels[:, 0] + self.labels[:, 1]

    @property
    def error(self) -> float:
        """Share of the images whose trained label the network's own answer misses."""
        return (self.answers != self.labels[:, 0]).double().mean().item()


def probe_both(
    names: Sequence[str],
    train: Seen,
    test: Seen,
    *,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
    n_folds: int = 0,
    penalty: str = "l2",
) -> dict[str, ProbeResult]:
    """Probe both features; return the results by feature.

    Args:
        names: of the features.
        train: the probe training images, balanced over the groups.
        test: the images that the probes are tested on.
        seed: root seed; the stream "probe" decides what a probe holds out while its C is chosen.
        strengths: values of C to choose from.
        n_folds: of that choice; 0 is one held-out quarter.
        penalty: "l2" or "l1"; see `samlib.measures.probe.fit_probe`.
    """
    return {
        name: probe_error(
            *(FrozenFeatures(part.features, part.labels[:, i], part.groups) for part in (train, test)),
            n_groups=train.n_classes**2,
            generator=stream(seed, "probe"),
            strengths=strengths,
            n_folds=n_folds,
            penalty=penalty,
        )
        for i, name in enumerate(names)
    }


def curve_errors(names: Sequence[str], train: Seen, test: Seen, *, seed: int) -> dict[str, float]:
    """Return <feature>_probe_error of both features at one fixed C, as the curves over epochs have it."""
    results = probe_both(names, train, test, seed=seed, strengths=(CURVE_STRENGTH,))
    return {f"{name}_probe_error": result.error for name, result in results.items()}


def feature_errors(
    names: Sequence[str], train: Seen, test: Seen, *, seed: int, n_folds: int = 0, lasso: bool = False
) -> dict[str, Any]:
    """Return all errors of both features, shares of 1; arguments as `probe_both` has them.

    Returns:
        <feature>_probe_error, <feature>_probe_worst_group_error, <feature>_probe_group_errors,
        <feature>_probe_group_counts, <feature>_probe_strength (C): of the probe for one feature.
        <feature>_head_error: how often the network's own answer differs from this feature's label, mean over the
        groups, i.e. how little it relies on the feature.
        <feature>_probe_sensitivity, where C is cross-validated: the probing error under each of `CHOICES`, and with
        `lasso` under `LASSO`.
    """
    metrics: dict[str, Any] = {}
    for i, (name, result) in enumerate(probe_both(names, train, test, seed=seed, n_folds=n_folds).items()):
        metrics |= {f"{name}_probe_{part}": getattr(result, part) for part in PROBE_METRICS}
        errors, _ = group_errors(test.answers != test.labels[:, i], test.groups, n_groups=test.n_classes**2)
        metrics[f"{name}_head_error"] = sum(errors) / len(errors)
    ways: dict[str, dict[str, Any]] = {way: {"strengths": strengths} for way, strengths in CHOICES.items()}
    if lasso:
        ways[LASSO] = {"strengths": STRENGTHS[:7], "penalty": "l1"}
    for way, options in ways.items() if n_folds else ():
        for name, result in probe_both(names, train, test, seed=seed, **options).items():
            metrics.setdefault(f"{name}_probe_sensitivity", {})[way] = result.error
    return metrics


def feature_metrics(names: Sequence[str]) -> list[str]:
    """Return the names of what `feature_errors` gives in any case: None stands under each where a run diverged."""
    probes = [f"{name}_probe_{part}" for name in names for part in PROBE_METRICS]
    return [*probes, *(f"{name}_head_error" for name in names)]
