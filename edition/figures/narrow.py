"""A figure for a phone: its panels below each other, at the size of a narrow page."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

WIDTH = 4.4  # inches
MOST = 12  # panels; more would be scrolled past, and the whole figure scrolls sideways instead


def stack(figure: Figure) -> bool:
    """Put the panels of a grid below each other, row by row, each with the labels that it shared.

    Args:
        figure: drawn on one grid with constrained layout, as `plt.subplots` makes it; changed.
    Returns:
        Whether there was something to do. Pictures without scales, such as small decision boundaries, are
        read side by side and stay so.
    """
    cells = {axes: spec for axes in figure.axes if axes.get_visible() and (spec := axes.get_subplotspec())}
    places = sorted({(spec.rowspan.start, spec.colspan.start) for spec in cells.values()})
    scales = any(axes.axison and (len(axes.get_xticks()) or len(axes.get_yticks())) for axes in cells)
    if not scales or len({column for _, column in places}) < 2 or len(places) > MOST:
        return False
    height = figure.get_figheight() / (places[-1][0] + 1)
    grid = GridSpec(len(places), 1, figure=figure)
    first = {(spec.rowspan.start, spec.colspan.start): axes for axes, spec in reversed(cells.items())}
    for axes, spec in cells.items():
        row, column = spec.rowspan.start, spec.colspan.start
        _label(axes, first[min(place for place in places if place[0] == row)], "y")
        _label(axes, first[max(place for place in places if place[1] == column)], "x")
        axes.set_title(axes.get_title() or first[min(place for place in places if place[1] == column)].get_title())
        axes.set_subplotspec(grid[places.index((row, column))])
    figure.set_size_inches(WIDTH, len(places) * min(height, 0.8 * WIDTH))
    for text in (figure._supxlabel, figure._suptitle):  # type: ignore[attr-defined]
        if text:
            text.set_text(textwrap.fill(text.get_text(), _letters(text)))
    for legend in figure.legends[:]:
        handles, names = list(filter(None, legend.legend_handles)), [text.get_text() for text in legend.get_texts()]
        n_columns = max(1, _letters(legend.get_texts()[0]) // (6 + max(map(len, names))))  # a sign takes six
        legend.remove()
        figure.legend(handles, names, loc="outside lower center", ncols=min(n_columns, 3))
    return True


def _letters(text: Text) -> int:
    """How many letters of a text's size fit on a line; a letter is about .6 of its height wide."""
    return int(WIDTH * 72 / (0.6 * float(text.get_fontsize())))


def _label(axes: Axes, shared: Axes, side: str) -> None:
    """Give a panel the label and the numbers of the one that it stood beside or above."""
    own, other = getattr(axes, f"{side}axis"), getattr(shared, f"{side}axis")
    if getattr(axes, f"get_shared_{side}_axes")().joined(axes, shared):
        own.set_tick_params(**{"x": {"labelbottom": True}, "y": {"labelleft": True}}[side])
    if not own.get_label_text():
        own.set_label_text(other.get_label_text(), fontsize=other.label.get_fontsize())
