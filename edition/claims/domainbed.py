"""Table 2 (Appendix F): accuracy of a probe on a domain that the network has not seen, SGD against SAM.

Every seed has its own splits, and on every target it chooses its own settings on validation images: of the last block
learning rate and radius; of the whole network, whose rates are chosen once, the radius alone. Test images choose
nothing. What is judged are the whole network's runs at one radius (book/protocol.md), where they are complete.

Here `results` are by experiment, `records` those of one experiment, and a `table` is what `transfer_table` returned.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from edition.claims.rules import Effect, corrected
from edition.records.selection import DIGITS, at_radius, converged, select
from edition.records.store import Record
from edition.runs.results import Results
from samlib.config import check_choice
from samlib.measures.statistics import Estimate, estimate

# Appendix F's "10% of the training dataset" can be read in two ways: of the sources' training splits, on which the
# network's own answers are validated (as in DomainBed), or of the target's, on which the probe is.
READINGS = ("sources", "target")
# The paper's data sets -> the experiments with the last block alone, and with the whole network.
EXPERIMENTS = {"PACS": "pacs", "OfficeHome": "officehome", "VLCS": "vlcs"}
WHOLE = {title: f"{name}_whole" for title, name in EXPERIMENTS.items()}
OTHER_RADII = "pacs_whole_radii"
LAST_BLOCK = "{}, last block"  # how its rows are entitled beside the whole network's
MEAN = "mean"  # of the targets


class Trial(NamedTuple):
    """One seed on one target: every setting, and the features as pretrained."""

    grid: tuple[Record, ...]
    untrained: Record


def judged(results: Mapping[str, Results], title: str) -> Results:
    """Return a data set's runs that judge: the whole network's where they are complete, else the last block's."""
    whole = results.get(WHOLE[title])
    return whole if whole and whole.complete else results[EXPERIMENTS[title]]


def swept(results: Mapping[str, Results]) -> Results:
    """Return the runs that PACS is judged by with those at the other radii, where these are complete."""
    own, radii = judged(results, "PACS"), results.get(OTHER_RADII)
    if not radii or not radii.complete or own is not results.get(WHOLE["PACS"]):
        return own
    return dataclasses.replace(own, records=own.records + radii.records)


def complete(results: Mapping[str, Results]) -> dict[str, Sequence[Record]]:
    """Return the records of the data sets whose runs are complete: those that judge first, then the other ones.

    Returns:
        Title -> records; the last block's rows beside the whole network's have a title of their own. Below the profile
        "paper" all experiments train one embedded set: it appears once, under a title that says what it stands for.
    """
    first: dict[str, Sequence[Record]] = {}
    beside: dict[str, Sequence[Record]] = {}
    for title, name in EXPERIMENTS.items():
        own = judged(results, title)
        if own.complete:
            image_set = own.records[0].config["image_set"]
            first[title if image_set == name else f"{image_set} in place of PACS"] = own.records
            if own is not results[name] and results[name].complete and image_set == name:
                beside[LAST_BLOCK.format(title)] = results[name].records
    return first | beside


def trials(records: Sequence[Record]) -> dict[tuple[str, int], Trial]:
    """Group records by target and seed, in their order: (target, seed) -> the trial.

    Raises:
        ValueError: two image sets, two networks' first weights, or a trial without the untrained features.
    """
    sets = sorted({record.config["image_set"] for record in records})
    if len(sets) > 1:
        raise ValueError(f"records: expected one image set, got {', '.join(sets)}; pass one experiment's records")
    pretrained = [record for record in records if record.config["backbone"] != "smallnet"]  # whose weights are drawn
    weights = sorted({str(record.metrics.get("weights_sha256")) for record in pretrained})
    if len(weights) > 1:
        raise ValueError(
            f"records: expected one weights_sha256 for all, got {', '.join(weights)}; run them from the same weights"
        )
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record.config["target"], record.config["seed"]), []).append(record)
    found = {}
    for key, group in groups.items():
        untrained = [record for record in group if record.config["n_epochs"] == 0]
        if len(untrained) != 1:
            raise ValueError(
                f"records: expected one record without training on {key[0]} with seed {key[1]}, got {len(untrained)}; "
                "run the experiment"
            )
        found[key] = Trial(tuple(record for record in group if record is not untrained[0]), untrained[0])
    return found


