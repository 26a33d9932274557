"""The rules and the toy's claims on small tables: each is confirmed, partly so or not, never by the wrong sign."""

import numpy as np
import pandas as pd
import pytest

from edition.claims import Effect, Verdict, toy
from edition.experiments.toy import SENSITIVITY
from samlib.measures.statistics import Estimate, estimate

SEEDS = 4


def rows(seeds: int = SEEDS, **columns) -> pd.DataFrame:
    """One row a seed; numbers in the columns are the same for every seed, lists have one value a seed."""
    return pd.DataFrame({"seed": range(seeds)}).assign(**columns)


def sweep(errors: dict[float, tuple[float, ...]], *, rhos=(0.0, 1.0), metric="final_hard_error", column="complexity"):
    """A table of one metric: value of `column` -> its mean at each rho; seeds differ, but equally at every rho."""
    return pd.concat(
        rows(**{column: value, "rho": rho, metric: mean + 0.01 * np.arange(SEEDS)})
        for value, means in errors.items()
        for rho, mean in zip(rhos, means, strict=True)
    )


def interval(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, SEEDS)


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "within"),
    [
        (0.11, 0.2, True, False, False),
        (0.1, 0.2, False, False, False),
        (0.0, 0.1, False, False, False),
        (0.0, 0.09, False, True, True),
        (-0.1, 0.0, False, True, False),
        (-0.2, -0.11, False, True, False),
        (float("-inf"), float("inf"), False, False, False),
        (float("nan"), float("nan"), False, False, False),
    ],
)
def test_an_effect_holds_if_its_whole_interval_lies_strictly_where_predicted(low, high, above, below, within):
    held = [Effect("x", interval(low, high), side, 0.1).holds for side in ("above", "below", "within")]
    assert held == [above, below, within]


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="predicted: expected one of 'above', 'below', 'within', got 'over'"):
        Effect("x", interval(0, 1), "over")


@pytest.mark.parametrize(
    ("held", "status"),
    [([], "not tested"), ([1, 1], "confirmed"), ([1, 0, 1], "partly"), ([0, 0], "not confirmed")],
)
def test_the_status_counts_the_effects_that_hold(held, status):
    effects = [Effect("x", interval(value, value + 1), "above", 0.5) for value in held]
    assert Verdict("id", "place", "claim", "statistic", effects).status == status


def test_differences_are_lsam_minus_sgd():
    found = toy.difference(sweep({360.0: (0.3, 0.1)}), "final_hard_error")
    assert found.mean == pytest.approx(-0.2) and found.n == SEEDS


LOWER, HIGHER, EQUAL = (0.3, 0.1), (0.3, 0.5), (0.3, 0.3)


@pytest.mark.parametrize(
    ("at_180", "at_360", "status", "n_effects"),
    [
        (LOWER, LOWER, "confirmed", 2),
        (LOWER, HIGHER, "partly", 2),
        (LOWER, EQUAL, "partly", 2),
        (HIGHER, HIGHER, "not confirmed", 2),
        (EQUAL, EQUAL, "not confirmed", 2),
        ((-0.01, 0.5), LOWER, "confirmed", 1),  # SGD's mean error is 0.005: no room for improvement
        ((-0.01, 0.5), (-0.01, 0.5), "not tested", 0),
    ],
)
def test_hard_error_lower(at_180, at_360, status, n_effects):
    verdict = toy.hard_error_lower(sweep({180.0: at_180, 360.0: at_360}))
    assert (verdict.status, len(verdict.effects)) == (status, n_effects)


def test_a_difference_as_likely_as_not_is_not_confirmed():
    lsam = rows(complexity=360.0, rho=1.0, final_hard_error=[0.1, 0.4, 0.1, 0.4])
    sgd = rows(complexity=360.0, rho=0.0, final_hard_error=[0.3, 0.3, 0.3, 0.3])
    verdict = toy.hard_error_lower(pd.concat([sgd, lsam]))
    assert verdict.effects[0].value.mean < 0
    assert verdict.status == "not confirmed"


RHOS = (0.0, 0.5, 1.0)
CURVES = {"falls": (0.5, 0.4, 0.3), "rises": (0.3, 0.4, 0.5), "stays": (0.3, 0.3, 0.3)}


