"""Figure of chapter 6: SAM's gain in accuracy by target domain."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from samlib.figures import style


def gains_by_domain(table: pd.DataFrame) -> Figure:
    """Draw the paper's Table 2 as one bar a domain: accuracy of SAM minus accuracy of SGD, grouped by data set.

    Args:
        table: what `samlib.paper_tables.table_2` returned.
    """
    groups = list(table.groupby("data_set", sort=False))
    figure, axes = plt.subplots(1, len(groups), figsize=(9.4, 3.2), sharey=True, squeeze=False)
    for panel, (name, rows) in zip(axes[0], groups, strict=True):
        points = 100 * (rows.sam - rows.sgd)
        panel.bar(rows.domain, points, color=style.SAM, width=0.6)
        panel.axhline(points.mean(), color=style.NEUTRAL, lw=1, ls="--")
        panel.set_title(f"{name} (mean {points.mean():+.1f})")
        panel.tick_params(axis="x", labelsize=8, rotation=20)
        panel.grid(False, axis="x")
    axes[0, 0].set_ylabel("SAM − SGD, points of accuracy")
    return figure
