"""Figures of chapter 6: gains by target beside the paper's, every radius, controls, and feature rank.

A `table` is what `edition.claims.domainbed.transfer_table` returned of one data set, `paper` what
`edition.claims.paper_tables.table_2` returned, `records` are those of one data set's experiment.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.domainbed import MEAN, gains, over_targets, radius_table, transfer_table
from edition.figures import style
from edition.figures.bands import legend_below, mean_point
from edition.records.store import Record
from samlib.images.catalogue import DomainSet
from samlib.measures.statistics import Estimate

UNTRAINED = "#000000"
POINT: dict[str, Any] = {"capsize": 3, "ms": 5, "lw": 1.4}
PAPER_NAMES = {
    "art_painting": "Art",
    "cartoon": "Cartoon",
    "photo": "Photo",
    "sketch": "Sketch",
    "Real World": "Real-World",
}


def shown_name(target: str) -> str:
    """Return a domain's name as the paper writes it.

    >>> shown_name("art_painting"), shown_name("SUN09")
    ('Art', 'SUN09')
    """
    return PAPER_NAMES.get(target, target)


def domain_samples(images: np.ndarray, table: pd.DataFrame, domains: Sequence[str]) -> Figure:
    """Show one image of every class in every domain: the one in the middle of its class.

    Args:
        images: uint8 (n, side, side, 3).
        table: columns domain and class, a row an image.
        domains: in the order of the lines.
    """
    classes = sorted(set(table["class"]))
    figure, axes = plt.subplots(
        len(domains), len(classes), figsize=(9.4, 9.4 * len(domains) / len(classes) + 0.3), squeeze=False
    )
    for panels, domain in zip(axes, domains, strict=True):
        for panel, name in zip(panels, classes, strict=True):
            rows = np.flatnonzero((table["domain"] == domain) & (table["class"] == name))
            panel.imshow(images[rows[len(rows) // 2]], interpolation="nearest")
            style.bare(panel)
        panels[0].set_ylabel(f"{shown_name(domain)} ({(table['domain'] == domain).sum():,})")
    for panel, name in zip(axes[0], classes, strict=True):
        panel.set_title(name)
    return figure


def domain_sizes(domains: Mapping[str, DomainSet]) -> Figure:
    """Draw the number of images in each domain of the paper's data sets."""
    sets = sorted((row for row in domains.values() if not row.embedded), key=lambda row: row.title.lower())
    figure, axes = plt.subplots(1, len(sets), figsize=(9.4, 2.2), sharex=True)
    for panel, row in zip(axes, sets, strict=True):
        counts = row.domains
        bars = panel.barh([shown_name(domain) for domain in counts], list(counts.values()), color=style.NEUTRAL)
        panel.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8.5)
        panel.invert_yaxis()
        panel.set(title=row.title, xlabel="images", xlim=(0, 5400))
        panel.grid(False, axis="y")
    return figure


