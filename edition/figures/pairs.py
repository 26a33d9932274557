"""Figures and tables of chapter 1: the two-feature images, and probing errors of SGD and SAM over seeds.

A `table` is what `edition.claims.pairs.pair_table` returned.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.pairs import difference
from edition.claims.table_one import in_points
from edition.figures import style
from edition.figures.bands import mean_point
from edition.figures.tables import spread
from samlib.images.splits import PairImages
from samlib.measures.statistics import estimate

COLOURS = {"SGD": style.SGD, "SAM": style.SAM}
ERRORS = {"easy_probe_error": "Easy ft. probe", "hard_probe_error": "Hard ft. probe", "test_error": "Test"}
WORST = {
    "easy_probe_worst_group_error": "Easy ft. probe, worst group",
    "hard_probe_worst_group_error": "Hard ft. probe, worst group",
}
N_IMAGES = 4  # a panel of samples, at most
RELIANCE = {"easy_head_error": "Own answer vs easy label", "hard_head_error": "Own answer vs hard label"}


def sample_images(sets: dict[str, PairImages], features: tuple[str, str]) -> Figure:
    """Show a few images of every combination of the first two classes, one row a set.

    Args:
        sets: title -> composed images with both labels; the title names its row.
        features: names of the label columns, upper tile first.
    """
    combinations = list(itertools.product(range(2), range(2)))
    figure, axes = plt.subplots(len(sets), 4, figsize=(9.4, 1.55 * len(sets) + 0.2), squeeze=False)
    for row, (title, data) in zip(axes, sets.items(), strict=True):
        for panel, labels in zip(row, combinations, strict=True):
            _draw_montage(panel, data, labels)
            style.bare(panel)
        row[0].set_ylabel(title)
    for panel, (upper, lower) in zip(axes[0], combinations, strict=True):
        panel.set_title(f"{features[0]} {upper}, {features[1]} {lower}", fontsize=9.5)
    return figure


def probe_bars(table: pd.DataFrame) -> Figure:
    """Draw one run's probing errors of both features, SGD beside SAM.

    Args:
        table: what `edition.claims.pairs.pair_table` returned, one seed.
    """
    figure, axes = plt.subplots(figsize=(5.4, 3.2))
    names = ["easy_probe_error", "hard_probe_error"]
    for shift, (method, rows) in zip((-0.2, 0.2), table.groupby("method", sort=False), strict=True):
        heights = 100 * rows[names].iloc[0].to_numpy(dtype=float)
        bars = axes.bar(np.arange(2) + shift, heights, 0.36, color=COLOURS[method], label=method)
        axes.bar_label(bars, fmt="%.1f %%", fontsize=9, padding=2)
    first = table.iloc[0]
    axes.set_xticks(range(2), [f"easy feature\n({first.easy})", f"hard feature\n({first.hard})"])
    axes.set(ylabel="probing error, %")
    axes.margins(y=0.15)
    axes.grid(False, axis="x")
    axes.legend()
    return figure


def paired_errors(table: pd.DataFrame, metrics: dict[str, str]) -> Figure:
    """Draw errors of SGD and SAM: a thin line a seed, and the mean of each with its 95 % interval.

    Args:
        metrics: column -> title, one panel each, with its own scale.
    """
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.1 * len(metrics), 3.5), squeeze=False)
    for panel, (name, title) in zip(axes[0], metrics.items(), strict=True):
        role = title.split()[0].lower()
        feature = f"\n({table[role].iloc[0]})" if role in ("easy", "hard") else "\n(correlated test set)"
        panel.set_title(title + feature)
        _draw_pairs(panel, table, name)
    axes[0, 0].set_ylabel("error, %")
    figure.supxlabel(f"n = {table.seed.nunique()} seeds, diamonds: means with 95 % intervals", fontsize=9)
    return figure


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Tabulate every error as text: mean ± standard deviation of SGD and SAM, paired difference with interval, n.

    Returns:
        One row an error, in percent.
    """
    rows = {}
    for name, title in (ERRORS | WORST | RELIANCE).items():
        means = {m: spread(part[name].mean(), part[name].std()) for m, part in table.groupby("method", sort=False)}
        gap = difference(table, name)
        rows[title] = means | {
            "SAM − SGD": in_points(gap.mean),
            "95 % interval": f"[{in_points(gap.low)}, {in_points(gap.high)}]" if gap.n > 1 else "no interval",
            "n": str(gap.n),
        }
    return pd.DataFrame(rows).T.rename_axis(columns="error, %")


def _draw_pairs(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Join both methods' values of each seed, and mark the means beside them."""
    values = 100 * table.pivot(index="seed", columns="method", values=name)[["SGD", "SAM"]]
    axes.plot([0, 1], values.T.to_numpy(), "-o", color=style.NEUTRAL, alpha=0.45, lw=0.9, ms=3.5)
    for place, method in ((-0.22, "SGD"), (1.22, "SAM")):
        mean_point(axes, place, estimate(values[method]), marker="D", color=COLOURS[method], capsize=4, ms=6)
    axes.margins(y=0.1)
    low, high = axes.get_ylim()
    axes.set(xlim=(-0.5, 1.5), ylim=(max(low, -0.03 * high), high))  # no empty stretch below an error of zero
    axes.set_xticks([0, 1], ["SGD", "SAM"])
    axes.grid(False, axis="x")


def _draw_montage(axes: Axes, data: PairImages, labels: tuple[int, int]) -> None:
    """Draw the first images with these labels side by side, or say that there are none."""
    rows = ((data.labels[:, 0] == labels[0]) & (data.labels[:, 1] == labels[1])).nonzero()[:, 0]
    images = data.images[rows[:N_IMAGES]]
    if len(rows) == 0:
        axes.text(0.5, 0.5, "does not occur", ha="center", va="center", color=style.NEUTRAL, transform=axes.transAxes)
        axes.set(xlim=(0, N_IMAGES * (images.shape[3] + 2)), ylim=(0, images.shape[2]), aspect="equal")
        return
    framed = np.pad(images.permute(0, 2, 3, 1).numpy(), ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=255)
    axes.imshow(np.concatenate(list(framed), axis=1), interpolation="nearest")
    axes.set_xlabel(f"{len(rows):,} of {len(data.labels):,} images", fontsize=8.5)
