"""Section 6.2 of the paper, effect two: LSAM raises the hard feature's learning rate and lowers the easy one's."""

from edition.claims.claim import cannot_be_judged, claim
from edition.claims.rules import Effect
from edition.claims.toy import WHERE_HARD, at_each, complexities, relative_rate, where_hard
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import Results, pick
from samlib.measures.statistics import estimate

EFFECTS = "04_two_effects"
AT = f"at rho = {REFERENCE_RHO:g}, {WHERE_HARD}"


# The paper's sentence has two halves, and each is judged.
for _id, _role, _verb, _side, _read in (
    ("toy-rates-scaled", "hard", "raises", "above", ""),
    ("toy-easy-rate-lowered", "easy", "lowers", "below", '; its "each feature" read as the easy one'),
):

    @claim(
        _id,
        place=f"Section 6.2, Figure 4{_read}",
        says=f"LSAM {_verb} the effective learning rate of the {_role} feature.",
        statistic=f"the paper's ratio v~_{_role} / v_{_role}, mean over training, {AT}; {_verb} means {_side} 1 "
        "(of two positive weights, that of a feature that helps the batch has a factor below 1, by Eq A)",
        chapter=EFFECTS,
        figure="fig-4",
        needs="complexity",
    )
    def scaled(complexity: Results, role: str = _role, side: str = _side) -> list[Effect]:
        rows = pick(where_hard(complexity.table), rho=REFERENCE_RHO)
        return [
            Effect(name, estimate(part[f"{role}_rate"].to_numpy(dtype=float)), side, 1.0)
            for name, part in complexities(rows)
        ]


@claim(
    "toy-relative-rate",
    place="Section 6.2, Figure 4, read as relative",
    says="Relative to the easy feature, LSAM raises the hard feature's effective learning rate.",
    statistic=f"mean over training of v~_hard/v_hard - v~_easy/v_easy {AT}",
    chapter=EFFECTS,
    figure="fig-4",
    needs="complexity",
)
def relative_rate_scaled(complexity: Results) -> list[Effect]:
    return at_each(where_hard(complexity.table), relative_rate, "above")


cannot_be_judged(
    "real-learning-rates",
    place="Section 6.2 and Appendix C.1",
    says="In real networks too, SAM inhibits well-learned features at every layer, which contributes to its gains.",
    statistic="none is known: effective learning rates are defined only where each feature has weights of its own",
    why="The paper states this as a belief, and says that it cannot be verified where features are not disentangled. "
    "We know of no statistic for it either.",
    file=__name__,
)
