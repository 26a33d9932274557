"""Numbers, as a Sphinx extension: a cell's table counts as a table, and a page without a number counts by a letter."""

from collections.abc import Iterable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

TABLE = "table"
BEFORE_LABELS = 840  # at 850 Sphinx notes which name stands for which node


class captioned_table(nodes.figure):
    """A figure that holds a table, and is numbered and referred to as one."""


class TablesOfCells(SphinxTransform):
    """Replace each figure of the class `table`; MyST-NB makes such figures as their cells' metadata say."""

    default_priority = BEFORE_LABELS

    def apply(self, **_: Any) -> None:
        """Replace the figures of one page; ids, names and other classes stay."""
        for figure in list(self.document.findall(nodes.figure)):
            if TABLE in figure["classes"]:
                attributes = {name: value for name, value in figure.attributes.items() if name != "classes"}
                # Bootstrap, which the theme uses, gives the class a meaning of its own.
                classes = [name for name in figure["classes"] if name != TABLE]
                table = captioned_table("", *figure.children, classes=classes, **attributes)
                table.source, table.line = figure.source, figure.line
                figure.parent.replace(figure, table)
                self.document.ids.update(dict.fromkeys(table["ids"], table))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the node, the transform, and the step after Sphinx's own numbering."""
    app.add_enumerable_node(captioned_table, TABLE)
    app.add_transform(TablesOfCells)
    app.connect("env-get-updated", count_by_letter, priority=900)  # after Sphinx has counted through the book
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def count_by_letter(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """Number the figures and tables of pages without a section number from 1, after the first letter of the page.

    Sphinx counts them through all such pages together: "Fig. 7" may stand on one page and "Fig. 8" three pages on.

    Args:
        app: the running Sphinx.
        env: what it knows of the book; its numbers are changed.
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
            kinds[kind] = {anchor: (letter, count) for count, anchor in enumerate(ordered, start=1)}
    return []
