"""Table 2 on the page: the paper's numbers beside ours, what was tuned, and the controls, as plain HTML.

What was `found` is what `edition.claims.domainbed.transfer_table` returned of one data set; `paper` what
`edition.claims.paper_tables.table_2` returned; `records` are those of an experiment, or such by the data set's title.
"""

import html
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from edition.claims.domainbed import (
    MEAN,
    READINGS,
    WHOLE,
    effects,
    gains,
    left_out,
    over_targets,
    scaled_down,
    size_table,
    transfer_table,
)
from edition.claims.rules import Effect
from edition.experiments.finetune import RADIUS  # of the equal budget, fixed before the runs
from edition.figures.domainbed import shown_name
from edition.figures.table_one import BACKBONES
from edition.figures.tables import Html, group_heading, p_value, scrolling, table
from edition.records.store import Record
from samlib.images.config import DomainConfig
from samlib.measures.statistics import Estimate, number, with_interval

HEADINGS = (
    *("target", "paper: SGD", "SAM", "SAM − SGD", "ours: before training", "SGD", "SAM", "SAM − SGD", "95 % interval"),
    *("p, corrected", "SAM is", "would have seen", "n"),
)
TRAINED = ("zero-shot, SGD", "zero-shot, SAM", "sources' test, SGD", "sources' test, SAM")
PROTOCOLS = {
    f"ρ = {RADIUS:g}, sources": {"reading": READINGS[0], "radius": RADIUS},
    "all ρ, sources": {"reading": READINGS[0]},
    f"ρ = {RADIUS:g}, target": {"reading": READINGS[1], "radius": RADIUS},
    "all ρ, target": {"reading": READINGS[1]},
}
OUTCOMES = {"holds": "better", "reversed": "worse"}


def table_two_html(paper: pd.DataFrame, records: Mapping[str, Sequence[Record]]) -> str:
    """Return Table 2 with the paper's accuracies and ours, in percent.

    The paper prints one number a cell. Ours are means over seeds: the probe before training, after SGD and after SAM,
    the paired difference with its 95 % interval, its p-value (the targets' corrected by Holm's method, the mean's its
    own), what that says ("better", "worse" or "undecided"), and the difference that would have been found with 80 %
    power.

    Args:
        records: title -> records, as `edition.claims.domainbed.complete` returns them; the paper's data sets that are
            not among them have not been run.
    """
    titles = [*records, *(title for title in dict.fromkeys(paper.data_set) if title not in records)]
    groups = dict(_data_set(title, paper[paper.data_set == title], records.get(title, ())) for title in titles)
    return scrolling(table(HEADINGS, groups), "Table 2, wide: scrolls")


def protocols_html(records: Mapping[str, Sequence[Record]]) -> str:
    """Return SAM's gain by target and averaged, as points with 95 % intervals, a column a way of tuning.

    SAM has all radii or one, and settings are validated on the sources or by the probe on the target.

    Args:
        records: title -> of one experiment, at profile "paper"; without other radii "all ρ" is the one there is.
    """
    groups = {}
    for title, own in records.items():
        found = [gains(transfer_table(own, **options)) for options in PROTOCOLS.values()]  # type: ignore[arg-type]
        rows = [(shown_name(target), *(_with_interval(column[target]) for column in found)) for target in found[0]]
        groups[_with_radii(title, own)] = rows
    return scrolling(table(("target", *PROTOCOLS), groups), "Ways of tuning, wide: scrolls")


def choices_html(records: Mapping[str, Sequence[Record]]) -> str:
    """Return which settings the seeds chose on every target; `records` as `protocols_html` takes them."""
    groups = {}
    for title, own in records.items():
        rows = []
        for target, part in transfer_table(own).groupby("target", sort=False):
            sgd = ", ".join(f"{rate:g}" for rate in part.sgd_learning_rate)
            sam = ", ".join(f"{row.sam_learning_rate:g} (ρ\u00a0{row.rho:g})" for row in part.itertuples())
            rows.append((shown_name(str(target)), sgd, sam))
        groups[_with_radii(title, own)] = rows
    heads = ("target", "SGD's learning rate by seed", "SAM's, and its radius")
    return scrolling(table(heads, groups), "Chosen settings")


