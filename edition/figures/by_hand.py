"""Pictures of the chapters' sections "from scratch": what a few lines of plain code computed."""

import textwrap
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.figures import style

LOOKS = ((style.SGD, "-"), (style.SAM, "--"), (style.NEUTRAL, ":"), (style.DARK, "-."))


def paths(loss: Callable[[np.ndarray, np.ndarray], np.ndarray], tracks: Mapping[str, np.ndarray]) -> Figure:
    """Draw the iterates of several methods on the contours of a loss of two weights.

    Args:
        loss: two grids of weights -> the loss there.
        tracks: method -> iterates, shape (step, 2).
    """
    figure, axes = plt.subplots(figsize=(5.6, 4.2))
    every = np.concatenate(list(tracks.values()))
    low, high = every.min(0), every.max(0)
    pad = 0.25 * (high - low).max()
    x, y = np.meshgrid(*(np.linspace(a - pad, b + pad, 60) for a, b in zip(low, high, strict=True)))
    axes.contour(x, y, loss(x, y), levels=12, colors="#c8c8c8", linewidths=0.8)
    for (name, track), (colour, line) in zip(tracks.items(), LOOKS, strict=False):
        axes.plot(*track.T, ls=line, marker="o", ms=3, color=colour, label=name)
    axes.set(xlabel="$w_1$", ylabel="$w_2$")
    axes.legend()
    return figure


def ascent_steps(v: np.ndarray, phantoms: np.ndarray) -> Figure:
    """Draw the plane of v with the ascent step of every batch; two rays show the ratio at v and its mean.

    Args:
        v: (easy, hard) last-layer weights.
        phantoms: those of each batch, shape (batch, 2).
    """
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    axes.quiver(*np.tile(v, (len(phantoms), 1)).T, *(phantoms - v).T, angles="xy", scale_units="xy", scale=1,
                width=0.003, color=style.NEUTRAL, alpha=0.6)  # fmt: skip
    axes.axline((0, 0), tuple(v), color=style.REAL, ls="--", lw=1.2, label=f"ratio at v: {v[1] / v[0]:.2f}")
    mean = phantoms.mean(0)
    label = f"ratio at the mean phantom: {mean[1] / mean[0]:.2f}"
    axes.axline((0, 0), tuple(mean), color=style.PHANTOM, lw=1.2, label=label)
    axes.plot(*phantoms.T, "o", ms=4, color=style.PHANTOM, label="phantoms, one a batch")
    axes.plot(*v, "o", ms=9, color=style.REAL, label="v")
    top = 1.15 * max(v.max(), phantoms.max())
    axes.set(xlabel="$v_{easy}$", ylabel="$v_{hard}$", aspect="equal", xlim=(0, top), ylim=(0, top))
    axes.legend(fontsize=8, loc="lower right")
    return figure


def bars(values: Mapping[str, float], label: str) -> Figure:
    """Draw a few named numbers as bars, in the order given."""
    figure, axes = plt.subplots(figsize=(5.6, 0.5 * len(values) + 1.0))
    axes.barh(list(values), list(values.values()), color=style.NEUTRAL)
    axes.invert_yaxis()
    axes.set(xlabel=textwrap.fill(label, 48))  # a longer line leaves the figure
    axes.grid(False, axis="y")
    return figure


def swatches(palettes: Mapping[str, Mapping[str, str]]) -> Figure:
    """Draw palettes, a row each: squares with their names and codes."""
    figure, axes = plt.subplots(figsize=(6.4, 0.7 * len(palettes) + 0.3))
    for row, (meaning, colours) in enumerate(palettes.items()):
        axes.text(-0.1, row, meaning, ha="right", va="center", fontweight="bold")
        for column, (name, colour) in enumerate(colours.items()):
            axes.add_patch(plt.Rectangle((2.2 * column, row - 0.35), 0.5, 0.7, color=colour))
            axes.text(2.2 * column + 0.6, row, f"{name}\n{colour}", va="center", fontsize=8.5)
    axes.set(xlim=(-1.2, 4.4), ylim=(len(palettes) - 0.4, -0.6))
    style.bare(axes)
    return figure
