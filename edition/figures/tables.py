"""What the tables on the pages share, as plain HTML."""

import html
from collections.abc import Iterable, Sequence
from typing import Any


def scrolling(label: str, table: str) -> str:
    """Put an HTML table into a box in which it scrolls on a narrow screen, by keyboard too.

    Args:
        label: what a screen reader calls the box.
        table: the table's HTML.
    """
    return f'<div class="pst-scrollable-table-container" role="region" tabindex="0" aria-label="{label}">{table}</div>'


def wide_table(heads: Sequence[str], body: str, label: str) -> str:
    """Return a table that scrolls; its first column stands at the left, the others at the right.

    Args:
        heads: of the columns.
        body: HTML of the rows, see `body_rows`.
        label: what a screen reader calls it.
    """
    sides = ("left", *["right"] * (len(heads) - 1))
    cells = "".join(
        f'<th scope="col" style="text-align: {side}">{html.escape(head)}</th>'
        for side, head in zip(sides, heads, strict=True)
    )
    return scrolling(label, f"<table><thead><tr>{cells}</tr></thead>{body}</table>")


def body_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows of cells, the first of each a heading.

    >>> body_rows([("Art", "1.5")]).count("<td")
    1
    """
    return "".join(
        f'<tr><th scope="row" style="text-align: left">{html.escape(str(first))}</th>'
        + "".join(f'<td style="text-align: right; white-space: nowrap">{html.escape(str(cell))}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
