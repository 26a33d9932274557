"""Where the real data sets are: the one reading of SAMLIB_DATA and of a folder that a reader names."""

import os
from pathlib import Path

VARIABLE = "SAMLIB_DATA"


def data_root(given: str | Path | None = None) -> Path | None:
    """Return the data folder, absolute, whether or not it is there; None where the reader has none.

    A leading ~ is the reader's home, and a relative path counts from the working folder at the time of the call: what
    is handed on to another process means the same folder there.

    Args:
        given: what a command or a chapter was told; empty or None stands for the environment variable.
    """
    value = given or os.environ.get(VARIABLE)
    return Path(os.path.abspath(Path(value).expanduser())) if value else None
