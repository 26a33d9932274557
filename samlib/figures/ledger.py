"""The ledger in one picture: one cell a claim, by part of the paper and by who makes the claim."""

import itertools
import re
from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from samlib.claims.ledger import Row, counts, split
from samlib.figures import style

# Verdict -> (ground, mark). The mark says it without the colour; the grounds are Okabe-Ito colours.
LOOKS = {
    "confirmed": ("#009E73", "✓"),
    "partly": ("#F0E442", "±"),
    "not confirmed": ("#D55E00", "✗"),
    "not tested": ("white", "?"),
}
WIDTHS = (9, 7)  # most cells in a line, of the paper's claims and of the others; more go on in the next line
GAP = 0.6  # between the paper's claims and the others, in cells
_FIGURE = re.compile(r"(?:(Fig)ure|(Tab)le|(Eq))s? (\d+(?:\([A-Z]\))?)")


def summary(rows: Sequence[Row]) -> Figure:
    """Draw the ledger: one line a part of the paper, one cell a claim; the paper's left, the others right.

    Args:
        rows: what `samlib.claims.ledger.ledger` returned.
    """
    parts = list(dict.fromkeys(row.part for row in rows))
    cells = {part: split([row for row in rows if row.part == part]) for part in parts}
    heights = {
        part: max(-(-len(side) // width) for side, width in zip(cells[part], WIDTHS, strict=True)) for part in parts
    }
    tops = dict(zip(parts, itertools.accumulate(heights.values(), initial=0), strict=False))
    n_lines, start = sum(heights.values()), WIDTHS[0] + GAP
    figure, axes = plt.subplots(figsize=(10.2, 0.45 * (n_lines + 2.5)))
    for part in parts:
        for left, side, width in zip((0.0, start), cells[part], WIDTHS, strict=True):
            for index, row in enumerate(side):
                line, place = divmod(index, width)
                _cell(axes, left + place, tops[part] + line, row.verdict.status, short_place(row.claim.place))
    for left, side, whose in zip(
        (0.0, start), split(rows), ("claims of the paper", "of ours or of later work"), strict=True
    ):
        marks = ",  ".join(f"{count} {LOOKS[status][1]}" for status, count in counts(side).items())
        axes.text(left, -0.62, f"{len(side)} {whose}", fontweight="bold", va="bottom")
        axes.text(left, -0.12, marks, va="bottom")
    _legend(axes)
    axes.set(xlim=(-0.1, start + WIDTHS[1] + 0.1), ylim=(n_lines + 0.1, -2.4))
    axes.set_yticks([tops[part] + 0.5 for part in parts], parts)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def short_place(place: str) -> str:
    """Shorten a place to its first figure, table or equation; "" where it names none.

    >>> short_place("Section 5.2, Figures 1 and 2(A)"), short_place("Section 4.2, Table 1"), short_place("Section 5.2")
    ('Fig 1', 'Tab 1', '')
    """
    found = _FIGURE.search(place)
    return f"{next(filter(None, found.groups()))} {found[4]}" if found else ""


def _cell(axes: Axes, left: float, top: float, status: str, label: str = "") -> None:
    """Draw one verdict's cell: ground, mark, and a small label under the mark."""
    ground, mark = LOOKS[status]
    line = "--" if status == "not tested" else "-"
    box = Rectangle((left + 0.04, top + 0.06), 0.92, 0.88, facecolor=ground, edgecolor=style.NEUTRAL, lw=0.8, ls=line)
    axes.add_patch(box)
    axes.text(left + 0.5, top + (0.36 if label else 0.5), mark, ha="center", va="center", fontsize=11)
    axes.text(left + 0.5, top + 0.77, label, ha="center", va="center", fontsize=7)


def _legend(axes: Axes) -> None:
    """Say above the cells what the marks mean."""
    for index, status in enumerate(LOOKS):
        _cell(axes, 4.2 * index, -2.4, status)
        axes.text(4.2 * index + 1.1, -1.9, status, va="center")
