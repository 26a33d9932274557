"""The reference from docstrings, as a Sphinx extension: docstrings in reStructuredText, and links from code to them."""

import html
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

PAGES = "book/api"  # how their names begin
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Side effects", "Example")
NAMED = ("Args", "Attributes", "Raises")  # sections of "name: text"
IMPORT = re.compile(r"^from (samlib[\w.]*) import (?:\(([^)]*)\)|(.*))$", re.M)
NAME = re.compile(r'<span class="n">(\w+)</span>')


def setup(app: Sphinx) -> dict[str, Any]:
    """Load autodoc, and connect to its docstrings and to the finished pages."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", link_names)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Replace a docstring's lines, in place, by reStructuredText; the last one leads to the source."""
    lines[:] = to_rst("\n".join(lines)).split("\n")
    module = getattr(obj, "__module__", None)
    if what in ("class", "function") and module:
        lines += [
            "",
            ".. raw:: html",
            "",
            f'   <p><a href="../code/{module}.html#{obj.__qualname__}">source</a></p>',
            "",
        ]


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a named tuple's fields, which the class describes and Python calls "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def to_rst(docstring: str) -> str:
    """Turn a docstring of this project's template into reStructuredText.

    Prose is taken literally but for `code`; indented blocks outside of sections are code; examples stay as they are.

    >>> print(to_rst("Add *b.\\n\\nArgs:\\n    b: a `float`."))
    Add \\*b.
    <BLANKLINE>
    **Args**
    <BLANKLINE>
    ``b``
       a ``float``.
    """
    return "\n\n".join(part for title, body in _sections(docstring) for part in _rst(title, body))


def link_names(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Link names in a page's code that it imports from samlib to their place in the reference."""
    if doctree is None or "body" not in context or page.startswith(PAGES):
        return
    code = "\n".join(node.astext() for node in doctree.findall(nodes.literal_block))
    known = {name: (place, anchor) for name, _, _, place, anchor, _ in app.env.get_domain("py").get_objects()}
    anchors = {}
    for module, several, one in IMPORT.findall(code):
        for name in re.findall(r"\w+", several or one):
            if f"{module}.{name}" in known:
                place, anchor = known[f"{module}.{name}"]
                anchors[name] = f"{app.builder.get_relative_uri(page, place)}#{anchor}"

    def link(match: re.Match[str]) -> str:
        address = anchors.get(match[1])
        return match[0] if address is None else f'<a class="reference" href="{html.escape(address)}">{match[0]}</a>'

    context["body"] = NAME.sub(link, context["body"])


def _sections(docstring: str) -> Iterator[tuple[str, str]]:
    """Split a docstring into (title, body); the title of what stands before the sections is ""."""
    pattern = rf"^({'|'.join(SECTIONS)}): *"
    parts = re.split(pattern, docstring.strip("\n"), flags=re.M)
    yield "", parts[0]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        first, _, rest = body.partition("\n")
        yield title, "\n".join(filter(None, (first, textwrap.dedent(rest))))


def _rst(title: str, body: str) -> Iterator[str]:
    """One section's paragraphs."""
    if title:
        yield f"**{title}**"
    if title in NAMED and (entries := re.findall(r"^(\S[^:\n]*): (.*(?:\n(?:[ ].*)?)*)", body, re.M)):
        for name, text in entries:
            told = " ".join(text.split())
            yield f"``{name}``\n   {_prose(told)}"
        return
    for block in re.split(r"\n\s*\n", body.strip("\n")):
        if block.lstrip().startswith(">>>"):
            yield textwrap.dedent(block)
        elif block.startswith("    "):
            yield "::\n\n" + textwrap.indent(textwrap.dedent(block), "   ")
        elif block.strip():
            yield _prose(" ".join(line.strip() for line in block.splitlines()))


def _prose(text: str) -> str:
    """Escape what reStructuredText would read as markup, and mark `code`."""
    parts = text.split("`")
    return "".join(
        f"``{part}``" if n % 2 and part else re.sub(r"([\\*|_])", r"\\\1", part) for n, part in enumerate(parts)
    )
