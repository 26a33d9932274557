"""Section 6.2 of the paper, effect two: LSAM raises the hard feature's learning rate and lowers the easy one's."""

from edition.claims.claim import cannot_be_judged, claim
from edition.claims.rules import Effect
from edition.claims.toy import WHERE_HARD, at_each, complexities, where_hard
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import Results, pick
from samlib.measures.statistics import estimate

EFFECTS = "04_two_effects"
AT = f"at rho = {REFERENCE_RHO:g}, {WHERE_HARD}"


@claim(
    "toy-rates-scaled",
    place="Section 6.2, Figure 4",
    says="LSAM raises the effective learning rate of the hard feature and lowers the easy one's.",
    statistic=f"the paper's ratio v~_k / v_k, mean over training, {AT}; the claim needs hard above 1 and easy below 1",
    chapter=EFFECTS,
    figure="fig-4",
    needs="complexity",
)
def rates_scaled(complexity: Results) -> list[Effect]:
    effects = []
    for name, rows in complexities(pick(where_hard(complexity.table), rho=REFERENCE_RHO)):
        effects.append(Effect(f"easy at {name}", estimate(rows.easy_rate.to_numpy(dtype=float)), "below", 1.0))
        effects.append(Effect(f"hard at {name}", estimate(rows.hard_rate.to_numpy(dtype=float)), "above", 1.0))
    return effects


@claim(
    "toy-relative-rate",
    place="Section 6.2, Figure 4",
    says="Relative to the easy feature, LSAM raises the hard feature's effective learning rate.",
    statistic=f"mean over training of v~_hard/v_hard - v~_easy/v_easy {AT}",
    chapter=EFFECTS,
    figure="fig-4",
    needs="complexity",
)
def relative_rate_scaled(complexity: Results) -> list[Effect]:
    rows = pick(where_hard(complexity.table), rho=REFERENCE_RHO)
    return at_each(rows, lambda part: estimate((part.hard_rate - part.easy_rate).to_numpy(dtype=float)), "above")


cannot_be_judged(
    "real-learning-rates",
    place="Section 6.2 and Appendix C.1",
    says="In real networks too, SAM inhibits well-learned features at every layer, which contributes to its gains.",
    statistic="none is known: effective learning rates are defined only where each feature has weights of its own",
    why="The paper states this as a belief, and says that it cannot be verified where features are not disentangled. "
    "We know of no statistic for it either.",
    file=__name__,
)
