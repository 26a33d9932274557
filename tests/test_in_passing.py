"""The paper's side claims on small tables: each confirmed, partly so, not confirmed, or not tested."""

import numpy as np
import pandas as pd
import pytest

from edition.claims import in_passing
from edition.claims.real_importance import WeighedEpoch
from edition.experiments.toy import BATCH_SIZES
from samlib.measures.importance import Importance

SEEDS = 4


def rows(**columns) -> pd.DataFrame:
    """One row a seed; a number is the same for every seed, a list has one a seed."""
    return pd.DataFrame({"seed": range(SEEDS)}).assign(**columns)


def by_complexity(**columns: dict[float, float]) -> pd.DataFrame:
    """SGD and LSAM at 180 and 360 degrees: metric -> its value by complexity, at every radius."""
    return pd.concat(
        rows(complexity=degrees, rho=rho, **{name: values[degrees] for name, values in columns.items()})
        for degrees in (180.0, 360.0)
        for rho in (0.0, 1.0)
    )


@pytest.mark.parametrize(
    ("errors", "status"),
    [((0.0, 0.009), "confirmed"), ((0.0, 0.01), "partly"), ((0.2, 0.01), "not confirmed")],
)
def test_the_linear_feature_is_learned_where_no_room_is_left(errors, status):
    table = by_complexity(final_easy_error=dict(zip((180.0, 360.0), errors, strict=True)))
    verdict = in_passing.easy_learned(table)
    assert (verdict.status, len(verdict.effects)) == (status, 4)


@pytest.mark.parametrize(
    ("hard", "status"), [((0.2, 0.3), "confirmed"), ((0.0, 0.3), "partly"), ((0.1, 0.0), "not confirmed")]
)
def test_the_spiral_is_poor_where_sgd_errs_more_on_it(hard, status):
    table = by_complexity(
        final_easy_error={180.0: 0.1, 360.0: 0.1}, final_hard_error=dict(zip((180.0, 360.0), hard, strict=True))
    )
    assert in_passing.spiral_is_poor(table).status == status


def sweep(errors: dict[float, tuple[float, ...]], column: str, rhos=(0.0, 0.5, 1.0)) -> pd.DataFrame:
    """Value of `column` -> hard-feature error at each radius, the same for all seeds."""
    return pd.concat(
        rows(**{column: value, "rho": rho, "final_hard_error": error})
        for value, row in errors.items()
        for rho, error in zip(rhos, row, strict=True)
    )


@pytest.mark.parametrize(
    ("errors", "status", "n"),
    [
        ((0.3, 0.2, 0.1), "confirmed", 2),
        ((0.3, 0.2, 0.4), "partly", 2),
        ((0.3, 0.3, 0.4), "not confirmed", 2),
        ((0.01, 0.0, 0.0), "not tested", 0),  # nothing to improve on
    ],
)
def test_sgd_is_poorest_if_every_radius_is_better(errors, status, n):
    verdict = in_passing.sgd_is_poorest(sweep({360.0: errors}, "complexity"))
    assert (verdict.status, len(verdict.effects)) == (status, n)


def weighed(method: str, importance: Importance) -> WeighedEpoch:
    seeds = tuple(range(len(importance.real)))
    return WeighedEpoch("celeba", method, 1, 0.05, seeds, ("hair", "gender"), importance)


def importance(phantom: list[float], easy: list[float], hard: list[float], members: int = 2) -> Importance:
    """Members alike: four examples of equal real weight."""
    one = np.full((members, 4), 1.0), np.tile(np.array(phantom), (members, 1))
    return Importance(*one, np.tile(np.array([easy, hard]), (members, 1, 1)))


# Only the first example is right by the easy and wrong by the hard feature.
EASY, HARD = [1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, 1.0, -1.0]


@pytest.mark.parametrize(
    ("phantom", "status", "gain"),
    [([3, 1, 1, 1], "confirmed", 0.25), ([1, 1, 1, 1], "not confirmed", 0.0), ([0, 2, 1, 1], "not confirmed", -0.25)],
)
def test_what_only_the_easy_feature_fits_gains_a_share(phantom, status, gain):
    verdict = in_passing.joint_fit_gains([weighed("SGD", importance(phantom, EASY, HARD))])
    assert (verdict.id, verdict.status) == ("celeba-joint-fit", status)
    assert verdict.effects[0].value.mean == pytest.approx(gain)


def test_networks_without_such_examples_are_left_out():
    none = weighed("SAM", importance([3, 1, 1, 1], [1.0] * 4, [1.0] * 4))
    assert in_passing.joint_fit_gains([none]).status == "not tested"
    both = [weighed("SGD", importance([3, 1, 1, 1], EASY, HARD)), none]
    assert [effect.name for effect in in_passing.joint_fit_gains(both).effects] == ["SGD-trained, epoch 1"]


