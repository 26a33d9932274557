"""One look for all figures: a palette keyed by meaning, safe for colour-blind readers, and one set of sizes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

# One palette a meaning: no two meanings share a colour, and readers with any common colour blindness tell a pair apart.
SGD = "#0072B2"
SAM = "#D55E00"  # SAM and LSAM
EASY = "#117733"
HARD = "#CC79A7"
REAL = "#1A1A1A"
PHANTOM = "#C2255C"
POSITIVE = "#4B3F9E"  # label +1
NEGATIVE = "#A67C00"  # label -1
IMPORTANCE = "#00838F"  # the two factors of the gradient that LSAM changes
RATE = "#7B4A12"
NEUTRAL = "#6b6b6b"
DARK = "#33363b"  # beside NEUTRAL, where two things are none of these
PALETTES = {
    "method": {"SGD": SGD, "SAM and LSAM": SAM},
    "feature": {"easy": EASY, "hard": HARD},
    "parameters": {"real": REAL, "phantom": PHANTOM},
    "label": {"+1": POSITIVE, "-1": NEGATIVE},
    "factor": {"importance weights": IMPORTANCE, "learning rates": RATE},
}

_SETTINGS: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",  # the one that matplotlib brings: no system's font is looked for
    "mathtext.fontset": "dejavusans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "samlib",
}

# From light to dark in one hue: ordered quantities such as complexity, noise level and batch size.
SEQUENCE = LinearSegmentedColormap.from_list("sequence", ["#f2a65a", "#c8553d", "#7b2d43", "#2d1e3e"])
# Two signs of a margin in the labels' colours, white where undecided.
SIGNED = LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE])
# Whose error is lower, in the methods' colours; where the phantom's value is lower or higher.
BETTER = LinearSegmentedColormap.from_list("better", [SAM, "#ffffff", SGD])
MOVED = LinearSegmentedColormap.from_list("moved", [NEUTRAL, "#ffffff", PHANTOM])


@contextmanager
def style() -> Iterator[None]:
    """Apply the book's look to the figures made inside; the reader's own settings come back afterwards."""
    with mpl.rc_context(_SETTINGS):
        yield


def sequence_colour(index: int, n: int) -> tuple[float, float, float, float]:
    """Return colour `index` of n ordered ones.

    >>> sequence_colour(0, 1) == SEQUENCE(0.0)
    True
    """
    return SEQUENCE(index / max(n - 1, 1))


def ordered(groups: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any, tuple[float, float, float, float]]]:
    """Give each of some (value, rows) its colour of the sequence: (value, rows, colour)."""
    found = list(groups)
    return [(value, rows, sequence_colour(i, len(found))) for i, (value, rows) in enumerate(found)]


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame away: what is left is the picture inside."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
