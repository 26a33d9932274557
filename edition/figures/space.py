"""Figures of chapter 8: the toy's claims over the space of the lost constants."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from edition.claims.moments import Moment, toy_moment
from edition.claims.space import Space, best, tested, wilson
from edition.figures import style
from edition.figures.bands import band, mean_point
from edition.figures.importance import draw_lorenz, draw_medians
from edition.figures.toy_setup import draw_contour
from edition.records.kept import KeptNetworks, checkpoints
from edition.records.store import Record
from samlib.measures.statistics import estimate
from samlib.search import AXES, FRACTIONS, REFERENCE, RUNS, setting_of

WORDS = {
    "learning_rate": "learning rate",
    "last_layer_init": "initial size of $v$",
    "easy_scale": r"$\gamma_{easy}$",
    "hard_scale": r"$\gamma_{hard}$",
    "complexity": "complexity",
    "hidden": "width",
    "batch_size": "batch size",
    "uniform_noise": "uniform noise",
    "easy_gap": "gap of the easy feature",
    "radius_profile": "radius of the spiral",
    "last_layer_draw": "draw of $v$",
}
MEANING = {
    "learning_rate": "step size of SGD and LSAM",
    "last_layer_init": "size of v_easy and v_hard at the start",
    "easy_scale": "γ_easy, which multiplies the easy feature",
    "hard_scale": "γ_hard, which multiplies the hard feature",
    "complexity": "degrees that an arm of the spiral turns",
    "hidden": "units of a hidden layer",
    "batch_size": "examples a step",
    "uniform_noise": "ε: half-width of the noise on the spiral",
    "easy_gap": "lower end of the easy feature's range; the upper one is 1",
    "radius_profile": "outer radius of the spiral: 1 (fixed), or growing with the angle, 1 at a full turn (angle)",
    "last_layer_draw": "v_easy and v_hard both of that size (equal), or each drawn between 0 and it (uniform)",
}
# As on the pages; contradicted is hatched, too.
STATE_COLOURS = {"confirmed": "#15803d", "mixed": "#f3d9a4", "undecided": "#dddddd", "contradicted": "#b91c1c"}
PAIRS = (("last_layer_init", "learning_rate"), ("hard_scale", "easy_scale"), ("complexity", "hard_scale"))


def shares(found: Space) -> Figure:
    """In which share of the settings each claim is in which state; black bars: Wilson intervals of confirmed."""
    table = found.shares
    figure, axes = plt.subplots(figsize=(8.4, 0.34 * len(table) + 1.2))
    for place, (_, row) in enumerate(table.iterrows()):
        n, left = tested(row), 0.0
        for state, colour in STATE_COLOURS.items():
            width = row[state] / n if n else 0.0
            hatch = "////" if state == "contradicted" else None
            label = state if place == 0 else None
            axes.barh(place, width, left=left, color=colour, label=label, hatch=hatch, edgecolor="white", lw=0)
            left += width
        if n:
            value = wilson(int(row["confirmed"]), n)
            axes.plot([value.low, value.high], [place, place], color="black", lw=1.6)
        axes.text(1.01, place, f"n = {n}", va="center", fontsize=7.5, color=style.NEUTRAL)
    axes.set_yticks(range(len(table)), labels=[str(id).removeprefix("toy-") for id in table.index], fontsize=8.5)
    axes.set(xlim=(0, 1), xlabel="share of the settings in which the premise holds and the claim could be tested")
    axes.invert_yaxis()
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize=8.5)
    return figure


def maps(found: Space) -> Figure:
    """The effect over three pairs of constants: a point a setting, crosses where the premise fails, a star the base."""
    figure, panels = plt.subplots(1, len(PAIRS), figsize=(10.2, 3.6))
    settings, counted = found.settings, found.counted
    limit = max(float(np.abs(found.gain[counted]).max(initial=0.0)), 1e-6)
    look: dict[str, Any] = {"vmin": -limit, "vmax": limit, "s": 16, "edgecolors": "#888888", "linewidths": 0.3}
    for panel, (x, y) in zip(panels, PAIRS, strict=True):
        fails = ~found.premise
        panel.plot(settings[x][fails], settings[y][fails], "x", color="#bbbbbb", markersize=3, lw=0, zorder=1)
        places = settings[x][counted], settings[y][counted]
        points = panel.scatter(*places, c=found.gain[counted], cmap=style.BETTER, **look)
        base = settings[settings.place == 0]
        panel.plot(base[x], base[y], "*", color="black", markersize=11)
        panel.set(xlabel=WORDS[x], ylabel=WORDS[y])
        for name, scale, axis in ((x, panel.set_xscale, panel.xaxis), (y, panel.set_yscale, panel.yaxis)):
            if AXES[name].log:
                scale("log")
                axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))  # few enough to be read
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
    figure.colorbar(points, ax=panels, label="hard error, LSAM minus SGD")
    return figure


def importance(found: Space) -> Figure:
    """Which constants matter to the effect: permutation importance of a forest on held-out settings."""
    table, score = found.importance
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    names = [WORDS[str(name)] for name in table.index]
    axes.barh(names, table.importance, xerr=table.sd, color=style.NEUTRAL, error_kw={"lw": 1})
    axes.invert_yaxis()
    axes.set(xlabel="loss of $R^2$ when shuffled, on held-out settings")
    axes.set_title(f"out-of-bag $R^2$ of the forest: {score:.2f}", fontsize=9, fontweight="normal")
    return figure


def redrawn(found: Space) -> Figure:
    """Figures 2 to 6 in the five settings in which most claims hold, a column each, as far as the records go."""
    rows = best(found)
    told = (
        "Figure 2(A)\nhard error",
        "Figure 2(B)\nratio",
        "Figure 4\n$\\tilde v_k/v_k$",
        "Figure 3, Gini\nphantom − real",
        "Figure 5, median\nphantom − real",
        "Figure 6\nhard error",
    )
    figure, panels = _columns(found, rows, told, size=(2.3, 1.88), sharey="row")
    for column, row in zip(panels.T, rows, strict=True):
        draw_setting(column, found, row)
    for panel in panels[:3, 0]:
        panel.legend(fontsize=7)
    if all((np.asarray(line.get_ydata()) > 0).all() for panel in panels[1] for line in panel.get_lines()):
        panels[1, 0].set_yscale("log")  # of all: the row shares its axis
    return figure


def draw_setting(column: Sequence[Axes], found: Space, row: int) -> None:
    """Draw one setting: error, ratios, rates against the radius, weights, interventions; 95 % intervals."""
    radii = slice(len(FRACTIONS))
    error, ratios, rates, evenness, medians, causes = column
    draw_curve(error, found.of("final_hard_error")[row, radii], style.HARD, "hard")
    draw_curve(error, found.of("final_easy_error")[row, radii], style.EASY, "easy")
    draw_curve(ratios, found.of("phantom_ratio")[row, radii], style.PHANTOM, "phantom")
    draw_curve(ratios, found.of("real_ratio")[row, radii], style.REAL, "real")
    draw_curve(rates, found.of("hard_rate")[row, radii], style.HARD, "hard")
    draw_curve(rates, found.of("easy_rate")[row, radii], style.EASY, "easy")
    rates.axhline(1.0, color=style.NEUTRAL, lw=0.8, ls=":")
    gini = found.weight("gini_phantom")[row, 1] - found.weight("gini_real")[row, 1]
    groups = [found.weight(name)[row, 1] for name in ("easy_worst", "hard_worst", "only_easy")]
    _points(evenness, [gini], ["all examples"], style.PHANTOM)
    _points(medians, groups, ["easy's\nworst", "hard's\nworst", "only\neasy"], style.PHANTOM)
    for panel in (evenness, medians):
        panel.axhline(0.0, color=style.NEUTRAL, lw=0.8, ls=":")
    names = ("radius 0", f"radius {FRACTIONS[REFERENCE]:g}", "fixed importance", "fixed rate", "fixed both")
    errors = found.of("final_hard_error")[row]
    _points(
        causes, [errors[RUNS.index(name)] for name in names], ["SGD", "LSAM", "weights", "rates", "both"], style.HARD
    )
    for panel in (error, ratios, rates):
        panel.set_xlabel(r"$\rho\,/\,\Vert v\Vert$", fontsize=8)


Kept = tuple[list[KeptNetworks], list[Moment]]
"""SGD's and LSAM's last networks in one setting, and the importance weights of both at LSAM's radius."""


