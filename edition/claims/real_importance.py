"""The paper's claims about importance weights on photographs (Section 6.2, Appendix G), from records to verdicts.

The statistics are those of the toy's verdicts in `edition.claims.mechanism`, so that both can be read side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edition.claims.data_sets import DATA_SETS
from edition.claims.mechanism import ginis, shift_of_worst_quarter
from edition.claims.pairs import method_of, pair_roles
from edition.claims.rules import Effect, Verdict
from edition.records.store import Record
from samlib.images.photograph_config import FEATURES
from samlib.measures.importance import Importance
from samlib.measures.statistics import estimate, paired_difference

METHODS = ("SGD", "SAM")
# What runs must share for their weights to be compared.
_SHARED = ("image_set", "importance_epochs", "importance_rho", "n_importance", "batch_size")


@dataclass(frozen=True)
class WeighedEpoch:
    """Importance weights of all seeds of one method after one epoch.

    Attributes:
        image_set: which images.
        method: "SGD" or "SAM", with which the networks were trained.
        epoch: after how many epochs.
        rho: radius of the phantom, the same for both methods.
        seeds: one member each, rising.
        features: names of the (easy, hard) feature.
        importance: weights and signed contributions, member axis as `seeds`, feature axis as `features`. Positive
            where the feature's probe gives the value that goes with the example's label in most training examples.
    """

    image_set: str
    method: str
    epoch: int
    rho: float
    seeds: tuple[int, ...]
    features: tuple[str, str]
    importance: Importance


def points(records: Sequence[Record]) -> list[WeighedEpoch]:
    """Read the recorded importance weights: SGD's by epoch, then SAM's by epoch.

    Which feature is easy is decided by SGD's probes (`pair_roles`). Runs that diverged, and runs that recorded no
    weights, are left out.

    Args:
        records: of kind "finetune", of one image set, at most one a method and seed that recorded weights.
    Raises:
        ValueError: no record of SGD that converged, none with weights, or records that cannot be compared.
        RecordError: arrays are missing or damaged.
    """
    roles = pair_roles(records)
    kept = [r for r in records if r.config["importance_epochs"] and not r.metrics["diverged"]]
    _require_comparable(kept)
    config = kept[0].config
    features = (roles["easy"], roles["hard"])
    axes = [FEATURES[config["image_set"]].index(name) for name in features]
    signs = np.array([1, _agreement(kept[0])])[axes]  # of label and attribute, as recorded
    found = []
    for method in METHODS:
        runs = sorted((r for r in kept if method_of(r) == method), key=lambda r: r.config["seed"])
        seeds, arrays = tuple(r.config["seed"] for r in runs), [r.arrays() for r in runs]
        for index, epoch in enumerate(sorted(set(config["importance_epochs"])) if runs else ()):
            real, phantom, parts = (
                np.stack([array[name][index].astype(float) for array in arrays])
                for name in ("importance_real", "importance_phantom", "contributions")
            )
            weights = Importance(real, phantom, parts[:, axes] * signs[:, None])
            rho = config["importance_rho"]
            found.append(WeighedEpoch(config["image_set"], method, epoch, rho, seeds, features, weights))
    return found


def last(points: Sequence[WeighedEpoch]) -> list[WeighedEpoch]:
    """Keep the last recorded epoch of each method."""
    return [max(part, key=lambda point: point.epoch) for part in by_method(points)]


def by_method(points: Sequence[WeighedEpoch]) -> list[list[WeighedEpoch]]:
    """Split into SGD's and SAM's, leaving out a method without any."""
    parts = [[point for point in points if point.method == method] for method in METHODS]
    return [part for part in parts if part]


def ginis_at_the_end(points: Sequence[WeighedEpoch]) -> str:
    """Say the mean Gini coefficients of real and phantom weights at the end of training (Markdown).

    Args:
        points: what `points` returned for one image set.
    """
    told = []
    for point in last(points):
        real, phantom = (ginis(point.importance, which).mean() for which in ("real", "phantom"))
        n = len(point.seeds)
        told.append(f"**{real:.3f}** with real and **{phantom:.3f}** with phantom weights for {point.method} (n = {n})")
    return f"{title(points)}: Gini coefficient {'; '.join(told)}."


def title(points: Sequence[WeighedEpoch]) -> str:
    """Return the image set's name as the paper spells it."""
    name = points[0].image_set
    return next((title for title, names in DATA_SETS.items() if names.experiment == name), name)


def weights_more_uniform(points: Sequence[WeighedEpoch]) -> Verdict:
    """Section 6.2, Figure 3: at fixed parameters, importance weights at the phantom are more uniform.

    Args:
        points: what `points` returned for one image set.
    Returns:
        The verdict; without two seeds of both methods nothing was tested.
    """
    return _uniform(
        "weights-uniform",
        "Section 6.2, Figure 3 (centre and right)",
        "Training examples are weighed more uniformly at the phantom than at the real parameters.",
        "at the end of training",
        last(points),
    )


def uniform_throughout(points: Sequence[WeighedEpoch]) -> Verdict:
    """Appendix G, Figure 7: the same after every recorded epoch, "consistent across the duration of training"."""
    return _uniform(
        "uniform-throughout",
        "Appendix G, Figure 7",
        "Phantom importance weights are more uniform than real ones throughout training.",
        "after each recorded epoch",
        points,
    )


