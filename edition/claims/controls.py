"""Chapter 7: what the controls say about SAM's effect on the hard feature. The questions are later work's and ours.

Methods are compared seed by seed: all share data, initialization and batch order. Where a method has several settings,
each seed is measured at the setting that the other seeds choose.

A `table` is what `control_table` returned, `rows` are those of it with one setting a method and seed, such as `chosen`
returns, and a `metric` is a column of it, smaller being better.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import pandas as pd

from edition.experiments.controls import image_methods, methods
from edition.records.store import Record
from edition.runs.results import seed_table
from samlib.config import all_but, from_dict
from samlib.measures.statistics import Estimate, estimate, paired_difference, rank_correlations, settled
from samlib.methods.config import ControlConfig

TASKS = {"Toy": "controls_toy", "CIFAR-MNIST": "controls_images"}  # title -> experiment
# What may drive the quality of the hard feature -> the sign that its account predicts for the rank correlation with the
# hard feature's probing error over methods.
ACCOUNTS = {
    "sharpness": ("flatness: sharper minima, worse hard features", "above"),
    "effective_rank": ("rank: more directions, better hard features", "below"),
    "gini_used": ("balance: less even importance weights, worse hard features", "above"),
}
# A network with a higher test error has not learned the task: nothing follows from its features. Set after the toy's
# runs had been seen, so the page shows the correlations without this rule, too.
SOLVED = 0.05


def control_table(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate control runs of one task.

    Args:
        records: of kind "control", of one task.
    Returns:
        One row per (record, seed). Columns: "method", "setting" (0, 1, 2 in the method's order; 0 is the middle one),
        "seed", "record", every metric (NaN where a run diverged), and "hard_probe_error", "easy_probe_error": on
        images, of the two features, that with the higher mean error under SGD and the other; "hard" and "easy" name
        them.
    Raises:
        ValueError: two tasks, or a run that is no method's.
    """
    tasks = sorted({record.config["task"] for record in records})
    if len(tasks) != 1:
        raise ValueError(f"records: expected one task, got {', '.join(tasks) or 'none'}; pass one experiment's records")
    measured = [name for name in records[0].metrics if name != "diverged"]
    table = seed_table(records).astype(dict.fromkeys(measured, float))
    named = [method_of(from_dict(ControlConfig, record.config)) for record in records]
    by_record = {record.id: name for record, name in zip(records, named, strict=True)}
    table.insert(0, "method", [by_record[record][0] for record in table.record])
    table.insert(1, "setting", [by_record[record][1] for record in table.record])
    return _with_roles(table)


def method_of(config: ControlConfig) -> tuple[str, int]:
    """Return the name of a configuration's method, and the place of its setting among the method's.

    >>> method_of(ControlConfig(rho=0.1))
    ('SAM', 1)
    """
    found = _places(config.stacked).get(_method(config))
    if found:
        return found
    raise ValueError(f"config: expected one of the methods of the experiments, got {config}; add it to them")


def against_sgd(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], Estimate]:
    """Estimate a metric minus that of SGD at its first setting, paired by seed, for every method and setting.

    Seeds at which either run diverged are left out; settings with none left, too.
    """
    sgd = table[(table.method == "SGD") & (table.setting == 0)].assign(method="SGD's first")
    found = {}
    for (method, setting), rows in table.groupby(["method", "setting"], sort=False):
        value = difference(pd.concat([rows, sgd]), method, "SGD's first", metric)
        if value and (method, setting) != ("SGD", 0):
            found[method, setting] = value
    return found


def chosen(table: pd.DataFrame, metric: str = "hard_probe_error") -> pd.DataFrame:
    """Return the rows at each method's chosen setting: for every seed, the one that the other seeds choose.

    They choose the lowest mean of the metric among the settings whose mean test error is at most `SOLVED` (among all
    where none is). A seed's own numbers have no say in its setting; with one seed or one setting, it is the first.
    """
    rows = []
    for _, own in table.groupby("method", sort=False):
        for seed in own.seed.unique():
            others = own[own.seed != seed].groupby("setting")[["test_error", metric]].mean().dropna()
            fit = others[others.test_error <= SOLVED]
            usable = others if fit.empty else fit
            setting = own.setting.min() if usable.empty else usable[metric].idxmin()
            rows.append(own[(own.seed == seed) & (own.setting == setting)])
    return pd.concat(rows, ignore_index=True)