def best_networks(found: Space, records: Sequence[Record]) -> dict[int, Kept]:
    """What is on record of the networks in the settings of `best`: row -> networks and weights; others are left out.

    Args:
        found: the search.
        records: of the experiment "best_settings".
    """
    last = sorted((checkpoints(record)[-1] for record in records), key=lambda kept: kept.config.rho)
    networks = {}
    for row in best(found):
        setting = dict(found.settings.loc[row, list(AXES)])
        own = [kept for kept in last if setting_of(kept.config) == setting]
        if len(own) == 2:
            networks[row] = own, [toy_moment(kept, own[1].config.rho) for kept in own]
    return networks


def contours(found: Space, networks: Mapping[int, Kept]) -> Figure:
    """Figure 1 in the same settings, seed 0: the probes of SGD's network and of LSAM's, a column a setting."""
    rows = ("SGD\neasy feature", "SGD\nhard feature", "LSAM\neasy feature", "LSAM\nhard feature")
    figure, panels = _columns(found, [*networks], rows, size=(2.1, 2.2))
    for column, (kept, _) in zip(panels.T, networks.values(), strict=True):
        for place, panel in enumerate(column):
            own = kept[place // 2]
            draw_contour(panel, *own.member(own.config.seeds[0]), place % 2, n_points=80)
    return figure


def weights(found: Space, networks: Mapping[int, Kept]) -> Figure:
    """Figures 3 and 5 in the same settings: Lorenz curves, then median weights by the easy and the hard feature."""
    rows = [f"{method}-trained\n{what}" for method in ("SGD", "LSAM") for what in ("Lorenz", "by easy", "by hard")]
    figure, panels = _columns(found, [*networks], rows, size=(2.1, 2.3))
    for column, (_, moments) in zip(panels.T, networks.values(), strict=True):
        for place, moment in enumerate(moments):
            draw_lorenz(column[3 * place], moment.importance)
            for feature in (0, 1):
                draw_medians(column[3 * place + 1 + feature], moment, feature)
    for panel in panels.flat:
        panel.set_xlabel(panel.get_xlabel().replace(", most", ",\nmost"), fontsize=7)
        if legend := panel.get_legend():
            panel.legend(loc=legend._loc, fontsize=5.5)
    return figure


def _columns(
    found: Space, rows: Sequence[int], words: Sequence[str], *, size: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    """A column a setting, named by its place in the search; a row each for `words`; panels of a size in inches."""
    whole = (size[0] * len(rows) + 0.6, size[1] * len(words))
    figure, panels = plt.subplots(len(words), len(rows), figsize=whole, squeeze=False, **options)
    for panel, row in zip(panels[0], rows, strict=True):
        panel.set_title(f"setting {found.settings.place[row]}", fontsize=9)
    for panel, label in zip(panels[:, 0], words, strict=True):
        panel.set_ylabel(label, fontsize=8.5)
    return figure, panels


def best_table(found: Space) -> pd.DataFrame:
    """The five settings in which most claims are confirmed: their constants, and the states of all claims."""
    rows = best(found)
    names = [f"setting {found.settings.place[row]}" for row in rows]
    constants = found.settings.loc[rows, list(AXES)].T
    states = found.states.loc[rows].T
    counts = pd.DataFrame([(found.states.loc[rows] == "confirmed").sum(axis=1)], index=[f"confirmed of {len(states)}"])
    table = pd.concat([constants, counts, states])
    table.columns = pd.Index(names)
    return table


def draw_curve(panel: Axes, values: np.ndarray, colour: str, label: str) -> None:
    """Draw a statistic against the radius with the 95 % interval of its mean; (radius, seed)."""
    kept = {f: estimate(row) for f, row in zip(FRACTIONS, values, strict=True) if (~np.isnan(row)).sum() > 1}
    band(panel, kept, colour=colour, label=label)


def _points(panel: Axes, values: Sequence[np.ndarray], labels: Sequence[str], colour: str) -> None:
    """Draw means with their 95 % intervals side by side; nothing where there are fewer than two values."""
    for place, numbers in enumerate(values):
        if (~np.isnan(numbers)).sum() > 1:
            mean_point(panel, place, estimate(numbers), color=colour)
    panel.set_xticks(range(len(labels)), labels=list(labels), fontsize=7)
