"""Figures of chapter 7: every method against SGD, and which account the hard feature's quality follows.

A `table` is what `edition.claims.controls.control_table` returned of one task; `tables` are such by the task's title.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from edition.claims.beyond import LIMIT_SET_AFTER, accounts_of, family
from edition.claims.controls import ACCOUNTS, SOLVED, against_sgd, comparison, follows, improvements
from edition.experiments.controls import PERTURBED
from edition.figures import style
from edition.figures.bands import mean_point
from edition.figures.tables import p_value, scrolling
from edition.figures.tables import table as html_table
from samlib.measures.statistics import Estimate, estimate, number, settled, with_interval

AXES = {
    "sharpness": "sharpness (largest curvature), ordered",
    "effective_rank": "effective rank of the features, ordered",
    "gini_used": "Gini of importance weights, ordered",
}
NAMED = {"SGD": "SGD", "SAM": "SAM", "last layer only": "LSAM", "ASAM": "ASAM", "SGD with l2": "l2"}  # in the scatter
MARKERS = ("o", "v", "^")  # of the settings: middle, smaller, larger


def methods_against_sgd(tables: Mapping[str, pd.DataFrame], *, metrics: Mapping[str, str] | None = None) -> Figure:
    """Draw every method's difference from SGD with its 95 % interval over seeds, a panel a metric and task.

    Args:
        metrics: column -> title; the hard and the easy feature's probing error where it is None.
    """
    metrics = metrics or {"hard_probe_error": "hard feature", "easy_probe_error": "easy feature"}
    names = list(dict.fromkeys(name for table in tables.values() for name in table.method))
    panels = [(title, table, metric) for title, table in tables.items() for metric in metrics]
    figure, axes = plt.subplots(1, len(panels), figsize=(9.4, 0.34 * len(names) + 1.5), sharey=True, squeeze=False)
    for panel, (title, table, metric) in zip(axes[0], panels, strict=True):
        colour = style.EASY if metric.startswith("easy") else style.HARD
        panel.axvline(0, color=style.SGD, lw=1.2)
        for (method, setting), value in against_sgd(table, metric).items():
            _mark(panel, value, names.index(method), setting, scale=100, color=colour)
        panel.set_title(f"{title}:\n{metrics[metric]}", fontsize=9.5)
        panel.set_xlabel("minus SGD's, points")
    _name_rows(axes[0, 0], names)
    return figure


def measured(tables: Mapping[str, pd.DataFrame], metric: str) -> Figure:
    """Draw one measure of every method with its 95 % interval over seeds, a panel a task.

    Args:
        metric: a key of `SHOWN`.
    """
    heading, scale, _ = SHOWN[metric]
    names = list(dict.fromkeys(name for table in tables.values() for name in table.method))
    figure, axes = plt.subplots(1, len(tables), figsize=(8.4, 0.3 * len(names) + 1.3), sharey=True, squeeze=False)
    for panel, (title, table) in zip(axes[0], tables.items(), strict=True):
        groups = table.dropna(subset=[metric]).groupby(["method", "setting"], sort=False)
        for (method, setting), values in groups[metric]:
            _mark(panel, estimate(values), names.index(method), setting, scale=scale, color=_colour(method))
        panel.set_title(title)
        panel.set_xlabel(heading)
        if metric == "sharpness":
            panel.set_xscale("symlog", linthresh=1e-4)
    _name_rows(axes[0, 0], names)
    return figure


def measured_in_words(tables: Mapping[str, pd.DataFrame], metric: str) -> str:
    """Say which settings have the smallest and the largest mean of a measure."""
    heading, scale, form = SHOWN[metric]
    told = []
    for title, table in tables.items():
        means = scale * table.groupby(["method", "setting"])[metric].mean().dropna()
        ends = (means.idxmin(), means.idxmax())
        named = [f"{format(means[end], form)} ({end[0]}, {SETTINGS[end[1]]})" for end in ends]
        told.append(f"{title}: from {named[0]} to {named[1]}")
    return f"{heading} of every method. {'; '.join(told)}."


def quality_follows(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the hard feature's probing error over methods against sharpness, rank and balance, all as places in order.

    Networks with a test error above `edition.claims.controls.SOLVED` are left out.
    """
    figure, axes = plt.subplots(
        len(tables), len(ACCOUNTS), figsize=(9.4, 3.0 * len(tables) + 0.3), squeeze=False, sharey="row"
    )
    for line, (title, table) in zip(axes, tables.items(), strict=True):
        solved = table[table.test_error <= SOLVED]
        means = solved.groupby(["method", "setting"], sort=False)[["hard_probe_error", *ACCOUNTS]].mean().dropna()
        found = follows(table)
        for panel, account in zip(line, ACCOUNTS, strict=True):
            x, y = rankdata(means[account]), rankdata(means.hard_probe_error)
            colours = [_colour(str(method)) for method, _ in means.index]
            panel.scatter(x, y, c=colours, s=26, zorder=3)
            for place, named in zip(zip(x, y, strict=True), means.index, strict=True):
                if named in [(name, 0) for name in NAMED]:
                    panel.annotate(NAMED[named[0]], place, (4, 3), textcoords="offset points", fontsize=7.5)
            panel.set_xlabel(AXES[account])
            told = with_interval(found[account], 2, signed=True) if account in found else "no network has learned it"
            panel.set_title(f"{title}: {told}", fontsize=9.5)
        line[0].set_ylabel("hard probing error, ordered")
    figure.legend(
        handles=[
            plt.Line2D([], [], marker="o", ls="", color=colour, label=label)
            for label, colour in (("SGD", style.SGD), ("perturbed methods", style.SAM), ("others", style.NEUTRAL))
        ],
        loc="outside lower center",
        ncols=3,
    )
    return figure


