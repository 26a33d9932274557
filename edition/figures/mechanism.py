"""Figures of chapters 4 and 5: importance weights, learning rates, interventions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.experiments.toy import REFERENCE_COMPLEXITY, REFERENCE_RHO
from edition.figures import style
from edition.figures.bands import mean_curve, seeds_word
from edition.records.kept import Checkpoint
from edition.runs.results import pick
from samlib.measures.importance import Importance, binned_medians, gini, lorenz
from samlib.measures.statistics import estimate
from samlib.toy.network import FEATURES

WEIGHTS = (("real", style.SGD, "--", r"real $\lambda$"), ("phantom", style.SAM, "-", r"phantom $\tilde\lambda$"))
TERM_TITLES = {"importance": "importance weights only", "rate": "learning rates only", "both": "both"}


def lorenz_pair(sgd: Checkpoint, lsam: Checkpoint, *, rho: float = REFERENCE_RHO) -> Figure:
    """Figure 3 (left): Lorenz curves of importance weights at SGD's and at LSAM's parameters."""
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 4.1), sharey=True)
    for panel, point in zip(axes, (sgd, lsam), strict=True):
        draw_lorenz(panel, point.importance(rho))
        panel.set_title(f"{point.method}-trained networks")
    axes[0].set_ylabel("share of total importance")
    return figure


def lorenz_grid(points: Sequence[Sequence[Checkpoint]], *, rho: float = REFERENCE_RHO) -> Figure:
    """Figure 7 (toy row): the same at every checkpoint, one row a method."""
    return grid(points, lambda panel, point: draw_lorenz(panel, point.importance(rho)), "share of total importance")


def draw_lorenz(axes: Axes, importance: Importance) -> None:
    """Draw mean Lorenz curves of the real and phantom weights over members, with their mean Gini coefficients."""
    n = importance.real.shape[1]
    share = np.linspace(0, 1, n + 1)
    axes.plot([0, 1], [0, 1], color=style.NEUTRAL, lw=0.8, ls=":")
    for which, colour, line, label in WEIGHTS:
        curves = np.array([lorenz(values) for values in getattr(importance, which)])
        index = estimate([gini(values) for values in getattr(importance, which)])
        axes.plot(share, curves.mean(0), color=colour, ls=line, label=f"{label}, Gini {index.mean:.2f}")
        axes.fill_between(share, curves.min(0), curves.max(0), color=colour, alpha=0.12, lw=0)
    axes.set(xlabel="share of examples, least important first", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left", fontsize=8)


def medians_pair(points: Sequence[Checkpoint], *, rho: float = REFERENCE_RHO) -> Figure:
    """Figure 5 (left): median importance weight by signed contribution, one row a method, one column a feature."""
    figure, axes = plt.subplots(len(points), 2, figsize=(8.2, 3.1 * len(points)), squeeze=False)
    for row, point in zip(axes, points, strict=True):
        importance = point.importance(rho)
        for feature, panel in enumerate(row):
            draw_medians(panel, importance, feature)
            panel.set_title(f"{point.method}-trained, by the {FEATURES[feature]} feature's fit", fontsize=9.5)
        row[0].set_ylabel("median weight / mean weight")
    axes[0, 0].legend(fontsize=8)
    return figure


def medians_grid(points: Sequence[Sequence[Checkpoint]], feature: int, *, rho: float = REFERENCE_RHO) -> Figure:
    """Figure 8 (toy row): the same for one feature at every checkpoint, one row a method."""
    return grid(
        points, lambda panel, point: draw_medians(panel, point.importance(rho), feature), "median / mean weight"
    )


def draw_medians(axes: Axes, importance: Importance, feature: int, *, n_bins: int = 12, at_least: int = 10) -> None:
    """Draw median importance weights in bins of one feature's signed contribution, pooled over members.

    Weights are divided by their member's mean: late in training nearly all of the phantom's are larger, since the
    ascent step raises the batch's loss, and only their distribution over the examples says who gains.

    Args:
        axes: where to draw.
        importance: weights and contributions of m members.
        feature: 0 for easy, 1 for hard.
        n_bins: equally wide bins between the 1st and the 99th percentile of contributions.
        at_least: examples a bin needs to be drawn.
    """
    position = importance.contributions[:, feature].ravel()
    low, high = np.quantile(position, (0.01, 0.99))
    edges = np.linspace(low, high, n_bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    for which, colour, line, label in WEIGHTS:
        weights = getattr(importance, which)
        medians, counts = binned_medians(position, (weights / weights.mean(1, keepdims=True)).ravel(), edges)
        shown = counts >= at_least
        axes.plot(centres[shown], medians[shown], color=colour, ls=line, marker="o", label=label)
    if any((np.asarray(line.get_ydata()) > 0).any() for line in axes.get_lines()):
        axes.set_yscale("log")
    else:
        style.note(axes, f"no bin with {at_least} examples")
    axes.axvline(0, color=style.NEUTRAL, lw=0.8, ls=":")
    name = FEATURES[feature]
    axes.set_xlabel(rf"signed contribution $y\,v_{{{name}}}\,\phi_{{{name}}}$")


def rates_against_radius(table: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Figure 4: v~_k / v_k of both features against rho, and along the training at the reference radius."""
    figure, (radius, training) = plt.subplots(1, 2, figsize=(9.0, 3.8), sharey=True)
    rows = pick(table, complexity=REFERENCE_COMPLEXITY)
    looks = (("easy_rate", style.EASY, "easy"), ("hard_rate", style.HARD, "hard"))
    for column, colour, name in looks:
        mean_curve(radius, rows, x="rho", y=column, colour=colour, label=f"{name} feature")
        mean_curve(training, pick(curves, rho=REFERENCE_RHO), x="step", y=column, colour=colour)
    for panel in (radius, training):
        panel.axhline(1.0, color=style.NEUTRAL, lw=0.8, ls=":")
    radius.set(xlabel=r"perturbation radius $\rho$", ylabel=r"learning-rate factor $\tilde v_k / v_k$")
    radius.set_title(f"mean over training, {REFERENCE_COMPLEXITY:g}°")
    radius.legend(fontsize=8)
    training.set(xlabel="step", xscale="log", title=rf"along the training, $\rho = {REFERENCE_RHO:g}$")
    figure.supxlabel(
        f"left {rows.seed.nunique()}, right {curves.seed.nunique()} seeds; bands: 95 % intervals of the mean",
        fontsize=8.5,
        color=style.NEUTRAL,
    )
    return figure


