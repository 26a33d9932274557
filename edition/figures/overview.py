"""The book in one picture: what SGD and LSAM know of the hard feature, and how that depends on the radius.

`python -m edition.figures.overview FILE` writes it from the committed records; the README and the landing page show it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.figures import style
from edition.figures.bands import mean_curve
from edition.figures.toy_setup import draw_contour
from edition.records.kept import checkpoints
from edition.records.store import Record
from edition.runs.results import pick, read


def overview(kept: Sequence[Record], table: pd.DataFrame) -> Figure:
    """Draw the hard feature's contours for SGD and LSAM at seed 0 beside the probing errors at 360° against the radius.

    Args:
        kept: records of the experiment "checkpoints", SGD first.
        table: seed table of the experiment "complexity".
    """
    figure, (sgd, lsam, errors) = plt.subplots(1, 3, figsize=(8.0, 2.7), width_ratios=(1, 1, 1.25))
    for panel, record, name in zip((sgd, lsam), kept, ("SGD", "LSAM: SAM on the last layer"), strict=True):
        weights, examples = checkpoints(record)[-1].member(0)
        draw_contour(panel, weights, examples, 1)
        panel.set_title(name)
    sgd.set_ylabel("hard feature")
    rows = pick(table, complexity=360.0)
    mean_curve(errors, rows, x="rho", y="final_hard_error", colour=style.HARD, label="hard feature's probe")
    mean_curve(errors, rows, x="rho", y="final_easy_error", colour=style.EASY, label="easy feature's probe")
    mean_curve(errors, rows, x="rho", y="final_test_error", colour=style.NEUTRAL, label="label (test error)", line="--")
    errors.set(xlabel=r"radius $\rho$  (0 is SGD)", ylabel="error", title=f"360°, n = {rows.seed.nunique()} seeds")
    errors.legend(fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture from the records of profile "paper" to the file named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m edition.figures.overview", description="Draw the book's picture.")
    parser.add_argument("file", type=Path, metavar="FILE.png", help="where to write it")
    file = parser.parse_args(arguments).file
    kept, complexity = (read(name, "paper") for name in ("checkpoints", "complexity"))
    if not (kept.complete and complexity.complete):
        raise SystemExit(
            "expected complete records of 'checkpoints' and 'complexity', some are missing; run `make paper`"
        )
    with style.style():
        figure = overview(kept.records, complexity.table)
        figure.savefig(file, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
