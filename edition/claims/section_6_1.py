"""Section 6.1 of the paper: LSAM's perturbation moves the ratio of the last layer's weights to the hard feature."""

import pandas as pd

from edition.claims.claim import OURS, Judged, claim
from edition.claims.rules import Effect
from edition.claims.toy import WHERE_HARD, at_each, complexities, correlation, where_easy, where_hard
from edition.runs.results import Results, by_seed
from samlib.measures.statistics import estimate, paired_difference

PHANTOM = "03_phantom_rebalancing"
NEARLY = 0.1  # of its value under SGD: how far the real ratio may move and be "nearly constant"; our choice
RATIO = "phantom ratio, mean over training as in the paper's figure (its geometric mean beside it), mean over seeds"


def _trend(table: pd.DataFrame, predicted: str) -> Judged:
    """Rank correlation of the phantom ratio with rho: by the mean that the paper plots, and by the geometric one."""
    effects = at_each(table, lambda part: correlation(part, "phantom_ratio"), predicted)
    shown = at_each(table, lambda part: correlation(part, "phantom_log_ratio"), predicted, told=", geometric mean")
    return Judged(effects, shown=shown)


@claim(
    "toy-phantom-ratio-rises",
    place="Section 6.1, Figure 2(B)",
    says="The ratio of phantom weights, hard over easy, rises with rho.",
    statistic=f"rank correlation with rho of the {RATIO}, at each complexity {WHERE_HARD}",
    chapter=PHANTOM,
    figure="fig-2b",
    needs="complexity",
)
def phantom_ratio_rises(complexity: Results) -> Judged:
    return _trend(where_hard(complexity.table), "above")


@claim(
    "toy-real-ratio-constant",
    place="Section 6.1, Figure 2(B)",
    says="The ratio of real weights stays nearly constant: rebalancing comes from the perturbation.",
    statistic=f"change of the real ratio from SGD's, as a share of it, paired by seed, at each radius and complexity "
    f"{WHERE_HARD}; 'nearly constant' means within ±{NEARLY:g}; beside it how far it moves, minus half of the phantom "
    "ratio's way",
    chapter=PHANTOM,
    figure="fig-2b",
    needs="complexity",
)
def real_ratio_constant(complexity: Results) -> Judged:
    effects, shown = [], []
    for name, part in complexities(where_hard(complexity.table)):
        real, phantom = (by_seed(part, m, "rho", need=(0.0,)) for m in ("real_ratio", "phantom_ratio"))
        for rho in real.columns[real.columns > 0]:
            case, moved = f"{name}, rho = {rho:g}", real[rho] - real[0.0]
            effects.append(Effect(case, estimate((moved / real[0.0]).to_numpy()), "within", NEARLY))
            half = (phantom[rho] - phantom[0.0]).abs() / 2
            shown.append(Effect(f"{case}: less than half", paired_difference(moved.abs(), half), "below"))
    return Judged(effects, shown=shown)


@claim(
    "toy-phantom-ratio-falls",
    place="Section 6.1; the other side is ours",
    says="Where the spiral is SGD's easier feature, the ratio of phantom weights, spiral over line, falls with rho.",
    statistic=f"rank correlation with rho of the {RATIO}, at each complexity where SGD's probe errs less on the spiral",
    chapter=PHANTOM,
    figure="fig-2b",
    needs="complexity",
    origin=OURS,
)
def phantom_ratio_falls_where_easy(complexity: Results) -> Judged:
    return _trend(where_easy(complexity.table), "below")


@claim(
    "toy-condition-exact",
    place="derived in chapter 3, not in the paper; a check of the code",
    says="The phantom ratio rises exactly in the steps in which E[λ y φ_hard] / v_hard < E[λ y φ_easy] / v_easy.",
    statistic="share of steps in which the prediction and the ratio agree: the worst run of each seed; the claim "
    "needs more than 0.999",
    chapter=PHANTOM,
    figure="fig-condition",
    needs="complexity",
    origin=OURS,
)
def condition_predicts(complexity: Results) -> list[Effect]:
    moved = complexity.table[complexity.table.rho > 0]
    shares = moved.groupby("seed").agreement_share.min()
    return [Effect("all radii and complexities", estimate(shares.to_numpy(dtype=float)), "above", 0.999)]