def interventions(table: pd.DataFrame, complexity: pd.DataFrame) -> Figure:
    """Figure 6: hard-feature probing error against the ratio, fixed (interventions) or mean (LSAM), three panels."""
    figure, axes = plt.subplots(1, 3, figsize=(9.8, 3.6), sharey=True)
    rows = pick(table, norm="initial", last_layer="plain")
    for panel, (term, title) in zip(axes, TERM_TITLES.items(), strict=True):
        draw_intervention(panel, pick(rows, term=term), complexity, label="fixed ratio $c$")
        panel.set(title=title, xlabel=r"ratio $v_{hard}/v_{easy}$ in the term")
    axes[0].set_ylabel("hard-feature probing error")
    axes[0].legend(fontsize=8)
    figure.supxlabel(seeds_word(rows), fontsize=8.5, color=style.NEUTRAL)
    return figure


def intervention_controls(table: pd.DataFrame) -> Figure:
    """Figure 6 again under the two choices that our copy of the paper lost: the length of v-hat, and v's gradient."""
    figure, axes = plt.subplots(1, 3, figsize=(9.8, 3.6), sharey=True)
    variants = (
        ({"norm": "initial", "last_layer": "plain"}, style.EASY, "constant length"),
        ({"norm": "matched", "last_layer": "plain"}, style.HARD, "length of the current $v$"),
        ({"norm": "initial", "last_layer": "weighted"}, style.NEUTRAL, "re-weighted gradient of $v$"),
    )
    for panel, (term, title) in zip(axes, TERM_TITLES.items(), strict=True):
        for variant, colour, label in variants:
            rows = pick(table, term=term, **variant)
            if len(rows):
                mean_curve(panel, rows, x="ratio", y="final_hard_error", colour=colour, label=label)
        panel.set(title=title, xlabel="fixed ratio $c$", xscale="log")
        _plain_ticks(panel)
    axes[0].set_ylabel("hard-feature probing error")
    axes[2].legend(fontsize=8)
    figure.supxlabel(seeds_word(table), fontsize=8.5, color=style.NEUTRAL)
    return figure