def chosen(grid: Sequence[Record], *, reading: str = "sources", radius: float | None = None) -> dict[str, Record]:
    """Choose SGD's and SAM's setting of one trial.

    "sources": by the rule of `edition.records.selection.select`. "target": the lowest error of the probe on the
    held-out tenth of the target's training split; then the lower learning rate; then the smaller radius.

    Args:
        grid: one trial's records.
        reading: one of `READINGS`.
        radius: SAM's, where it is fixed: as many settings as SGD has. None: the best of all radii.
    Raises:
        ValueError: unknown reading, or no setting of one of the methods that converged.
    """
    check_choice("reading", reading, READINGS)
    radii = sorted({record.config["rho"] for record in grid} - {0.0})
    if radius is not None:
        check_choice("radius", radius, tuple(radii))
    methods = {
        "SGD": [record for record in grid if record.config["rho"] == 0],
        "SAM": [record for record in grid if record.config["rho"] in (radii if radius is None else [radius])],
    }
    if reading == "sources":
        return {method: select(records) for method, records in methods.items()}
    lost = [method for method, records in methods.items() if not converged(records)]
    if lost:
        raise ValueError(
            f"records: expected at least one run that converged, got none of {' and '.join(lost)}; add lower learning "
            "rates and smaller radii"
        )
    return {method: min(converged(records), key=_held_out) for method, records in methods.items()}


def transfer_table(records: Sequence[Record], *, reading: str = "sources", radius: float | None = None) -> pd.DataFrame:
    """Tabulate what both methods' chosen runs reach.

    Args:
        reading, radius: see `chosen`.
    Returns:
        One row per (target, seed). Columns: "image_set", "target", "seed"; "untrained", accuracy of the probe on
        features without training; for method m of "sgd" and "sam": m, accuracy of the probe; m_zero_shot, of the
        network's own answers; m_sources, of these on the sources' test splits; m_learning_rate; "rho" (SAM's);
        m_source_rank and m_target_rank, effective ranks, with m of "untrained" too. Accuracies are 0 to 1. A trial in
        which no run of one method converged has no row; see `left_out`.
    """
    rows = []
    for (target, seed), trial in trials(records).items():
        if not _decided(trial, radius):
            continue
        row: dict[str, Any] = {"image_set": trial.untrained.config["image_set"], "target": target, "seed": seed}
        row["untrained"] = 1 - trial.untrained.metrics["probe_error"]
        for part in ("source", "target"):
            row[f"untrained_{part}_rank"] = trial.untrained.metrics[f"{part}_effective_rank"]
        for method, record in chosen(trial.grid, reading=reading, radius=radius).items():
            row |= _reached(method.lower(), record)
        rows.append(row)
    return pd.DataFrame(rows)