def _mark(panel: Axes, value: Estimate, row: int, setting: int, **look: Any) -> None:
    """Mark one setting's mean and interval in its method's row."""
    place = row + 0.24 * (0, -1, 1)[setting]
    mean_point(panel, place, value, along="x", marker=MARKERS[setting], ms=4, lw=1.1, **look)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the methods' rows, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _colour(method: str) -> str:
    """SGD, the methods with a perturbation, and the others."""
    if method == "SGD":
        return style.SGD
    return style.SAM if method in PERTURBED else style.NEUTRAL


def comparison_html(table: pd.DataFrame) -> str:
    """Return what is compared, and the gain over SGD with its interval, a row per method, as plain HTML.

    The p-values are those of the claims: corrected for all comparisons of the task.
    """
    several = table.setting.nunique() > 1
    gains = improvements(table)
    corrected = {
        method: p_value(effect.corrected) for (method, other), effect in family(table).items() if other == "SGD"
    }
    rows = []
    for _, row in comparison(table).iterrows():
        value = gains.get(row.method)
        gain = with_interval(value, 1, scale=100, signed=True) if value else ""
        cells = [format(scale * row[name], form) for name, (_, scale, form) in SHOWN.items()]
        places = (", ".join(SETTINGS[place] for place in row.settings),) if several else ()
        rows.append((row.method, cells[0], gain, corrected.get(row.method, ""), *cells[1:], *places))
    first, *others = (heading for heading, _, _ in SHOWN.values())
    heads = ("method", first, "minus SGD's [95 %]", "p, corrected", *others, *(("setting",) if several else ()))
    return scrolling(html_table(heads, rows), "Methods, wide: scrolls")


def in_short(tables: Mapping[str, pd.DataFrame]) -> str:
    """Say in a few words (Markdown) which methods improve the hard feature and which account it follows."""
    if not tables:
        return "**In short.** Nothing has been run at this profile yet."
    return "**In short.** " + " ".join(_one_task(title, table) for title, table in tables.items())


def without_rule(tables: Mapping[str, pd.DataFrame]) -> str:
    """Say how many networks have not learned the task, and what the correlations are with them."""
    told = []
    for title, table in tables.items():
        missed = int((table.test_error > SOLVED).sum())
        found = follows(table, worst_test_error=1.0)
        numbers = ", ".join(
            f"{name.replace('_used', '').replace('_', ' ')} {with_interval(value, 2, signed=True)}"
            for name, value in found.items()
        )
        told.append(f"{title}: {missed} of {len(table)} networks left out; with them, {numbers}.")
    return " ".join(told)


def _one_task(title: str, table: pd.DataFrame) -> str:
    """A task's part of `in_short`."""
    effects = family(table)
    gains = {pair: effect.value.mean for pair, effect in effects.items() if effect.outcome == "holds"}
    better = sorted(gains, key=lambda pair: settled(gains[pair]))
    told = (method + ("" if other == "SGD" else f" over {other}") for method, other in better)
    said = ", ".join(
        f"{name} ({number(100 * gains[pair], 1, signed=True)})" for name, pair in zip(told, better, strict=True)
    )
    going = [
        ACCOUNTS[name][0].split(":")[0] for name, effect in accounts_of(table).items() if effect.outcome == "holds"
    ]
    return (
        f"{title}: {said or 'no method'} improve{'' if len(better) > 1 else 's'} the hard feature over SGD (points; "
        f"{len(better)} of {len(effects)} comparisons, after correction); of flatness, rank and balance, its quality "
        f"over methods follows **{' and '.join(going) or 'none'}**"
        + (" (a limit set after the runs had been seen: this decides nothing)." if title == LIMIT_SET_AFTER else ".")
    )


SETTINGS = ("middle", "small", "large")
SHOWN = {
    "hard_probe_error": ("hard probe, %", 100, ".1f"),
    "easy_probe_error": ("easy probe, %", 100, ".2f"),
    "test_error": ("test, %", 100, ".2f"),
    "effective_rank": ("effective rank", 1, ".1f"),
    "sharpness": ("sharpness", 1, ".2g"),
    "gini_used": ("Gini of importance", 1, ".2f"),
}
