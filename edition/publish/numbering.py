"""Numbers, as a Sphinx extension: a cell's table counts as a table, and a page without a number counts by a letter."""

from collections.abc import Iterable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

TABLE = "table"
BEFORE_LABELS = 840  # at 850 Sphinx notes which name stands for which node


class captioned_table(nodes.figure):
    """A figure that holds a table, and is numbered and referred to as one."""


class table_caption(nodes.caption):
    """Its caption, which stands above: docutils lets everything below a figure's caption belong to it."""


class TablesOfCells(SphinxTransform):
    """Replace each figure of the class `table`; MyST-NB makes such figures as their cells' metadata say."""

    default_priority = BEFORE_LABELS

    def apply(self, **_: Any) -> None:
        """Replace the figures of one page; ids, names and other classes stay."""
        for figure in [node for node in self.document.findall(nodes.figure) if TABLE in node["classes"]]:
            # The theme draws whatever has the class `table` as a table.
            classes = ["captioned-table", *(name for name in figure["classes"] if name != TABLE)]
            table = captioned_table(**{**figure.attributes, "classes": classes})
            table.source, table.line = figure.source, figure.line
            for child in figure.children:
                if isinstance(child, nodes.caption):
                    table.insert(0, table_caption("", "", *child.children, **child.attributes))
                else:  # a legend is what follows a caption's first paragraph
                    table += child.children if isinstance(child, nodes.legend) else child
            figure.parent.replace(figure, table)
            self.document.ids.update(dict.fromkeys(table["ids"], table))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the nodes, the transform, and the step after Sphinx's own numbering."""
    app.add_enumerable_node(captioned_table, TABLE, html=(HTML5Translator.visit_figure, _close_table))
    app.add_node(table_caption, html=(HTML5Translator.visit_caption, _close_caption))
    app.add_transform(TablesOfCells)
    app.connect("env-get-updated", count_by_letter, priority=900)  # after Sphinx has counted through the book
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def count_by_letter(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """Number the figures and tables of pages without a section number from 1, after the first letter of the page.

    Sphinx counts them through all such pages together: "Fig. 7" may stand on one page and "Fig. 8" three pages on.

    Returns:
        The pages to read again: none.
    """
    pages: dict[tuple[str, str], str] = {}
    for page, kinds in env.toc_fignumbers.items():
        if any(env.toc_secnumbers.get(page, {}).values()):
            continue
        letter = page.rpartition("/")[2][0].upper()
        for kind, numbers in kinds.items():
            other = pages.setdefault((letter, kind), page)
            if other != page:
                logging.getLogger(__name__).warning(
                    f"expected one page whose {kind}s count as {letter}.1, {letter}.2, ..., got {other} and {page}; "
                    "give one of the files a name that begins with another letter",
                    location=page,
                )
            ordered = sorted(numbers, key=numbers.__getitem__)
            lettered: dict[str, Any] = {anchor: (letter, count) for count, anchor in enumerate(ordered, start=1)}
            kinds[kind] = lettered  # Sphinx joins the parts of a number with dots, whatever they are
    return []


def _close_caption(writer: HTML5Translator, caption: table_caption) -> None:
    writer.depart_caption(caption)
    writer.body.append("</figcaption>\n")


def _close_table(writer: HTML5Translator, table: captioned_table) -> None:
    writer.body.append("</figure>\n")