def difference(rows: pd.DataFrame, treated: str, control: str, metric: str = "hard_probe_error") -> Estimate | None:
    """Estimate one method's metric minus another's, paired by seed; None where no seed has both."""
    values = rows.set_index(["method", "seed"])[metric].dropna()
    if not {treated, control} <= {*values.index.get_level_values("method")}:
        return None
    both = pd.concat([values[treated], values[control]], axis=1, join="inner")
    return paired_difference(*both.to_numpy().T) if len(both) else None


def improvements(table: pd.DataFrame) -> dict[str, Estimate]:
    """Estimate the hard feature's `difference` from SGD of every other method, each seed at its chosen setting."""
    rows = chosen(table)
    names = [name for name in dict.fromkeys(table.method) if name != "SGD"]
    return {name: value for name in names if (value := difference(rows, name, "SGD"))}


def follows(table: pd.DataFrame, *, worst_test_error: float = SOLVED) -> dict[str, Estimate]:
    """Estimate, seed by seed, the hard error's rank correlation over methods and settings with each of `ACCOUNTS`.

    Networks above `worst_test_error` are left out, and accounts for which none is left.
    """
    table = table[table.test_error <= worst_test_error]
    found = {}
    for account in ACCOUNTS:
        values = []
        for _, rows in table.dropna(subset=["hard_probe_error", account]).groupby("seed"):
            if len(rows) < 2:
                continue  # one network follows nothing
            values.append(rank_correlations(rows[account].to_list(), rows[["hard_probe_error"]].to_numpy().T)[0])
        if not values:
            continue
        mean = estimate(values)
        found[account] = dataclasses.replace(mean, low=max(mean.low, -1.0), high=min(mean.high, 1.0))
    return found


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds at the settings that the other seeds choose: a row per method, metrics and "settings"."""
    metrics = ["hard_probe_error", "easy_probe_error", "test_error", "effective_rank", "sharpness", "gini_used"]
    rows = chosen(table)
    means = rows.groupby("method", sort=False)[metrics].mean()
    return means.assign(settings=rows.groupby("method").setting.unique().map(sorted)).reset_index()


@functools.cache
def _places(stacked: bool) -> dict[tuple[object, ...], tuple[str, int]]:
    """What tells all methods' settings apart, of the toy's or of the images' -> method and place."""
    known = methods() if stacked else {name: [config] for name, config in image_methods(0).items()}
    found: dict[tuple[object, ...], tuple[str, int]] = {}
    for name, settings in known.items():
        for place, config in enumerate(settings):
            found.setdefault(_method(config), (name, place))
    return found


def _method(config: ControlConfig) -> tuple[object, ...]:
    """What tells methods and settings apart: everything but the task, its length and its seeds."""
    return all_but(config, "seeds", "n_epochs", "task", "n_train")


def _with_roles(table: pd.DataFrame) -> pd.DataFrame:
    """Name the columns of the two features of images after their roles."""
    features = [name.removesuffix("_probe_error") for name in table if name.endswith("_probe_error")]
    if set(features) == {"easy", "hard"} or len(features) != 2:
        return table
    sgd = table[(table.method == "SGD") & (table.setting == 0)]
    means = {feature: sgd[f"{feature}_probe_error"].mean() for feature in features}
    if any(map(math.isnan, means.values())):
        raise ValueError("records: expected a run of SGD that converged, got none; it decides which feature is easy")
    easy, hard = sorted(features, key=lambda feature: settled(means[feature]))
    renamed = table.rename(
        columns={f"{easy}_probe_error": "easy_probe_error", f"{hard}_probe_error": "hard_probe_error"}
    )
    return renamed.assign(easy=easy, hard=hard)
