"""The toy's constants, read from `constants.toml` beside this file: values, sources, and the runs that rest on them."""

import functools
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

PATH = Path(__file__).with_name("constants.toml")


class Constant(NamedTuple):
    """One constant; `constants.toml` says what the fields mean."""

    what: str
    value: Any
    paper: str
    why: str
    source: str
    runs: tuple[str, ...]


@functools.cache
def constants(path: Path = PATH) -> dict[str, dict[str, Constant]]:
    """Read the file: part ("base" or "grids") -> name -> constant; lists become tuples.

    Raises:
        ValueError: a row lacks a field or has one too many; the message names it.
    """
    found: dict[str, dict[str, Constant]] = {}
    for part, rows in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for name, row in rows.items():
            if set(row) != set(Constant._fields):
                raise ValueError(
                    f"{path}: expected {', '.join(Constant._fields)} of {name}, got {', '.join(row)}; correct the row"
                )
            plain: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
            }
            found.setdefault(part, {})[name] = Constant(**plain)
    return found


def values(part: str) -> dict[str, Any]:
    """Return name -> value of one part."""
    return {name: constant.value for name, constant in constants()[part].items()}


def table() -> str:
    """Return the constants as a Markdown table, a row each, for the page of decisions."""
    head = "| what | the paper says | we chose, and why | source | rests on it |\n|---|---|---|---|---|"
    return "\n".join([head, *(_row(c) for part in constants().values() for c in part.values())])


def _row(constant: Constant) -> str:
    value = constant.value
    shown = ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else _shown(value)
    runs = "all toy runs" if constant.runs == ("all",) else ", ".join(f"`{name}`" for name in constant.runs)
    return f"| {constant.what} | {constant.paper} | {shown}: {constant.why} | {constant.source} | {runs} |"


def _shown(value: Any) -> str:
    """One value as a reader sees it."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"
