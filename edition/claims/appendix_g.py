"""Appendix G of the paper: what Section 6.2 finds at the end of training holds along the whole of it.

Figure 7 on photographs is judged with Figure 3, as book/protocol.md judges that at every recorded epoch.
"""

from edition.claims.claim import Judged, claim
from edition.claims.moments import Moment, easy_side, more_uniform, poorly_fit, toy_moments
from edition.claims.rules import Effect
from edition.claims.section_6_2_weights import (
    BESIDE,
    GINI,
    HALVES,
    POORLY,
    RISING,
    TOY_RHO,
    of_both,
    on_photographs,
)
from edition.runs.results import Results

ALONG = "d_along_training"
EASY_SIDE = (
    "median phantom weight of the examples to which the easy feature contributes more, minus that of the others, mean "
    "over the networks that have both; two or more; beside it the same of what the phantom adds to the real weight"
)
SAYS_EASY_SIDE = (
    "The median importance is higher for examples with a higher contribution of the easy than of the hard feature."
)


@claim(
    "toy-uniform-throughout",
    place="Appendix G, Figure 7",
    says="Phantom importance weights are more uniform than real ones throughout training.",
    statistic=f"{GINI} ({TOY_RHO}) at each kept step, paired by seed",
    chapter=ALONG,
    figure="fig-7",
    needs="checkpoints",
    quantifier="every",
)
def uniform_throughout(checkpoints: Results) -> list[Effect]:
    return more_uniform(toy_moments(checkpoints.records))


for _role, (_suffix, _says) in HALVES.items():

    @claim(
        f"toy-poorly-fit{_suffix}-throughout",
        place="Appendix G, Figure 8",
        says=f"LSAM {_says} throughout training.",
        statistic=f"{POORLY} ({TOY_RHO}) at each kept step, mean over seeds{RISING}",
        chapter=ALONG,
        figure=f"fig-8-{_role}",
        needs="checkpoints",
        quantifier="every",
    )
    def throughout(checkpoints: Results, role: str = _role) -> Judged:
        return poorly_fit(toy_moments(checkpoints.records), role)


@claim(
    "toy-easy-side",
    place="Appendix G, Figure 8",
    says=SAYS_EASY_SIDE,
    statistic=EASY_SIDE,
    chapter=ALONG,
    figure="fig-8-hard",
    needs="checkpoints",
    quantifier="every",
)
def easy_side_heavier(checkpoints: Results) -> Judged:
    return easy_side(toy_moments(checkpoints.records))


for _role, (_suffix, _says) in HALVES.items():

    @on_photographs(
        f"poorly-fit{_suffix}-throughout",
        place="Appendix G, Figure 8",
        says=f"SAM {_says} throughout training.",
        statistic=f"{POORLY}, after each recorded epoch, mean over seeds; two seeds or more of each method{BESIDE}",
        chapter=ALONG,
        figure=f"fig-8-{{}}-{_role}",
        quantifier="every",
        seen=True,
    )
    def throughout_on_photographs(moments: list[Moment], role: str = _role) -> Judged:
        return poorly_fit(of_both(moments), role)


@on_photographs(
    "easy-side",
    place="Appendix G, Figure 8",
    says=SAYS_EASY_SIDE,
    statistic=EASY_SIDE,
    chapter=ALONG,
    figure="fig-8-{}-hard",
    quantifier="every",
)
def easy_side_on_photographs(moments: list[Moment]) -> Judged:
    return easy_side(of_both(moments))
