"""Table 2 (Appendix F): accuracy of a probe on a domain that the network has not seen, SGD against SAM.

Every seed has its own splits, and on every target it chooses its own settings on validation images: learning rate for
SGD, learning rate and radius for SAM. Test images choose nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from edition.records.selection import DIGITS, at_radius, converged, select
from edition.records.store import Record
from edition.runs.results import Results
from samlib.config import check_choice
from samlib.measures.statistics import Estimate, estimate

# Appendix F's "10% of the training dataset" can be read in two ways: of the sources' training splits, on which the
# network's own answers are validated (as in DomainBed), or of the target's, on which the probe is.
READINGS = ("sources", "target")
# The paper's data sets -> their experiments.
EXPERIMENTS = {"PACS": "pacs", "OfficeHome": "officehome", "VLCS": "vlcs"}
MEAN = "mean"  # of the targets


class Trial(NamedTuple):
    """One seed on one target: every setting, and the features as pretrained."""

    grid: tuple[Record, ...]
    untrained: Record


def complete(results: Mapping[str, Results]) -> dict[str, Sequence[Record]]:
    """Return the records of the data sets whose runs are complete.

    Args:
        results: title of the data set -> its experiment's results.
    Returns:
        Title -> records. Below the profile "paper" all experiments train one embedded set: it appears once, under a
        title that says what it stands for.
    """
    found: dict[str, Sequence[Record]] = {}
    for title, result in results.items():
        if result.complete:
            name = result.records[0].config["image_set"]
            found[title if name == EXPERIMENTS[title] else f"{name} in place of PACS"] = result.records
    return found


def trials(records: Sequence[Record]) -> dict[tuple[str, int], Trial]:
    """Group the records of one experiment by target and seed.

    Args:
        records: of kind "domainbed", of one image set.
    Returns:
        (target, seed) -> the trial, in the order of the records.
    Raises:
        ValueError: two image sets, or a trial without the untrained features.
    """
    sets = sorted({record.config["image_set"] for record in records})
    if len(sets) > 1:
        raise ValueError(f"records: expected one image set, got {', '.join(sets)}; pass one experiment's records")
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
        records: of one experiment; see `trials`.
        reading, radius: see `chosen`.
    Returns:
        One row per (target, seed). Columns: "image_set", "target", "seed"; "untrained", accuracy of the probe on
        features without training; for method m of "sgd" and "sam": m, accuracy of the probe; m_zero_shot, of the
        network's own answers; m_sources, of these on the sources' test splits; m_learning_rate; "rho" (SAM's);
        m_source_rank and m_target_rank, effective ranks, with m of "untrained" too. Accuracies are 0 to 1.
    """
    rows = []
    for (target, seed), trial in trials(records).items():
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
        "accuracy" (of the probe, 0 to 1), "gain" (minus that at rho = 0).
    Raises:
        ValueError: no run at one of the radii converged.
    """
    rows = []
    for (target, seed), trial in trials(records).items():
        accuracies = {}
        for rho in sorted({record.config["rho"] for record in trial.grid}):
            best = at_radius(trial.grid, rho)
            accuracies[rho] = 1 - best.metrics["probe_error"]
            row = {"target": target, "seed": seed, "rho": rho, "learning_rate": best.config["learning_rate"]}
            rows.append(row | {"accuracy": accuracies[rho], "gain": accuracies[rho] - accuracies[0.0]})
    return pd.DataFrame(rows)


def scaled_down(records: Sequence[Record]) -> str:
    """Say what of the paper's setting the runs scale down; its image size and length for this experiment are lost."""
    config = records[0].config
    told = [] if config["trained"] == "all" else [f"only the {config['trained']} trained, on stored activations"]
    n_epochs = max(record.config["n_epochs"] for record in records)  # of the features as pretrained it is 0
    return "; ".join([*told, f"{n_epochs} epochs at {config['image_size']} pixels"])


def over_targets(table: pd.DataFrame, values: pd.Series) -> dict[str, Estimate]:
    """Estimate a quantity over seeds on every target, and its mean over targets, seed by seed.

    Args:
        table: one row per (target, seed).
        values: the quantity, one number a row. Only seeds that have it on every target enter the mean.
    Returns:
        Target, and last "mean" -> mean over seeds with its 95 % interval.
    """
    wide = table.assign(_value=values.astype(float).round(DIGITS)).pivot(
        index="seed", columns="target", values="_value"
    )
    found = {target: estimate(wide[target]) for target in dict.fromkeys(table.target)}
    return found | {MEAN: estimate(wide.dropna().mean(axis=1))}


def gains(table: pd.DataFrame) -> dict[str, Estimate]:
    """Estimate SAM's accuracy minus SGD's, in points, by target and averaged; see `over_targets`."""
    return over_targets(table, 100 * (table.sam - table.sgd))


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