def phantom_terms(table: pd.DataFrame, complexity: pd.DataFrame) -> Figure:
    """Beyond Figure 6: error against rho with LSAM's own phantom in one factor of the gradient, or in both (LSAM)."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    looks = (("importance", style.EASY, "-"), ("rate", style.HARD, "-"), ("both", style.SAM, "--"))
    for term, colour, line in looks:
        label = "both: LSAM" if term == "both" else TERM_TITLES[term]
        mean_curve(axes, pick(table, term=term), x="rho", y="final_hard_error", colour=colour, label=label, line=line)
    _draw_sgd(axes, complexity)
    axes.set(xlabel=r"perturbation radius $\rho$", ylabel="hard-feature probing error", ylim=(0, None))
    axes.legend(fontsize=8.5)
    axes.set_title(f"phantom in one factor ({seeds_word(table)})", fontsize=9, fontweight="normal")
    return figure


def _draw_sgd(axes: Axes, complexity: pd.DataFrame) -> None:
    """Draw SGD's error at 360 degrees as a dashed line with its interval."""
    sgd = estimate(pick(complexity, complexity=REFERENCE_COMPLEXITY, rho=0.0).final_hard_error)
    axes.axhline(sgd.mean, color=style.SGD, ls="--", lw=1.2, label="SGD")
    axes.axhspan(sgd.low, sgd.high, color=style.SGD, alpha=0.1, lw=0)


def draw_intervention(axes: Axes, rows: pd.DataFrame, complexity: pd.DataFrame, *, label: str) -> None:
    """Draw one intervention's curve with LSAM's points (error against mean phantom ratio) and SGD's level."""
    mean_curve(axes, rows, x="ratio", y="final_hard_error", colour=style.EASY, label=label)
    lsam = complexity[complexity.complexity == REFERENCE_COMPLEXITY]
    for index, (_, part) in enumerate(lsam.groupby("rho")):
        ratio, error = estimate(part.phantom_ratio.to_numpy(dtype=float)), estimate(part.final_hard_error)
        axes.errorbar(
            ratio.mean,
            error.mean,
            yerr=[[error.mean - error.low], [error.high - error.mean]],
            fmt="s",
            color=style.SAM,
            label=r"LSAM, one point a $\rho$ (leftmost: SGD)" if index == 0 else None,
            markersize=4.5,
            elinewidth=1,
        )
    _draw_sgd(axes, complexity)
    axes.set_xscale("log")
    _plain_ticks(axes)


def _plain_ticks(axes: Axes) -> None:
    """Label a logarithmic ratio axis with plain numbers."""
    axes.set_xticks([0.25, 0.5, 1, 2, 3], labels=["0.25", "0.5", "1", "2", "3"])
    axes.minorticks_off()


def grid(
    points: Sequence[Sequence[Any]], draw: Callable[[Axes, Any], None], label: str, *, moment: str = "step"
) -> Figure:
    """Draw one panel per method (row) and moment of the training (column).

    Args:
        points: by row; each with a `method` and an attribute of the name `moment`.
        draw: draws one point.
        label: of the vertical axes.
        moment: what the columns count, "step" or "epoch".
    """
    n = max(len(row) for row in points)
    figure, axes = plt.subplots(len(points), n, figsize=(2.7 * n, 2.9 * len(points)), squeeze=False)
    for row, moments in zip(axes, points, strict=True):
        for panel, point in zip(row, moments, strict=True):
            draw(panel, point)
            panel.set_title(f"{point.method}-trained, {moment} {getattr(point, moment):,}", fontsize=9)
            panel.xaxis.label.set_size(8)
        row[0].set_ylabel(label)
    return figure
