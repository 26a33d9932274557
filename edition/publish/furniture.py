"""Page furniture, as a Sphinx extension: reading time, links in the footer, the branch that Colab opens."""

import math
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from edition.publish.repository import BRANCH, LAUNCH_BRANCH

WORDS_A_MINUTE = 200


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the furniture to Sphinx's events."""
    app.connect("doctree-resolved", add_reading_time)
    app.connect("html-page-context", add_footer)
    app.connect("html-page-context", open_launch_copies, priority=900)  # after the theme has made its buttons
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def prose_words(doctree: nodes.Node) -> int:
    """Count the words of a page that are read: its prose and its tables, not code, other outputs, displayed formulas.

    A formula in a line of text counts as written; what a click opens does not count.
    """
    count = sum(len(text.astext().split()) for text in doctree.findall(nodes.Text) if not _left_out(text))
    return count + sum(_table_words(raw.astext()) for raw in doctree.findall(nodes.raw) if raw.get("format") == "html")


def add_reading_time(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a line with the minutes that a page takes to read under its title.

    Only pages get it, not the single page that the PDF is printed from.
    """
    title = next(doctree.findall(nodes.title), None)
    if app.builder.name != "html" or title is None:
        return
    minutes = math.ceil(prose_words(doctree) / WORDS_A_MINUTE)
    text = f"Reading time: {minutes} minute" + ("" if minutes == 1 else "s")
    line = nodes.paragraph("", text, classes=["reading-time"])
    title.parent.insert(title.parent.index(title) + 1, line)


def add_footer(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put links to the licence and to the citation, both copied beside the pages, into the footer."""
    pathto = context["pathto"]
    context["theme_extra_footer"] = (
        f'<a href="{pathto("LICENSE.txt", 1)}">MIT licence</a> · <a href="{pathto("CITATION.txt", 1)}">How to cite</a>'
    )


def open_launch_copies(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Let a page's Colab button open the chapter that has a set-up cell."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button["text"] == "Colab":
                button["url"] = button["url"].replace(f"/blob/{BRANCH}/", f"/blob/{LAUNCH_BRANCH}/")


def _table_words(markup: str) -> int:
    """Count the words in the tables of a cell's HTML, without what is closed at first."""
    tables = re.findall(r"<table.*?</table>", re.sub(r"<details.*?</details>", "", markup, flags=re.S), re.S)
    return sum(len(re.sub(r"<[^>]*>", " ", table).split()) for table in tables)


def _left_out(node: nodes.Node | None) -> bool:
    """Say whether a text stands in code, in a cell or in a displayed formula."""
    while node is not None:
        if isinstance(node, nodes.FixedTextElement | nodes.comment | nodes.raw | nodes.math_block):
            return True
        if isinstance(node, nodes.container) and node.get("nb_element") == "cell_code":
            return True
        node = node.parent
    return False
