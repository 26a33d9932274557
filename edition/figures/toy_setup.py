"""Figures of chapters 2 and 3: the data, the contours, errors and ratios against the radius."""

import dataclasses
import functools

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from edition.experiments.toy import SENSITIVITY
from edition.figures import style
from edition.figures.bands import mean_curve, seeds_word
from edition.records.kept import KeptNetworks, contribution_grid
from edition.runs.results import pick
from samlib.toy.config import ToyData
from samlib.toy.data import Examples, best_line_error, sample
from samlib.toy.network import FEATURES, Weights, feature_values

LABEL_COLOURS = {1.0: style.POSITIVE, -1.0: style.NEGATIVE}


def data_planes(sets: dict[str, Examples]) -> Figure:
    """Draw both planes of several data sets, one column each.

    Args:
        sets: title -> examples (one run's, no member axis).
    """
    figure, axes = plt.subplots(2, len(sets), figsize=(2.6 * len(sets), 5.2), squeeze=False)
    for column, (title, examples) in zip(axes.T, sets.items(), strict=True):
        for row, panel in enumerate(column):
            _scatter(panel, examples, row)
            panel.set(title=title if row == 0 else None, xlabel="coordinate 1")
        # A line has no height of its own; the same scale in both coordinates, and all examples in view.
        column[0].set_ylim(-(reach := max(1.1, 1.1 * float(examples.inputs[:, 1].abs().max()))), reach)
    for panel, name in zip(axes[:, 0], FEATURES, strict=True):
        panel.set_ylabel(f"{name} feature\ncoordinate 2")
    return figure


def contours(points: dict[str, tuple[Weights, Examples]]) -> Figure:
    """Figure 1: what each network's probes v_k phi_k say on the planes of the two features.

    Args:
        points: title -> (one member's weights, its test examples).
    """
    figure, axes = plt.subplots(2, len(points), figsize=(3.1 * len(points) + 0.6, 6.0), squeeze=False)
    for column, (title, (weights, examples)) in zip(axes.T, points.items(), strict=True):
        for feature, panel in enumerate(column):
            draw_contour(panel, weights, examples, feature)
        column[0].set_title(title)
    for panel, name in zip(axes[:, 0], FEATURES, strict=True):
        panel.set_ylabel(f"{name} feature")
    return figure


def draw_contour(axes: Axes, weights: Weights, examples: Examples, feature: int, *, n_points: int = 120) -> None:
    """Draw one probe: colour is the sign and size of v_k phi_k, the black line its zero, dots are test examples.

    Args:
        axes: where to draw; its limits and ticks are set.
        weights: one member.
        examples: test examples of the same run.
        feature: 0 for easy, 1 for hard.
        n_points: resolution of the grid a side.
    """
    part = examples.inputs[:, 2 * feature : 2 * feature + 2].float()
    radius = 1.15 * float(part.abs().max())
    values = contribution_grid(weights, feature, radius=radius, n_points=n_points).numpy()
    line = np.linspace(-radius, radius, n_points)
    scale = max(float(np.quantile(np.abs(values), 0.9)), 1e-6)
    levels = np.linspace(-1, 1, 12)  # flat colours: they survive a palette and read as heights of a map
    axes.contourf(line, line, np.tanh(values / scale), levels=levels, cmap=style.SIGNED, alpha=0.75, extend="both")
    if values.min() < 0 < values.max():
        axes.contour(line, line, values, levels=[0.0], colors="black", linewidths=1.2)
    _scatter(axes, Examples(examples.inputs[:300], examples.labels[:300]), feature)
    error = float((examples.labels.float() * _probe(weights, examples, feature) <= 0).float().mean())
    told, box = f"probing error {error:.1%}", {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(0.5, 0.02, told, transform=axes.transAxes, ha="center", va="bottom", fontsize=9, bbox=box)
    axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-radius, radius), ylim=(-radius, radius))
    axes.grid(False)


