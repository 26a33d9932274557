"""Figures of the appendix on theory: where the first-order law holds, batches, losses, the linear approximation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from edition.figures import style
from edition.figures.bands import band
from samlib.measures.statistics import estimate
from samlib.theory import gradient_norm
from samlib.theory.study import (
    CASES,
    FITTED,
    RADII,
    STATES,
    TENTH,
    Measured,
    breaking_radii,
    ensemble,
    measure,
    median_errors,
    norms,
    ranks,
)

# Colour and line of every case, from the simplest network on; LSAM's orange is the book's.
LOOKS = {
    "LSAM": (style.SAM, "-"),
    "two-layer linear": (style.sequence_colour(0, 3), "-"),
    "deep linear": (style.sequence_colour(1, 3), "--"),
    "ReLU": (style.sequence_colour(2, 3), "-."),
    FITTED: ("black", ":"),
}
STATE_COLOURS = {"fresh": style.NEUTRAL, "fitted": style.DARK}
# Points: open and full, since two greys are hard to tell apart.
STATE_DOTS: dict[str, dict[str, Any]] = {
    "fresh": {"facecolors": "none", "edgecolors": style.NEUTRAL, "lw": 0.7},
    "fitted": {"color": style.DARK, "lw": 0},
}
# Errors below this are rounding: a log ratio is a difference of two logits.
FLOOR = 1e-7


def first_order(measured: Mapping[str, Sequence[Measured]]) -> Figure:
    """Draw exact log ratio over law, and the law's relative error, against rho, with its crossing of a tenth.

    Args:
        measured: what `samlib.theory.study.by_radius` returned.
    """
    figure, (ratio, error) = plt.subplots(1, 2, figsize=(9.4, 4.5))
    at, medians = breaking_radii(measured), median_errors(measured)
    for name in CASES:
        colour, line = LOOKS[name]
        pooled = [(part.exact / part.law).flatten().numpy() for part in measured[name]]
        low, middle, high = np.quantile(pooled, (0.25, 0.5, 0.75), axis=1)
        told = "exact" if np.isnan(at[name]) else rf"10 % off at $\rho$ = {at[name]:.2g}"
        # LSAM's line is thin and on top: it lies on others.
        width, order = (1.0, 3) if name == "LSAM" else (2.2, 2)
        ratio.plot(RADII, middle, line, color=colour, lw=width, zorder=order, label=f"{name}: {told}")
        ratio.fill_between(RADII, low, high, color=colour, alpha=0.15, lw=0)
        kept = medians[name] > FLOOR
        error.plot(np.array(RADII)[kept], medians[name][kept], line, color=colour)
        error.plot([at[name]], [TENTH], "o", color=colour, ms=6)
    error.axhline(TENTH, color=style.NEUTRAL, lw=0.8, ls=":")
    ratio.set(xscale="log", ylim=(0, 2), ylabel="exact log ratio / law", title="Exact over first order")
    error.set(xscale="log", yscale="log", ylabel="relative error of the law", title="Where the law breaks")
    for panel in (ratio, error):
        panel.set_xlabel(r"perturbation radius $\rho$")
    figure.legend(*ratio.get_legend_handles_labels(), ncols=2, loc="outside lower center", fontsize=8.5)
    return figure


def batches(measured: Mapping[str, Sequence[Measured]], sizes: Sequence[int]) -> Figure:
    """Draw log ratios at the batch's phantom, the share that falls, and their rank correlation with |grad f|.

    Args:
        measured: what `samlib.theory.study.by_batch` returned for these sizes.
        sizes: rising.
    """
    figure, (spread, share, rank) = plt.subplots(1, 3, figsize=(10.0, 4.0))
    positions = np.arange(len(sizes))
    for offset, (state, name) in zip((-0.2, 0.2), STATES.items(), strict=True):
        parts, networks, colour = measured[state], ensemble(name), STATE_COLOURS[state]
        norm = gradient_norm(networks.network, networks.inputs)
        _boxes(spread, [part.exact.flatten().numpy() for part in parts], positions + offset, colour)
        for panel, found, label in (
            (share, [part.falling() for part in parts], f"{state} networks"),
            (rank, [ranks(norm, part.exact) for part in parts], state),
        ):
            band(panel, dict(enumerate(map(estimate, found))), colour=colour, label=label)
    for panel in (spread, share, rank):
        panel.set(xticks=positions, xticklabels=sizes, xlabel="examples a batch")
    for panel in (spread, rank):
        panel.axhline(0, color="black", lw=0.8)
    spread.set(ylabel=r"$\log(\tilde\lambda_i/\lambda_i)$", title="Log ratios")
    share.set(ylabel="share of examples", ylim=(-0.02, 0.62), title="Share whose weight falls")
    rank.set(ylabel="rank correlation", ylim=(-0.55, 1.05), title=r"Log ratio with $\|\nabla f_i\|$")
    figure.set_layout_engine("constrained", w_pad=0.08)
    n = len(measured["fresh"][0].exact)
    title = f"n = {n} networks; boxes: quartiles and 5th to 95th percentile; bands: 95 % intervals of the mean"
    figure.legend(*share.get_legend_handles_labels(), ncols=2, loc="outside lower center", title=title, fontsize=9)
    return figure


def _boxes(axes: Axes, values: Sequence[np.ndarray], positions: np.ndarray, colour: str) -> None:
    """Draw boxes (quartiles) with whiskers from the 5th to the 95th percentile."""
    drawn = axes.boxplot(
        values, positions=positions, widths=0.32, whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False
    )
    for box in drawn["boxes"]:
        box.set(facecolor=colour, alpha=0.45, edgecolor=colour)
    for part in ("whiskers", "caps", "medians"):
        plt.setp(drawn[part], color=colour, lw=1.6 if part == "medians" else 1.0)


def losses(*, rho: float) -> Figure:
    """Draw logistic against exponential log ratios: over rho |grad f|, coloured by margin, and over the margin.

    Args:
        rho: perturbation radius, one example a batch.
    """
    figure, (law, factor) = plt.subplots(1, 2, figsize=(9.6, 4.3))
    norm = BoundaryNorm([-2, 0, 2, 4, 6], style.SEQUENCE.N, extend="both")  # flat colours: they survive a palette
    for (state, name), marker in zip(STATES.items(), ("^", "o"), strict=True):
        networks = ensemble(name)
        logistic, exponential = (measure(networks, rho=rho, loss=loss) for loss in ("logistic", "exponential"))
        margins = networks.margins.flatten()
        points = law.scatter(
            exponential.law, logistic.exact, c=margins, norm=norm, cmap=style.SEQUENCE, s=9, marker=marker, lw=0
        )
        ratio = (logistic.exact / exponential.exact).flatten()
        factor.scatter(margins, ratio, s=7, label=f"log ratio, {state}", **STATE_DOTS[state])
    figure.colorbar(points, ax=law).ax.set_title(r"$y\,f$", fontsize=9)
    ends = np.array([0.02, 20])
    law.plot(ends, ends, color="black", lw=1, label=r"$\rho\,\|\nabla f\|$ (exponential)")
    law.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=rf"Logistic loss, $\rho$ = {rho:g}")
    law.set(xlabel=r"$\rho\,\|\nabla f\|$", ylabel=r"exact $\log(\tilde\lambda/\lambda)$")
    line = np.linspace(-6, 14, 200)
    factor.plot(line, 1 / (1 + np.exp(-line)), color="black", lw=1.2, label=r"first order: $1-\lambda$")
    factor.axhline(1 - TENTH, color=style.NEUTRAL, lw=0.8, ls=":")
    factor.axvline(np.log(1 / TENTH - 1), color=style.NEUTRAL, lw=0.8, ls=":")
    factor.set(xlabel=r"margin $y\,f(x)$", ylabel="logistic / exponential", xlim=(-6, 14), ylim=(-0.03, 1.1))
    factor.set_title("Factor between the losses")
    for panel in (law, factor):
        panel.legend(fontsize=8.5, loc="upper left" if panel is law else "lower right")
    return figure


def linear_approximation() -> Figure:
    """Draw |grad f| against its linear approximation for one network, fresh and fitted; inputs as drawn and scaled."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.2))
    for panel, scaled in zip(axes, (False, True), strict=True):
        largest = 0.0
        for state, name in STATES.items():
            true, approximate = (part[0] for part in norms(ensemble(name), scaled=scaled))
            panel.scatter(true, approximate, s=12, alpha=0.7, label=f"{state} network", **STATE_DOTS[state])
            largest = max(largest, float(approximate.max()))
        ends = np.array([0, 1.08 * largest])
        panel.plot(ends, ends, color="black", lw=0.8, label="equal")
        panel.plot(ends, 2 * ends, color="black", lw=0.8, ls=":", label="twice as large")
        panel.set(xlim=ends, ylim=ends, title="Inputs of length 1" if scaled else "Inputs as drawn")
        panel.set_xlabel(r"$\|\nabla f\|$")
    axes[0].set_ylabel(r"$\|\nabla f\|$ by Eq 31, every unit on")
    axes[0].legend(fontsize=8.5, loc="lower right")
    return figure
