"""Curves over seeds: the mean with its 95 % interval as a band."""

import pandas as pd
from matplotlib.axes import Axes

from samlib.measures.statistics import estimate


def mean_curve(
    axes: Axes, table: pd.DataFrame, *, x: str, y: str, colour: object, label: str | None = None, line: str = "-"
) -> None:
    """Draw the mean of `y` over seeds against `x`, with the 95 % interval of the mean as a band.

    Args:
        axes: where to draw.
        table: one row per (x, seed).
        x, y: columns.
        colour: of line and band.
        label: for the legend.
        line: matplotlib's line style.
    Side effects:
        Adds a line and a band to the axes.
    """
    groups = [(value, rows[y].to_numpy(dtype=float)) for value, rows in table.groupby(x)]
    points = [(value, estimate(rows)) for value, rows in groups if (rows == rows).any()]
    positions = [value for value, _ in points]
    axes.plot(positions, [e.mean for _, e in points], line, marker="o", color=colour, label=label)
    if len(points) and points[0][1].n > 1:
        axes.fill_between(
            positions, [e.low for _, e in points], [e.high for _, e in points], color=colour, alpha=0.18, lw=0
        )


def seeds_word(table: pd.DataFrame) -> str:
    """Say how many seeds stand behind each point, such as "n = 20 seeds, bands: 95 % intervals".

    >>> seeds_word(pd.DataFrame({"seed": [0, 1]}))
    'n = 2 seeds, bands: 95 % intervals of the mean'
    """
    return f"n = {table.seed.nunique()} seeds, bands: 95 % intervals of the mean"