def gains_beside_paper(paper: pd.DataFrame, records: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw SAM's gain on every target, the paper's as a diamond without an interval, ours with 95 % over seeds.

    Args:
        records: title of the data set -> its experiment's records; a title that the paper does not have (a stand-in)
            gets a panel of its own.
    """
    titles = [*dict.fromkeys(paper.data_set), *(title for title in records if title not in set(paper.data_set))]
    figure, axes = plt.subplots(1, len(titles), figsize=(9.4, 3.6), sharey=True, squeeze=False)
    for panel, title in zip(axes[0], titles, strict=True):
        rows = paper[paper.data_set == title]
        ours = gains(transfer_table(records[title])) if title in records else {}
        names = [*(shown_name(target) for target in ours if target != MEAN)] or list(rows.domain)
        theirs = dict(zip(rows.domain, 100 * (rows.sam - rows.sgd), strict=True))
        if theirs:
            theirs[MEAN] = float(np.mean(list(theirs.values())))
        _draw_gains(panel, [*names, MEAN], theirs, {shown_name(target): value for target, value in ours.items()})
        panel.set_title(title if ours else f"{title}: not run")
    axes[0, 0].set_ylabel("SAM − SGD, points of accuracy")
    legend_below(figure, axes[0])
    return figure


def gain_by_radius(records: Mapping[str, Sequence[Record]]) -> Figure:
    """Draw the probe's accuracy minus SGD's on each target: untrained features, and SAM at every radius.

    Every radius, and SGD, has its own best learning rate: equal budgets.

    Args:
        records: title -> of one experiment: a line of panels each.
    """
    found = {title: _by_radius(own) for title, own in records.items()}
    n_targets = max(len(values["none"]) for values in found.values())
    figure, axes = plt.subplots(
        len(found), n_targets, figsize=(9.4, 0.8 + 2.5 * len(found)), sharey=True, squeeze=False
    )
    for row, (title, values) in zip(axes, found.items(), strict=True):
        _draw_radii(row, values)
        row[0].set_ylabel(f"{title}:\naccuracy − SGD's, points" if len(found) > 1 else "accuracy − SGD's, points")
    legend_below(figure, axes[0])
    return figure


def _by_radius(records: Sequence[Record]) -> dict[str, dict[str, Estimate]]:
    """Accuracy minus SGD's by radius ("none": before training) and target."""
    table, chosen = radius_table(records), transfer_table(records)
    found = {"none": over_targets(chosen, 100 * (chosen.untrained - chosen.sgd))}
    for rho, part in table[table.rho > 0].groupby("rho"):
        found[f"{rho:g}"] = over_targets(part, 100 * part.gain)
    return found


def _draw_radii(row: Sequence[Axes], found: Mapping[str, Mapping[str, Estimate]]) -> None:
    """Draw one network's panels, a target each."""
    for panel, target in zip(row, found["none"], strict=True):
        panel.axhline(0, color=style.SGD, lw=1.4, label="SGD")
        for place, values in enumerate(found.values()):
            look = (UNTRAINED, "features before training", "s") if place == 0 else (style.SAM, "SAM", "o")
            mean_point(panel, place, values[target], color=look[0], label=look[1], marker=look[2], **POINT)
        panel.set_xticks(range(len(found)), list(found))
        panel.set(title=shown_name(target), xlabel="ρ", xlim=(-0.6, len(found) - 0.4))
        panel.grid(False, axis="x")


def controls(table: pd.DataFrame) -> Figure:
    """Draw, target by target, the probe on untrained features, both probes, and both networks' own answers."""
    shown = (
        ("untrained", "probe, features before training", UNTRAINED, "s"),
        ("sgd", "probe, SGD", style.SGD, "o"),
        ("sam", "probe, SAM", style.SAM, "o"),
        ("sgd_zero_shot", "zero-shot, SGD", style.SGD, "^"),
        ("sam_zero_shot", "zero-shot, SAM", style.SAM, "^"),
    )
    figure, axes = plt.subplots(figsize=(9.4, 3.6))
    for i, (column, label, colour, marker) in enumerate(shown):
        found = over_targets(table, table[column])
        for place, value in enumerate(found.values()):
            at = place + 0.13 * (i - 2)
            mean_point(axes, at, value, scale=100, color=colour, label=label, marker=marker, **POINT)
    axes.set_xticks(range(len(found)), [shown_name(target) for target in found])
    axes.set_ylabel("accuracy on the target, %")
    axes.grid(False, axis="x")
    legend_below(figure, [axes], n_columns=3)
    return figure


def rank_and_accuracy(table: pd.DataFrame) -> Figure:
    """Draw effective rank on the target against the probe's accuracy: for every seed an arrow from SGD to SAM."""
    targets = list(dict.fromkeys(table.target))
    figure, axes = plt.subplots(1, len(targets), figsize=(9.4, 3.2), squeeze=False)
    for panel, target in zip(axes[0], targets, strict=True):
        rows = table[table.target == target]
        panel.plot(rows.untrained_target_rank, 100 * rows.untrained, "s", color=UNTRAINED, label="before training")
        for row in rows.itertuples():
            ends = [(row.sgd_target_rank, 100 * row.sgd), (row.sam_target_rank, 100 * row.sam)]
            panel.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "->", "color": style.NEUTRAL, "lw": 0.8})
        panel.plot(rows.sgd_target_rank, 100 * rows.sgd, "o", color=style.SGD, label="SGD")
        panel.plot(rows.sam_target_rank, 100 * rows.sam, "o", color=style.SAM, label="SAM")
        panel.set(title=shown_name(target), xlabel="effective rank")
        panel.margins(0.15)
    axes[0, 0].set_ylabel("probe's accuracy, %")
    legend_below(figure, axes[0])
    return figure


def _draw_gains(axes: Axes, names: Sequence[str], paper: Mapping[str, float], ours: Mapping[str, Estimate]) -> None:
    """Draw one data set's gains: the paper's and ours, side by side."""
    for place, name in enumerate(names):
        if name in paper:
            axes.plot(
                place - 0.15, paper[name], "D", color=style.NEUTRAL, ms=5.5, label="the paper (no interval given)"
            )
        if name in ours:
            told = "ours, 95 % interval over seeds"
            mean_point(axes, place + 0.15, ours[name], color=style.SAM, label=told, **POINT)
    axes.axhline(0, color="black", lw=0.8)
    axes.axvspan(len(names) - 1.5, len(names) - 0.5, color=style.NEUTRAL, alpha=0.08, lw=0)
    axes.set_xticks(range(len(names)), names, rotation=25, fontsize=8.5)
    axes.set_xlim(-0.6, len(names) - 0.5)
    axes.grid(False, axis="x")