def controls_html(found: pd.DataFrame) -> str:
    """Return accuracies on the target with and without training and probe, and effective ranks, as means over seeds."""

    def means(columns: Sequence[str], scale: float, form: str) -> list[tuple[str, ...]]:
        by_target = [over_targets(found, scale * found[column]) for column in columns]
        return [(shown_name(name), *(format(part[name].mean, form) for part in by_target)) for name in by_target[0]]

    methods, trained = ("untrained", "sgd", "sam"), ("sgd", "sam")
    accuracies = [*methods, *(f"{m}_{what}" for what in ("zero_shot", "sources") for m in trained)]
    ranks = [f"{method}_{part}_rank" for part in ("target", "source") for method in methods]
    told = ("before", "SGD", "SAM")
    first = ("target", *(f"probe, {name}" for name in told), *TRAINED)
    second = ("target", *(f"on the {part}, {name}" for part in ("target", "sources") for name in told))
    return (
        "<p>Accuracy in percent, mean over seeds; <em>before</em> any training on the set:</p>"
        + scrolling(table(first, means(accuracies, 100, ".1f")), "Accuracies, wide: scrolls")
        + "<p>Effective rank of the features:</p>"
        + scrolling(table(second, means(ranks, 1, ".0f")), "Ranks, wide: scrolls")
    )


def controls_sentence(found: pd.DataFrame) -> str:
    """Say what training on the sources does to the probe, and what SAM does to the rank (Markdown)."""
    sgd, sam = (over_targets(found, 100 * (found[m] - found.untrained))[MEAN] for m in ("sgd", "sam"))
    ranks = over_targets(found, found.sam_target_rank - found.sgd_target_rank)[MEAN]
    return (
        f"Against features before training, the probe's accuracy changes by {_with_interval(sgd)} points with SGD and "
        f"by {_with_interval(sam)} with SAM, mean of the targets. SAM's effective rank on the target minus SGD's is "
        f"{_with_interval(ranks)}."
    )


def levels_html(paper: pd.DataFrame, records: Mapping[str, Sequence[Record]], sizes: Sequence[Record]) -> str:
    """Return SGD's accuracies on PACS beside the paper's, in percent, with the distance: what moves the level.

    Args:
        records: as for `table_two_html`.
        sizes: the ablation's, SGD at one seed; none leaves its rows out.
    """
    theirs = _levels_of_pacs(paper)
    rows: list[tuple[str, dict[str, float]]] = [("the paper", theirs)]
    for title, own in records.items():
        if title.startswith("PACS"):
            found = transfer_table(own)
            for column, what in (("untrained", "before training"), ("sgd", "SGD")):
                means = over_targets(found, 100 * found[column])
                rows.append((f"{title}: {what}", {shown_name(name): mean.mean for name, mean in means.items()}))
    told = size_table(sizes) if sizes else pd.DataFrame(columns=["image_size", "n_epochs"])
    for (side, n_epochs), part in told.groupby(["image_size", "n_epochs"]):
        accuracies = {shown_name(row.target): 100 * row.accuracy for row in part.itertuples()}
        rows.append((f"SGD, whole, one seed: {side} pixels, {n_epochs} epochs", accuracies))

    def cell(accuracies: Mapping[str, float], name: str) -> str:
        if name not in accuracies:
            return ""
        distance = number(accuracies[name] - theirs[name], 1, signed=True)
        return f"{accuracies[name]:.1f}" + ("" if accuracies is theirs else f" ({distance})")

    lines = [(what, *(cell(accuracies, name) for name in theirs)) for what, accuracies in rows]
    return scrolling(table(("accuracy, % (minus the paper's)", *theirs), lines), "Levels, wide: scrolls")


def _levels_of_pacs(paper: pd.DataFrame) -> dict[str, float]:
    """The paper's accuracies of SGD by target, in percent."""
    return {row.domain: 100 * row.sgd for row in paper[paper.data_set == "PACS"].itertuples()}


def levels_sentence(paper: pd.DataFrame, own: Sequence[Record], sizes: Sequence[Record]) -> str:
    """Say what image size and length of training move, and what then remains to the paper's SGD (Markdown).

    Args:
        own: the whole network's records on PACS, for the targets that the ablation does not have.
        sizes: the ablation's, SGD at one seed.
    """
    wide = size_table(sizes).pivot_table(index="target", columns=["image_size", "n_epochs"], values="accuracy") * 100
    sides, lengths = (sorted(set(wide.columns.get_level_values(level))) for level in (0, 1))

    def moved(start: tuple[int, int], end: tuple[int, int]) -> str:
        change = wide[end] - wide[start]
        return " and ".join(
            f"{number(value, 1, signed=True)} on {shown_name(str(target))}" for target, value in change.items()
        )

    found = transfer_table(own)
    reached = {shown_name(target): mean.mean for target, mean in over_targets(found, 100 * found.sgd).items()}
    largest = {shown_name(str(target)): value for target, value in wide[sides[-1], lengths[-1]].items()}
    others = " and ".join(name for name in reached if name not in (*largest, MEAN))
    reached |= largest
    left = ", ".join(
        f"{name} {number(reached[name] - theirs, 1, signed=True)}" for name, theirs in _levels_of_pacs(paper).items()
    )
    bigger = moved((sides[0], lengths[-1]), (sides[-1], lengths[-1]))
    longer = moved((sides[-1], lengths[0]), (sides[-1], lengths[-1]))
    return (
        f"From {sides[0]} to {sides[-1]} pixels the probe after SGD moves, in points, by {bigger}; from {lengths[0]} "
        f"to {lengths[-1]} epochs, at {sides[-1]} pixels, by {longer}. One seed: points, not tenths. What remains to "
        f"the paper's SGD (on {others} at {own[0].config['image_size']} pixels) is left to larger images, more epochs "
        "and the network, which these runs do not tell apart: "
        f"{left}."
    )


