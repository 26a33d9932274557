"""Figures of chapters 4 and 5: learning rates and interventions."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.section_6_2_interventions import gains_elsewhere
from edition.experiments.toy import REFERENCE_COMPLEXITY, REFERENCE_RHO
from edition.figures import style
from edition.figures.bands import mean_curve, mean_point, seeds_word
from edition.runs.results import pick
from samlib.measures.statistics import estimate

TERM_TITLES = {"importance": "importance weights only", "rate": "learning rates only", "both": "both"}


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
    n = f"{rows.seed.nunique()} seeds, along the training {curves.seed.nunique()}"
    figure.supxlabel(f"{n}; bands: 95 % intervals of the mean", fontsize=8.5, color=style.NEUTRAL)
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
        ({"norm": "initial", "last_layer": "plain"}, style.DARK, "-", "constant length"),
        ({"norm": "matched", "last_layer": "plain"}, style.NEUTRAL, "--", "length of the current $v$"),
        ({"norm": "initial", "last_layer": "weighted"}, style.NEUTRAL, ":", "re-weighted gradient of $v$"),
    )
    for panel, (term, title) in zip(axes, TERM_TITLES.items(), strict=True):
        for variant, colour, line, label in variants:
            rows = pick(table, term=term, **variant)
            if len(rows):
                mean_curve(panel, rows, x="ratio", y="final_hard_error", colour=colour, label=label, line=line)
        panel.set(title=title, xlabel="fixed ratio $c$", xscale="log")
        _plain_ticks(panel)
    axes[0].set_ylabel("hard-feature probing error")
    axes[2].legend(fontsize=8)
    figure.supxlabel(seeds_word(table), fontsize=8.5, color=style.NEUTRAL)
    return figure


def phantom_terms(table: pd.DataFrame, complexity: pd.DataFrame) -> Figure:
    """Beyond Figure 6: error against rho with LSAM's own phantom in one factor of the gradient, or in both (LSAM)."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    looks = (("importance", style.IMPORTANCE, "-"), ("rate", style.RATE, "-"), ("both", style.SAM, "--"))
    for term, colour, line in looks:
        label = "both: LSAM" if term == "both" else TERM_TITLES[term]
        mean_curve(axes, pick(table, term=term), x="rho", y="final_hard_error", colour=colour, label=label, line=line)
    _draw_sgd(axes, complexity)
    axes.set(xlabel=r"perturbation radius $\rho$", ylabel="hard-feature probing error", ylim=(0, None))
    axes.legend(fontsize=8.5)
    axes.set_title(f"phantom in one factor ({seeds_word(table)})", fontsize=9, fontweight="normal")
    return figure


STAND_INS = {
    "phantom": "its own batch",
    "permuted": "another batch",
    "mean": "running mean",
    "helps": "own, where the\nhard feature helps",
    "hurts": "own, where the\nhard feature hurts",
}


def mechanism(table: pd.DataFrame, complexity: pd.DataFrame) -> Figure:
    """Beyond Figure 6: error with LSAM's phantom or a stand-in for it, in one factor of the gradient or in both."""
    figure, axes = plt.subplots(figsize=(8.0, 3.8))
    looks = (("importance", style.IMPORTANCE, "o"), ("rate", style.RATE, "s"), ("both", style.SAM, "D"))
    for shift, (term, colour, marker) in zip((-0.15, 0.0, 0.15), looks, strict=True):
        for place, vector in enumerate(STAND_INS):
            value = estimate(pick(table, term=term, vector=vector).final_hard_error)
            label = TERM_TITLES[term] if place == 0 else None
            mean_point(axes, place + shift, value, marker=marker, color=colour, label=label)
    _draw_sgd(axes, complexity)
    axes.set_xticks(range(len(STAND_INS)), labels=list(STAND_INS.values()), fontsize=8.5)
    axes.set(ylabel="hard-feature probing error", ylim=(0, None))
    told = rf"whose phantom, $\rho = {REFERENCE_RHO:g}$ ({seeds_word(table, 'bars and band')})"
    axes.set_title(told, fontsize=9, fontweight="normal")
    axes.legend(fontsize=8.5)
    return figure


def mechanism_elsewhere(table: pd.DataFrame) -> Figure:
    """The same in other settings of the toy: error minus SGD's, a grey line a setting, and its mean over settings."""
    gains = gains_elsewhere(table)
    figure, axes = plt.subplots(1, 3, figsize=(9.8, 3.8), sharey=True)
    names = [label.replace("\n", " ") for label in STAND_INS.values()]
    for panel, (term, title) in zip(axes, TERM_TITLES.items(), strict=True):
        rows = gains[term].reindex(columns=list(STAND_INS))
        panel.plot(range(len(STAND_INS)), rows.T.to_numpy(), color=style.NEUTRAL, lw=0.8, marker=".", alpha=0.6)
        for place, vector in enumerate(STAND_INS):
            if rows[vector].notna().any():
                mean_point(panel, place, estimate(rows[vector]), marker="D", color=style.SAM)
        panel.axhline(0.0, color=style.SGD, lw=1.2, ls="--")
        panel.set_title(title)
        panel.set_xticks(range(len(STAND_INS)), labels=names, rotation=35, ha="right", fontsize=8.5)
    axes[0].set_ylabel("hard-feature probing error\nminus SGD's")
    told = f"grey: {len(gains)} settings; orange: their mean with its 95 % interval; dashed: SGD"
    figure.supxlabel(told, fontsize=8.5, color=style.NEUTRAL)
    return figure


def _draw_sgd(axes: Axes, complexity: pd.DataFrame) -> None:
    """Draw SGD's error at 360 degrees as a dashed line with its interval."""
    rows = pick(complexity, complexity=REFERENCE_COMPLEXITY, rho=0.0)
    if rows.empty:  # a reader's lists may lack that complexity, or SGD
        return
    sgd = estimate(rows.final_hard_error)
    axes.axhline(sgd.mean, color=style.SGD, ls="--", lw=1.2, label="SGD")
    axes.axhspan(sgd.low, sgd.high, color=style.SGD, alpha=0.1, lw=0)


def draw_intervention(axes: Axes, rows: pd.DataFrame, complexity: pd.DataFrame, *, label: str) -> None:
    """Draw one intervention's curve with LSAM's points (error against mean phantom ratio) and SGD's level."""
    mean_curve(axes, rows, x="ratio", y="final_hard_error", colour=style.DARK, label=label)
    lsam = complexity[complexity.complexity == REFERENCE_COMPLEXITY]
    for index, (_, part) in enumerate(lsam.groupby("rho")):
        ratio, error = estimate(part.phantom_ratio.to_numpy(dtype=float)), estimate(part.final_hard_error)
        named = r"LSAM, one point a $\rho$ (leftmost: SGD)" if index == 0 else None
        mean_point(axes, ratio.mean, error, marker="s", color=style.SAM, label=named, ms=4.5, elinewidth=1)
    _draw_sgd(axes, complexity)
    axes.set_xscale("log")
    _plain_ticks(axes)


def _plain_ticks(axes: Axes) -> None:
    axes.set_xticks([0.25, 0.5, 1, 2, 3], labels=["0.25", "0.5", "1", "2", "3"])
    axes.minorticks_off()
