"""The tables of the pages, as HTML.

By hand, where a chapter has more to say than `DataFrame.to_html`: pandas knows no heading over a group of rows and no
`scope`, by which a screen reader tells what a heading heads.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence


class Html(str):
    """Text that is HTML already, and stays as it is in a table."""


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]] | Mapping[str, Iterable[Sequence[object]]],
    *,
    wrap: bool = False,
) -> str:
    """Return a table whose first column stands at the left and heads its row; the others stand at the right.

    Args:
        rows: cells of each row; or such rows by the heading that stands above them.
        wrap: whether a cell's text may break into lines.
    """
    groups = rows if isinstance(rows, Mapping) else {"": rows}
    style = "text-align: right" + ("" if wrap else "; white-space: nowrap")
    sides = dict.fromkeys(range(1, len(heads)), "right") | {0: "left"}
    head = "".join(f'<th scope="col" style="text-align: {sides[i]}">{_text(cell)}</th>' for i, cell in enumerate(heads))
    body = ""
    for title, lines in groups.items():
        told = f'<tr><th scope="rowgroup" colspan="{len(heads)}" style="text-align: left">{_text(title)}</th></tr>'
        body += f"<tbody>{told if title else ''}"
        for first, *others in lines:
            body += f'<tr><th scope="row" style="text-align: left">{_text(first)}</th>'
            body += "".join(f'<td style="{style}">{_text(cell)}</td>' for cell in others)
            body += "</tr>"
        body += "</tbody>"
    return f"<table><thead><tr>{head}</tr></thead>{body}</table>"


def scrolling(table: str, label: str) -> str:
    """Put a table's HTML into a box in which it scrolls, by keyboard too; a screen reader calls the box `label`."""
    return f'<div class="pst-scrollable-table-container" role="region" tabindex="0" aria-label="{label}">{table}</div>'


def group_heading(title: str, told: str) -> Html:
    """Return a group's title with a sentence below it, which stays in view while the numbers scroll.

    Args:
        title: plain text.
        told: HTML.
    """
    # No wider than a phone's screen.
    box = "position: sticky; left: 0; max-width: min(38rem, 80vw); white-space: normal; text-align: left"
    return Html(f'<div style="{box}">{html.escape(title)}<br><span style="font-weight: normal">{told}</span></div>')


def spread(mean: float, deviation: float) -> str:
    """Write mean ± standard deviation of shares in percent; the mean alone where there is no deviation (NaN).

    >>> spread(0.5, 0.01).replace("\\u00a0", " "), spread(0.5, float("nan"))
    ('50.00 ± 1.00', '50.00')
    """
    tail = "" if math.isnan(deviation) else f"\u00a0±\u00a0{100 * deviation:.2f}"
    return f"{100 * mean:.2f}{tail}"


def _text(cell: object) -> str:
    """A cell's HTML."""
    return cell if isinstance(cell, Html) else html.escape(str(cell))


def p_value(value: float | None) -> str:
    """Write a p-value with three decimals; nothing for one that is not known.

    >>> p_value(0.0123), p_value(0.0001)
    ('.012', '< .001')
    """
    if value is None or not math.isfinite(value):
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
