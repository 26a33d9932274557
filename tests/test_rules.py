"""Effects and verdicts on numbers worked out by hand: p-values, correction, and the state that follows by the rule."""

import itertools
import math
from dataclasses import replace

import pytest
from judging import holm, verdict
from scipy import stats

from edition.claims import Effect
from edition.claims.rules import QUANTIFIERS, corrected
from edition.page.verdicts import effects_html, found
from samlib.measures.statistics import Estimate, detectable_at, estimate

INF, NAN = math.inf, math.nan
VALUES = (0.1, 0.3, 0.2, 0.6)


def interval(low: float, high: float, n: int = 4) -> Estimate:
    return Estimate((low + high) / 2, low, high, n)


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "within"),
    [
        (0.11, 0.2, True, False, False),
        (0.1, 0.2, False, False, False),
        (0.0, 0.09, False, True, True),
        (-0.1, 0.0, False, True, False),
        (-INF, INF, False, False, False),
        (NAN, NAN, False, False, False),
    ],
)
def test_an_effect_holds_if_its_whole_interval_lies_strictly_where_predicted(low, high, above, below, within):
    for side, holds in (("above", above), ("below", below), ("within", within)):
        effect = Effect("x", interval(low, high), side, 0.1)
        assert effect.holds == (effect.outcome == "holds") == holds  # alone, nothing is corrected


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [((-0.5, -0.3), "holds"), ((-0.1, -0.05), "too small"), ((-0.1, 0.1), "too small"), ((0.05, 0.1), "reversed")],
)
def test_below_a_least_effect_nothing_is_reversed_that_is_not_beyond_none(ends, outcome):
    effect = Effect("x", interval(*ends), "below", -0.2, none=0.0)
    assert effect.outcome == outcome
    judged = verdict(effect)
    state = {"holds": "confirmed", "too small": "undecided", "reversed": "contradicted"}[outcome]
    assert judged.state == state and ("too small" in judged.counts) == (outcome == "too small")


@pytest.mark.parametrize("threshold", [0.0, 0.05, -1.0])
def test_a_p_value_is_that_of_students_test_with_the_estimates_own_degrees_of_freedom(threshold):
    expected = stats.ttest_1samp(VALUES, threshold).pvalue
    for predicted, outcome in (("above", "holds"), ("below", "reversed")):
        effect = Effect("x", estimate(VALUES), predicted, threshold)
        assert effect.p == pytest.approx(expected)
        assert effect.outcome == (outcome if expected < 0.05 else "undecided")
    half = stats.t.ppf(0.975, 2.5)  # a standard error of one
    assert Effect("x", Estimate(3, 3 - half, 3 + half, 8, df=2.5), "above").p == pytest.approx(2 * stats.t.sf(3, 2.5))


@pytest.mark.parametrize("margin", [0.5, 0.7, 1.5])
def test_a_match_is_decided_by_the_nearer_of_two_one_sided_tests(margin):
    ends = (stats.ttest_1samp(VALUES, -margin, alternative="greater"), stats.ttest_1samp(VALUES, margin))
    effect = Effect("x", estimate(VALUES), "within", margin)
    assert effect.p == pytest.approx(max(2 * ends[0].pvalue, ends[1].pvalue))  # each at 2.5 %, as the interval is
    assert (effect.outcome == "holds") == effect.holds == (effect.p < 0.05)
    assert [Effect("x", interval(*ends), "within", 1.0).outcome for ends in ((2, 3), (-3, -2))] == ["reversed"] * 2


@pytest.mark.parametrize(
    ("values", "outcome", "p"),
    [
        ([0.2] * 6, "holds", 2**-5),  # the sign test's: six seeds of six on one side
        ([-0.2] * 6, "reversed", 2**-5),
        ([0.2] * 5, "undecided", 2**-4),
        ([0.0] * 6, "undecided", 1),
        ([1e-16, 2e-16] * 3, "undecided", 1),  # a rounding error is no effect
        ([0.2], "undecided", 1),
    ],
)
def test_seeds_that_agree_exactly_decide_by_their_number(values, outcome, p):
    effect = Effect("x", estimate(values), "above")
    assert (effect.outcome, effect.p, effect.holds) == (outcome, p, outcome == "holds")


