"""What the paper says in passing, beside the main point of a figure or table: functions from records to verdicts.

Rules follow the paper's words and were fixed before the numbers were seen. LSAM is at `REFERENCE_RHO`, as in the other
verdicts on the toy, and differences are paired by seed.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from edition.claims.real_importance import WeighedEpoch, title
from edition.claims.rules import Effect, Verdict
from edition.claims.table_one import Entry, table_one
from edition.claims.toy import ROOM, correlation, difference, noise_levels
from edition.experiments.toy import REFERENCE_RHO
from edition.records.kept import Checkpoint
from edition.runs.results import by_seed, pick
from samlib.measures.importance import Importance
from samlib.measures.statistics import Estimate, estimate, paired_difference

# "Successfully": SAM's test error is at most this much above SGD's. Our choice, one point.
AS_SUCCESSFUL = 0.01
# "Similar" optima: within one step of our grid of radii.
ONE_STEP = 1.0
PAPER_BATCH = 5
Point = Checkpoint | WeighedEpoch


def training_succeeds(entries: Mapping[str, Entry]) -> Verdict:
    """Section 4.2: SAM optimizes for the training distribution, "and it does so successfully".

    Args:
        entries: title of the data set -> its records; a data set with one seed has no interval, and cannot hold.
    """
    table = table_one(entries) if entries else pd.DataFrame(columns=["metric"])
    effects = [
        Effect(row.data_set, Estimate(row.difference, row.low, row.high, row.n), "below", AS_SUCCESSFUL)
        for row in table[table.metric == "test_error"].itertuples()
    ]
    return Verdict(
        "table-one-training-succeeds",
        "Section 4.2, Table 1 (test errors)",
        "SAM succeeds on the training distribution as SGD does.",
        "test error on the training distribution, SAM minus SGD, paired by seed, for each data set; success is an "
        f"interval below {AS_SUCCESSFUL:g}; two seeds or more",
        effects if any(effect.value.n > 1 for effect in effects) else [],
    )


def easy_learned(complexity: pd.DataFrame) -> Verdict:
    """Section 5.2: SGD has no trouble with the linear feature, and LSAM learns both features."""
    effects = [
        Effect(f"{method}, {degrees:g}°", estimate(pick(part, rho=rho).final_easy_error), "below", ROOM)
        for degrees, part in complexity.groupby("complexity")
        for method, rho in (("SGD", 0.0), ("LSAM", REFERENCE_RHO))
    ]
    return Verdict(
        "toy-easy-learned",
        "Section 5.2, Figure 1",
        "SGD has no trouble learning the linear feature, and LSAM learns it beside the spiral.",
        f"linear feature's probing error by method (LSAM at rho = {REFERENCE_RHO:g}) and complexity; the claim holds "
        f"where it is below {ROOM:g}",
        effects,
    )


def spiral_is_poor(complexity: pd.DataFrame) -> Verdict:
    """Section 5.2: SGD exhibits the simplicity bias: it represents the spiral worse than the line."""
    effects = []
    for degrees, part in complexity.groupby("complexity"):
        sgd = pick(part, rho=0.0)
        value = paired_difference(sgd.final_hard_error, sgd.final_easy_error)
        effects.append(Effect(f"{degrees:g}°", value, "above"))
    return Verdict(
        "toy-spiral-poor",
        "Sections 5 and 5.2, Figure 1",
        "SGD exhibits the simplicity bias: it represents the spiral worse than the line.",
        "probing error under SGD, the spiral's minus the line's, paired by seed, at each complexity",
        effects,
    )


def sgd_is_poorest(complexity: pd.DataFrame) -> Verdict:
    """Section 5.2: the hard feature's quality is poorest at rho = 0."""
    effects = []
    for degrees, part in complexity.groupby("complexity"):
        values = by_seed(part, "final_hard_error", "rho")
        if values[0.0].mean() <= ROOM:
            continue
        for rho in values.columns[values.columns > 0]:
            value = paired_difference(values[rho], values[0.0])
            effects.append(Effect(f"{degrees:g}°, rho = {rho:g}", value, "below"))
    return Verdict(
        "toy-sgd-poorest",
        "Section 5.2, Figure 2(A)",
        "The hard feature's quality is poorest at rho = 0, which is SGD: at every radius it is better.",
        "hard-feature probing error, LSAM minus SGD, paired by seed, at each radius and each complexity where SGD errs "
        f"by more than {ROOM:g}",
        effects,
    )


def joint_fit_gains(points: Sequence[Point]) -> Verdict:
    """Section 6.2: SAM gives more weight to what the easy feature fits well and the hard one poorly.

    Well and poorly are as there: a feature classifies an example correctly where its signed contribution is positive.

    Args:
        points: of the toy or of one set of photographs, at the end of training, SGD's and SAM's.
    """
    name, words, panels = _told(points[0])
    return Verdict(
        f"{name}-joint-fit",
        f"Section 6.2, Figure 5 ({panels})",
        f"{words}SAM gives more weight to examples that the easy feature classifies correctly and the hard one "
        "does not.",
        "share of all importance held by examples with a positive signed contribution of the easy feature and a "
        "negative one of the hard feature: phantom minus real, mean over the networks that have such examples; two "
        "or more",
        _over_networks(points, _corner_gains),
    )


