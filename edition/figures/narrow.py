"""A figure for a phone: its panels below each other, at the size of a narrow page."""

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.text import Text

WIDTH = 4.4  # inches
MOST = 12  # panels; more would be scrolled past, and the whole figure scrolls sideways instead
ALONE = 6.6  # inches; panels in one column that need more have words beside them that would leave no room


def stack(figure: Figure) -> bool:
    """Put the panels of a grid below each other, row by row, each with the labels that it shared.

    Pictures without scales, such as small decision boundaries, are read side by side: they stay two a row.

    Args:
        figure: drawn on one grid with constrained layout, as `plt.subplots` makes it; changed.
    Returns:
        Whether that was done: not with many panels or several colour bars, nor with wide ones in one column.
    """
    cells = {axes: spec for axes in figure.axes if axes.get_visible() and (spec := axes.get_subplotspec())}
    places = sorted({(spec.rowspan.start, spec.colspan.start) for spec in cells.values()})
    scales = any(axes.axison and (len(axes.get_xticks()) or len(axes.get_yticks())) for axes in cells)
    n_rows, n_columns = (len({place[side] for place in places}) for side in (0, 1))
    bars = sum(hasattr(axes, "_colorbar") for axes in figure.axes)
    if bars > 1 or len(places) > MOST or (n_columns == 1 and figure.get_figwidth() > ALONE):
        return False
    if not scales:
        return _in_pairs(figure, cells, n_rows, n_columns)
    height = figure.get_figheight() / n_rows
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
        below = figure._supxlabel is None  # type: ignore[attr-defined]
        place: Any = f"outside {'lower' if below else 'upper'} center"
        figure.legend(handles, names, loc=place, ncols=min(n_columns, 3))
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # how wide the panels are
    texts = [(text, axes.get_position().width) for axes in cells for text in (axes.title, axes.xaxis.label)]
    wrapped = [_wrapped(text, room) for text, room in texts]
    if not any(wrapped):
        figure.set_layout_engine("none")  # laid out: once is enough
    return True


def _in_pairs(figure: Figure, cells: dict[Axes, SubplotSpec], n_rows: int, n_columns: int) -> bool:
    """Make a grid two panels wide, turned on its side where it has two rows of more; say whether it could be."""
    turned = n_columns > 2 and n_rows == 2
    if not turned and n_columns != 2:
        return False
    side = WIDTH / 2
    if turned:
        grid = GridSpec(n_columns, 2, figure=figure)
        for axes, spec in cells.items():
            axes.set_subplotspec(grid[spec.colspan.start, spec.rowspan.start])
    figure.set_size_inches(WIDTH, side * (n_columns if turned else n_rows) + 0.3)
    for axes in cells:
        axes.title.set_fontsize(8)
        for text in axes.texts:
            text.set_fontsize(7)
    return True


def _wrapped(text: Text, room: float) -> bool:
    """Break a text's lines that are longer than its panel; say whether there was one."""
    before = text.get_text()
    text.set_text("\n".join(textwrap.fill(line, _letters(text, room)) for line in before.split("\n")))
    return text.get_text() != before


def _letters(text: Text, room: float = 1.0) -> int:
    """How many letters of a text's size fit into a part of the width; a bold letter is .7 of its size wide."""
    size = float(text.get_fontsize()) * (0.7 if text.get_fontweight() == "bold" else 0.6)
    return int(room * WIDTH * 72 / size)


def _label(axes: Axes, shared: Axes, side: str) -> None:
    """Give a panel the label and the numbers of the one that it stood beside or above, where they are of one kind."""
    own, other = getattr(axes, f"{side}axis"), getattr(shared, f"{side}axis")
    is_shared = getattr(axes, f"get_shared_{side}_axes")().joined(axes, shared)
    if is_shared:
        own.set_tick_params(**{"x": {"labelbottom": True}, "y": {"labelleft": True}}[side])
    if not own.get_label_text() and (is_shared or type(own.major.formatter) is type(other.major.formatter)):
        own.set_label_text(other.get_label_text(), fontsize=other.label.get_fontsize())
