"""Figures of the appendices: noise (Figure 9) and batch size (Figure 10)."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.figures import style
from edition.figures.bands import mean_curve, seeds_word
from edition.runs.results import pick

NOISE_TITLES = {
    "flip": "flipped feature labels, probability",
    "gaussian_noise": "Gaussian noise, standard deviation",
    "dropout": "feature dropout, probability",
}


def noise(table: pd.DataFrame) -> Figure:
    """Figure 9: hard-feature probing error against rho, one panel a noise and scope, one curve a level."""
    figure, axes = plt.subplots(2, 3, figsize=(9.8, 6.2), sharex=True, sharey=True)
    clean = table[(table[list(NOISE_TITLES)] == 0).all(axis=1)]
    for row, scope in zip(axes, ("both", "hard"), strict=True):
        for panel, (name, title) in zip(row, NOISE_TITLES.items(), strict=True):
            noisy = pick(table[table[name] > 0], noisy_features=scope)
            levels = [(0.0, clean), *noisy.groupby(name)]
            for level, rows, colour in style.ordered(levels):
                mean_curve(panel, rows, x="rho", y="final_hard_error", colour=colour, label=f"{level:g}")
            panel.set_title(title if scope == "both" else None, fontsize=9.5)
            panel.legend(fontsize=8, ncols=2)
    for panel, scope in zip(axes[:, 0], ("noise on both features", "noise on the hard one"), strict=True):
        panel.set_ylabel(f"{scope}\nhard-feature probing error", fontsize=9)
    for panel in axes[1]:
        panel.set_xlabel(r"perturbation radius $\rho$")
    axes[0, 0].set_ylim(-0.01, 0.56)
    figure.supxlabel(seeds_word(table), fontsize=8.5, color=style.NEUTRAL)
    return figure


def batch_sizes(equal_epochs: pd.DataFrame, equal_steps: pd.DataFrame) -> Figure:
    """Figure 10: hard-feature probing error (above) and test error (below) against rho, one curve a batch size."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 6.6), sharex=True, sharey="row", height_ratios=(1.6, 1))
    for column, table, title in zip(axes.T, (equal_epochs, equal_steps), ("equal epochs", "equal steps"), strict=True):
        for size, rows, colour in style.ordered(table.groupby("batch_size")):
            mean_curve(column[0], rows, x="rho", y="final_hard_error", colour=colour, label=f"{size}")
            mean_curve(column[1], rows, x="rho", y="final_test_error", colour=colour)
        column[0].set_title(title)
        column[1].set_xlabel(r"perturbation radius $\rho$")
    axes[0, 0].set(ylabel="hard-feature probing error", ylim=(-0.01, 0.6))
    axes[1, 0].set(ylabel="test error (label)", ylim=(-0.01, None))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title=f"batch size ({seeds_word(equal_steps)})", ncols=8, loc="outside lower center")
    return figure