def easy_side_heavier(points: Sequence[Point]) -> Verdict:
    """Appendix G: the median importance is higher where the easy feature contributes more than the hard one.

    Args:
        points: of the toy or of one set of photographs, along the training.
    """
    name, words, _ = _told(points[0])
    return Verdict(
        f"{name}-easy-side",
        "Appendix G, Figure 8",
        f"{words}The median importance is higher for examples with a higher contribution of the easy than of the hard "
        "feature.",
        "median phantom weight of the examples to which the easy feature contributes more, minus that of the others, "
        "in units of the mean weight, mean over the networks that have both; two or more",
        _over_networks(points, _median_gaps),
    )


def mechanism_under_noise(noise: pd.DataFrame) -> Verdict:
    """Appendix H.1: LSAM's mechanisms are robust to noise; of the two, the records hold the learning rates."""
    effects = []
    for kind, features, level, part in noise_levels(noise):
        sgd, lsam = pick(part, rho=0.0), pick(part, rho=REFERENCE_RHO)
        if sgd.final_hard_error.mean() > sgd.final_easy_error.mean():
            value = estimate((lsam.hard_rate - lsam.easy_rate).to_numpy(dtype=float))
            effects.append(Effect(f"{kind} {level:g}, {features}", value, "above"))
    return Verdict(
        "toy-noise-mechanism",
        "Appendix H.1",
        "LSAM's mechanism is robust to noise: it still raises the hard feature's relative learning rate.",
        f"mean over training of v~_hard/v_hard - v~_easy/v_easy at rho = {REFERENCE_RHO:g}, at each noise level at "
        "which the spiral is SGD's hard feature",
        effects,
    )


def optimum_similar(table: pd.DataFrame) -> Verdict:
    """Appendix H.2: the best radius is similar across batch sizes."""
    best = {size: _best_positions(part) for size, part in table.groupby("batch_size")}
    effects = [
        Effect(f"batch {size}", paired_difference(positions, best[PAPER_BATCH]), "within", ONE_STEP)
        for size, positions in best.items()
        if size != PAPER_BATCH
    ]
    return Verdict(
        "toy-optimum-similar",
        "Appendix H.2, Figure 10",
        "The radius at which LSAM is best is similar across batch sizes.",
        "position on our grid of radii of each seed's lowest hard-feature probing error (the smallest radius where "
        f"several tie): each batch size minus {PAPER_BATCH}, paired by seed, at equal epochs; similar means an "
        "interval within one step",
        effects,
    )


def large_radius_sensitive(table: pd.DataFrame) -> Verdict:
    """Appendix H.2: for a large radius, the hard feature's error is more sensitive to the batch size."""
    errors = table.groupby(["rho", "seed"]).final_hard_error
    spreads = (errors.max() - errors.min()).rename("spread").reset_index()
    largest = float(table.rho.max())
    effects = [
        Effect(f"rho = {largest:g} against SGD", difference(spreads, "spread", rho=largest), "above"),
        Effect("trend over radii", correlation(spreads, "spread"), "above"),
    ]
    return Verdict(
        "toy-large-radius-sensitive",
        "Appendix H.2, Figure 10",
        "The larger the radius, the more sensitive the hard feature's probing error is to the batch size.",
        "range of the hard-feature probing error over batch sizes, by seed, at equal epochs: largest radius minus SGD, "
        "and rank correlation with the radius",
        effects,
    )


def _told(point: Point) -> tuple[str, str, str]:
    """What the verdict's id and words begin with, and the figure's panels."""
    if isinstance(point, Checkpoint):
        return "toy", "", "left"
    return point.image_set, f"{title([point])}: ", "centre and right"


def _weighed(point: Point) -> tuple[str, Importance]:
    """Name one point and weigh its examples."""
    if isinstance(point, Checkpoint):
        return f"{point.method}-trained, step {point.step}", point.importance(REFERENCE_RHO)
    return f"{point.method}-trained, epoch {point.epoch}", point.importance


def _over_networks(points: Sequence[Point], statistic: Callable[[Importance], np.ndarray]) -> list[Effect]:
    """One effect a point, predicted above zero; none where fewer than two networks have the statistic."""
    found = [(name, statistic(importance)) for name, importance in map(_weighed, points)]
    return [
        Effect(name, estimate(values), "above") for name, values in found if np.count_nonzero(~np.isnan(values)) > 1
    ]


def _corner_gains(importance: Importance) -> np.ndarray:
    """Per member, what examples right by the easy and wrong by the hard feature gain; NaN without any."""
    gains = []
    for real, phantom, (easy, hard) in zip(*importance, strict=True):
        corner = (easy > 0) & (hard < 0)
        gain = phantom[corner].sum() / phantom.sum() - real[corner].sum() / real.sum()
        gains.append(gain if corner.any() else np.nan)
    return np.array(gains)


def _median_gaps(importance: Importance) -> np.ndarray:
    """Per member, the median phantom weight where the easy feature contributes more, minus the others'; or NaN."""
    gaps = []
    for phantom, (easy, hard) in zip(importance.phantom, importance.contributions, strict=True):
        sides = [phantom[side] for side in (easy > hard, easy <= hard)]
        both = all(side.size for side in sides)
        gaps.append((np.median(sides[0]) - np.median(sides[1])) / phantom.mean() if both else np.nan)
    return np.array(gaps)


def _best_positions(part: pd.DataFrame) -> np.ndarray:
    """Position of each seed's best radius on the grid."""
    return by_seed(part, "final_hard_error", "rho").to_numpy().argmin(axis=1)
