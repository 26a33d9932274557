"""Figures of chapter 4 on photographs: Lorenz curves of importance weights, and medians by the probes' contributions.

Each takes what `edition.claims.real_importance.points` returned for one image set.
"""

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.real_importance import WeighedEpoch, by_method, last, title
from edition.figures import style
from edition.figures.mechanism import draw_lorenz, draw_medians, grid
from samlib.toy.network import FEATURES as ROLES


def lorenz_panels(points: Sequence[WeighedEpoch]) -> Figure:
    """Figure 3 (centre or right): Lorenz curves of the weights at the end of training, one panel a method.

    Args:
        points: of one image set; the last epoch of each method is drawn.
    Returns:
        Means over seeds with the full range as bands.
    """
    ends = last(points)
    figure, axes = plt.subplots(1, len(ends), figsize=(4.1 * len(ends), 4.7), sharey=True, squeeze=False)
    for panel, point in zip(axes[0], ends, strict=True):
        draw_lorenz(panel, point.importance)
        panel.set_title(f"{point.method}-trained networks")
    axes[0, 0].set_ylabel("share of total importance")
    return _say(figure, points, "bands: full range over seeds")


def medians_panels(points: Sequence[WeighedEpoch]) -> Figure:
    """Figure 5 (centre or right): median weight by signed contribution at the end, a row a method, a column a feature.

    Args:
        points: of one image set; the last epoch of each method is drawn.
    Returns:
        Medians of weights over their network's mean, pooled over seeds, in bins with at least ten examples.
    """
    ends = last(points)
    figure, axes = plt.subplots(len(ends), 2, figsize=(8.2, 3.1 * len(ends) + 0.2), squeeze=False)
    for row, point in zip(axes, ends, strict=True):
        for feature, panel in enumerate(row):
            _medians(panel, point, feature)
            panel.set_title(
                f"{point.method}-trained, by the {ROLES[feature]} feature's fit ({point.features[feature]})",
                fontsize=9.5,
            )
        row[0].set_ylabel("median weight / mean weight")
    axes[0, 0].legend(fontsize=8)
    return _say(figure, points, "examples pooled over seeds")


def lorenz_grid(points: Sequence[WeighedEpoch]) -> Figure:
    """Figure 7 (one image set's row): the Lorenz curves after every recorded epoch, one row a method."""
    figure = grid(by_method(points), _lorenz, "share of total importance", moment="epoch")
    return _say(figure, points, "bands: full range over seeds")


def medians_grid(points: Sequence[WeighedEpoch], feature: int) -> Figure:
    """Figure 8 (one image set's row): the medians for one feature after every recorded epoch, one row a method.

    Args:
        points: of one image set.
        feature: 0 for easy, 1 for hard.
    """
    figure = grid(
        by_method(points),
        lambda panel, point: _medians(panel, point, feature),
        "median / mean weight",
        moment="epoch",
    )
    figure.axes[0].legend(fontsize=8)
    return _say(figure, points, "examples pooled over seeds")


def _lorenz(axes: Axes, point: WeighedEpoch) -> None:
    """Draw the Lorenz curves of one epoch in a small panel."""
    draw_lorenz(axes, point.importance)
    axes.set_xlabel("share of examples")


def _medians(axes: Axes, point: WeighedEpoch, feature: int) -> None:
    """Draw the medians by one feature's contribution, which is its probe's logit times the label's sign."""
    draw_medians(axes, point.importance, feature)
    axes.set_xlabel(f"signed contribution, {point.features[feature]} probe")


def _say(figure: Figure, points: Sequence[WeighedEpoch], words: str) -> Figure:
    """Write image set, radius, number of seeds and what is shown of them under the figure."""
    counts = sorted({len(part[0].seeds) for part in by_method(points)})
    seeds = " and ".join(map(str, counts)) + (" seed" if counts == [1] else " seeds")
    figure.supxlabel(
        rf"{title(points)}, phantom at $\rho = {points[0].rho:g}$, {seeds}; {words}",
        fontsize=8.5,
        color=style.NEUTRAL,
    )
    return figure
