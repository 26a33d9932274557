"""Section 6.1 of the paper: LSAM's perturbation moves the ratio of the last layer's weights to the hard feature."""

from edition.claims.claim import OURS, claim
from edition.claims.rules import Effect
from edition.claims.toy import WHERE_HARD, at_each, complexities, correlation, where_easy, where_hard
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import Results, by_seed
from samlib.measures.statistics import estimate

PHANTOM = "03_phantom_rebalancing"
RATIO = "phantom ratio (mean of its logarithm over training, which near sign changes cannot dominate), mean over seeds"


@claim(
    "toy-phantom-ratio-rises",
    place="Section 6.1, Figure 2(B)",
    says="The ratio of phantom weights, hard over easy, rises with rho.",
    statistic=f"rank correlation with rho of the {RATIO}, at each complexity {WHERE_HARD}",
    chapter=PHANTOM,
    figure="fig-2b",
    needs="complexity",
)
def phantom_ratio_rises(complexity: Results) -> list[Effect]:
    return at_each(where_hard(complexity.table), lambda part: correlation(part, "phantom_log_ratio"), "above")


@claim(
    "toy-real-ratio-constant",
    place="Section 6.1, Figure 2(B)",
    says="The ratio of real weights stays nearly constant: rebalancing comes from the perturbation.",
    statistic=f"change of the real ratio from rho = 0 to {REFERENCE_RHO:g}, minus half the phantom ratio's change "
    f"(absolute values), paired by seed, {WHERE_HARD}; 'nearly constant' means less than half as much movement",
    chapter=PHANTOM,
    figure="fig-2b",
    needs="complexity",
)
def real_ratio_constant(complexity: Results) -> list[Effect]:
    effects = []
    for name, part in complexities(where_hard(complexity.table)):
        needed = (0.0, REFERENCE_RHO)
        ratios = (by_seed(part, metric, "rho", need=needed) for metric in ("real_ratio", "phantom_ratio"))
        real, phantom = ((values[REFERENCE_RHO] - values[0.0]).abs() for values in ratios)
        effects.append(Effect(name, estimate((real - phantom / 2).to_numpy()), "below"))
    return effects


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
def phantom_ratio_falls_where_easy(complexity: Results) -> list[Effect]:
    return at_each(where_easy(complexity.table), lambda part: correlation(part, "phantom_log_ratio"), "below")


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
