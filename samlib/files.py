"""Writing files so that a reader sees the old one, the new one or none, whatever kills the writer and whenever."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], *, replace: bool = True) -> None:
    """Write through a temporary file in the same folder, which is flushed to disk and then moved into place.

    Args:
        path: the file; its folder exists.
        write: writes the contents into an open binary file.
        replace: whether an existing file is replaced. If not, it is left as it is.
    Raises:
        FileExistsError: there is such a file already, and it may not be replaced.
        OSError: the folder is not writable or the disk is full; the temporary file is removed.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path))
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)  # unlike a move, it fails where the file exists
            os.unlink(name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def temporary_prefix(path: Path) -> str:
    """Return how the names of a file's temporary copies begin; what a killed writer leaves has such a name."""
    return f".{path.name}."


def remove_leftovers(path: Path) -> None:
    """Remove the temporary copies of a file that a killed writer left; only for the one who may write it."""
    for leftover in path.parent.glob(f"{temporary_prefix(path)}*"):
        leftover.unlink(missing_ok=True)
