"""Section 5 of the paper: on the toy SGD learns the line and not the spiral, and LSAM learns both."""

from edition.claims.claim import OURS, Judged, claim
from edition.claims.rules import Effect
from edition.claims.toy import ROOM, WHERE_HARD, at_each, complexities, correlation, difference, where_hard
from edition.experiments.toy import REFERENCE_RHO, SENSITIVITY
from edition.runs.results import Results, by_seed, only, pick
from samlib.measures.statistics import estimate, paired_difference

LEARNED = 0.001  # a test error below this is "perfectly" learned
WELL = 0.05  # a feature is represented well below this probing error, and poorly above it; our choice
SETUP = "02_toy_setup"
LSAM = f"LSAM (rho = {REFERENCE_RHO:g})"
GAIN = f"hard-feature probing error, {LSAM} minus SGD, paired by seed"
CONSTANTS = dict(zip(SENSITIVITY, ("learning rate", "initial v", "hidden width", "γ_easy", "γ_hard"), strict=True))
METHODS = (("SGD", 0.0), (f"LSAM, rho = {REFERENCE_RHO:g}", REFERENCE_RHO))


@claim(
    "toy-labels-learned",
    place="Section 5.2, said of SAM; read as LSAM, which the section trains",
    says="SGD and LSAM both learn the label perfectly.",
    statistic=f"test error by method and complexity; the claim holds where it is below {LEARNED:g}",
    chapter=SETUP,
    needs="complexity",
    quantifier="every",
)
def labels_learned(complexity: Results) -> list[Effect]:
    return [
        Effect(f"{method}, {name}", estimate(only(part, rho=rho).final_test_error), "below", LEARNED)
        for name, part in complexities(complexity.table)
        for method, rho in METHODS
    ]


@claim(
    "toy-easy-learned",
    place="Section 5.2, Figure 1",
    says="SGD has no trouble learning the linear feature, and LSAM learns it beside the spiral.",
    statistic=f"linear feature's probing error by method and complexity, {WHERE_HARD}; the claim holds where it is "
    f"below {ROOM:g}",
    figure=f"{SETUP}#fig-contours",
    needs="complexity",
)
def easy_learned(complexity: Results) -> list[Effect]:
    return [
        Effect(f"{method}, {name}", estimate(only(part, rho=rho).final_easy_error), "below", ROOM)
        for name, part in complexities(where_hard(complexity.table))
        for method, rho in METHODS
    ]


@claim(
    "toy-spiral-poor",
    place="Sections 5 and 5.2, Figure 1",
    says="SGD exhibits the simplicity bias: it represents the spiral poorly.",
    statistic=f"probing error of the spiral under SGD, at each complexity {WHERE_HARD} (Figure 1 has one); poorly "
    f"means above {WELL:g}",
    figure=f"{SETUP}#fig-contours",
    needs="complexity",
)
def spiral_is_poor(complexity: Results) -> list[Effect]:
    return _spiral(complexity, 0.0, "above")


@claim(
    "toy-spiral-learned",
    place="Sections 5 and 5.2, Figure 1",
    says="LSAM manages to learn a good representation of the spiral.",
    statistic=f"probing error of the spiral under {LSAM}, at each complexity {WHERE_HARD} (Figure 1 has one); good "
    f"means below {WELL:g}",
    chapter=SETUP,
    figure="fig-contours",
    needs="complexity",
)
def spiral_is_learned(complexity: Results) -> Judged:
    largest = float(complexity.table.rho.max())
    shown = _spiral(complexity, largest, "below", at=f", at the largest radius, {largest:g}")
    return Judged(_spiral(complexity, REFERENCE_RHO, "below"), shown=shown)


def _spiral(complexity: Results, rho: float, predicted: str, at: str = "") -> list[Effect]:
    """The spiral's probing error at one radius against `WELL`, wherever it is the hard feature."""
    return [
        Effect(f"{name}{at}", estimate(only(part, rho=rho).final_hard_error), predicted, WELL)
        for name, part in complexities(where_hard(complexity.table))
    ]


