"""Figures of chapter 4, of the toy and of photographs alike: Lorenz curves of importance weights, and their medians.

Each takes moments of one data set, as `edition.claims.moments` makes them, SGD's first.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.data_sets import DATA_SETS
from edition.claims.moments import Moment, by_method, ginis, last
from edition.figures import style
from samlib.measures.importance import Importance, binned_medians, lorenz
from samlib.measures.statistics import estimate, half_width, number

WEIGHTS = (("real", style.REAL, "--", r"real $\lambda$"), ("phantom", style.PHANTOM, "-", r"phantom $\tilde\lambda$"))
N_BINS = 12  # equally wide, between the 1st and the 99th percentile of contributions
AT_LEAST = 10  # examples a bin needs to be drawn
INTERVALS, POOLED = "bands: 95 % intervals of the mean over seeds", "examples pooled over seeds"


def lorenz_pair(moments: Sequence[Moment]) -> Figure:
    """Figure 3: Lorenz curves of the weights at the end of training, a panel a method."""
    ends = last(moments)
    side = 4.1
    figure, axes = plt.subplots(
        1, len(ends), figsize=(side * len(ends), side + 0.6 * _told(moments)), sharey=True, squeeze=False
    )
    for panel, moment in zip(axes[0], ends, strict=True):
        draw_lorenz(panel, moment.importance)
        panel.set_title(f"{moment.method}-trained networks")
    axes[0, 0].set_ylabel("share of total importance")
    return _say(figure, moments, INTERVALS)


def lorenz_grid(moments: Sequence[Moment]) -> Figure:
    """Figure 7: the same at every moment, a row a method."""

    def draw(panel: Axes, moment: Moment) -> None:
        draw_lorenz(panel, moment.importance)
        if _told(moments):
            panel.set_xlabel("share of examples")

    return _say(_grid(moments, draw, "share of total importance"), moments, INTERVALS)


def medians_pair(moments: Sequence[Moment]) -> Figure:
    """Figure 5: median weight by signed contribution at the end of training, a row a method, a column a feature."""
    ends = last(moments)
    figure, axes = plt.subplots(len(ends), 2, figsize=(8.2, 3.1 * len(ends) + 0.2 * _told(moments)), squeeze=False)
    for row, moment in zip(axes, ends, strict=True):
        for feature, panel in enumerate(row):
            draw_medians(panel, moment, feature)
            named = f" ({moment.features[feature]})" if _told(moments) else ""
            role = ("easy", "hard")[feature]
            panel.set_title(f"{moment.method}-trained, by the {role} feature's fit{named}", fontsize=9.5)
        row[0].set_ylabel("median weight")
    axes[0, 0].legend(fontsize=8)
    return _say(figure, moments, POOLED)


def medians_grid(moments: Sequence[Moment], feature: int) -> Figure:
    """Figure 8: the same for one feature (0 easy, 1 hard) at every moment, a row a method."""
    figure = _grid(moments, lambda panel, moment: draw_medians(panel, moment, feature), "median weight")
    figure.axes[0].legend(fontsize=8)
    return _say(figure, moments, POOLED)


def gini_map(changes: Mapping[str, pd.DataFrame]) -> Figure:
    """Map the mean change of the Gini coefficient at the phantom: a row a reading, a column an epoch and radius.

    Args:
        changes: title of the networks -> what `edition.claims.moments.reading_changes` returned, of one method.
    """
    figure, axes = plt.subplots(len(changes), figsize=(9.8, 2.5 * len(changes) + 0.3), squeeze=False, sharex=True)
    largest = max(abs(table.groupby(["reading", "rho", "epoch"]).change.mean()).max() for table in changes.values())
    for panel, (title, table) in zip(axes[:, 0], changes.items(), strict=True):
        means = table.pivot_table(index="reading", columns=["epoch", "rho"], values="change", sort=False)
        means = means.sort_index(axis=1)
        panel.imshow(means, cmap=style.MOVED, vmin=-largest, vmax=largest, aspect="auto")
        for (row, column), value in np.ndenumerate(means.to_numpy()):
            told, colour = number(value, 2, signed=True), "white" if abs(value) > 0.6 * largest else "black"
            panel.text(column, row, told, ha="center", va="center", fontsize=6.5, color=colour)
        panel.set_yticks(range(len(means)), means.index, fontsize=8)
        panel.set_xticks(range(means.shape[1]), [f"{rho:g}" for _, rho in means.columns], fontsize=7)
        epochs = [epoch for epoch, _ in means.columns]
        for epoch in dict.fromkeys(epochs):
            middle = epochs.index(epoch) + (epochs.count(epoch) - 1) / 2
            panel.text(middle, -0.62, f"epoch {epoch}", ha="center", va="bottom", fontsize=8)
            panel.axvline(epochs.index(epoch) - 0.5, color="white", lw=2)
        panel.set_title(f"{title} (n = {table.seed.nunique()})", fontsize=9.5, pad=16)
        panel.grid(visible=False)
    axes[-1, 0].set_xlabel(
        r"radius $\rho$ of the phantom; numbers: Gini coefficient, phantom minus real, mean over n seeds"
    )
    return figure


def ginis_at_the_end(moments: Sequence[Moment]) -> str:
    """Say the mean Gini coefficients of real and phantom weights at the end of training (Markdown)."""
    told = []
    for moment in last(moments):
        real, phantom = (ginis(moment.importance, which).mean() for which in ("real", "phantom"))
        n = f"n = {len(moment.seeds)}"
        told.append(f"**{real:.3f}** with real and **{phantom:.3f}** with phantom weights for {moment.method} ({n})")
    return f"{_title(moments)}: Gini coefficient {'; '.join(told)}."


def draw_lorenz(axes: Axes, importance: Importance) -> None:
    """Draw mean Lorenz curves of real and phantom weights with their 95 % intervals, and mean Gini coefficients.

    As the paper orders them: the share of all importance that the most important examples hold. `lorenz` counts from
    the least important one; both curves are one, turned by half a turn.
    """
    share = np.linspace(0, 1, importance.real.shape[1] + 1)
    axes.plot([0, 1], [0, 1], color=style.NEUTRAL, lw=0.8, ls=":")
    for which, colour, line, label in WEIGHTS:
        curves = np.array([1 - lorenz(values)[::-1] for values in getattr(importance, which)])
        index = estimate(ginis(importance, which))
        axes.plot(share, curves.mean(0), color=colour, ls=line, label=f"{label}, Gini {index.mean:.2f}")
        if len(curves) > 1:
            half = half_width(curves)
            axes.fill_between(share, curves.mean(0) - half, curves.mean(0) + half, color=colour, alpha=0.15, lw=0)
    axes.set(xlabel="share of examples, most important first", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="lower right", fontsize=8)


def draw_medians(axes: Axes, moment: Moment, feature: int) -> None:
    """Draw median importance weights in bins of one feature's signed contribution, pooled over members.

    Weights are raw, as in the paper. Late in training nearly all of the phantom's are larger, since most examples of a
    batch then pull the same way; who gains relative to the others is told by the other statistics of the claims.

    Args:
        feature: 0 for easy, 1 for hard.
    """
    position = moment.importance.contributions[:, feature].ravel()
    low, high = np.quantile(position, (0.01, 0.99))
    edges = np.linspace(low, high, N_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    for which, colour, line, label in WEIGHTS:
        weights = getattr(moment.importance, which)
        medians, counts = binned_medians(position, weights.ravel(), edges)
        shown = (counts >= AT_LEAST) & (medians > 0)  # recorded in half precision, the smallest weights are 0
        axes.plot(centres[shown], medians[shown], color=colour, ls=line, marker="o", label=label)
    if any(np.size(line.get_xdata()) for line in axes.get_lines()):
        axes.set_yscale("log")
    else:
        told = f"no bin with {AT_LEAST} examples"
        axes.text(0.02, 0.98, told, transform=axes.transAxes, va="top", ha="left", fontsize=8.5, color=style.NEUTRAL)
    axes.axvline(0, color=style.NEUTRAL, lw=0.8, ls=":")
    name = moment.features[feature]
    of_toy = rf"signed contribution $y\,v_{{{name}}}\,\phi_{{{name}}}$"
    axes.set_xlabel(f"signed contribution, {name} probe" if _told([moment]) else of_toy)


def _grid(moments: Sequence[Moment], draw: Callable[[Axes, Moment], None], label: str) -> Figure:
    """One panel a method (row) and moment of the training (column)."""
    rows = by_method(moments)
    n = max(len(row) for row in rows)
    figure, axes = plt.subplots(len(rows), n, figsize=(2.7 * n, 2.9 * len(rows)), squeeze=False)
    for panels, row in zip(axes, rows, strict=True):
        for panel, moment in zip(panels, row, strict=True):
            draw(panel, moment)
            panel.set_title(f"{moment.method}-trained, {moment.unit} {moment.when:,}", fontsize=9)
            panel.xaxis.label.set_size(8)
        panels[0].set_ylabel(label)
    return figure


def _told(moments: Sequence[Moment]) -> bool:
    """Whether a figure says what it shows: the toy's radius and seeds are the chapter's, photographs have their own."""
    return moments[0].data != "toy"


def _say(figure: Figure, moments: Sequence[Moment], words: str) -> Figure:
    """Write image set, radius, number of seeds and what is shown of them under a figure of photographs."""
    if _told(moments):
        counts = sorted({len(part[0].seeds) for part in by_method(moments)})
        seeds = " and ".join(map(str, counts)) + (" seed" if counts == [1] else " seeds")
        told = rf"{_title(moments)}, phantom at $\rho = {moments[0].rho:g}$, {moments[0].reading}, {seeds}; {words}"
        figure.supxlabel(told, fontsize=8.5, color=style.NEUTRAL)
    return figure


def _title(moments: Sequence[Moment]) -> str:
    """The data set's name as the paper spells it."""
    data = moments[0].data
    return next((title for title, names in DATA_SETS.items() if names.experiment == data), data)