def test_one_network_has_no_interval_and_is_not_tested():
    single = weighed("SGD", importance([3, 1, 1, 1], EASY, HARD, members=1))
    assert in_passing.joint_fit_gains([single]).status == in_passing.easy_side_heavier([single]).status == "not tested"


@pytest.mark.parametrize(
    ("phantom", "status", "gap"),
    [([4, 1, 2, 1], "confirmed", 1.5), ([1, 2, 4, 1], "not confirmed", -0.5)],
)
def test_medians_are_compared_between_the_sides_of_equal_contributions(phantom, status, gap):
    # Easy contributes more to the first example alone; the others' median is their middle weight.
    verdict = in_passing.easy_side_heavier([weighed("SAM", importance(phantom, EASY, HARD))])
    assert (verdict.id, verdict.status) == ("celeba-easy-side", status)
    assert verdict.effects[0].value.mean == pytest.approx(gap)


def noisy(easy: float, rate: float) -> pd.DataFrame:
    """One flip level: SGD's errors (hard 0.3), and LSAM's hard rate minus its easy one."""
    common = {"flip": 0.1, "gaussian_noise": 0.0, "dropout": 0.0, "noisy_features": "hard"}
    sgd = rows(**common, rho=0.0, final_easy_error=easy, final_hard_error=0.3, easy_rate=1.0, hard_rate=1.0)
    lsam = rows(**common, rho=1.0, final_easy_error=easy, final_hard_error=0.1, easy_rate=1.0, hard_rate=1.0 + rate)
    return pd.concat([sgd, lsam])


@pytest.mark.parametrize(
    ("easy", "rate", "status"),
    [(0.0, 0.2, "confirmed"), (0.0, -0.2, "not confirmed"), (0.4, 0.2, "not tested")],
)
def test_the_mechanism_is_asked_for_where_the_spiral_is_the_hard_feature(easy, rate, status):
    assert in_passing.mechanism_under_noise(noisy(easy, rate)).status == status


BEST_AT = {0: (0.1, 0.2, 0.3, 0.4), 1: (0.2, 0.1, 0.3, 0.4), 2: (0.3, 0.2, 0.1, 0.4), 3: (0.4, 0.3, 0.2, 0.1)}


@pytest.mark.parametrize(
    ("best", "status"),
    [
        ((2, 2, 2), "confirmed"),
        ((2, 2, 1), "partly"),  # one whole step is not within one step
        ((3, 2, 1), "not confirmed"),
        ((0, 2, 2), "partly"),
    ],
)
def test_best_radii_are_similar_within_one_step_of_batch_five(best, status):
    assert in_passing.PAPER_BATCH in BATCH_SIZES
    errors = {size: BEST_AT[position] for size, position in zip((1, 5, 300), best, strict=True)}
    assert in_passing.optimum_similar(sweep(errors, "batch_size", (0.0, 0.5, 1.0, 2.0))).status == status


@pytest.mark.parametrize(
    ("large", "status"),
    [
        ((0.1, 0.2, 0.4), "confirmed"),  # ranges over two sizes: 0.1, 0.2, 0.4
        ((0.4, 0.1, 0.5), "confirmed"),
        ((0.4, 0.5, 0.4), "not confirmed"),
        ((0.4, 0.2, 0.1), "not confirmed"),
    ],
)
def test_sensitivity_is_the_range_over_batch_sizes(large, status):
    table = sweep({5: (0.0, 0.0, 0.0), 300: large}, "batch_size")
    assert in_passing.large_radius_sensitive(table).status == status


@pytest.mark.parametrize(
    ("differences", "status"),
    [
        ((-0.01, 0.0), "confirmed"),
        ((0.0, 0.01), "partly"),  # a point is not below a point
        ((0.02, 0.01), "not confirmed"),
        ((), "not tested"),
    ],
)
@pytest.mark.parametrize("n", [1, SEEDS])
def test_training_succeeds_below_one_point_more_of_test_error(monkeypatch, differences, status, n):
    table = pd.DataFrame(
        {"data_set": f"set {i}", "metric": metric, "difference": value, "low": value, "high": value, "n": n}
        for i, error in enumerate(differences)
        for metric, value in (("test_error", error), ("hard_probe_error", 1.0))
    )
    monkeypatch.setattr(in_passing, "table_one", lambda entries: table)
    entries = {"a set": None} if differences else {}
    assert in_passing.training_succeeds(entries).status == (status if n > 1 else "not tested")
