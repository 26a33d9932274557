"""Writing files so that a reader sees the old one, the new one or none, whatever kills the writer and whenever."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO

NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.ENOSYS, errno.ENOLCK)
"""What systems answer where a file system has no hard links or no locks, such as exFAT and some shares."""


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
    name = str(path.with_name(temporary_prefix(path) + secrets.token_hex(8)))
    # As an ordinary file: whoever may read it is the umask's business, unlike tempfile's.
    handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            _move_to_free_name(Path(name), path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _move_to_free_name(source: Path, path: Path) -> None:
    """Move a whole file to a name that must not exist, also where the file system has no hard links.

    There, writers exclude each other by a file that only one can create, since a move alone would replace silently.
    """
    try:
        os.link(source, path)  # unlike a move, it fails where the file exists
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
    else:
        os.unlink(source)
        return
    guard = path.with_name(f"{temporary_prefix(path)}writer")
    os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        os.replace(source, path)
    finally:
        os.unlink(guard)


def temporary_prefix(path: Path) -> str:
    """Return how the names of a file's temporary copies begin; what a killed writer leaves has such a name."""
    return f".{path.name}.tmp-"  # unlike the copies of editors, such as .x.json.swp


def remove_leftovers(path: Path) -> None:
    """Remove the temporary copies of a file that a killed writer left; only for the one who may write it."""
    for leftover in path.parent.glob(f"{temporary_prefix(path)}*"):
        leftover.unlink(missing_ok=True)
