"""Importance weights at moments of the training, of the toy and of photographs alike, and what is read off them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from edition.claims.claim import Judged
from edition.claims.pairs import method_of, pair_roles
from edition.claims.rules import Effect
from edition.experiments.finetune import RADIUS
from edition.experiments.toy import REFERENCE_RHO
from edition.records.kept import KeptNetworks, checkpoints
from edition.records.store import Record
from samlib.images.catalogue import PHOTOGRAPHS
from samlib.images.importance import READING_RADII, READINGS
from samlib.measures.importance import Importance, gini, only_easy, worst
from samlib.measures.statistics import estimate, paired_difference

# Of the phantom, where runs recorded several: the one that book/protocol.md lets judge, at `RADIUS`.
JUDGING = ("evaluation", 128)
# What runs must share for their weights to be compared.
_SHARED = ("image_set", "importance_epochs", "importance_rho", "n_importance", "batch_size", "phantom_readings")


@dataclass(frozen=True)
class Moment:
    """Importance weights of all seeds of one method at one moment of the training.

    Attributes:
        data: "toy", or the set of photographs.
        method: "SGD", "LSAM" or "SAM", with which the networks were trained.
        unit: what `when` counts, "step" or "epoch".
        when: after how many.
        rho: radius of the phantom, the same for both methods.
        seeds: one member each, rising.
        features: names of the (easy, hard) feature.
        importance: weights and signed contributions, member axis as `seeds`, feature axis as `features`. Of
            photographs, contributions are positive where the feature's probe gives the value that goes with the
            example's label in most training examples.
        reading: of the phantom; see `reading_name`.
    """

    data: str
    method: str
    unit: str
    when: int
    rho: float
    seeds: tuple[int, ...]
    features: tuple[str, str]
    importance: Importance
    reading: str = ""

    @property
    def name(self) -> str:
        """Which networks, and when, such as "SAM-trained, epoch 20"."""
        return f"{self.method}-trained, {self.unit} {self.when}"

    def turned(self) -> "Moment":
        """The same with the names easy and hard the other way round."""
        swapped = self.importance._replace(contributions=self.importance.contributions[:, ::-1])
        return replace(self, features=self.features[::-1], importance=swapped)


_weighed: dict[tuple[str, str | None], list[Moment]] = {}  # by record: weighing twenty networks takes seconds


def toy_moment(kept: KeptNetworks, rho: float) -> Moment:
    """Weigh the toy's training examples by networks kept at one step; `rho` is the phantom's radius."""
    seeds = tuple(kept.config.seeds)
    return Moment("toy", kept.method, "step", kept.step, rho, seeds, ("easy", "hard"), kept.importance(rho))


def toy_moments(records: Sequence[Record]) -> list[Moment]:
    """Weigh the toy's training examples at every kept step of "checkpoints": SGD's networks, then LSAM's, by step."""
    found = []
    for record in records:
        key = (str(record.path), record.arrays_sha256)
        if key not in _weighed:
            _weighed[key] = [toy_moment(kept, REFERENCE_RHO) for kept in checkpoints(record)]
        found += _weighed[key]
    return sorted(found, key=lambda moment: (moment.method != "SGD", moment.when))


def photograph_moments(
    records: Sequence[Record],
    roles: Mapping[str, str] | None = None,
    *,
    reading: tuple[str, int | None] = JUDGING,
    rho: float = RADIUS,
) -> list[Moment]:
    """Read the recorded importance weights: SGD's by epoch, then SAM's by epoch.

    Runs that diverged, and runs that recorded no weights, are left out.

    Args:
        records: of kind "finetune", of one image set, at most one a method and seed that recorded weights.
        roles: {"easy": name, "hard": name} where they were fixed beforehand; None reads them off SGD's probes.
        reading: of the phantom, one of `samlib.images.importance.READINGS`, and
        rho: its radius, where the runs recorded several; others have one, in training mode.
    Raises:
        ValueError: no record of SGD that converged, none with weights, or records that cannot be compared.
        RecordError: arrays are missing or damaged.
    """
    roles = roles or pair_roles(records)
    kept = [r for r in records if r.config["importance_epochs"] and not r.metrics["diverged"]]
    _require_comparable(kept)
    config = kept[0].config
    features = (roles["easy"], roles["hard"])
    axes = [PHOTOGRAPHS[config["image_set"]].features.index(name) for name in features]
    signs = np.array([1, _agreement(kept[0])])[axes]  # of label and attribute, as recorded
    found = []
    for method in ("SGD", "SAM"):
        runs = sorted((r for r in kept if method_of(r) == method), key=lambda r: r.config["seed"])
        seeds, arrays = tuple(r.config["seed"] for r in runs), [r.arrays() for r in runs]
        several = bool(config.get("phantom_readings"))
        told = reading_name(reading if several else ("training", config["batch_size"]))
        radius = rho if several else config["importance_rho"]
        for index, epoch in enumerate(sorted(set(config["importance_epochs"])) if runs else ()):
            real, phantom = (
                np.stack([_weights(array, index, which, reading, rho) for array in arrays]).astype(float)
                for which in ("real", "phantom")
            )
            parts = np.stack([array["contributions"][index] for array in arrays]).astype(float)
            weights = Importance(real, phantom, parts[:, axes] * signs[:, None])
            found.append(Moment(config["image_set"], method, "epoch", epoch, radius, seeds, features, weights, told))
    return found