def test_what_would_have_been_found_is_that_of_the_samples():
    assert Effect("x", estimate(VALUES), "above", 3.0).detectable == pytest.approx(detectable_at(estimate(VALUES)))
    assert Effect("x", interval(-INF, INF, n=1), "above").detectable == INF
    assert math.isnan(Effect("x", estimate([0.2, 0.2]), "above").detectable)  # without a spread nobody knows


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03, 0.005], [0.9, 0.8], [0.0, 1.0, 0.02], [0.03]])
def test_a_family_is_corrected_by_holms_method(values):
    effects = corrected([Effect("x", interval(0.1, 0.2), "above", p=p) for p in values])
    assert [effect.corrected for effect in effects] == pytest.approx(holm(values))
    beyond = [None, *values]  # an effect without a least effect is no member of that family
    effects = corrected([Effect("x", interval(0.1, 0.2), "above", p=0.5, beyond=p) for p in beyond])
    assert effects[0].beyond is None and [effect.beyond for effect in effects[1:]] == pytest.approx(holm(values))
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02]) and corrected([]) == []


def effect(outcome: str, p: float = 0.001) -> Effect:
    """An effect with this outcome; its interval says the same."""
    low = {"holds": 1.0, "reversed": -2.0, "undecided": -0.5}[outcome]
    return Effect(outcome, interval(low, low + 1), "above", p=0.5 if outcome == "undecided" else p)


def test_a_state_follows_from_the_corrected_values_and_a_family_is_corrected_once():
    weak = [effect("holds", p=0.03)] * 2
    assert [verdict(weak[0]).state, verdict(*weak).state] == ["confirmed", "undecided"]  # twice .03 is not below .05
    family = corrected([*weak, *weak])[:1]
    assert list(verdict(*family).effects) == family
    mixed = verdict(*family, *weak).effects  # two families: of four, .12; of two, .06
    assert [found.corrected for found in mixed] == pytest.approx([0.12, 0.06, 0.06])


def test_a_mean_at_its_threshold_but_for_rounding_is_on_neither_side():
    there = Effect("there", Estimate(0.3, 0.3, 0.3, 20), "above", 0.1 + 0.2)
    assert (there.holds, there.outcome, there.p) == (False, "undecided", 1.0)


H, R, U = "holds", "reversed", "undecided"


VERBS = {
    "confirmed": "The records show this",
    "contradicted": "The records show the contrary",
    "mixed": "The records show this in part",
    "undecided": "The records do not decide this",
    "not tested": "The records do not test this",
}


@pytest.mark.parametrize(
    ("outcomes", "in_general", "every", "some", "alike"),
    [
        ([], *["not tested"] * 4),
        ([H, H], *["confirmed"] * 4),
        ([H, U], "mixed", "mixed", "confirmed", "undecided"),
        ([H, R], "mixed", "contradicted", "confirmed", "mixed"),
        ([H, U, R], "mixed", "contradicted", "confirmed", "mixed"),
        ([U, R], "contradicted", "contradicted", "undecided", "undecided"),
        ([R, R], *["contradicted"] * 4),
        ([U, U], *["undecided"] * 4),
    ],
)
def test_the_state_follows_from_the_outcomes_and_from_what_the_claim_speaks_of(
    outcomes, in_general, every, some, alike
):
    for quantifier, state in zip(QUANTIFIERS, (in_general, every, some, alike), strict=True):
        for order in itertools.permutations(outcomes):
            judged = verdict(*map(effect, order), quantifier=quantifier)
            assert judged.state == state
            assert (judged.held, judged.reversed) == (outcomes.count(H), outcomes.count(R))
            assert found(judged).rstrip(".").partition(":")[0] == VERBS[state]  # the sentence says what the square says


@pytest.mark.parametrize(
    ("quantifier", "state"),
    [("in general", "mixed"), ("every", "mixed"), ("some", "confirmed"), ("alike", "undecided")],
)
def test_exploratory_runs_decide_nothing_and_are_counted(quantifier, state):
    explored = [replace(effect(outcome), decides=False) for outcome in (H, R, U)]
    judged = verdict(*explored, quantifier=quantifier)
    assert (judged.state, judged.counts) == ("undecided", "0 of 3 hold, 3 exploratory")
    beside = verdict(effect(H), explored[0], quantifier=quantifier)
    assert (beside.state, beside.counts) == (state, "1 of 2 holds, 1 exploratory")
    assert "<td>–</td><td>exploratory</td>" in effects_html(judged.effects)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match=r"predicted: expected one of .*'within', got 'over'"):
        Effect("x", interval(0, 1), "over")
    with pytest.raises(ValueError, match=r"quantifier: expected one of .*'alike', got 'all'"):
        verdict(quantifier="all")
