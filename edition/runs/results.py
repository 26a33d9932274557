"""An experiment's records and their tables: one row a seed, configuration and metrics side by side."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from edition import runs
from edition.experiments import EXPERIMENTS, experiment
from edition.records.store import Record, Store
from samlib.sweeping import rows

if TYPE_CHECKING:
    from IPython.display import HTML


class NotOnRecord(LookupError):
    """A statistic needs runs that are not there: other radii were asked for, or some have not been done."""


@dataclass(frozen=True, eq=False)
class Results:
    """The records of one experiment at one profile; equal to itself alone, so that what is computed of it can be kept.

    Attributes:
        name: the experiment.
        profile: at which scale.
        records: those found, in the experiment's order.
        n_missing: how many runs have no record.
    """

    name: str
    profile: str
    records: tuple[Record, ...]
    n_missing: int

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per (record, seed); see `seed_table`."""
        return seed_table(self.records)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per (record, seed, snapshot); see `curve_table`."""
        return curve_table(self.records)

    def __bool__(self) -> bool:
        """Whether there is something to draw; `complete` says whether it is all."""
        return bool(self.records)

    @property
    def complete(self) -> bool:
        """Whether every run has its record: a verdict needs all, a figure shows what is there."""
        return bool(self.records) and not self.n_missing

    @property
    def command(self) -> str:
        """What makes the runs that are missing, or those that choose their settings."""
        return f"python -m edition runs start --experiment {self.waits_for or self.name} --profile {self.profile}"

    @property
    def waits_for(self) -> str:
        """The experiment that has to be complete before there are runs to do; "" where there are some."""
        item = EXPERIMENTS.get(self.name)
        return item.waits_for if item and not self.records and not self.n_missing else ""

    def missing_box(self) -> "HTML":
        """Return the line that says how many runs are missing, with the command that does them."""
        told = (
            f"{self.n_missing} of {self.n_missing + len(self.records)} runs of the experiment "
            f"<em>{self.name}</em> have no record at profile <em>{self.profile}</em>. This does them:"
        )
        if self.waits_for:
            told = f"The settings of <em>{self.name}</em> are chosen by other runs, which come first:"
        return box("Not run yet.", told, self.command)

    def source(self) -> "HTML":
        """Return the line under a figure: which records it was drawn from, with a link to their provenance."""
        from IPython.display import HTML

        origins = {(record.provenance["revision"], record.provenance["device"]) for record in self.records}
        told = "; ".join(sorted(f"revision {revision} on {device}" for revision, device in origins))
        scale = "" if self.profile == "paper" else f", reduced scale (profile {self.profile})"
        missing = f" {self.n_missing} more have no record: <code>{self.command}</code>" if self.n_missing else ""
        n = len(self.records)
        return HTML(
            f'<p class="source">Source: {n} record{"s" if n > 1 else ""} of <a href="records.html#{self.name}">'
            f"{self.name}</a>{scale}, {html.escape(told)}.{missing}</p>"
        )


def box(title: str, told: str, command: str = "") -> "HTML":
    """Return the line of text that stands where something is missing.

    Args:
        title: what is missing, plain text.
        told: why, HTML.
        command: what a reader types to fill it; "" for none.
    """
    from IPython.display import HTML  # notebooks have it; who reads results to judge them may not

    typed = f" <code>{html.escape(command)}</code>" if command else ""
    return HTML(f'<p class="missing">{html.escape(title)} {told}{typed}</p>')


def read(name: str, profile: str, store: Store | None = None) -> Results:
    """Collect what an experiment has on record, and count what it has not; train nothing.

    Args:
        name: a key of `edition.experiments.EXPERIMENTS`.
        profile: at which scale.
        store: where to look; None means where this profile's records are.
    Raises:
        ValueError: unknown experiment or profile.
        RecordError: a record cannot be read or trusted.
    """
    store = store or runs.store_for(profile)
    found = [store.find(run.kind, run.config) for run in runs.needed([experiment(name)], profile)]
    records = tuple(record for record in found if record)
    return Results(name, profile, records, len(found) - len(records))


def seed_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per (record, seed) of records whose metrics have a value a seed.

    Columns: every field of the configuration (those of its data and intervention too), every per-seed metric, "seed",
    "record" (id). Curves are left out; see `curve_table`.

    Args:
        records: of one kind, "toy" or "control".
    """
    return pd.DataFrame(
        [row | {"record": record.id} for record in records for row in rows(record.config, record.metrics)]
    )


def curve_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per (record, seed, snapshot) of toy records; "step" is the snapshot's step."""
    found = []
    for record in records:
        curves, fields = record.metrics["curves"], rows(record.config, {})
        n = record.config["n_snapshots"]
        steps = [record.config["n_steps"] * (i + 1) // n for i in range(n)]
        for index, own in enumerate(fields):
            for point, step in enumerate(steps):
                values = {name: curve[index][point] for name, curve in curves.items()}
                found.append(own | values | {"step": step, "record": record.id})
    return pd.DataFrame(found)


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


def only(table: pd.DataFrame, **conditions: Any) -> pd.DataFrame:
    """Keep rows as `pick` does, where a statistic cannot do without them.

    Raises:
        NotOnRecord: there are none.
    """
    found = pick(table, **conditions)
    if found.empty:
        raise NotOnRecord(f"no run with {', '.join(f'{name} = {value}' for name, value in conditions.items())}")
    return found


def by_seed(table: pd.DataFrame, column: str, across: str, *, need: Sequence[float] = ()) -> pd.DataFrame:
    """Return `column` with one row a seed and one column per value of `across`.

    Args:
        need: values of `across` without which there is no statistic.
    Raises:
        ValueError: two rows for one seed and one value: the table mixes experiments.
        NotOnRecord: a value that is needed is not there.
    """
    found = table.pivot(index="seed", columns=across, values=column)
    if missing := [str(value) for value in need if value not in found]:
        raise NotOnRecord(f"no run with {across} = {' or '.join(missing)}")
    return found
