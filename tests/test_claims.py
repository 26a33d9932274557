"""The toy's claims on small seed tables: every outcome that each can reach, and what each looks at."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from judging import SEEDS, judge, numbers, results, rows

from edition.claims import Verdict, toy
from edition.claims import section_6_2_interventions as interventions
from edition.experiments.controls import FULL_RADII
from edition.experiments.toy import RATIOS, SENSITIVITY
from edition.records.store import Record
from samlib.config import to_dict
from samlib.methods.config import ControlConfig
from samlib.toy.config import VECTORS

RHOS = (0.0, 0.5, 1.0)
USUAL = {"final_hard_error": 0.3, "final_easy_error": 0.0, "final_test_error": 0.0, "phantom_log_ratio": 0.0}
USUAL |= dict.fromkeys(("phantom_ratio", "real_ratio", "easy_rate", "hard_rate"), 1.0)


def case(curves: Mapping[str, Sequence[object]], **setting: float | str) -> pd.DataFrame:
    """Every radius at one setting; `curves`: metric -> its value at each radius."""
    values = {name: (value,) * 3 for name, value in USUAL.items()} | dict(curves)
    parts = [rows(rho=rho, **setting, **{name: row[i] for name, row in values.items()}) for i, rho in enumerate(RHOS)]
    table = pd.concat(parts)
    return table.assign(final_hard_error=table.final_hard_error + 0.01 * (table.seed % 4))  # paired: it must not matter


def swinging(value: float, by: float) -> list[float]:
    """Seeds above and below in turn."""
    return [value - by, value + by] * (SEEDS // 2)


def setting(kind: str, k: int) -> dict[str, float | str]:
    """The k-th complexity, or the k-th level of noise; level 0 is none."""
    if kind == "complexity":
        return {"complexity": 90.0 * k}
    return {"complexity": 360.0, "flip": k / 10, "gaussian_noise": 0.0, "dropout": 0.0, "noisy_features": "hard"}


LABEL, EASY, HARD = "final_test_error", "final_easy_error", "final_hard_error"
GAIN = ((0.3, 0.3, 0.1), (0.3, 0.3, 0.5), (0.3, 0.3, swinging(0.25, 0.2)))
# Claim -> what makes a case, effects a case, metric, and its curves over the radii where each effect holds, where it is
# reversed, and where it is undecided.
SHAPES = {
    "toy-labels-learned": ("complexity", 2, LABEL, (0.0, 9.0, 0.0), (0.1, 0.0, 0.2), (0.001, 0.0, 0.001)),
    "toy-easy-learned": ("complexity", 2, EASY, (0.009, 0.5, 0.0), (0.02, 0.0, 0.02), (0.01, 0.0, 0.01)),
    "toy-spiral-poor": ("complexity", 1, HARD, (0.3, 0, 0), (0.01, 0, 0), (swinging(0.035, 0.3), 0, 0)),
    "toy-spiral-learned": ("complexity", 1, HARD, (0.3, 0.3, 0), (0.3, 0, 0.3), (0.3, 0, swinging(0.035, 0.3))),
    "toy-hard-error-lower": ("complexity", 1, HARD, *GAIN),
    "toy-sgd-poorest": ("complexity", 2, HARD, (0.3, 0.2, 0.1), (0.3, 0.4, 0.5), (0.3, 0.3, 0.3)),
    "toy-hard-error-falls": ("complexity", 1, HARD, (0.5, 0.4, 0.3), (0.3, 0.4, 0.5), (0.3, 0.3, 0.3)),
    "toy-phantom-ratio-rises": ("complexity", 1, "phantom_ratio", (1, 2, 3), (3, 2, 1), (1, 1, 1)),
    "toy-phantom-ratio-falls": ("complexity", 1, "phantom_ratio", (3, 2, 1), (1, 2, 3), (1, 1, 1)),
    "toy-real-ratio-constant": ("complexity", 2, "real_ratio", (1, 1.09, 0.91), (2, 2.4, 1.6), (2, 2.2, 1.8)),
    "toy-rates-scaled": ("complexity", 1, "hard_rate", (1, 0.5, 1.2), (1, 2, 0.8), (1, 2, 1)),
    "toy-easy-rate-lowered": ("complexity", 1, "easy_rate", (1, 2, 0.8), (1, 0.5, 1.2), (1, 2, 1)),
    "toy-relative-rate": ("complexity", 1, "hard_rate", (1, 0.5, 1.2), (1, 2, 0.8), (1, 2, 1)),
    "toy-noise": ("noise", 1, HARD, *GAIN),
    "toy-noise-mechanism": ("noise", 1, "easy_rate", (1, 2, 0.8), (1, 0.5, 1.2), (1, 2, 1)),
}


@pytest.mark.parametrize("id", SHAPES)
def test_each_case_has_an_outcome_where_the_claim_applies_and_only_there(id):
    kind, n, metric, *curves = SHAPES[id]
    easy = (0.9 if id == "toy-phantom-ratio-falls" else 0.0,) * 3  # there the spiral is the easier feature
    cases = [{EASY: easy, metric: curve} for curve in curves]
    cases.append({metric: curves[1], EASY: (0.9 - easy[0],) * 3})  # the spiral is the other feature
    if id in ("toy-hard-error-lower", "toy-sgd-poorest", "toy-hard-error-falls", "toy-noise"):
        cases.append({HARD: (-0.01, 0.4, 0.5)})  # SGD errs by half a point: there is nothing to improve
    parts = [case(curve, **setting(kind, k)) for k, curve in enumerate(cases, start=1)]
    if kind == "noise":
        parts.append(case({metric: curves[1]}, **setting(kind, 0)))  # the clean runs are no level of noise
    expected = [outcome for outcome in ("holds", "reversed", "undecided") for _ in range(n)]
    if id == "toy-labels-learned":  # whichever feature is hard
        expected += ["reversed"] * n
    assert judge(id, pd.concat(parts)).outcomes == expected


def test_effects_are_paired_differences_of_lsam_and_sgd_named_by_case():
    table = pd.concat(case({HARD: GAIN[0]}, **setting("complexity", k)) for k in (2, 4))
    assert numbers(judge("toy-hard-error-lower", table)) == pytest.approx({"180°": -0.2, "360°": -0.2})
    assert list(numbers(judge("toy-noise", case({HARD: GAIN[0]}, **setting("noise", 1))))) == ["flip 0.1, hard"]
    assert toy.difference(table[table.complexity == 180], "final_hard_error", rho=0.5).mean == pytest.approx(0)


@pytest.mark.parametrize(
    ("shares", "state"),
    [(1.0, "confirmed"), (0.999, "undecided"), (0.5, "contradicted"), ([0, 1, 1, 1] * (SEEDS // 4), "undecided")],
)
def test_the_condition_is_judged_by_the_worst_run_of_each_seed(shares, state):
    of_radii = {0.0: 0.0, 0.5: 1.0, 1.0: shares}  # SGD has no phantom to predict
    table = pd.concat(rows(rho=rho, agreement_share=share) for rho, share in of_radii.items())
    verdict = judge("toy-condition-exact", table)
    assert (verdict.state, verdict.effects[0].value.mean) == (state, pytest.approx(np.mean(shares)))


def sensitivity(helps: Callable[[tuple[str, float]], float]) -> pd.DataFrame:
    """One constant at a time away from the base; `helps` gives the gain there."""
    base = {"learning_rate": 0.01, "last_layer_init": 2.0, "hidden": 50, "easy_scale": 0.5, "hard_scale": 4.0}
    moved = {tuple((base | {name: value}).items()): (name, value) for name, row in SENSITIVITY.items() for value in row}
    return pd.concat(
        rows(**dict(setting), complexity=360.0, rho=rho, record=f"{index}-{rho}", final_easy_error=0.0,
             final_hard_error=0.3 - helps(changed) * (rho == 1))
        for index, (setting, changed) in enumerate(moved.items())
        for rho in (0.0, 0.3, 1.0)
    )  # fmt: skip


@pytest.mark.parametrize(("bad", "state"), [(0.1, "confirmed"), (0.0, "mixed"), (-0.1, "contradicted")])
def test_sensitivity_names_the_constant_at_which_the_effect_reverses(bad, state):
    verdict = judge("toy-sensitivity", sensitivity(lambda at: bad if at == ("hidden", 10) else 0.1))
    away = sum(map(len, SENSITIVITY.values())) - len(SENSITIVITY)  # the base itself is no case
    assert (verdict.state, len(verdict.effects)) == (state, away)
    assert verdict.statistic.endswith(f"that is so in {away} of {away} cases")
    assert [effect.name for effect in verdict.effects if not effect.holds] == ["hidden width = 10"] * (bad < 0.1)


def full_sam(gains: Mapping[float, float], lost: float | None = None) -> Verdict:
    """Of control runs of SAM on all parameters; `gains` by radius, nothing elsewhere; at `lost` the label is lost."""
    records = []
    for rho in (0.0, *FULL_RADII):
        config = ControlConfig(rho=rho, seeds=tuple(range(SEEDS)))
        errors = {"hard_probe_error": 0.3 - gains.get(rho, 0), "test_error": 0.5 if rho == lost else 0.0}
        metrics = {name: [error] * SEEDS for name, error in errors.items()}
        records.append(Record("control", repr(config), to_dict(config), metrics, {}, Path("none")))
    return judge("toy-full-sam", results(records))


def test_full_sam_helps_at_some_radius_at_which_the_label_is_learned():
    some, worse = FULL_RADII[3], dict.fromkeys(FULL_RADII, -0.1)
    assert full_sam(worse | {some: 0.1}).state == "confirmed"  # one radius is enough
    assert full_sam(worse).state == "contradicted"
    lost = full_sam({some: 0.1}, lost=some)
    assert lost.state == "undecided"
    assert len(lost.effects) == len(FULL_RADII) - 1 and "at 9 of 10 radii" in lost.statistic


def by_radius(curves: Mapping[int, Sequence[object]], rhos: Sequence[float]) -> pd.DataFrame:
    """Errors by batch size, one a radius."""
    return pd.concat(
        rows(batch_size=size, rho=rho, final_hard_error=error)
        for size, row in curves.items()
        for rho, error in zip(rhos, row, strict=True)
    )


@pytest.mark.parametrize(
    ("gains", "robust", "degrades"),
    [
        ((0.3, 0.2, -0.1), "confirmed", "confirmed"),  # the full batch is the paper's own exception
        ((0.1, 0.2, 0.3), "confirmed", "contradicted"),
        ((0.3, 0.05, 0.1), "confirmed", "mixed"),  # the largest batch gains more than batches of 5, against the trend
        ((-0.1, -0.1, -0.1), "contradicted", "undecided"),
        ((swinging(0, 0.2), 0.0, 0.0), "undecided", "undecided"),
    ],
)
def test_the_gain_at_batch_sizes_is_robust_and_degrades_at_the_full_batch(gains, robust, degrades):
    errors = {size: (0.5, np.subtract(0.5, gain)) for size, gain in zip((1, 5, 300), gains, strict=True)}
    table = by_radius(errors, (0.0, 1.0))
    for at in ("epochs", "steps"):
        assert judge(f"toy-batch-robust-equal-{at}", table).state == robust
        assert judge(f"toy-batch-degrades-equal-{at}", table).state == degrades


@pytest.mark.parametrize(
    ("best", "state"),
    [
        ((2, 2, 2, 0), "confirmed"),  # not at the full batch
        ((2, 2, 1, 2), "mixed"),  # one whole step is not within one step
        ((0, 2, 0, 2), "contradicted"),
        ((0, 2, 2, 2), "mixed"),
        ((1, 2, 3, 2), "undecided"),
        ((3, 3, 2, 0), "not tested"),  # 5 is best at the largest radius: how far beyond, is not known
    ],
)
def test_best_radii_are_similar_within_one_step_of_batch_five(best, state):
    curves = {size: [abs(place - at) for place in range(4)] for size, at in zip((1, 5, 100, 300), best, strict=True)}
    assert judge("toy-optimum-similar", by_radius(curves, (0.0, 0.5, 1.0, 2.0))).state == state


@pytest.mark.parametrize(
    ("large", "state"),  # ranges over two sizes, by radius
    [((0.1, 0.2, 0.4), "confirmed"), ((0.4, 0.5, 0.4), "undecided"), ((0.4, 0.2, 0.1), "contradicted")],
)
def test_sensitivity_to_the_batch_is_the_range_over_batch_sizes(large, state):
    table = by_radius({5: (0.0, 0.0, 0.0), 300: large}, RHOS).assign(final_test_error=0.0)
    assert judge("toy-large-radius-sensitive", table).state == state
    # A size at which the largest radius does not learn the label is shown, and decides nothing.
    wild = by_radius({1000: (0.0, 0.0, 9.0)}, RHOS).assign(final_test_error=0.0)
    wild.loc[wild.rho == RHOS[-1], "final_test_error"] = 0.2
    both = judge("toy-large-radius-sensitive", pd.concat([table, wild]))
    assert both.state == state and "2 of 3, up to 300" in both.statistic
    assert both.shown[0].value.mean == pytest.approx(9 - large[0])


SGD, LSAM, RATIO = 0.3, 0.1, 1.5  # a gain of .2: what counts is .02


def complexity(lsam: float = LSAM, far: float = LSAM) -> pd.DataFrame:
    looks = {0.0: (SGD, 1.0), 1.0: (lsam, RATIO), 2.0: (far, 2.0)}
    parts = [rows(rho=rho, final_hard_error=error, phantom_ratio=ratio) for rho, (error, ratio) in looks.items()]
    return pd.concat(parts).assign(complexity=360.0)


def fixed(*by_term: object, matched=0.0, weighted=0.0, end: Sequence[object] = ()) -> pd.DataFrame:
    """Errors of importance, rate, both: the same at every ratio, but `end` at the largest; controls have an offset."""
    variants = (("initial", "plain", 0), ("matched", "plain", matched), ("initial", "weighted", weighted))
    return pd.concat(
        rows(term=term, ratio=ratio, norm=norm, last_layer=layer,
             final_hard_error=np.add(last if ratio == max(RATIOS) else error, offset))
        for norm, layer, offset in variants
        for term, error, last in zip(interventions.TERMS, by_term, end or by_term, strict=True)
        for ratio in RATIOS
    )  # fmt: skip


def test_the_ratio_of_comparison_is_lsams_mean_and_errors_between_ratios_are_interpolated_in_the_logarithm():
    assert interventions.mean_ratio(complexity()) == RATIO
    table = pd.concat(
        rows(term="rate", ratio=ratio, norm="initial", last_layer="plain", final_hard_error=error)
        for ratio, error in ((0.5, 0.4), (2.0, 0.2))
    )
    for ratio, expected in ((0.5, 0.4), (1.0, 0.3), (2.0, 0.2)):
        assert interventions.errors_at(table, "rate", ratio).tolist() == pytest.approx([expected] * SEEDS)


@pytest.mark.parametrize(
    ("by_term", "help_", "comparable", "match", "can_help"),
    [
        ((0.1, 0.1, 0.1), "confirmed", "confirmed", "confirmed", "confirmed"),
        ((0.27, 0.1, 0.12), "confirmed", "contradicted", "confirmed", "confirmed"),  # .17 is more than half of .2
        ((0.2, 0.1, 0.15), "confirmed", "undecided", "undecided", "confirmed"),  # at half, and at the margin
        ((0.28, 0.1, 0.0), "mixed", "not tested", "contradicted", "mixed"),  # a tenth of LSAM's gain
        ((0.4, 0.4, 0.5), "contradicted", "not tested", "contradicted", "contradicted"),
        ((0.295, 0.295, 0.3), "undecided", "not tested", "contradicted", "undecided"),  # less than what counts
        ((swinging(0.2, 0.3),) * 3, "undecided", "undecided", "undecided", "undecided"),
    ],
)
def test_interventions(by_term, help_, comparable, match, can_help):
    given = fixed(*by_term), complexity()
    assert judge("toy-interventions-help", *given).state == help_
    assert judge("toy-gains-comparable", *given).state == comparable
    assert judge("toy-both-match-lsam", *given).state == match
    assert judge("toy-interventions-can-help", *given).state == can_help


def test_interventions_are_judged_over_the_ratios_above_sgds_own_and_over_all_radii():
    ratios = [ratio for ratio in RATIOS if ratio > 1]  # SGD's own is 1
    late = fixed(0.3, 0.3, 0.1, end=(0.1, 0.1, 0.1)), complexity()
    assert judge("toy-interventions-can-help", *late).state == "confirmed"  # at the largest ratio alone
    helped = judge("toy-interventions-help", *late)
    assert (helped.state, helped.held, len(helped.effects)) == ("mixed", 2, 2 * len(ratios))
    assert [effect.value.mean for effect in helped.shown] == pytest.approx([0, 0, -0.2])  # at LSAM's own ratio
    apart = judge("toy-gains-comparable", fixed(0.1, 0.1, 0.1, end=(0.27, 0.1, 0.1)), complexity())
    assert apart.state == "mixed"
    assert [name.partition(",")[0] for name in numbers(apart)] == [f"c = {ratio:g}" for ratio in ratios]
    assert apart.effects[-1].name == f"c = {max(ratios):g}, importance against rate"
    assert apart.effects[-1].value.mean == pytest.approx(-0.03 + 0.1)  # gains of .03 and .2, of which .1 would do
    matched = judge("toy-both-match-lsam", fixed(0.1, 0.1, 0.1), complexity(far=0.0))
    assert matched.state == "mixed" and list(numbers(matched)) == ["rho = 1, c = 1.50", "rho = 2, c = 2.00"]


def test_the_least_gain_is_a_tenth_of_lsams_and_none_where_lsam_gains_nothing():
    for lsam, least in ((0.1, -0.02), (0.3, 0.0), (0.5, 0.0)):
        effects = judge("toy-interventions-help", fixed(0, 0, 0), complexity(lsam)).effects
        assert {round(effect.threshold, 12) for effect in effects} == {least}


@pytest.mark.parametrize(
    ("matched", "weighted", "state"),
    [(0.0, -0.04, "confirmed"), (0.05, 0.0, "mixed"), (-0.06, 0.0, "contradicted")],
)
def test_choices_matter_little_if_they_stay_within_the_margin_on_both_sides(matched, weighted, state):
    verdict = judge("toy-choices-matter-little", fixed(0.1, 0.2, 0.3, matched=matched, weighted=weighted))
    assert (verdict.state, len(verdict.effects)) == (state, 8)  # re-weighting matters for the importance term alone


@pytest.mark.parametrize(
    ("importance", "rate", "suffices", "match"),
    [(0.1, 0.1, *["confirmed"] * 2), (0.3, 0.15, "mixed", "undecided"), (0.5, 0.29, *["contradicted"] * 2)],
)
def test_lsams_phantom_in_one_factor(importance, rate, suffices, match):
    table = pd.concat(
        rows(term=term, rho=rho, final_hard_error=error if rho == 1.0 else 0.7)
        for term, error in (("importance", importance), ("rate", rate), ("both", 0.1))
        for rho in (0.5, 1.0)
    )
    assert judge("toy-one-factor-suffices", table, complexity()).state == suffices
    assert judge("toy-rates-match-lsam", table, complexity()).state == match


@pytest.mark.parametrize(
    ("errors", "own", "hurts"),
    [  # by what stands in: its own batch, another's, the running mean, where it helps, where it hurts; LSAM gains 0.2
        ((0.1, 0.3, 0.3, 0.3, 0.1), "confirmed", "confirmed"),
        ((0.1, 0.0, 0.0, 0.1, 0.3), "contradicted", "contradicted"),
        ((0.1, 0.3, 0.1, 0.1, 0.1), "mixed", "mixed"),  # equal where it helps and where it hurts: no difference
        ((0.1, 0.1, 0.1, 0.3, 0.3), "undecided", "undecided"),
    ],
)
def test_whose_phantom_matters(errors, own, hurts):
    table = pd.concat(
        rows(term=term, vector=vector, final_hard_error=error)
        for vector, error in zip(VECTORS[1:], errors, strict=True)
        for term in ("importance", "rate", "both")
    )
    assert judge("toy-phantom-of-its-own-batch", table).state == own
    assert judge("toy-gain-where-hard-hurts", table, complexity()).state == hurts


@pytest.mark.parametrize(("permuted", "state"), [(-0.1, "confirmed"), (-0.3, "mixed"), (-0.2, "mixed")])
def test_the_phantom_elsewhere_is_judged_over_settings(permuted, state):
    """Ten settings whose SGD errs by .5: their gains differ, so their seeds, all alike, give no interval."""
    gains = {"phantom": -0.2, "mean": 0.0, "permuted": permuted}
    runs = [("none", "fixed", 0.0), *((term, *gain) for term in ("rate", "both") for gain in gains.items())]
    table = pd.concat(
        rows(learning_rate=place / 100, term=term, vector=vector, final_hard_error=0.5 + gain * (1 + place % 3 / 10))
        for place in range(1, 11)
        for term, vector, gain in runs
    )
    verdict = judge("toy-phantom-of-its-own-batch-elsewhere", table)
    assert verdict.state == state and {effect.value.n for effect in verdict.effects} == {10}
    assert judge("toy-phantom-of-its-own-batch-elsewhere", table[table.term != "none"]).state == "not tested"


def test_incomplete_results_judge_nothing_and_a_reduced_profile_is_scaled_down():
    table = case({HARD: GAIN[0]}, complexity=360.0)
    assert judge("toy-hard-error-lower", results([])).state == "not tested"
    assert judge("toy-hard-error-lower", results(table, profile="quick")).scaled_down == "profile quick"
    assert judge("toy-hard-error-lower", table).scaled_down == ""
