"""From records to tables: one row a seed, configuration and metrics side by side."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from samlib.records import Record


def seed_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per (record, seed) of toy records.

    Columns: every field of the configuration (those of its data and intervention too), every per-seed metric, "seed",
    "record" (id). Curves are left out; see `curve_table`.

    Args:
        records: records of kind "toy".
    """
    rows = []
    for record in records:
        config = _flat(record.config)
        names = [name for name in record.metrics if name != "curves"]
        for index, seed in enumerate(record.config["seeds"]):
            values = {name: record.metrics[name][index] for name in names}
            rows.append(config | values | {"seed": seed, "record": record.id})
    return pd.DataFrame(rows)


def curve_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per (record, seed, snapshot) of toy records; "step" is the snapshot's step."""
    rows = []
    for record in records:
        config, curves = _flat(record.config), record.metrics["curves"]
        n = record.config["n_snapshots"]
        steps = [record.config["n_steps"] * (i + 1) // n for i in range(n)]
        for index, seed in enumerate(record.config["seeds"]):
            for point, step in enumerate(steps):
                values = {name: curve[index][point] for name, curve in curves.items()}
                rows.append(config | values | {"seed": seed, "step": step, "record": record.id})
    return pd.DataFrame(rows)


def pick(table: pd.DataFrame, **conditions: Any) -> pd.DataFrame:
    """Keep the rows in which every named column has the given value.

    Raises:
        KeyError: no such column.

    >>> pick(pd.DataFrame({"rho": [0.0, 1.0]}), rho=1.0).rho.tolist()
    [1.0]
    """
    for name, value in conditions.items():
        table = table[table[name] == value]
    return table


def by_seed(table: pd.DataFrame, column: str, across: str) -> pd.DataFrame:
    """Return `column` with one row a seed and one column per value of `across`.

    Raises:
        ValueError: two rows for one seed and one value: the table mixes experiments.
    """
    return table.pivot(index="seed", columns=across, values=column)


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Lift the fields of data and intervention next to the others; drop lists."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= value
        elif not isinstance(value, list):
            flat[name] = value
    return flat
