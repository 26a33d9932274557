"""What an execution depends on, reduced to one key: the same key means the outputs need not be made again.

PyTorch, seconds to import, is imported by the function that asks it: the Sphinx extensions of this package never do.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from nbformat import NotebookNode

from edition.publish.cells import code_cells
from samlib.data_root import data_root

# Beside those a number can depend on, what a figure, a table or a widget can.
PAGE_LIBRARIES = ("matplotlib", "pandas", "scipy", "ipywidgets")


def tree_digest(folder: Path, *, suffixes: Sequence[str] = ("",), skip: Iterable[str] = ()) -> str:
    """Hash the names and contents of every file below a folder.

    Args:
        folder: may be absent, which counts as empty.
        suffixes: hash only files whose name ends with one of them; "" takes all.
        skip: first-level names to leave out.
    Returns:
        A SHA-256 in hexadecimal, the same on every machine that holds the same files.
    """
    digest = hashlib.sha256()
    left_out = {"__pycache__", ".ipynb_checkpoints"}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        parts = path.relative_to(folder).parts
        wanted = path.is_file() and path.name.endswith(tuple(suffixes))
        if wanted and parts[0] not in set(skip) and not left_out.intersection(parts):
            digest.update("/".join(parts).encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def data_listing() -> list[str]:
    """List what lies below $SAMLIB_DATA down to where each set's files begin, so that one that arrives is noticed.

    Stored activations are no data: runs make them, and they change no output.
    """
    root = data_root()
    if root is None or not root.is_dir():
        return []
    patterns = ("*", "*/*", "*/raw/*", "prepared/*/*")
    found = (path.relative_to(root) for pattern in patterns for path in root.glob(pattern))
    return sorted(path.as_posix() for path in found if path.parts[0] != "activations")


def surroundings(root: Path) -> dict[str, object]:
    """Collect what every chapter's key shares: library, records, data sets at hand, versions, device.

    Returns:
        Plain values, to be passed to `chapter_key`.
    """
    import torch

    from edition.records import provenance

    return {
        "library": tree_digest(root / "samlib", suffixes=(".py",))
        + tree_digest(root / "edition", suffixes=(".py", ".js", ".html", ".toml"), skip=("publish",)),
        "layers": [hashlib.sha256(file.read_bytes()).hexdigest() for file in root.glob("pyproject.toml")],
        "records": tree_digest(root / "results", skip=("local", ".work")),  # a reader's own runs only save time
        "data": data_listing(),
        "versions": provenance.versions() | {name: importlib.metadata.version(name) for name in PAGE_LIBRARIES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def chapter_key(source: NotebookNode, parameters: dict[str, str], shared: dict[str, object]) -> str:
    """Reduce a chapter's code, its parameters and its surroundings to one key.

    Args:
        source: the chapter. Prose, outputs, ids and captions do not enter: they need no execution.
        parameters: what papermill will inject.
        shared: `surroundings` of the repository.
    Returns:
        A SHA-256 in hexadecimal.
    """
    code = [[cell.source, sorted(cell.metadata.get("tags", []))] for cell in code_cells(source)]
    text = json.dumps({"code": code, "parameters": parameters, **shared}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
