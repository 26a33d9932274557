"""What a command's output meets outside Python: pipes that close early, and encodings that lack characters."""

import io
import os
import select
import sys
from collections.abc import Callable

CLOSED = 141
"""Exit status where the reader of the output has gone, as shells report it of other programs (128 + SIGPIPE)."""


def run_piped(command: Callable[[], int]) -> int:
    """Run a command so that its output can go through any pipe.

    Characters that the output's encoding lacks are replaced. Where the reader closes the pipe, as `head` does, the
    command ends without a word.

    Args:
        command: prints and returns the exit status.
    Returns:
        The command's exit status, or `CLOSED`.
    Side effects:
        Changes how the standard output treats characters it cannot encode.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:  # closed by the caller, as `>&-` does
                sys.stdout.flush()
    except BrokenPipeError:
        if not _discard_closed():
            raise  # a pipe of the command's own
        return CLOSED


def _discard_closed() -> bool:
    """Let go what waits for a reader that has gone, lest the interpreter try again; say if there is such."""
    closed = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        state = select.poll()
        state.register(stream.fileno(), 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in state.poll(0)):
            closed = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return closed
