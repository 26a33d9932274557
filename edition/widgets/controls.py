"""Chapter 7's slider: every method by every measure, from records."""

from collections.abc import Mapping

import pandas as pd

from edition.figures.controls import SHOWN, measured, measured_in_words
from edition.widgets.frames import Frames, slider


def measure_explorer(tables: Mapping[str, pd.DataFrame]) -> Frames:
    """Draw all methods once a measure, the hard feature's probing error first, and put a slider over the measures.

    Args:
        tables: title of the task -> what `edition.claims.controls.control_table` returned.
    Returns:
        An object that Jupyter displays.
    """
    columns = {heading: metric for metric, (heading, _, _) in SHOWN.items()}
    return slider(
        lambda heading: measured(tables, columns[heading]),
        list(columns),
        label="measure",
        alt=lambda heading: measured_in_words(tables, columns[heading]),
    )
