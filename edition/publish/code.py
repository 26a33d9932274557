"""Source pages, as a Sphinx extension: each module that a page links to, with an anchor at each name.

Sphinx's own viewcode makes them of what autodoc documents, and links from there alone.
"""

import html
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from edition.publish.layout import PACKAGES
from edition.publish.repository import BRANCH

LINK = re.compile(r'href="\.\./code/([^"#]*)\.html(?:#([^"]*))?"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the pages to Sphinx's event for those that an extension adds."""
    app.connect("html-collect-pages", collect_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make the source pages that the book's pages link to; a link to none is a warning, which stops the build.

    Yields:
        A page's name, what its template shows, and the template.
    """
    for module, links in _links(app).items():
        path = _path(module)
        source = path.read_text(encoding="utf-8") if path else ""
        lines = anchors(source)
        for page, name in links:
            if path is None or (name and name not in lines):
                wanted, what = (
                    (f"a name that {module} defines", name) if path else ("a module of samlib or edition", module)
                )
                logging.getLogger(__name__).warning(
                    f"link to a source page: expected {wanted}, got {what!r}; correct the link", location=page
                )
        if path:
            yield f"code/{module}", {"title": module, "body": _body(app, module, path, source, lines)}, "page.html"


def anchors(source: str) -> dict[str, int]:
    """Find where a module defines its functions and classes, and these their methods.

    Returns:
        Qualified name -> number of the line, that of the first decorator where there is one.

    >>> sorted(anchors("class A:\\n    @property\\n    def b(self): ...").items())
    [('A', 1), ('A.b', 2)]
    """
    return {name: line for name, (_, line, _) in ModuleAnalyzer.for_string(source, "").find_tags().items()}


def _links(app: Sphinx) -> dict[str, list[tuple[str, str]]]:
    """Collect the links in the book's HTML: module -> the pages that link to it, with the name each asks for."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for page in sorted(app.env.found_docs):
        for raw in app.env.get_doctree(page).findall(nodes.raw):
            for module, name in LINK.findall(raw.astext()):
                found[module].append((page, html.unescape(name)))
    return found


def _path(module: str) -> Path | None:
    """The file of a module, None where there is none."""
    package, *parts = module.split(".")
    for folder in PACKAGES:
        place = folder.joinpath(*parts)
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if package == folder.name and path.is_file():
                return path
    return None


def _body(app: Sphinx, module: str, path: Path, source: str, lines: dict[str, int]) -> str:
    """A source page's HTML: title, the file with a link to it where the repository is public, the text with anchors."""
    name = path.relative_to(PACKAGES[0].parent).as_posix()
    file = f"<code>{name}</code>"
    theme = app.config.html_theme_options
    if theme.get("use_repository_button"):  # without a repository Jupyter Book gives the address of its own
        file = f'<a href="{theme["repository_url"]}/blob/{BRANCH}/{name}">{file}</a>'
    highlighter = app.builder.highlighter  # type: ignore[attr-defined]
    shown = highlighter.highlight_block(source, "python").split("\n")
    for anchor, line in lines.items():
        opening, tag, text = shown[line - 1].rpartition("<pre>")  # which the first line begins with
        shown[line - 1] = f'{opening}{tag}<span id="{anchor}"></span>{text}'
    title = module.replace(".", ".<wbr>")  # a phone is narrower than the longest name
    return f'<h1>{title}</h1><p class="source">Source: {file}.</p>' + "\n".join(shown)