def sam_more_uniform_than_sgd(points: Sequence[WeighedEpoch]) -> Verdict:
    """Section 6.2: SAM's own weights are more uniform than SGD's own; said of the toy, asked here of photographs."""
    at = {point.method: dict(zip(point.seeds, _ginis_of_training(point), strict=True)) for point in last(points)}
    common = sorted(set(at.get("SGD", {})) & set(at.get("SAM", {})))
    value = [paired_difference(*([at[method][seed] for seed in common] for method in ("SAM", "SGD")))] if common else []
    return Verdict(
        f"{points[0].image_set}-sam-more-uniform",
        "Section 6.2, said of the toy; the test on photographs is ours",
        f"{title(points)}: SAM weighs its training examples more uniformly than SGD weighs its own.",
        f"Gini coefficient at the end of training, of phantom weights (at rho = {points[0].rho:g}, whatever the radius "
        "of training) for SAM-trained and of real weights for SGD-trained networks: the former minus the latter, "
        "paired by seed; two seeds or more",
        [Effect("SAM-trained phantom - SGD-trained real", v, "below") for v in value if len(common) > 1],
    )


def poorly_fit_at_the_end(points: Sequence[WeighedEpoch]) -> Verdict:
    """Section 6.2, Figure 5: weight moves to what the hard feature fits badly, away from what the easy one does."""
    return _poorly_fit("poorly-fit", "Section 6.2, Figure 5 (centre and right)", last(points))


def poorly_fit_throughout(points: Sequence[WeighedEpoch]) -> Verdict:
    """Appendix G, Figure 8: the same after every recorded epoch."""
    return _poorly_fit("poorly-fit-throughout", "Appendix G, Figure 8", points)


def _uniform(name: str, place: str, claim: str, when: str, points: Sequence[WeighedEpoch]) -> Verdict:
    """Judge the Gini coefficient of phantom minus real weights at the given points."""
    effects = []
    for point in points:
        value = paired_difference(*(ginis(point.importance, which) for which in ("phantom", "real")))
        effects.append(Effect(_place(point), value, "below"))
    return Verdict(
        f"{points[0].image_set}-{name}",
        place,
        f"{title(points)}: {claim}",
        f"Gini coefficient of phantom minus real weights (rho = {points[0].rho:g}) {when}, paired by seed; two seeds "
        "or more of each method",
        effects if _testable(points) else [],
    )


def _poorly_fit(name: str, place: str, points: Sequence[WeighedEpoch]) -> Verdict:
    """Judge the shift of importance to the worst-fit quarter of each feature at the given points."""
    effects = []
    for point in points:
        for feature, (role, side) in enumerate((("easy", "below"), ("hard", "above"))):
            value = estimate(shift_of_worst_quarter(point.importance, feature))
            effects.append(Effect(f"{_place(point)}, {role} ({point.features[feature]})", value, side))
    return Verdict(
        f"{points[0].image_set}-{name}",
        place,
        f"{title(points)}: SAM gives less weight to examples that the easy feature fits poorly and more to those that "
        "the hard feature fits poorly.",
        "share of all importance held by the quarter of examples with the lowest signed contribution of the feature's "
        f"probe: phantom minus real (rho = {points[0].rho:g}), mean over seeds; two seeds or more of each method",
        effects if _testable(points) else [],
    )


def _agreement(record: Record) -> int:
    """Return 1 if attribute 1 goes with label 1 in training (Waterbirds), -1 if with label 0 (CelebA: male, blond)."""
    f = record.metrics["train_frequencies"]
    covariance = f[0] * f[3] - f[1] * f[2]
    if covariance == 0:
        raise ValueError(
            f"records: expected label and attribute to be correlated in training, got group frequencies {f}; the "
            f"attribute then fits no label, and has no signed contribution"
        )
    return 1 if covariance > 0 else -1


def _require_comparable(records: Sequence[Record]) -> None:
    """Refuse records without weights, of several settings, or of several runs a method and seed."""
    settings = {tuple(str(record.config[name]) for name in _SHARED) for record in records}
    if len(settings) != 1:
        raise ValueError(
            f"records: expected importance weights recorded under one setting of {', '.join(_SHARED)}, got "
            f"{len(settings)}: {sorted(settings)}; pass the records of one experiment with importance_epochs"
        )
    runs = [(method_of(record), record.config["seed"]) for record in records]
    twice = sorted({run for run in runs if runs.count(run) > 1})
    if twice:
        raise ValueError(
            f"records: expected one a method and seed, got several of {twice}; choose one learning rate and one rho"
        )


def _ginis_of_training(point: WeighedEpoch) -> np.ndarray:
    """Gini coefficients of the weights of the kind that the method trains with: SAM's are the phantom's."""
    return ginis(point.importance, "phantom" if point.method == "SAM" else "real")


def _testable(points: Sequence[WeighedEpoch]) -> bool:
    """Whether both methods were run with two seeds or more."""
    return len(by_method(points)) == len(METHODS) and min(len(point.seeds) for point in points) > 1


def _place(point: WeighedEpoch) -> str:
    """Say which networks, such as "SAM-trained, epoch 20"."""
    return f"{point.method}-trained, epoch {point.epoch}"
