"""The page on the architecture: a map of both packages, drawn from the contract on imports that `make lint` holds."""

import ast
import html
import tomllib
from collections.abc import Sequence

from edition.runs import REPOSITORY


def layers() -> dict[str, list[list[str]]]:
    """Read who may import whom: package -> its layers from above to below, each a list of modules side by side."""
    contract = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    found = {}
    for item in contract["contracts"]:
        rows = [[name.strip() for name in row.split("|")] for row in item.get("layers", ())]
        if rows and "." in rows[0][0]:
            found[rows[0][0].partition(".")[0]] = rows
    return found


def architecture_map() -> str:
    """Draw the map as HTML: a column a package, a box a layer; each imports only what stands below it."""
    columns = []
    for package, rows in sorted(layers().items()):
        boxes = "".join(f"<div>{''.join(_box(name) for name in row)}</div>" for row in rows)
        columns.append(f"<section><h4><code>{package}</code></h4>{boxes}</section>")
    return f'<div class="architecture">{"".join(columns)}</div>'


def walk(steps: Sequence[tuple[str, str]]) -> str:
    """Return the way of a number as an HTML list: what happens, and the file in which it does.

    Args:
        steps: (file, words) in order.
    Raises:
        ValueError: there is no such file.
    """
    missing = [name for name, _ in steps if not (REPOSITORY / name).exists()]
    if missing:
        raise ValueError(
            f"steps: expected files of the repository, found none at {', '.join(missing)}; correct the page"
        )
    items = "".join(f"<li><code>{html.escape(name)}</code>: {html.escape(words)}</li>" for name, words in steps)
    return f"<ol>{items}</ol>"


def _box(name: str) -> str:
    """One module or package with the first line of what it says of itself."""
    place = REPOSITORY.joinpath(*name.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    told = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return f"<div><code>{name.partition('.')[2]}</code> {html.escape(told)}</div>"
