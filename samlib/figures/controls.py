"""Figures of chapter 7: every method against SGD, and which account the hard feature's quality follows."""

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import rankdata

from samlib.claims.controls import ACCOUNTS, against_sgd, follows
from samlib.figures import style
from samlib.figures.tables import body_rows, wide_table
from samlib.statistics import Estimate

AXES = {
    "sharpness": "sharpness (largest curvature), rank",
    "effective_rank": "effective rank, rank",
    "gini_used": "Gini of importance weights, rank",
}
MARKERS = ("o", "v", "^")  # of the settings: middle, smaller, larger


def methods_against_sgd(
    tables: Mapping[str, pd.DataFrame], *, metrics: Mapping[str, str] | None = None, scale: float = 100
) -> Figure:
    """Draw every method's difference from SGD with its 95 % interval over seeds, a panel a metric and task.

    Args:
        tables: title of the task -> what `samlib.claims.controls.control_table` returned.
        metrics: column -> title; the hard and the easy feature's probing error where it is None.
        scale: of the numbers: 100 for points.
    """
    metrics = metrics or {"hard_probe_error": "hard feature", "easy_probe_error": "easy feature"}
    names = list(dict.fromkeys(name for table in tables.values() for name in table.method))
    panels = [(title, table, metric) for title, table in tables.items() for metric in metrics]
    figure, axes = plt.subplots(1, len(panels), figsize=(9.4, 0.34 * len(names) + 1.5), sharey=True, squeeze=False)
    for panel, (title, table, metric) in zip(axes[0], panels, strict=True):
        colour = style.EASY if metric.startswith("easy") else style.HARD
        panel.axvline(0, color=style.SGD, lw=1.2)
        for (method, setting), value in against_sgd(table, metric).items():
            place = names.index(method) + 0.24 * (0, -1, 1)[setting]
            low, high = scale * (value.mean - value.low), scale * (value.high - value.mean)
            ends = [[low], [high]] if value.n > 1 else None
            look = {"mfc": "white"} if value.n == 1 else {}
            panel.errorbar(
                scale * value.mean, place, xerr=ends, fmt=MARKERS[setting], color=colour, ms=4, lw=1.1, **look
            )
        panel.set_title(f"{title}:\n{metrics[metric]}", fontsize=9.5)
        panel.set_xlabel("minus SGD's, points")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def quality_follows(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the rank of the hard feature's probing error over methods against those of sharpness, rank and balance.

    Args:
        tables: title of the task -> what `samlib.claims.controls.control_table` returned.
    """
    figure, axes = plt.subplots(
        len(tables), len(ACCOUNTS), figsize=(9.4, 3.0 * len(tables) + 0.3), squeeze=False, sharey="row"
    )
    for line, (title, table) in zip(axes, tables.items(), strict=True):
        means = table.groupby(["method", "setting"], sort=False)[["hard_probe_error", *ACCOUNTS]].mean().dropna()
        found = follows(table)
        for panel, account in zip(line, ACCOUNTS, strict=True):
            x, y = rankdata(means[account]), rankdata(means.hard_probe_error)
            colours = [_colour(str(method)) for method, _ in means.index]
            panel.scatter(x, y, c=colours, s=26, zorder=3)
            panel.set_xlabel(AXES[account])
            panel.set_title(f"{title}: {_told(found[account])}", fontsize=9.5)
        line[0].set_ylabel("hard feature's probing error, rank")
    figure.legend(
        handles=[
            plt.Line2D([], [], marker="o", ls="", color=colour, label=label)
            for label, colour in (("SGD", style.SGD), ("perturbed methods", style.SAM), ("others", style.NEUTRAL))
        ],
        loc="outside lower center",
        ncols=3,
    )
    return figure


def _colour(method: str) -> str:
    """SGD, the methods with a perturbation, and the others."""
    if method == "SGD":
        return style.SGD
    return style.NEUTRAL if method in ("Adam", "SGD with l2", "group DRO", "just train twice") else style.SAM


def _told(value: Estimate) -> str:
    """A correlation with its interval."""
    numbers = [f"{x:+.2f}".replace("-", "−") for x in (value.mean, value.low, value.high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def comparison_html(table: pd.DataFrame, shown: Mapping[str, tuple[str, float, str]]) -> str:
    """Return the means over seeds of every method at its middle setting as plain HTML.

    Args:
        table: what `samlib.claims.controls.comparison` returned.
        shown: column -> (heading, what a number is multiplied with, its format).
    """
    rows = [
        (row.method, *(format(scale * row[name], form) for name, (_, scale, form) in shown.items()))
        for _, row in table[table.setting == 0].iterrows()
    ]
    heads = ("method", *(heading for heading, _, _ in shown.values()))
    return wide_table(heads, body_rows(rows), "Methods, wide: scrolls")


SHOWN = {
    "hard_probe_error": ("hard probe, %", 100, ".1f"),
    "easy_probe_error": ("easy probe, %", 100, ".2f"),
    "test_error": ("test, %", 100, ".2f"),
    "effective_rank": ("effective rank", 1, ".1f"),
    "sharpness": ("sharpness", 1, ".3g"),
    "gini_used": ("Gini of importance", 1, ".3f"),
}
