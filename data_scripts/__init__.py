"""Scripts that look after the real data sets; the data themselves are never part of this repository.

`check` says which image pairs a folder holds, `fetch` downloads official releases into it, `prepare` turns them into
the arrays that training reads.
"""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from samlib.data_root import data_root as read_data_root


class DataError(Exception):
    """What is wrong with a data set, in one message for the reader: what was expected, what came, what to do."""


def data_root(given: str | None) -> Path:
    """Return the data folder that a command works in.

    Args:
        given: the command's --root; None stands for $SAMLIB_DATA.
    Raises:
        DataError: neither is given.
    """
    root = read_data_root(given)
    if root is None:
        raise DataError("expected a data folder, got neither --root nor SAMLIB_DATA; pass --root DIR")
    return root


def explained(error: DataError | OSError) -> str:
    """Return an error for the reader; of a place that may not be read or written, it says what to do."""
    if isinstance(error, DataError) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return str(error)
    return (
        f"{error.filename}: expected a place that may be read and written, got {error.strerror}; change what is "
        f"allowed there, or pass as --root a folder of your own, with links (ln -s) to the sets that are there already"
    )


def run_command(command: Callable[[], int]) -> int:
    """Run a command's body, turning what a reader can put right into one line on standard error.

    Returns:
        The body's exit status, 1 after an error, 130 after an interrupt.
    Side effects:
        Prints.
    """
    try:
        return command()
    except BrokenPipeError:
        raise
    except (DataError, OSError) as error:
        print(f"error: {explained(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