@claim(
    "toy-hard-error-lower",
    place="Section 5.2, Figures 1 and 2(A)",
    says="LSAM represents the hard feature better than SGD does.",
    statistic=f"{GAIN}, at each complexity {WHERE_HARD} and SGD errs by more than {ROOM:g} on it",
    chapter=SETUP,
    figure="fig-2a",
    needs="complexity",
)
def hard_error_lower(complexity: Results) -> list[Effect]:
    rows = where_hard(complexity.table, room=ROOM)
    return at_each(rows, lambda part: difference(part, "final_hard_error"), "below")


@claim(
    "toy-sgd-poorest",
    place="Section 5.2, Figure 2(A)",
    says="The hard feature's quality is poorest at rho = 0, which is SGD: at every radius it is better.",
    statistic="hard-feature probing error, LSAM minus SGD, paired by seed, at each radius and each complexity "
    f"{WHERE_HARD} and SGD errs by more than {ROOM:g} on it",
    figure=f"{SETUP}#fig-2a",
    needs="complexity",
    quantifier="every",
)
def sgd_is_poorest(complexity: Results) -> list[Effect]:
    effects = []
    for name, part in complexities(where_hard(complexity.table, room=ROOM)):
        values = by_seed(part, "final_hard_error", "rho", need=(0.0,))
        for rho in values.columns[values.columns > 0]:
            effects.append(Effect(f"{name}, rho = {rho:g}", paired_difference(values[rho], values[0.0]), "below"))
    return effects


@claim(
    "toy-hard-error-falls",
    place="Section 5.2, Figure 2(A)",
    says="The hard feature's probing error falls progressively as rho grows.",
    statistic="rank correlation of hard-feature probing error with rho over the radii above 0 (one step down from SGD "
    f"is no progress), mean over seeds, at each complexity {WHERE_HARD} and SGD errs by more than {ROOM:g} on it",
    chapter=SETUP,
    figure="fig-2a",
    needs="complexity",
)
def hard_error_falls(complexity: Results) -> list[Effect]:
    rows = where_hard(complexity.table, room=ROOM)
    return at_each(rows, lambda part: correlation(part[part.rho > 0], "final_hard_error"), "below")


@claim(
    "toy-full-sam",
    place="Sections 1, 5 and 5.2, where the paper moves from LSAM to SAM",
    says="SAM, on all parameters, represents the toy's hard feature better than SGD does, while the label is learned.",
    statistic="hard-feature probing error, SAM minus SGD, paired by seed, at each radius at which the label's mean "
    f"test error stays below {ROOM:g}; one radius is enough",
    chapter=SETUP,
    figure="fig-full-sam",
    needs="full_sam_toy",
    quantifier="some",
)
def full_sam_helps(full_sam_toy: Results) -> Judged:
    table = full_sam_toy.table
    errors = by_seed(table, "hard_probe_error", "rho", need=(0.0,))
    labels = table.groupby("rho").test_error.mean()
    radii = [rho for rho in errors.columns if rho > 0]
    effects = [
        Effect(f"rho = {rho:g}", paired_difference(errors[rho], errors[0.0]), "below")
        for rho in radii
        if labels[rho] < ROOM
    ]
    return Judged(effects, note=f"; the label is learned at {len(effects)} of {len(radii)} radii")


@claim(
    "toy-sensitivity",
    place="Section 5.2; the question is ours",
    says="LSAM represents the hard feature better than SGD whatever the lost constants were.",
    statistic=f"{GAIN}, at 360°, one constant at a time away from the base, {WHERE_HARD} and SGD errs by more than "
    f"{ROOM:g} on it",
    chapter=SETUP,
    figure="fig-sensitivity",
    needs="sensitivity",
    origin=OURS,
    quantifier="every",
)
def sensitivity_direction(sensitivity: Results) -> Judged:
    table = sensitivity.table
    base = table.groupby("record").first()[list(SENSITIVITY)].mode().iloc[0]
    effects, asked = [], 0
    for name, values in SENSITIVITY.items():
        rows = pick(table, **{other: base[other] for other in SENSITIVITY if other != name})
        for value in values:
            if value == base[name]:
                continue
            asked += 1
            part = where_hard(rows[rows[name] == value], room=ROOM)
            if len(part):
                effects.append(Effect(f"{CONSTANTS[name]} = {value:g}", difference(part, "final_hard_error"), "below"))
    return Judged(effects, note=f"; that is so in {len(effects)} of {asked} cases")
