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


def test_test_errors_do_not_matter():
    records = [record(0.1, 0.1, 0.2, test=0.0), record(0.05, 0.1, 0.1, test=1.0)]
    assert select(records).metrics["test_error"] == 1.0


def test_diverged_runs_are_never_chosen(grid):
    assert setting(at_radius(grid, 0.2)) == (0.01, 0.2)


@pytest.mark.parametrize(("records", "count"), [([], 0), ([record(0.1, 0.1), record(0.2, 0.1)], 2)])
def test_where_nothing_converged_the_error_says_so(records, count):
    with pytest.raises(ValueError, match=rf"expected at least one run that converged, got none among {count}; run the"):
        select(records)


def test_one_radius_has_as_many_settings_as_sgd(grid):
    assert (setting(at_radius(grid, 0.0)), setting(at_radius(grid, 0.05))) == ((0.01, 0.0), (0.01, 0.05))
    with pytest.raises(ValueError, match=r"expected one of \[0.0, 0.05, 0.2\], got 0.3"):
        at_radius(grid, 0.3)


def test_the_table_tells_budget_choice_and_ties(grid):
    table = tuning_table(grid).set_index("protocol")
    assert list(table.index) == [
        "SGD",
        "SAM, the paper's grid",
        "SAM at rho = 0.05, equal budget",
        "SAM at rho = 0.2, equal budget",
    ]
    assert table.n_settings.tolist() == [2, 4, 2, 2]
    assert table.learning_rate.tolist() == [0.01, 0.01, 0.01, 0.01]
    assert table.rho.tolist() == [0.0, 0.05, 0.05, 0.2]
    assert table.validation_error.tolist() == [0.25, 0.20, 0.20, 0.22]
    assert table.n_tied.tolist() == [1, 2, 2, 1]


def test_a_radius_at_which_all_diverged_stays_in_the_table(grid):
    row = tuning_table([*grid[:5], record(0.01, 0.2)]).iloc[-1]
    assert (row.n_settings, row.n_tied) == (2, 0)
    assert math.isnan(row.learning_rate) and math.isnan(row.validation_error)


def test_an_unequal_budget_is_not_called_equal(grid):
    assert tuning_table(grid[:5]).protocol.iloc[-1] == "SAM at rho = 0.2"


@pytest.mark.parametrize("choose", [select, tuning_table])
def test_a_mixture_of_seeds_is_no_grid(grid, choose):
    with pytest.raises(ValueError, match=r"records that differ in seed too; choose from one data set and one seed"):
        choose([*grid, record(0.5, 0.05, 0.1, seed=1)])


def test_a_setting_that_occurs_twice_is_refused(grid):
    with pytest.raises(ValueError, match=r"one record a setting, got .* \[\(0.1, 0.0\)\] more than once"):
        select([*grid, grid[0]])


def test_fields_that_are_only_measured_do_not_differ():
    one, other = record(0.1, 0.0, 0.1, importance_epochs=[1, 2]), record(0.1, 0.1, 0.1, importance_epochs=[])
    assert differing([one, other]) == {"rho"}
    assert differing([one, record(0.1, 0.0, 0.1, kind="finetune")]) == {"kind"}
    assert differing([one, record(0.1, 0.0, 0.1, n_train=40)]) == {"n_train"}


def test_a_field_added_later_has_its_default_in_earlier_records():
    earlier = record(0.1, 0.0, 0.1)
    assert differing([earlier, record(0.1, 0.0, 0.1, batch_size=100)]) == set()
    assert differing([earlier, record(0.1, 0.0, 0.1, batch_size=50)]) == {"batch_size"}
