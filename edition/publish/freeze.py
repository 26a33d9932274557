"""Write executed, cleaned outputs into the committed chapters."""

from typing import Any

import nbformat

from edition.publish.execute import execute_book, write_notebook
from edition.publish.layout import Layout, chapters


def freeze(layout: Layout, *, progress_bar: bool = True) -> list[str]:
    """Execute what changed and write every chapter, with clean outputs, over its source.

    Args:
        layout: the folders; `profile` must be None, for a committed chapter shows its own default.
        progress_bar: whether papermill shows its bar.
    Returns:
        The chapters whose file changed; empty on a second call.
    Raises:
        ValueError: the layout passes a profile.
        ChapterError: a cell failed; no chapter is written then.
    Side effects: overwrites the notebooks of the table of contents.
    """
    if layout.profile is not None:
        raise ValueError(
            f"freeze: expected the chapters' own parameters, got profile={layout.profile!r}; "
            "freeze the default build, or change the default in the chapter"
        )
    execute_book(layout, progress_bar=progress_bar)
    changed = []
    for chapter in chapters(layout.root):
        before = (layout.root / chapter).read_bytes()
        notebook: Any = nbformat.read(layout.stage / chapter, as_version=4)
        write_notebook(layout.root / chapter, notebook)
        if (layout.root / chapter).read_bytes() != before:
            changed.append(chapter)
    return changed
