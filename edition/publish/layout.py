"""Where the sources lie, where a build writes, and which chapters the book has."""

import dataclasses
from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml

# Whose sources get pages.
PACKAGES = tuple(Path(__file__).resolve().parents[2] / name for name in ("samlib", "edition"))


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders of one build. Nothing under `root` is written except `work`.

    Args:
        root: the repository: `_config.yml`, `_toc.yml`, `book/`, `samlib/`, `edition/`, `results/`.
        work: the build folder, `root/_build` or `root/_build/quick`.
        profile: the parameter `profile` passed to the chapters; None keeps each chapter's own default.
        frozen: whether a chapter without a fresh execution shows its committed outputs, instead of being executed.

    >>> Layout(root=Path("repo"), work=Path("repo/_build")).html.as_posix()
    'repo/_build/html'
    """

    root: Path
    work: Path
    profile: str | None = None
    frozen: bool = False

    @property
    def stage(self) -> Path:
        """The copy of the sources, with executed chapters, that the pages are built from."""
        return self.work / "stage"

    @property
    def executed(self) -> Path:
        """The chapters as papermill left them, each with the stamp that says what it was executed from."""
        return self.work / "executed"

    @property
    def html(self) -> Path:
        """The built pages."""
        return self.work / "html"

    @property
    def record(self) -> Path:
        """The execution record of the last build."""
        return self.work / "execution.json"


def chapters(root: Path) -> list[str]:
    """List the chapters of `_toc.yml` that are notebooks, in reading order.

    Returns:
        Paths relative to `root`, such as "book/02_toy_setup.ipynb".
    Raises:
        ValueError: the table of contents names a page that is neither an .ipynb nor an .md file.
    """
    found = []
    for page in parse_toc_yaml(root / "_toc.yml"):
        if (root / f"{page}.ipynb").is_file():
            found.append(f"{page}.ipynb")
        elif not (root / f"{page}.md").is_file():
            raise ValueError(
                f"_toc.yml: expected {page}.ipynb or {page}.md, found neither; add the page or take its line out"
            )
    return found
