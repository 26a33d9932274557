"""The claims about mechanisms on small tables and weights made here: each is confirmed, partly so or not."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from edition.claims import mechanism
from edition.experiments.toy import RATIOS
from samlib.measures.importance import Importance

SEEDS = 4


def rows(**columns) -> pd.DataFrame:
    """One row a seed with the same values for every seed."""
    return pd.DataFrame({"seed": range(SEEDS)}).assign(**columns)


SGD_ERROR, LSAM_ERROR, MEAN_RATIO = 0.3, 0.1, 1.5


def complexity_table(share: float = 1.0) -> pd.DataFrame:
    looks = {0.0: (SGD_ERROR, 1.0), 1.0: (LSAM_ERROR, MEAN_RATIO), 2.0: (0.0, 9.0)}
    parts = [rows(rho=rho, final_hard_error=error, phantom_ratio=ratio) for rho, (error, ratio) in looks.items()]
    return pd.concat(parts).assign(complexity=360.0, agreement_share=share)


def intervention_table(errors: dict[str, float], *, matched=0.0, weighted=0.0, end: float | None = None):
    """Errors by term, the same at every ratio (but the largest, if `end` is given); controls differ by an offset."""
    parts = []
    for norm, layer, offset in (
        ("initial", "plain", 0),
        ("matched", "plain", matched),
        ("initial", "weighted", weighted),
    ):
        for term, error in errors.items():
            for ratio in RATIOS:
                value = end if end is not None and ratio == max(RATIOS) else error
                parts.append(rows(term=term, ratio=ratio, norm=norm, last_layer=layer, final_hard_error=value + offset))
    return pd.concat(parts)


def test_the_ratio_of_comparison_is_lsams_mean_at_the_reference_radius():
    assert mechanism.mean_ratio(complexity_table()) == MEAN_RATIO


def test_errors_between_ratios_are_interpolated_in_the_logarithm():
    table = pd.concat(
        rows(term="rate", ratio=ratio, norm="initial", last_layer="plain", final_hard_error=error)
        for ratio, error in ((0.5, 0.4), (2.0, 0.2))
    )
    for ratio, expected in ((0.5, 0.4), (1.0, 0.3), (2.0, 0.2)):
        assert mechanism.errors_at(table, "rate", ratio).tolist() == pytest.approx([expected] * SEEDS)


@pytest.mark.parametrize(
    ("importance", "rate", "both", "help_", "comparable", "match"),
    [
        (0.1, 0.1, 0.1, "confirmed", "confirmed", "confirmed"),
        (0.28, 0.1, 0.12, "confirmed", "partly", "confirmed"),
        (0.4, 0.1, 0.0, "partly", "partly", "not confirmed"),
        (0.4, 0.4, 0.4, "not confirmed", "partly", "not confirmed"),  # equal harm is no gain
        (0.3, 0.3, 0.3, "not confirmed", "partly", "not confirmed"),
        (0.5, 0.4, 0.5, "not confirmed", "not confirmed", "not confirmed"),
    ],
)
def test_interventions(importance, rate, both, help_, comparable, match):
    table, complexity = intervention_table({"importance": importance, "rate": rate, "both": both}), complexity_table()
    assert mechanism.interventions_help(table, complexity).status == help_
    assert mechanism.gains_comparable(table, complexity).status == comparable
    assert mechanism.both_match_lsam(table, complexity).status == match


@pytest.mark.parametrize(("end", "status"), [(0.1, "confirmed"), (0.3, "not confirmed"), (0.5, "not confirmed")])
def test_interventions_can_help_looks_at_the_largest_ratio_alone(end, status):
    errors = dict.fromkeys(("importance", "rate", "both"), 0.2)
    assert mechanism.interventions_can_help(intervention_table(errors, end=end), complexity_table()).status == status


@pytest.mark.parametrize(
    ("matched", "weighted", "status"),
    [(0.0, -0.04, "confirmed"), (0.06, 0.0, "partly"), (-0.06, 0.0, "partly"), (0.06, -0.06, "not confirmed")],
)
def test_controls_matter_little_if_they_stay_within_the_margin_on_both_sides(matched, weighted, status):
    errors = {"importance": 0.1, "rate": 0.2, "both": 0.3}
    verdict = mechanism.choices_matter_little(intervention_table(errors, matched=matched, weighted=weighted))
    assert verdict.status == status
    assert len(verdict.effects) == 8  # re-weighting matters for the importance term alone


@pytest.mark.parametrize(
    ("importance", "rate", "suffices", "match"),
    [
        (0.1, 0.1, "confirmed", "confirmed"),
        (0.3, 0.0, "partly", "not confirmed"),
        (0.5, 0.4, "not confirmed", "not confirmed"),
    ],
)
def test_lsams_phantom_in_one_factor(importance, rate, suffices, match):
    table = pd.concat(
        rows(term=term, rho=rho, final_hard_error=error if rho == 1.0 else 0.7)
        for term, error in (("importance", importance), ("rate", rate), ("both", 0.1))
        for rho in (0.5, 1.0)
    )
    assert mechanism.one_factor_suffices(table, complexity_table()).status == suffices
    assert mechanism.rates_match_lsam(table, complexity_table()).status == match


@pytest.mark.parametrize(("share", "status"), [(1.0, "confirmed"), (0.999, "not confirmed"), (0.5, "not confirmed")])
def test_condition_predicts(share, status):
    assert mechanism.condition_predicts(complexity_table(share)).status == status


def test_one_bad_run_spoils_the_condition_for_its_seed():
    table = complexity_table()
    table.loc[(table.seed == 0) & (table.rho == 1.0), "agreement_share"] = 0.0
    assert mechanism.condition_predicts(table).effects[0].value.mean == 1 - 1 / SEEDS
    sgd = complexity_table()
    sgd.loc[sgd.rho == 0.0, "agreement_share"] = 0.0
    assert mechanism.condition_predicts(sgd).status == "confirmed"  # SGD has no phantom to predict


EVEN, STEEP = np.array([1.0, 1.0, 1.0, 1.0]), np.array([4.0, 2.0, 1.0, 1.0])


@dataclass(frozen=True)
class Point:
    """Stands in for a checkpoint: two members whose real and phantom weights are given."""

    method: str
    real: np.ndarray
    phantom: np.ndarray
    contributions: np.ndarray
    step: int = 7

    def importance(self, rho: float) -> Importance:
        assert rho == 1.0
        return Importance(*(np.stack([part] * 2) for part in (self.real, self.phantom, self.contributions)))


FIT = np.array([[1.0, 2.0, 3.0, -1.0], [-1.0, 1.0, 2.0, 3.0]])  # the easy feature fits the last worst, hard the first


@pytest.mark.parametrize(
    ("sgd", "lsam", "status", "throughout"),
    [
        ((STEEP, EVEN), (STEEP, EVEN), "confirmed", "confirmed"),
        ((STEEP, EVEN), (EVEN, STEEP), "partly", "partly"),
        ((EVEN, STEEP), (EVEN, STEEP), "not confirmed", "not confirmed"),
        ((EVEN, EVEN), (EVEN, EVEN), "not confirmed", "not confirmed"),
    ],
)
def test_more_uniform_means_a_lower_gini_of_the_phantom(sgd, lsam, status, throughout):
    first, second = Point("SGD", *sgd, FIT), Point("LSAM", *lsam, FIT)
    assert mechanism.weights_more_uniform(first, second).status == status
    assert mechanism.uniform_throughout([first], [second]).status == throughout


def test_ginis_are_one_a_member():
    assert (
        mechanism.ginis(Point("SGD", EVEN, np.array([0.0, 0.0, 0.0, 1.0]), FIT).importance(1.0), "phantom").tolist()
        == [0.75] * 2
    )


def test_the_shift_of_the_worst_quarter_is_phantom_share_minus_real_share():
    weights = Point("LSAM", EVEN, np.array([4.0, 2.0, 2.0, 0.0]), FIT).importance(1.0)
    assert mechanism.shift_of_worst_quarter(weights, 0).tolist() == [-0.25, -0.25]  # 0 of 8 against 1 of 4
    assert mechanism.shift_of_worst_quarter(weights, 1).tolist() == [0.25, 0.25]  # 4 of 8 against 1 of 4


def test_poorly_fit_examples():
    towards = Point("LSAM", EVEN, np.array([4.0, 2.0, 2.0, 0.0]), FIT)
    away = Point("SGD", EVEN, np.array([0.0, 2.0, 2.0, 4.0]), FIT)
    assert mechanism.poorly_fit_at_the_end([away, towards], [towards]).status == "confirmed"
    assert mechanism.poorly_fit_throughout([away, towards], [towards]).status == "partly"
    assert mechanism.poorly_fit_throughout([away], [away]).status == "not confirmed"
