"""Table 1 on the page: the table itself, its forest plot, probing errors by epoch, and images of the four groups.

A `table` is what `edition.claims.table_one.table_one` returned.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.rules import Effect
from edition.claims.table_one import FIXED, METRICS, early_epoch, in_points
from edition.figures import style, tables
from edition.figures.bands import legend_below, mean_curve, mean_point
from edition.figures.pairs import ERRORS, WORST
from edition.figures.tables import Html, group_heading, p_value, scrolling, spread
from samlib.images.image_sets import PreparedSet
from samlib.measures.statistics import Estimate, settled, with_interval

TITLES = ERRORS | WORST
COLOURS = {"easy": style.EASY, "hard": style.HARD, "test": style.NEUTRAL}  # by the first word of the metric
BACKBONES = {
    "convnet": "Three convolutions",
    "densenet121": "DenseNet-121",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "smallnet": "Small network",
}
HEADINGS = ("error, %", "SGD", "SAM", "SAM − SGD", "95 % interval", "n", "p, corrected", "would have seen", "verdict")
STRONG = ("confirmed", "contradicted", "lower", "higher")


def table_html(table: pd.DataFrame, waiting: Mapping[str, str] | None = None) -> str:
    """Return Table 1 as plain HTML, in percent: mean ± standard deviation over seeds, paired difference, interval.

    Of the probing errors it says the corrected p-value, the difference that such runs find with 80 % power, and the
    verdict. On a narrow screen the table scrolls inside its box, and the settings stay in view.

    Args:
        table: may be empty.
        waiting: title of a data set that has no verdict yet -> why.
    """
    groups = {
        group_heading(str(title), html.escape(_settings(rows))): [_line(row) for row in rows.itertuples()]
        for title, rows in (table.groupby("data_set", sort=False) if len(table) else ())
    }
    groups |= {group_heading(title, html.escape(told)): [] for title, told in (waiting or {}).items()}
    if not groups:
        return "<p>Nothing to show: these runs are of full scale.</p>"
    return scrolling(tables.table(HEADINGS, groups), "Table 1, wide: scrolls")


def joint_html(joint: Mapping[str, Mapping[str, Effect]], *, decides: bool) -> str:
    """Return the effect over the data sets together as plain HTML, in points.

    Args:
        joint: role -> what `edition.claims.table_one.joint_effects` returned.
        decides: whether all data sets' runs are those whose analysis was fixed beforehand; else there is no verdict.
    """
    rows = []
    for role, ways in joint.items():
        for way, effect in ways.items():
            value = effect.value
            word = "shown beside it" if way != "stratified" else FIXED[effect.outcome] if decides else "no verdict"
            ends = f"[{in_points(value.low)}, {in_points(value.high)}]"
            n = f"{value.n} seeds" if way == "seed by seed" else str(value.n)
            together = f"{role} feature, {effect.name.partition(',')[0]}"
            rows.append((together, way, in_points(value.mean), ends, n, p_value(effect.p), word))
    if not rows:
        return "<p>Nothing to show yet: no data set is complete.</p>"
    heads = ("together", "by", "SAM − SGD", "95 % interval", "n", "p", "verdict")
    return scrolling(tables.table(heads, rows), "Joint effect, wide: scrolls")


def sensitivity_html(table: pd.DataFrame) -> str:
    """Return the paired differences under other choices as plain HTML, in points: a group a data set, a row a way.

    Args:
        table: what `edition.claims.table_one.sensitivity_table` returned, perhaps with rows added.
    """
    groups = {}
    for title, rows in table.groupby("data_set", sort=False):
        features = dict(zip(rows.role, rows.feature, strict=True))
        found = {(row.way, row.role): row.value for row in rows.itertuples()}
        lines = []
        for way in dict.fromkeys(rows.way):
            values = [found.get((way, role)) for role in ("hard", "easy")]
            told = [with_interval(value, 2, scale=100, signed=True) if value else "–" for value in values]
            lines.append((way, *told, str(max(value.n for value in values if value))))
        groups[f"{title}: hard feature {features['hard']}, easy feature {features['easy']}"] = lines
    heads = ("what is changed", "hard feature", "easy feature", "n")
    return scrolling(tables.table(heads, groups), "Sensitivity, wide: scrolls")


def tuning_html(found: Mapping[str, pd.DataFrame]) -> str:
    """Return what each way of tuning chose on each data set, and among how many settings, as plain HTML.

    Args:
        found: title of the data set, with the length of its runs -> what `selection.tuning_table` returned.
    """
    heads = ("tuned", "settings", "learning rate", "rho", "validation error, %", "settings that tie")
    groups = {title: [_tuned(row) for row in table.itertuples()] for title, table in found.items()}
    return scrolling(tables.table(heads, groups), "Tuning, wide: scrolls")


def table_picture(table: pd.DataFrame) -> Figure:
    """Draw Table 1 as a forest plot: the paired difference of each error with its 95 % interval, SAM minus SGD.

    A single seed has no interval: its difference is an open circle. Both methods' means stand at the right.
    """
    groups = list(table.groupby("data_set", sort=False))
    step = len(METRICS) + 1
    height = step * len(groups)
    figure, axes = plt.subplots(figsize=(9.4, 0.27 * height + 1.0))
    ticks: list[tuple[int, str]] = []
    for i, (title, rows) in enumerate(groups):
        told = "" if rows.fixed.iloc[0] else ", exploratory"
        told += ", scaled down" if rows.note.iloc[0].removeprefix("exploratory") else ""
        ticks.append((step * i, f"{title} (n = {rows.n.iloc[0]}{told})"))
        for place, (_, row) in enumerate(rows.iterrows(), start=step * i + 1):
            ticks.append((place, TITLES[row.metric] + (f" ({row.feature})" if row.feature else "")))
            _draw_effect(axes, place, row)
    axes.axvline(0, color="black", lw=1)
    axes.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
    for label in axes.get_yticklabels()[::step]:
        label.set_fontweight("bold")
    _write_beside(axes, -0.9, ("SGD, %", "SAM, %"), fontweight="bold")
    axes.set(ylim=(height - 0.4, -0.6), xlabel="SAM − SGD, percentage points of error (bars: 95 % intervals)")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


def probe_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw both features' probing errors by epoch, SGD and SAM, with 95 % intervals over seeds; a panel a data set.

    The dotted line is the epoch at which `edition.claims.section_4.gain_is_early` looks.

    Args:
        curves: title of the data set -> what `edition.claims.table_one.curve_table` returned.
    """
    n_columns = min(2, len(curves))
    n_lines = math.ceil(len(curves) / n_columns)
    figure, axes = plt.subplots(n_lines, n_columns, figsize=(4.7 * n_columns, 2.9 * n_lines + 0.7), squeeze=False)
    for panel in axes.flat[len(curves) :]:
        panel.remove()
    for panel, (title, table) in zip(axes.flat, curves.items(), strict=False):
        n_epochs = int(table.epoch.max())
        points = table.assign(error=100 * table.error)
        for role, line in (("hard", "-"), ("easy", "--")):
            for method, colour in (("SGD", style.SGD), ("SAM", style.SAM)):
                rows = points[(points.method == method) & (points.role == role)]
                label = f"{method}, {role} feature"
                mean_curve(panel, rows, x="epoch", y="error", colour=colour, label=label, line=line)
        for line in panel.lines:
            line.set(markevery=max(1, n_epochs // 10), markersize=3)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.axvline(early_epoch(n_epochs), color=style.NEUTRAL, lw=1, ls=":")
        panel.set(xlabel="epoch", ylim=(0, None), title=f"{title} (n = {_n_seeds(table)})")
    for panel in axes[:, 0]:
        panel.set_ylabel("probing error, %")
    told = "bands: 95 % intervals of the mean over n seeds"
    legend_below(figure, [axes[0, 0]], n_columns=2 * n_columns, title=told, title_fontsize=9, handlelength=3.2)
    return figure


def group_samples(
    data: PreparedSet,
    splits_rows: Mapping[str, Sequence[int]],
    features: tuple[str, str],
    group_names: Sequence[str],
    *,
    averaged: bool = False,
) -> Figure:
    """Show a few images of each of the four groups, with the group's share: one row a split.

    Images lie at equal distances in the order of the rows: neighbours may be alike.

    Args:
        data: the prepared images; the table has the column "group" (0..3).
        splits_rows: title -> numbers of its images, such as the training split and the probe set.
        features: names of label and attribute.
        group_names: of the groups 0 to 3, group = 2 label + attribute.
        averaged: show the mean of a group's images instead, for sets whose terms do not let single ones be published.
    """
    figure, axes = plt.subplots(len(splits_rows), 4, figsize=(9.4, 2.7 * len(splits_rows) + 0.4), squeeze=False)
    groups = data.table["group"].to_numpy()
    for panels, (title, numbers) in zip(axes, splits_rows.items(), strict=True):
        rows = np.asarray(numbers)
        for group, panel in enumerate(panels):
            found = rows[groups[rows] == group]
            some = found[np.linspace(0, len(found) - 1, min(4, len(found))).astype(int)]
            shown = _montage(data.images, some)
            if averaged and len(found):
                shown = np.rint(data.images[found].mean(0)).astype(np.uint8)
            panel.imshow(shown, interpolation="nearest")
            if len(found) == 0:
                panel.text(0.5, 0.5, "does not occur", ha="center", va="center", transform=panel.transAxes)
            panel.set_xlabel(f"{len(found):,} of {len(rows):,} ({len(found) / len(rows):.1%})", fontsize=8.5)
            style.bare(panel)
        panels[0].set_ylabel(title)
    for panel, name in zip(axes[0], group_names, strict=True):
        panel.set_title(name, fontsize=9.5)
    figure.supxlabel(f"groups: {features[0]}, {features[1]}", fontsize=9)
    return figure


def _line(row: Any) -> tuple[str, ...]:
    """One error of one data set."""
    return (
        TITLES[row.metric] + (f" ({row.feature})" if row.feature else ""),
        spread(row.sgd_mean, row.sgd_sd),
        spread(row.sam_mean, row.sam_sd),
        in_points(row.difference),
        _interval(row),
        str(row.n),
        p_value(row.p) if row.n > 1 else "",
        in_points(row.detectable).removeprefix("+") if row.n > 1 else "",
        Html(f"<strong>{row.verdict}</strong>") if row.verdict in STRONG else row.verdict,
    )


def _settings(rows: pd.DataFrame) -> str:
    """What was trained, how and where, as sentences; and where SGD's probes disagree with roles fixed beforehand."""
    row = rows.iloc[0]
    easy, hard = (rows[rows.metric == f"{role}_probe_error"].iloc[0] for role in ("easy", "hard"))
    turned = (
        f" SGD's probes err less on {hard.feature} than on {easy.feature}: it was called hard beforehand, and is the "
        "easy one by the paper's rule."
    )
    trained = "" if row.trained == "all" else f", {row.trained} trained"
    seeds = f" Seeds left out: {row.left_out}."
    return (
        f"{BACKBONES.get(row.backbone, row.backbone)}{trained}, {row.image_size} pixels, on {row.machine}. "
        f"{row.n_train:,} training images; probes trained on {row.n_probe_train:,} and tested on {row.n_probe_test:,}"
        f"{'' if row.coverage == 'full' else '; the images at hand are part of the release'}. "
        f"SGD: learning rate {row.sgd_learning_rate:g}; SAM: learning rate {row.sam_learning_rate:g}, "
        f"ρ = {row.rho:g}."
        + (seeds if row.left_out else "")
        + (turned if hard.sgd_mean < easy.sgd_mean else "")
        + (f" Scaled down: {row.note}" if row.note else "")
    )


def _tuned(row: Any) -> tuple[str, ...]:
    """One way of tuning."""
    chosen = (f"{row.learning_rate:g}", f"{row.rho:g}", f"{100 * row.validation_error:.2f}")
    diverged = ("all diverged", "", "")
    return (
        row.protocol,
        str(row.n_settings),
        *(diverged if math.isnan(row.validation_error) else chosen),
        str(row.n_tied),
    )


def _n_seeds(curves: pd.DataFrame) -> str:
    """Seeds of each method, one number where both have as many."""
    counts = curves.groupby("method", sort=False).seed.nunique()
    return str(counts.iloc[0]) if counts.nunique() == 1 else ", ".join(f"{m} {n}" for m, n in counts.items())


def _draw_effect(axes: Axes, place: int, row: Any) -> None:
    """Draw one difference with its interval, and write both means beside it."""
    value = Estimate(row.difference, row.low, row.high, row.n)
    colour = COLOURS[row.metric.partition("_")[0]]
    mean_point(axes, place, value, scale=100, along="x", color=colour, capsize=3, ms=6)
    _write_beside(axes, place, [f"{100 * share:.2f}" for share in (row.sgd_mean, row.sam_mean)])


def _write_beside(axes: Axes, place: float, texts: Sequence[str], **options: Any) -> None:
    """Write two texts at the right of the axes, in two columns."""
    options |= {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
    for points, text in zip((56, 112), texts, strict=True):
        axes.annotate(text, (1, place), (points, 0), ha="right", va="center", fontsize=9, **options)


def _montage(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Put up to four images into a square of white-framed cells, those that are missing white."""
    side = images.shape[1] + 2
    canvas = np.full((2 * side, 2 * side, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        top, left = i // 2 * side + 1, i % 2 * side + 1
        canvas[top : top + side - 2, left : left + side - 2] = images[row]
    return canvas


def _interval(row: Any) -> str:
    """An interval in points; where all seeds differ by the same number of images, that number: it is no certainty."""
    if row.n < 2:
        return "no interval"
    if settled(row.high - row.low) == 0 and row.difference:
        images = row.n_probe_test / (row.n_groups if row.metric.endswith("worst_group_error") else 1)
        return f"{round(abs(row.difference) * images)} of {images:g} images in every seed"
    return f"[{in_points(row.low)}, {in_points(row.high)}]"