@pytest.mark.parametrize(
    ("claim", "metric", "good", "bad"),
    [
        (toy.hard_error_falls, "final_hard_error", "falls", "rises"),
        (toy.phantom_ratio_rises, "phantom_log_ratio", "rises", "falls"),
    ],
)
def test_trends_over_the_radius(claim, metric, good, bad):
    def status(*shapes: str) -> str:
        table = sweep({180.0 * i: CURVES[shape] for i, shape in enumerate(shapes, 1)}, rhos=RHOS, metric=metric)
        return claim(table.assign(final_hard_error=table.get("final_hard_error", 0.3), final_easy_error=0.0)).status

    assert status(good, good) == "confirmed"
    assert status(good, bad) == status(good, "stays") == "partly"
    assert status(bad, bad) == status("stays", "stays") == "not confirmed"


def test_nothing_measured_is_not_tested():
    columns = ("phantom_log_ratio", "final_test_error", "final_easy_error", "easy_rate", "hard_rate")
    empty = sweep({360.0: LOWER}).assign(**dict.fromkeys(columns, 0.0))[:0]
    claims = (toy.hard_error_lower, toy.hard_error_falls, toy.labels_learned, toy.phantom_ratio_rises)
    assert {claim(empty).status for claim in (*claims, toy.rates_scaled, toy.relative_rate_scaled)} == {"not tested"}


@pytest.mark.parametrize(
    ("errors", "status"), [((0.0, 0.0), "confirmed"), ((0.0, 0.001), "partly"), ((0.001, 0.2), "not confirmed")]
)
def test_labels_learned(errors, status):
    parts = zip((180.0, 360.0), errors, strict=True)
    table = pd.concat(rows(complexity=c, rho=rho, final_test_error=e) for c, e in parts for rho in (0.0, 1.0))
    assert toy.labels_learned(table).status == status


@pytest.mark.parametrize(
    ("real", "phantom", "holds"),
    [(0.1, 0.5, True), (-0.1, 0.5, True), (0.1, -0.5, True), (0.25, 0.5, False), (0.4, 0.5, False), (0.0, 0.0, False)],
)
def test_real_ratio_constant_means_less_than_half_the_phantoms_movement(real, phantom, holds):
    parts = [rows(rho=0.0, real_ratio=1.0, phantom_ratio=1.0)]
    parts += [rows(rho=1.0, real_ratio=1.0 + real, phantom_ratio=1.0 + phantom)]
    table = pd.concat(parts).assign(complexity=360.0, final_easy_error=0.0, final_hard_error=0.3)
    verdict = toy.real_ratio_constant(table)
    assert verdict.status == ("confirmed" if holds else "not confirmed")


@pytest.mark.parametrize(
    ("easy", "hard", "status", "relative"),
    [
        (0.8, 1.2, "confirmed", "confirmed"),
        (0.5, 0.9, "partly", "confirmed"),
        (1.1, 1.2, "partly", "confirmed"),
        (0.9, 0.8, "partly", "not confirmed"),
        (1.2, 0.8, "not confirmed", "not confirmed"),
        (1.0, 1.0, "not confirmed", "not confirmed"),
    ],
)
def test_rates(easy, hard, status, relative):
    table = rows(complexity=360.0, rho=1.0, easy_rate=easy, hard_rate=hard)
    others = rows(complexity=360.0, rho=0.5, easy_rate=2.0, hard_rate=0.5)  # another radius is not looked at
    sgd = rows(complexity=360.0, rho=0.0, easy_rate=1.0, hard_rate=1.0)
    table = pd.concat([table, others, sgd]).assign(final_easy_error=0.0, final_hard_error=0.3)
    assert toy.rates_scaled(table).status == status
    assert toy.relative_rate_scaled(table).status == relative