def line_errors(table: pd.DataFrame, n_seeds: int = 4) -> dict[float, float]:
    """Return the best straight line's mean error on the first seeds' test examples, by complexity."""
    names = [field.name for field in dataclasses.fields(ToyData) if field.name in table]  # older records have fewer
    found = {}
    for complexity, rows in table.groupby("complexity"):
        data = ToyData(**rows.iloc[0][names].to_dict())
        seeds = sorted(rows.seed.unique())[:n_seeds]
        found[float(str(complexity))] = float(np.mean([_line_error(data, int(seed)) for seed in seeds]))
    return found


@functools.cache
def _line_error(data: ToyData, seed: int) -> float:
    return best_line_error(sample(data, seed=seed, split="test"))


def error_against_radius(table: pd.DataFrame) -> Figure:
    """Figure 2(A): hard-feature error against rho, one curve a complexity, beside the best straight line's error."""
    lines = line_errors(table)
    figure, (hard, line) = plt.subplots(1, 2, figsize=(9.4, 4.3), sharey=True, width_ratios=(2.3, 1))
    for complexity, rows, colour in style.ordered(table.groupby("complexity")):
        mean_curve(hard, rows, x="rho", y="final_hard_error", colour=colour, label=f"{complexity:g}°")
        line.bar(f"{complexity:g}", lines[complexity], color=colour)
    hard.set(xlabel=r"perturbation radius $\rho$", ylabel="error", ylim=(-0.01, 0.52), title="Hard-feature probe")
    line.set(xlabel="complexity, degrees", title="Best straight line")
    line.tick_params(axis="x", labelsize=7, rotation=60)
    line.grid(False, axis="x")
    figure.supxlabel(seeds_word(table), fontsize=8.5, color=style.NEUTRAL)
    figure.legend(*hard.get_legend_handles_labels(), title="complexity", ncols=8, loc="outside upper center")
    return figure


def full_sam(table: pd.DataFrame) -> Figure:
    """SAM on all parameters: errors of the hard feature, the easy one and the label against rho; SGD is rho = 0."""
    figure, axes = plt.subplots(figsize=(6.6, 3.9))
    for column, colour, line, label in (
        ("hard_probe_error", style.HARD, "-", "hard feature's probe"),
        ("easy_probe_error", style.EASY, "-", "easy feature's probe"),
        ("test_error", style.NEUTRAL, "--", "label (test error)"),
    ):
        mean_curve(axes, table, x="rho", y=column, colour=colour, label=label, line=line)
    axes.set(xlabel=r"perturbation radius $\rho$ of all parameters", ylabel="error", ylim=(-0.01, None))
    axes.set_title(f"360°, {seeds_word(table)}", fontsize=9, fontweight="normal")
    axes.legend(fontsize=8.5)
    return figure


def ratios_against_radius(table: pd.DataFrame) -> Figure:
    """Figure 2(B): phantom (solid) and real (dashed) ratio v_hard / v_easy against rho, one panel a complexity."""
    groups = list(table.groupby("complexity"))
    columns = 4
    rows_of_panels = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows_of_panels, columns, figsize=(9.4, 2.5 * rows_of_panels), sharex=True, squeeze=False
    )
    for panel, (complexity, rows) in zip(axes.flat, groups, strict=False):
        mean_curve(
            panel, rows, x="rho", y="phantom_ratio", colour=style.PHANTOM, label=r"phantom $\tilde v_h/\tilde v_e$"
        )
        geometric = rows.assign(geometric=np.exp(rows.phantom_log_ratio.astype(float)))
        means = geometric.groupby("rho").geometric.mean()
        panel.plot(means.index, means, color=style.PHANTOM, ls=":", lw=1.2, label="its geometric mean")
        mean_curve(panel, rows, x="rho", y="real_ratio", colour=style.REAL, label="real $v_h/v_e$", line="--")
        panel.set_title(f"{complexity:g}°")
    for panel in axes.flat[len(groups) :]:
        panel.set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    figure.supxlabel(r"perturbation radius $\rho$", fontsize=10)
    figure.supylabel(f"mean ratio over training\n({seeds_word(table)})", fontsize=9)
    return figure


