"""Means over seeds with their 95 % intervals: as curves with bands, and as points with bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samlib.measures.statistics import Estimate, estimate


def mean_curve(
    axes: Axes, table: pd.DataFrame, *, x: str, y: str, colour: object, label: str | None = None, line: str = "-"
) -> None:
    """Draw the mean of `y` over seeds against `x`, with the 95 % interval of the mean as a band.

    Args:
        table: one row per (x, seed).
    Raises:
        ValueError: several rows of one seed at one x: they would count as seeds.
    """
    if table.duplicated([x, "seed"]).any():
        raise ValueError(f"table: expected one row per ({x}, seed), got several; pick one of what else the rows vary")
    groups = [(value, rows[y].to_numpy(dtype=float)) for value, rows in table.groupby(x)]
    points = {value: estimate(rows) for value, rows in groups if (rows == rows).any()}
    band(axes, points, colour=colour, label=label, ls=line)


def band(
    axes: Axes, points: Mapping[Any, Estimate], *, colour: object, scale: float = 1.0, marker: str = "o", **look: Any
) -> None:
    """Draw means as a line and their 95 % intervals, where there are any, as a band.

    Args:
        points: position -> estimate.
        scale: of the numbers: 100 for points.
        look: what `plot` takes.
    """
    mean, low, high = ([scale * getattr(e, end) for e in points.values()] for end in ("mean", "low", "high"))
    axes.plot(list(points), mean, marker=marker, color=colour, **look)
    if points and next(iter(points.values())).n > 1:
        axes.fill_between(list(points), low, high, color=colour, alpha=0.18, lw=0)


def mean_point(
    axes: Axes, place: float, value: Estimate, *, scale: float = 1.0, along: str = "y", marker: str = "o", **look: Any
) -> None:
    """Draw a mean with its 95 % interval; without an interval, where one seed gives none, the marker is open.

    Args:
        place: on the axis that shows no value.
        scale: of the numbers: 100 for points.
        along: the axis that shows the value, "x" or "y".
        look: what `errorbar` takes.
    """
    ends = [[scale * (value.mean - value.low)], [scale * (value.high - value.mean)]] if value.n > 1 else None
    x, y = (scale * value.mean, place) if along == "x" else (place, scale * value.mean)
    axes.errorbar(x, y, fmt=marker, **look, **({f"{along}err": ends} if ends else {"mfc": "white"}))


def legend_below(figure: Figure, panels: Sequence[Axes], *, n_columns: int | None = None, **look: Any) -> None:
    """Put one legend below the figure that holds each label of its panels once, in one line unless told otherwise."""
    found: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=n_columns or len(found), **look)


def seeds_word(table: pd.DataFrame, drawn: str = "bands") -> str:
    """Say how many seeds stand behind each point, such as "n = 20 seeds, bands: 95 % intervals".

    >>> seeds_word(pd.DataFrame({"seed": [0, 1]}))
    'n = 2 seeds, bands: 95 % intervals of the mean'
    """
    return f"n = {table.seed.nunique()} seeds, {drawn}: 95 % intervals of the mean"
