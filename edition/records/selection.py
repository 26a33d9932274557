"""Choose a setting from a tuning grid by validation alone, and tell what the choice cost.

The validation error of a feature that SGD learns easily is close to zero at many settings, so ties are the rule: the
order in which they are broken is fixed here, and neither test nor probe numbers are read.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from edition.records.kinds import KINDS
from edition.records.store import Record

TUNED = frozenset({"learning_rate", "rho"})
# What is measured beside the errors; it changes no trained weight.
MEASURED = frozenset(
    {"probe_each_epoch", "probe_folds", "importance_epochs", "importance_rho", "n_importance", "phantom_readings"}
)
DIGITS = 12  # errors that differ by rounding alone tie


def differing(records: Sequence[Record]) -> set[str]:
    """Return the names of the configuration's fields with two or more values among the records.

    "kind" is one of the names where the records are of two kinds. What is only measured (`MEASURED`) does not count. A
    field that was added after a record was written has its default there.

    Args:
        records: any.
    """

    def values(name: str) -> set[str]:
        defaults = [getattr(KINDS[record.kind].config, name, None) for record in records]
        return {repr(r.config.get(name, default)) for r, default in zip(records, defaults, strict=True)}

    names = {name for record in records for name in record.config} - MEASURED
    kinds = {record.kind for record in records}
    return {name for name in names if len(values(name)) > 1} | ({"kind"} if len(kinds) > 1 else set())


def select(records: Sequence[Record]) -> Record:
    """Choose the record with the lowest final validation error; only validation decides.

    Ties: the lowest mean of the validation error over all epochs; then the lower learning rate; then the smaller rho.
    Runs that diverged are out.

    Args:
        records: of kind "pair", "finetune" or "domainbed", a grid: one record a setting, which differ in learning
            rate and rho alone.
    Raises:
        ValueError: no run that converged, or no grid.
    """
    _check_grid(records)
    found = converged(records)
    if not found:
        raise ValueError(
            f"records: expected at least one run that converged, got none among {len(records)}; run the grid, or add "
            f"lower learning rates and smaller radii to it"
        )
    return min(found, key=_rank)


def at_radius(records: Sequence[Record], rho: float) -> Record:
    """Choose the best learning rate at one fixed radius: as many settings as SGD has in the same grid.

    Args:
        records: a grid; see `select`.
        rho: the radius; 0 is SGD.
    Raises:
        ValueError: no run at this radius, none that converged, or no grid.
    """
    found = _at(records, rho)
    if not found:
        raise ValueError(f"rho: expected one of {_radii(records)}, got {rho:g}; choose a radius of the grid, or run it")
    return select(found)


def tuning_table(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate what each way of tuning chooses, and at what price.

    Args:
        records: the paper's grid; see `select`. SGD (rho = 0) is part of it.
    Returns:
        One row a protocol: "SGD"; "SAM, the paper's grid" (all learning rates and radii); "SAM at rho = r, equal
        budget" (as many settings as SGD) for each r. Columns: "protocol"; "n_settings" tried, diverged ones too;
        "learning_rate", "rho", "validation_error" of the chosen one, NaN where all diverged; "n_tied", the settings
        that reach this lowest final validation error, the chosen one among them.
    Raises:
        ValueError: no grid.
    """
    _check_grid(records)
    sgd, sam = _at(records, 0.0), [r for r in records if r.config["rho"] > 0]
    rows = [_tuning_row("SGD", sgd), _tuning_row("SAM, the paper's grid", sam)]
    for rho in _radii(sam):
        part = _at(sam, rho)
        budget = ", equal budget" if len(part) == len(sgd) else ""
        rows.append(_tuning_row(f"SAM at rho = {rho:g}{budget}", part))
    return pd.DataFrame(rows)


def _tuning_row(protocol: str, records: Sequence[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {"protocol": protocol, "n_settings": len(records)}
    if not converged(records):
        return row | dict.fromkeys(("learning_rate", "rho", "validation_error"), math.nan) | {"n_tied": 0}
    best = select(records)
    errors = [_rank(record)[0] for record in converged(records)]
    chosen = {name: best.config[name] for name in ("learning_rate", "rho")}
    return row | chosen | {"validation_error": best.metrics["validation_error"], "n_tied": errors.count(min(errors))}


def _rank(record: Record) -> tuple[float, float, float, float]:
    """What decides, in this order; lower is better."""
    curve = record.metrics["curves"]["validation_error"]
    mean = math.fsum(curve) / len(curve)
    config = record.config
    return (
        round(record.metrics["validation_error"], DIGITS),
        round(mean, DIGITS),
        config["learning_rate"],
        config["rho"],
    )


def converged(records: Sequence[Record]) -> list[Record]:
    """Leave out the runs that diverged."""
    return [record for record in records if not record.metrics["diverged"]]


def _at(records: Sequence[Record], rho: float) -> list[Record]:
    return [record for record in records if record.config["rho"] == rho]


def _radii(records: Sequence[Record]) -> list[float]:
    return sorted({record.config["rho"] for record in records})


def _check_grid(records: Sequence[Record]) -> None:
    """Refuse records that differ in more than what is tuned, and settings that occur twice."""
    others = sorted(differing(records) - TUNED)
    if others:
        raise ValueError(
            f"records: expected a grid over learning rate and rho, got records that differ in {', '.join(others)} too; "
            f"choose from one data set and one seed at a time"
        )
    settings = [(record.config["learning_rate"], record.config["rho"]) for record in records]
    twice = sorted({setting for setting in settings if settings.count(setting) > 1})
    if twice:
        raise ValueError(
            f"records: expected one record a setting, got (learning rate, rho) = {twice} more than once; leave out "
            f"the repetitions"
        )
