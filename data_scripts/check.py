"""`python -m data_scripts.check [ROOT]`: which of the book's real image pairs a data folder holds.

ROOT is a folder in the layout of the README's section "Real data"; where it is left out, $SAMLIB_DATA is read.
"""

import argparse

from edition.console import run_piped
from samlib.data_root import data_root
from samlib.images.catalogue import PAIRS
from samlib.images.tiles import load_pair


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and print the report; the exit status is 1 where a pair is missing."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.check", description="Say which image pairs are here.")
    parser.add_argument("root", nargs="?", metavar="ROOT", help="the data folder; left out, $SAMLIB_DATA")
    root = data_root(parser.parse_args(arguments).root)
    status = 0
    for name in PAIRS:
        try:
            source = load_pair(name, root)
            text = f"found, {source.n_classes} classes of {' and '.join(source.features)}"
        except (ValueError, OSError) as error:
            text, status = str(error), 1
        print(f"{name:14} {text}")
    return status


if __name__ == "__main__":
    raise SystemExit(run_piped(main))