def _weights(
    arrays: Mapping[str, np.ndarray], index: int, which: str, reading: tuple[str, int | None], rho: float
) -> np.ndarray:
    """A run's real or phantom weights at a recorded epoch."""
    if f"importance_{which}" in arrays:
        return arrays[f"importance_{which}"][index]
    found: np.ndarray = arrays[f"readings_{which}"][index, READINGS.index(reading)]
    return found if which == "real" else found[READING_RADII.index(rho)]


def reading_name(reading: tuple[str, int | None]) -> str:
    """Name a reading of the phantom.

    >>> reading_name(("evaluation", 128)), reading_name(("evaluation", None)), reading_name(("evaluation", 1))
    ('evaluation mode, batches of 128', 'evaluation mode, all images', 'evaluation mode, the image alone')
    """
    mode, size = reading
    return f"{mode} mode, " + {None: "all images", 1: "the image alone"}.get(size, f"batches of {size}")


def reading_changes(
    records: Sequence[Record],
    readings: Sequence[tuple[str, int | None]] = READINGS,
    radii: Sequence[float] = READING_RADII,
) -> pd.DataFrame:
    """Tabulate how the phantom changes the Gini coefficient, under every recorded reading.

    Args:
        records: with `phantom_readings`, as `photograph_moments` takes them.
        readings, radii: which of the recorded ones.
    Returns:
        One row per (method, reading, rho, epoch, seed): "method", "reading" (`reading_name`), "rho", "epoch", "seed",
        "change" (phantom minus real). In the order of the readings and radii.
    """
    rows = []
    for reading in readings:
        for rho in radii:
            for m in photograph_moments(records, reading=reading, rho=rho):
                changes = ginis(m.importance, "phantom") - ginis(m.importance, "real")
                told = (m.method, m.reading, rho, m.when)
                rows += [(*told, seed, change) for seed, change in zip(m.seeds, changes, strict=True)]
    return pd.DataFrame(rows, columns=["method", "reading", "rho", "epoch", "seed", "change"])


def by_method(moments: Sequence[Moment]) -> list[list[Moment]]:
    """Split into SGD's and SAM's or LSAM's."""
    return [[m for m in moments if m.method == method] for method in dict.fromkeys(m.method for m in moments)]


def last(moments: Sequence[Moment]) -> list[Moment]:
    """Keep the last moment of each method."""
    return [max(part, key=lambda moment: moment.when) for part in by_method(moments)]


def ginis(importance: Importance, which: str) -> np.ndarray:
    """Return the Gini coefficient of the "real" or "phantom" weights of every member."""
    return np.array([gini(values) for values in getattr(importance, which)])


def more_uniform(moments: Sequence[Moment]) -> list[Effect]:
    """Gini coefficient of phantom minus real weights, predicted below zero: one effect a moment."""
    return [
        Effect(m.name, paired_difference(ginis(m.importance, "phantom"), ginis(m.importance, "real")), "below")
        for m in moments
    ]


