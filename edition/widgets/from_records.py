"""Panels over records: gains along the training by data set, on each target domain, and methods by measure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edition.claims.domainbed import MEAN, radius_table, transfer_table
from edition.claims.pairs import difference
from edition.claims.space import Space
from edition.figures import style
from edition.figures.bands import band, mean_point
from edition.figures.domainbed import shown_name
from edition.figures.methods import SHOWN, measured, measured_in_words
from edition.figures.space import draw_curve
from edition.records.store import Record
from edition.widgets.frames import Frames, slider
from samlib.measures.statistics import Estimate, estimate, with_interval
from samlib.search import AXES, FRACTIONS

SETTINGS_SHOWN = 24

BEFORE = "before\ntraining"
ROLES = {"hard": style.HARD, "easy": style.EASY}


def gain_explorer(curves: Mapping[str, pd.DataFrame]) -> Frames:
    """Show, one data set at a time, SAM's probing error minus SGD's after every epoch, with 95 % intervals.

    Args:
        curves: title of the data set -> what `edition.claims.table_one.curve_table` returned.
    """

    def alt(title: str) -> str:
        table = curves[title]
        ends = {role: _gaps(table, role)[-1] for role in ("hard", "easy")}
        told = ", ".join(f"{_in_points(value)} for the {role} feature" for role, value in ends.items())
        return (
            f"{title}: curves of SAM's probing error minus SGD's over the epochs with 95 % bands; after the last, "
            f"epoch {table.epoch.max()}, in points: {told}; n = {ends['hard'].n} seeds."
        )

    ends = [end for table in curves.values() for role in ROLES for gap in _gaps(table, role) for end in _ends(gap)]
    limit = 1.05 * max(map(abs, ends), default=1.0)
    return slider(lambda title: draw_gains(title, curves[title], limit), "data set", list(curves), alt=alt)


def draw_gains(title: str, table: pd.DataFrame, limit: float) -> Figure:
    """Draw the paired difference of both probing errors by epoch, SAM minus SGD, in points.

    Args:
        limit: largest difference that the vertical axis shows, share of 1; one for all data sets.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    epochs = sorted(table.epoch.unique())
    for role, colour in ROLES.items():
        gaps = dict(zip(epochs, _gaps(table, role), strict=True))
        band(axes, gaps, colour=colour, scale=100, marker="", label=f"{role} feature")
    last = _gaps(table, "hard")[-1]
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="epoch", ylabel="SAM − SGD, points of error", ylim=(-100 * limit, 100 * limit))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{title}: hard feature at the end {_in_points(last)} points")
    axes.legend(title=f"bands: 95 % intervals, n = {last.n} seeds", title_fontsize=9)
    return figure


def target_explorer(records: Sequence[Record]) -> Frames:
    """Show, one target domain at a time, every seed's accuracy minus SGD's: before training, and at each radius of SAM.

    SGD and every radius have their own best learning rate. The panel opens at the mean of the targets.

    Args:
        records: of one data set's experiment.
    """
    seeds = _seeds_by_radius(records)
    names = {"mean of the targets": MEAN} | {shown_name(target): target for target in seeds if target != MEAN}

    def alt(name: str) -> str:
        told = "; ".join(
            f"{column.replace(chr(10), ' ')} {_in_points(value)}, above zero in "
            f"{int((seeds[names[name]][column] > 0).sum())} of {value.n} seeds"
            for column, value in _estimates(seeds[names[name]]).items()
        )
        return f"{name}, a line for each seed: accuracy of the probe minus SGD's in points: {told}."

    ends = [end for gains in seeds.values() for value in _estimates(gains).values() for end in _ends(value)]
    limit = 1.05 * max(np.abs(ends).max(), *(float(gains.abs().to_numpy().max()) for gains in seeds.values()))
    return slider(lambda name: draw_seeds(name, seeds[names[name]], limit), "target domain", list(names), alt=alt)