def condition_shares(table: pd.DataFrame) -> Figure:
    """How often the phantom ratio rises; the steps in which v~ changes sign, which are left out, are counted below."""
    figure, share = plt.subplots(figsize=(6.4, 4.4))
    moved = table[table.rho > 0]
    for complexity, rows, colour in style.ordered(moved.groupby("complexity")):
        mean_curve(share, rows, x="rho", y="raised_share", colour=colour, label=f"{complexity:g}°")
    share.set(xlabel=r"perturbation radius $\rho$", ylabel="share of steps", ylim=(0, 1.02))
    share.set_title("Steps in which the phantom ratio rises")
    figure.legend(
        *share.get_legend_handles_labels(), title="complexity", ncols=4, loc="outside upper center", fontsize=8
    )
    flips = moved[moved.flipped_steps > 0]
    where = f", all at $\\rho \\geq$ {flips.rho.min():g}" if len(flips) else ""
    told = f"{seeds_word(table)}; sign changes of a $\\tilde v_k$: {int(moved.flipped_steps.sum()):,} steps{where}"
    figure.supxlabel(told, fontsize=8, color=style.NEUTRAL)
    return figure


def sensitivity(table: pd.DataFrame) -> Figure:
    """Hard-feature probing error of SGD and two radii of LSAM as one constant at a time moves away from the base."""
    figure, grid = plt.subplots(2, 3, figsize=(9.4, 6.2), sharey=True)
    *axes, spare = grid.flat
    spare.set_visible(False)
    base = table.groupby("record").first()[list(SENSITIVITY)].mode().iloc[0]
    looks = (
        (0.0, style.SGD, "-", "SGD"),
        (0.3, style.SAM, ":", r"LSAM $\rho=0.3$"),
        (1.0, style.SAM, "-", r"LSAM $\rho=1$"),
    )
    titles = ("learning rate", "initial $v$", "hidden width", r"$\gamma_{easy}$", r"$\gamma_{hard}$")
    for panel, (name, values), title in zip(axes, SENSITIVITY.items(), titles, strict=True):
        others = {other: base[other] for other in SENSITIVITY if other != name}
        rows = pick(table, **others)
        for rho, colour, line, label in looks:
            part = pick(rows, rho=rho)
            mean_curve(panel, part, x=name, y="final_hard_error", colour=colour, label=label, line=line)
        panel.axvline(base[name], color=style.NEUTRAL, lw=0.8, ls=":")
        panel.set(xscale="log", xticks=values, xticklabels=[f"{value:g}" for value in values])
        panel.set_xlabel(title)
        panel.minorticks_off()
        panel.tick_params(axis="x", labelsize=8)
    for panel in grid[:, 0]:
        panel.set(ylabel="hard-feature probing error", ylim=(-0.01, 0.56))
    words = seeds_word(table).replace(", ", ",\n")  # no wider than the free place that the legend stands in
    figure.legend(*axes[0].get_legend_handles_labels(), title=words, loc="lower right", fontsize=9)
    return figure


def along_training(points: dict[str, list[KeptNetworks]], seed: int) -> Figure:
    """Contours of the hard feature at every checkpoint, one row a method."""
    n = max(len(checkpoints) for checkpoints in points.values())
    figure, axes = plt.subplots(len(points), n, figsize=(2.5 * n, 2.7 * len(points)), squeeze=False)
    for row, (title, checkpoints) in zip(axes, points.items(), strict=True):
        for panel, checkpoint in zip(row, checkpoints, strict=True):
            weights, examples = checkpoint.member(seed)
            draw_contour(panel, weights, examples, 1)
            panel.set_title(f"{title}, step {checkpoint.step:,}", fontsize=9)
    return figure


def _scatter(axes: Axes, examples: Examples, feature: int) -> None:
    """Draw the examples in one feature's plane, coloured by label."""
    x, y = examples.inputs[:, 2 * feature : 2 * feature + 2].T
    colours = [LABEL_COLOURS[label] for label in examples.labels.tolist()]  # as drawn: neither label hides the other
    axes.scatter(x, y, s=5, c=colours, edgecolor="none", alpha=0.9)


def _probe(weights: Weights, examples: Examples, feature: int) -> Tensor:
    """Evaluate v_k phi_k on the examples."""
    return weights.v[0, feature] * feature_values(weights, examples.inputs[None].to(weights.v))[0, feature]