def poorly_fit(moments: Sequence[Moment], role: str) -> Judged:
    """Weight of what a feature fits poorly, phantom minus real: less for the easy feature, more for the hard one.

    Args:
        moments: of one data set.
        role: of the feature, "easy" or "hard".
    Returns:
        One effect a moment by the mean rank of the weights; shown beside it, the share of all weight, the median
        (Figures 5 and 8), and the median in units of the mean weight; noted, how many of all examples gain raw weight.
    """
    place, side = {"easy": (0, "below"), "hard": (1, "above")}[role]
    rising = [100 * (m.importance.phantom > m.importance.real).mean() for m in moments]
    found = _gains(moments, f"{role} feature's worst quarter", partial(worst, feature=place), side)
    if not rising:
        return found
    shares = " to ".join(dict.fromkeys(f"{share:.0f}" for share in (min(rising), max(rising))))
    return found._replace(note=f"; of all examples, fitted well or not, {shares} % weigh more at the phantom")


def only_easy_fits(moments: Sequence[Moment]) -> Judged:
    """Weight of the examples that the easy feature classifies correctly and the hard one wrongly, as `poorly_fit`.

    Moments at which fewer than two networks have such examples are left out.
    """
    return _gains(moments, "right by easy, wrong by hard", only_easy, "above")


def easy_side(moments: Sequence[Moment]) -> Judged:
    """Median weight where the easy feature contributes more, minus that of the other examples (Figure 8).

    Returns:
        One effect a moment of the phantom weights; shown beside it, of what the phantom adds, phantom minus real:
        another reading of the paper's sentence. Networks without examples on one of the sides are left out.
    """
    effects, shown = [], []
    for moment in moments:
        gaps = []
        for real, phantom, (easy, hard) in zip(*moment.importance, strict=True):
            sides = easy > hard, easy <= hard
            first, other = (
                [np.median(weights[side]) if side.any() else np.nan for weights in (phantom, real)] for side in sides
            )
            gaps.append(np.subtract(first, other))
        of_phantom, of_real = np.transpose(gaps)
        if np.count_nonzero(~np.isnan(of_phantom)) > 1:
            effects.append(Effect(moment.name, estimate(of_phantom), "above"))
            shown.append(Effect(f"{moment.name}: phantom - real", estimate(of_phantom - of_real), "above"))
    return Judged(effects, shown=shown)


# What a group of examples weighs; the first decides. The ascent step raises nearly all weights and makes them more
# even, so that the medians of any quarter of them rise, whoever is in it; rank and share of a random one do not.
STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    # From 0 to 1; equal weights share their rank, for the order in which a sort leaves them is the processor's.
    "mean rank": lambda weights, chosen: float(((rankdata(weights) - 1)[chosen] / (len(weights) - 1)).mean()),
    "share": lambda weights, chosen: float(weights[chosen].sum() / weights.sum()),
    "median": lambda weights, chosen: float(np.median(weights[chosen])),
    "median / mean weight": lambda weights, chosen: float(np.median(weights[chosen]) / weights.mean()),
}


def _gains(moments: Sequence[Moment], told: str, choose: Callable[[np.ndarray], np.ndarray], predicted: str) -> Judged:
    """Phantom minus real of every statistic of a group of examples, at each moment; the first statistic decides."""
    found: dict[str, list[Effect]] = {name: [] for name in STATISTICS}
    for moment in moments:
        values: dict[str, list[float]] = {name: [] for name in STATISTICS}
        for real, phantom, parts in zip(*moment.importance, strict=True):
            chosen = choose(parts)
            for name, statistic in STATISTICS.items():
                gain = statistic(phantom, chosen) - statistic(real, chosen) if chosen.any() else np.nan
                values[name].append(gain)
        for name, gains in values.items():
            if np.count_nonzero(~np.isnan(gains)) > 1:
                label = f"{moment.name}, {told}" + ("" if name == "mean rank" else f": {name}")
                found[name].append(Effect(label, estimate(gains), predicted))
    first, *others = found.values()
    return Judged(first, shown=[effect for effects in others for effect in effects])


def _agreement(record: Record) -> int:
    """Return 1 if attribute 1 goes with label 1 in training (Waterbirds), -1 if with label 0 (CelebA: male, blond)."""
    f = record.metrics["train_frequencies"]
    covariance = f[0] * f[3] - f[1] * f[2]
    if covariance == 0:
        raise ValueError(
            f"records: expected label and attribute to be correlated in training, got group frequencies {f}; the "
            "attribute then fits no label, and has no signed contribution"
        )
    return 1 if covariance > 0 else -1


def _require_comparable(records: Sequence[Record]) -> None:
    """Refuse records without weights, of several settings, or of several runs a method and seed."""
    settings = {tuple(str(record.config.get(name)) for name in _SHARED) for record in records}
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