def draw_seeds(name: str, gains: pd.DataFrame, limit: float) -> Figure:
    """Draw one line a seed over the columns, and the mean of each column with its 95 % interval.

    Args:
        gains: accuracy minus SGD's as shares of 1, a row a seed, a column for what it was reached with.
        limit: largest difference that the vertical axis shows, share of 1; one for all targets.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    places = np.arange(len(gains.columns))
    axes.plot(places, 100 * gains.to_numpy().T, "-o", color=style.NEUTRAL, alpha=0.45, lw=0.9, ms=3.5)
    for place, value in zip(places, _estimates(gains).values(), strict=True):
        mean_point(axes, place + 0.12, value, scale=100, marker="D", color=style.SAM, capsize=4, ms=6)
    axes.axhline(0, color=style.SGD, lw=1.4, label="SGD")
    axes.set_xticks(places, list(gains.columns))
    axes.set_title(f"{name}: lines are {len(gains)} seeds, diamonds means with 95 % intervals")
    axes.set(ylabel="accuracy − SGD's, points", ylim=(-100 * limit, 100 * limit))
    axes.grid(False, axis="x")
    axes.legend()
    return figure


def measure_explorer(tables: Mapping[str, pd.DataFrame]) -> Frames:
    """Draw all methods once a measure, the hard feature's probing error first, and put a slider over the measures.

    Args:
        tables: title of the task -> what `edition.claims.controls.control_table` returned.
    """
    columns = {heading: metric for metric, (heading, _, _) in SHOWN.items()}
    return slider(
        lambda heading: measured(tables, columns[heading]),
        "measure",
        list(columns),
        alt=lambda heading: measured_in_words(tables, columns[heading]),
    )


def _seeds_by_radius(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Tabulate each target's gains over SGD, and their mean: a row a seed, a column for what they were reached with."""
    table, chosen = radius_table(records), transfer_table(records)
    moved = table[table.rho > 0]
    before = chosen[["target", "seed"]].assign(at=BEFORE, gain=chosen.untrained - chosen.sgd)
    after = moved[["target", "seed", "gain"]].assign(at=[f"SAM,\nρ = {rho:g}" for rho in moved.rho])
    rows = pd.concat([before, after])
    columns = list(dict.fromkeys(rows["at"]))
    wide = {
        str(target): part.pivot(index="seed", columns="at", values="gain")[columns]
        for target, part in rows.groupby("target", sort=False)
    }
    return wide | {MEAN: sum(wide.values()) / len(wide)}


def _estimates(gains: pd.DataFrame) -> dict[str, Estimate]:
    """Mean of every column with its interval over seeds."""
    return {str(column): estimate(gains[column]) for column in gains}


def _gaps(table: pd.DataFrame, role: str) -> list[Estimate]:
    """Paired difference of one feature's probing error after each epoch, SAM minus SGD."""
    return [difference(rows, "error") for _, rows in table[table.role == role].groupby("epoch")]


def _ends(value: Estimate) -> tuple[float, float]:
    """Both ends of the interval; of a single value, the value itself."""
    return (value.low, value.high) if value.n > 1 else (value.mean, value.mean)


def _in_points(value: Estimate) -> str:
    """A difference of shares with its interval, in points."""
    return with_interval(value, 2, scale=100, signed=True, alone=" (one seed, no interval)")


def setting_explorer(found: Space) -> Frames:
    """Walk through settings from the largest gain to the largest loss: what each does, and which claims hold in it."""
    order = np.flatnonzero(found.counted)[np.argsort(found.gain[found.counted], kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SETTINGS_SHOWN).astype(int))]
    labels = [f"{i + 1} of {len(chosen)}" for i in range(len(chosen))]
    by_label = dict(zip(labels, chosen, strict=True))

    def draw(label: str) -> Figure:
        row = by_label[label]
        figure, (curves, told) = plt.subplots(1, 2, figsize=(8.4, 3.4), width_ratios=(1.2, 1))
        draw_curve(curves, found.of("final_hard_error")[row, : len(FRACTIONS)], style.HARD, "hard feature")
        draw_curve(curves, found.of("final_easy_error")[row, : len(FRACTIONS)], style.EASY, "easy feature")
        curves.set(xlabel=r"$\rho\,/\,\Vert v\Vert$ at the start", ylabel="probing error", ylim=(-0.02, 0.6))
        curves.legend(fontsize=8)
        told.axis("off")
        told.text(0, 1, _words(found, row), va="top", fontsize=7.5, linespacing=1.35)
        return figure

    def alt(label: str) -> str:
        row = by_label[label]
        return f"Probing errors against the radius in one setting. {_words(found, row)}".replace("\n", "; ")

    return slider(draw, "setting, from the largest gain", labels, alt=alt)


def _words(found: Space, row: int) -> str:
    """A setting's constants and the claims by state, in lines."""
    setting = found.settings.loc[row]
    lines = [f"{name.replace('_', ' ')}: {setting[name]}" for name in AXES]
    states = found.states.loc[row]
    for state in ("confirmed", "contradicted"):
        names = [str(id).removeprefix("toy-") for id in states.index[states == state]]
        lines.append(f"{state}: {len(names)} of {len(states)}")
    return "\n".join(lines)
