"""What a full disk means, before and during a write."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_scripts import DataError


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
    """Turn the error of a disk that fills up during a write into a NoSpaceError.

    Args:
        folder: where is written.
        advice: what to do, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpaceError(f"{folder}: no space left on the disk; {advice}") from error


def move(path: Path, target: Path) -> None:
    """Give a finished file or folder its name in one step, on the same disk.

    Args:
        path: what is moved.
        target: does not exist, or is an empty folder.
    Raises:
        OSError: target is a folder with something in it.
    Side effects:
        The move is on disk when this returns.
    """
    os.rename(path, target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
