"""The table of constants, as a Sphinx extension: it takes its place on the page of decisions when the page is read."""

from typing import Any

from sphinx.application import Sphinx

from edition.experiments.constants import PATH, table

PLACE = "% the constants"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the event of a page being read."""
    app.connect("source-read", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the table where the page says `PLACE`; the page is read again when the file of constants changes."""
    if PLACE in source[0]:
        source[0] = source[0].replace(PLACE, table())
        app.env.note_dependency(str(PATH))