def radius_table(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate every radius at its own best learning rate: equal budgets for SGD (rho = 0) and each SAM.

    Returns:
        One row per (target, seed, rho). Columns: "target", "seed", "rho", "learning_rate",
        "accuracy" (of the probe, 0 to 1), "gain" (minus that at rho = 0). A radius at which no run converged has no
        row, and a trial none where that is the radius 0.
    """
    rows = []
    for (target, seed), trial in trials(records).items():
        accuracies: dict[float, float] = {}
        radii = sorted({record.config["rho"] for record in converged(trial.grid)})
        for rho in radii if 0.0 in radii else ():
            best = at_radius(trial.grid, rho)
            accuracies[rho] = 1 - best.metrics["probe_error"]
            row = {"target": target, "seed": seed, "rho": rho, "learning_rate": best.config["learning_rate"]}
            rows.append(row | {"accuracy": accuracies[rho], "gain": accuracies[rho] - accuracies[0.0]})
    return pd.DataFrame(rows)


def scaled_down(records: Sequence[Record]) -> str:
    """Say what of the paper's setting the runs scale down; its image size and length for this experiment are lost."""
    config = records[0].config
    told = f"only the {config['trained']} trained, on stored activations"
    if config["trained"] == "all":
        told = f"{config['backbone']} trained whole"
    n_epochs = max(record.config["n_epochs"] for record in records)  # of the features as pretrained it is 0
    return f"{told}; {n_epochs} epochs at {config['image_size']} pixels"


def over_targets(table: pd.DataFrame, values: pd.Series) -> dict[str, Estimate]:
    """Estimate a quantity over seeds on every target, and its mean over targets, seed by seed.

    Args:
        table: one row per (target, seed).
        values: the quantity, one number a row. Only seeds that have it on every target enter the mean.
    Returns:
        Target, and last `MEAN` -> the estimate.
    """
    wide = table.assign(_value=values.astype(float).round(DIGITS)).pivot(
        index="seed", columns="target", values="_value"
    )
    found = {target: estimate(wide[target]) for target in dict.fromkeys(table.target)}
    return found | {MEAN: estimate(wide.dropna().mean(axis=1))}


def gains(table: pd.DataFrame) -> dict[str, Estimate]:
    """Estimate SAM's accuracy minus SGD's, in points, by target and averaged; see `over_targets`."""
    return over_targets(table, 100 * (table.sam - table.sgd))


def left_out(records: Sequence[Record]) -> list[tuple[str, int]]:
    """Return target and seed of the trials in which no run of SGD or none of SAM converged."""
    return [key for key, trial in trials(records).items() if not _decided(trial, None)]


def effects(table: pd.DataFrame) -> dict[str, Effect]:
    """Return SAM's gain on each target, corrected as one family by Holm's method; their mean is a family of its own."""
    values = gains(table)
    mean = Effect("mean of the targets", values.pop(MEAN), "above")
    members = corrected([Effect(name, value, "above") for name, value in values.items()])
    return dict(zip(values, members, strict=True)) | {MEAN: corrected([mean])[0]}


def other_probes(records: Sequence[Record]) -> list[Effect]:
    """Return SAM's mean gain with every other choice of the probe's C that the runs recorded; it decides nothing."""
    found = {}
    done = converged(records)
    ways = done[0].metrics.get("probe_sensitivity") if done else None
    for way in ways or ():
        moved = [
            dataclasses.replace(r, metrics=r.metrics | {"probe_error": r.metrics["probe_sensitivity"][way]})
            for r in done
        ]
        found[way] = gains(transfer_table(moved))[MEAN]
    return [Effect(f"probe's C: {way}", value, "above") for way, value in found.items()]


def size_table(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate the ablation, a row a run that converged.

    Returns:
        Columns "target", "image_size" (pixels), "n_epochs", "accuracy" of the probe (0 to 1).
    """
    names = ("target", "image_size", "n_epochs")
    rows = [
        {name: r.config[name] for name in names} | {"accuracy": 1 - r.metrics["probe_error"]}
        for r in converged(records)
    ]
    return pd.DataFrame(rows).sort_values(list(names), ignore_index=True)


def _decided(trial: Trial, radius: float | None) -> bool:
    """Whether both methods have a run that converged, SAM at this radius or at any."""
    radii = {record.config["rho"] for record in converged(trial.grid)}
    return 0.0 in radii and (radius in radii if radius is not None else len(radii) > 1)


def _reached(method: str, record: Record) -> dict[str, Any]:
    """One chosen run's numbers, named after its method."""
    metrics = record.metrics
    return {
        method: 1 - metrics["probe_error"],
        f"{method}_zero_shot": 1 - metrics["zero_shot_error"],
        f"{method}_sources": 1 - float(np.mean(metrics["source_test_errors"])),
        f"{method}_source_rank": metrics["source_effective_rank"],
        f"{method}_target_rank": metrics["target_effective_rank"],
        f"{method}_learning_rate": record.config["learning_rate"],
        "rho": record.config["rho"],  # of the method that comes last, SAM
    }


def _held_out(record: Record) -> tuple[float, float, float]:
    """What decides where the probe is validated; lower is better."""
    error = round(record.metrics["probe_held_out_error"], DIGITS)
    return error, record.config["learning_rate"], record.config["rho"]
