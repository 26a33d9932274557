"""What a full disk means, before and during a write."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_scripts import DataError
from samlib.files import write_atomically


class NoSpaceError(DataError):
    """The disk is full."""


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse to begin what cannot fit.

    Args:
        folder: exists; the disk is the one it lies on.
        needed: bytes.
        purpose: what they are for, as in "the download".
    Raises:
        NoSpaceError: fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpaceError(
            f"{folder}: no space left on the disk: expected {needed:,} free bytes for {purpose}, got {free:,}; free "
            f"some, or pass another --root"
        )


@contextlib.contextmanager
def full_disk_explained(folder: Path, advice: str) -> Iterator[None]:
    """Turn the error of a disk that fills up while a folder is written to into a NoSpaceError with advice."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpaceError(f"{folder}: no space left on the disk; {advice}") from error


def move(path: Path, target: Path) -> None:
    """Give a finished file or folder its name in one step; a file may come from another disk.

    Args:
        target: does not exist, or is an empty folder.
    Raises:
        OSError: target is a folder with something in it; path is a folder on another disk.
    Side effects:
        The move is on disk when this returns.
    """
    try:
        os.rename(path, target)
    except OSError as error:  # a set's folder may be a link to another disk
        if error.errno != errno.EXDEV or not path.is_file():
            raise
        with path.open("rb") as source:
            write_atomically(target, lambda out: shutil.copyfileobj(source, out))
        path.unlink()
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