def sensitivity_table(worse: tuple[str, float] | None) -> pd.DataFrame:
    """LSAM helps wherever one constant moves away from the base, but for one named value."""
    base = {"learning_rate": 0.01, "last_layer_init": 2.0, "hidden": 50, "easy_scale": 0.5, "hard_scale": 4.0}
    settings = {tuple((base | {name: value}).items()) for name, values in SENSITIVITY.items() for value in values}
    parts = []
    for index, setting in enumerate(sorted(settings)):
        gain = -0.1 if worse in setting else 0.1
        for rho in (0.0, 0.3, 1.0):
            record = f"{index}-{rho}"
            parts.append(rows(**dict(setting), rho=rho, record=record, final_hard_error=0.3 - gain * (rho == 1.0)))
    return pd.concat(parts)


def test_sensitivity_names_the_constant_at_which_the_effect_reverses():
    assert toy.sensitivity_direction(sensitivity_table(None)).status == "confirmed"
    verdict = toy.sensitivity_direction(sensitivity_table(("hidden", 10)))
    assert verdict.status == "partly"
    assert [effect.name for effect in verdict.effects if not effect.holds] == ["hidden = 10"]
    assert len(verdict.effects) == sum(len(values) for values in SENSITIVITY.values())


def noise_table(gain: dict[str, float]) -> pd.DataFrame:
    """Two levels of each noise on the hard feature and the clean runs, at which LSAM is worse."""
    kinds = ("flip", "gaussian_noise", "dropout")
    clean = dict.fromkeys(kinds, 0.0) | {"noisy_features": "both"}
    settings = [(clean, -0.1)]
    settings += [(clean | {kind: level, "noisy_features": "hard"}, gain[kind]) for kind in kinds for level in (0.1, 1)]
    return pd.concat(
        rows(**setting, rho=rho, final_hard_error=0.3 - rho * value)
        for setting, value in settings
        for rho in (0.0, 1.0)
    )


def test_noise_is_judged_level_by_level_without_the_clean_runs():
    good = {"flip": 0.1, "gaussian_noise": 0.1, "dropout": 0.1}
    verdict = toy.noise_robust(noise_table(good))
    assert (verdict.status, len(verdict.effects)) == ("confirmed", 6)
    assert verdict.effects[0].name == "flip 0.1, hard"
    assert toy.noise_robust(noise_table(good | {"dropout": -0.1})).status == "partly"
    assert toy.noise_robust(noise_table(dict.fromkeys(good, -0.1))).status == "not confirmed"


@pytest.mark.parametrize(
    ("gains", "robust", "degrades"),
    [
        ((0.3, 0.2, 0.1), "confirmed", "confirmed"),
        ((0.3, 0.2, -0.1), "partly", "confirmed"),
        ((0.1, 0.2, 0.3), "confirmed", "not confirmed"),
        ((0.3, 0.05, 0.1), "confirmed", "partly"),  # the largest batch gains more than batches of 5
        ((-0.1, -0.1, -0.1), "not confirmed", "not confirmed"),
    ],
)
def test_batch_sizes(gains, robust, degrades):
    errors = {size: (0.5, 0.5 - gain) for size, gain in zip((1, 5, 300), gains, strict=True)}
    table = sweep(errors, column="batch_size")
    assert toy.batch_robust(table).status == robust
    assert toy.batch_degrades(table).status == degrades
    assert toy.batch_robust(table).id != toy.batch_robust(table, at="equal steps").id


def test_effects_hold_the_estimate_of_what_was_measured():
    effect = toy.hard_error_lower(sweep({360.0: LOWER})).effects[0]
    assert effect.name == "360°"
    assert effect.value.mean == pytest.approx(estimate([-0.2]).mean)


def test_which_feature_is_hard_is_decided_by_sgds_probes():
    parts = [
        rows(complexity=c, rho=0.0, final_easy_error=e, final_hard_error=h)
        for c, e, h in ((180.0, 0.2, 0.0), (360.0, 0.0, 0.3))
    ]
    table = pd.concat(parts)
    assert set(toy.where_hard(table).complexity) == {360.0}
    assert set(toy.where_easy(table).complexity) == {180.0}


def test_the_ratio_must_fall_where_the_spiral_is_easier():
    for shape, status in (("falls", "confirmed"), ("rises", "not confirmed")):
        table = sweep({180.0: CURVES[shape]}, rhos=RHOS, metric="phantom_log_ratio")
        table = table.assign(final_easy_error=0.2, final_hard_error=0.0)
        assert toy.phantom_ratio_falls_where_easy(table).status == status
