"""Tuning by validation alone: ties, equal budgets, diverged runs, and what is no grid."""

import math
from pathlib import Path

import pytest

from edition.records.selection import at_radius, differing, select, tuning_table
from edition.records.store import Record


def record(learning_rate, rho, *curve, kind="pair", seed=0, test=0.5, **config):
    """A record whose validation error falls along the curve; an empty curve means that the run diverged."""
    metrics = {
        "validation_error": curve[-1] if curve else None,
        "test_error": test,
        "diverged": not curve,
        "curves": {"validation_error": list(curve)},
    }
    config |= {"learning_rate": learning_rate, "rho": rho, "seed": seed}
    return Record(kind, f"{learning_rate}-{rho}", config, metrics, {}, Path("none"))


def setting(found):
    return found.config["learning_rate"], found.config["rho"]


@pytest.fixture
def grid():
    """Two learning rates at three radii; 0.1 with rho = 0.2 diverges."""
    return [
        record(0.1, 0.0, 0.4, 0.30),
        record(0.01, 0.0, 0.4, 0.25),
        record(0.1, 0.05, 0.4, 0.20),
        record(0.01, 0.05, 0.3, 0.20),
        record(0.1, 0.2),
        record(0.01, 0.2, 0.3, 0.22),
    ]


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        ([record(0.1, 0.1, 0.1, 0.2), record(0.05, 0.1, 0.9, 0.1)], (0.05, 0.1)),  # last epoch, not the mean
        ([record(0.1, 0.1, 0.3, 0.1), record(0.05, 0.1, 0.4, 0.1)], (0.1, 0.1)),  # tie: mean over epochs
        ([record(0.1, 0.1, 0.3, 0.1), record(0.05, 0.2, 0.3, 0.1)], (0.05, 0.2)),  # tie: learning rate
        ([record(0.1, 0.2, 0.3, 0.1), record(0.1, 0.1, 0.3, 0.1)], (0.1, 0.1)),  # tie: radius
        # Sums of the same numbers in another order are the same mean.
        ([record(0.1, 0.1, 0.1, 0.2, 0.3, 0.0), record(0.05, 0.1, 0.3, 0.2, 0.1, 0.0)], (0.05, 0.1)),
    ],
)
def test_the_choice_is_by_validation_then_its_mean_then_the_smaller_setting(records, chosen):
    assert setting(select(records)) == chosen
    assert setting(select(records[::-1])) == chosen


def test_neither_test_errors_nor_diverged_runs_choose(grid):
    records = [record(0.1, 0.1, 0.2, test=0.0), record(0.05, 0.1, 0.1, test=1.0)]
    assert select(records).metrics["test_error"] == 1.0
    assert setting(at_radius(grid, 0.2)) == (0.01, 0.2)


def test_one_radius_has_as_many_settings_as_sgd(grid):
    assert (setting(at_radius(grid, 0.0)), setting(at_radius(grid, 0.05))) == ((0.01, 0.0), (0.01, 0.05))


def test_the_table_tells_budget_choice_and_ties(grid):
    columns = ["protocol", "n_settings", "learning_rate", "rho", "validation_error", "n_tied"]
    assert tuning_table(grid)[columns].to_numpy().tolist() == [
        ["SGD", 2, 0.01, 0.0, 0.25, 1],
        ["SAM, the paper's grid", 4, 0.01, 0.05, 0.20, 2],
        ["SAM at rho = 0.05, equal budget", 2, 0.01, 0.05, 0.20, 2],
        ["SAM at rho = 0.2, equal budget", 2, 0.01, 0.2, 0.22, 1],
    ]
    assert tuning_table(grid[:5]).protocol.iloc[-1] == "SAM at rho = 0.2"  # one setting: no equal budget


def test_a_radius_at_which_all_diverged_stays_in_the_table(grid):
    row = tuning_table([*grid[:5], record(0.01, 0.2)]).iloc[-1]
    assert (row.n_settings, row.n_tied) == (2, 0)
    assert math.isnan(row.learning_rate) and math.isnan(row.validation_error)


@pytest.mark.parametrize(
    ("choose", "change", "words"),
    [
        (select, lambda grid: [], r"at least one run that converged, got none among 0; run the"),
        (select, lambda grid: [record(0.1, 0.1), record(0.2, 0.1)], r"converged, got none among 2; run the"),
        (select, lambda grid: [*grid, grid[0]], r"one record a setting, got .* \[\(0.1, 0.0\)\] more than once"),
        (select, lambda grid: [*grid, record(0.5, 0.05, 0.1, seed=1)], r"differ in seed too; choose from one data set"),
        (tuning_table, lambda grid: [*grid, record(0.5, 0.05, 0.1, seed=1)], r"differ in seed too; choose from one"),
        (lambda grid: at_radius(grid, 0.3), lambda grid: grid, r"expected one of \[0.0, 0.05, 0.2\], got 0.3"),
    ],
)
def test_what_is_no_grid_is_refused(grid, choose, change, words):
    with pytest.raises(ValueError, match=words):
        choose(change(grid))


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (record(0.1, 0.1, 0.1, importance_epochs=[1, 2]), {"rho"}),  # what is only measured does not differ
        (record(0.1, 0.0, 0.1, kind="finetune"), {"kind"}),
        (record(0.1, 0.0, 0.1, n_train=40), {"n_train"}),
        (record(0.1, 0.0, 0.1, batch_size=100), set()),  # a field added later has its default in earlier records
        (record(0.1, 0.0, 0.1, batch_size=50), {"batch_size"}),
    ],
)
def test_records_differ_in_the_fields_that_training_depends_on(other, fields):
    assert differing([record(0.1, 0.0, 0.1), other]) == fields