def in_short(records: Mapping[str, Sequence[Record]]) -> str:
    """Say in a sentence (Markdown) what SAM's gain is on the data sets that have been run."""
    if not records:
        return "**In short.** Nothing has been run at this profile yet."
    told = []
    for title, own in records.items():
        found = effects(transfer_table(own))
        ahead = [effect.value.mean > 0 for target, effect in found.items() if target != MEAN]
        mean, outcome = found[MEAN].value, found[MEAN].outcome
        told.append(
            f"on {title} ({scaled_down(own)}) the probe's accuracy is **{OUTCOMES.get(outcome, outcome)}** with SAM: "
            f"{number(mean.mean, 2, signed=True)} points {_ends(mean)}, n = {mean.n} seeds, mean of {len(ahead)} "
            f"targets, ahead on {sum(ahead)} of them"
        )
    return f"**In short.** In our runs {'; '.join(told)}. A 95 % interval that includes no change is called undecided."


def _with_radii(title: str, records: Sequence[Record]) -> str:
    """Name a data set with the radii among which SAM could choose."""
    radii = sorted({record.config["rho"] for record in records} - {0.0})
    return f"{title}: ρ = {', '.join(f'{rho:g}' for rho in radii)}"


def _settings(config: DomainConfig) -> str:
    """Say how a run was made, and what it scales down.

    The paper's network, image size and length of training for this experiment are lost in our copy.
    """
    trained = f", only the {config.trained} trained, on stored activations, with mirror images for augmentation"
    if config.trained == "all":
        trained = f", trained whole, on random crops{' and colours' if config.colour_jitter else ''}"
    return (
        f"{BACKBONES.get(config.backbone, config.backbone)}{trained}; {config.image_size} pixels; "
        f"{config.n_epochs} epochs of {config.batch_per_domain} images of each source a step"
    )


def _data_set(title: str, paper: pd.DataFrame, records: Sequence[Record]) -> tuple[Html, list[tuple[str, ...]]]:
    """One data set: a heading with its settings, and a row a target."""
    theirs = {row.domain: (row.sgd, row.sam) for row in paper.itertuples()}
    if theirs:
        theirs[MEAN] = (paper.sgd.mean(), paper.sam.mean())
    ours: dict[str, tuple[list[Estimate], Effect]] = {}
    told = f"not run here; <code>python -m edition runs start --experiment {WHOLE.get(title, '')}</code> fills it"
    if records:
        found = transfer_table(records)
        parts = [over_targets(found, found[name]) for name in ("untrained", "sgd", "sam")]
        ours = {shown_name(name): ([part[name] for part in parts], gain) for name, gain in effects(found).items()}
        config = next(DomainConfig(**record.config) for record in records if record.config["n_epochs"])
        devices = sorted({record.provenance["device"] for record in records})
        lost = [f"{shown_name(target)} at seed {seed}" for target, seed in left_out(records)]
        words = [_settings(config), f"on {' and '.join(devices)}"]
        words += [f"{len(lost)} left out, where a run diverged: {', '.join(lost)}"] if lost else []
        told = html.escape("; ".join(words))
    return group_heading(title, told), [_target(name, theirs.get(name), ours.get(name)) for name in (ours or theirs)]


def _target(
    name: str, paper: tuple[float, float] | None, ours: tuple[list[Estimate], Effect] | None
) -> tuple[str, ...]:
    """One target: the paper's three numbers, and ours."""
    first = ("", "", "")
    if paper:
        first = (f"{100 * paper[0]:.1f}", f"{100 * paper[1]:.1f}", number(100 * (paper[1] - paper[0]), 1, signed=True))
    if ours is None:
        return (name, *first, *([""] * 9))
    accuracies, effect = ours
    gain, seen = effect.value, effect.detectable
    means = (*(f"{100 * value.mean:.1f}" for value in accuracies), number(gain.mean, 2, signed=True))
    outcome = OUTCOMES.get(effect.outcome, effect.outcome)
    least = f"{seen:.2f}" if math.isfinite(seen) else ""
    return (name, *first, *means, _ends(gain), p_value(effect.corrected), outcome, least, str(gain.n))


def _ends(value: Estimate) -> str:
    """The interval in brackets."""
    return _with_interval(value).partition(" ")[2]


def _with_interval(value: Estimate) -> str:
    """Mean and interval, which does not break into two lines."""
    return with_interval(value, 2, signed=True, alone=" no interval").replace(", ", ",\u00a0")
