"""Which runs there are, which of them have records, and in which order and company the others are done."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edition.experiments import PROFILES, Experiment
from edition.records.kinds import KINDS
from edition.records.provenance import ROOT as REPOSITORY
from edition.records.store import RecordError, Store, record_id
from samlib.config import check_choice, differences

VARIABLE = "SAMLIB_RESULTS"


@dataclass(frozen=True)
class Run:
    """One run: a configuration and the kind of code that trains it."""

    kind: str
    config: Any

    @property
    def name(self) -> str:
        """Kind and record id, such as "toy-35c4443a2c2d"."""
        return f"{self.kind}-{record_id(self.kind, self.config)}"

    @property
    def changes(self) -> str:
        """What differs from the defaults, in words, such as "rho: 0.5, 20 seeds"."""
        changed = differences(self.config)
        seeds = changed.pop("seeds", ())
        told = [json.dumps(changed).strip("{}").replace('"', ""), f"{len(seeds)} seeds" if seeds else ""]
        return ", ".join(filter(None, told)) or "defaults"


def store_for(profile: str) -> Store:
    """Return where a profile's records live: committed ones for "paper", an ignored folder for the others.

    A reader whose copy of the repository cannot be written to names a folder for the others in SAMLIB_RESULTS (a
    relative one counts from the repository, whoever asks).

    Raises:
        RecordError: this copy of the code has no folder of committed records beside it, or SAMLIB_RESULTS is a file.

    >>> store_for("paper").root.name
    'results'
    """
    root = REPOSITORY / "results"
    if profile == "paper":
        if not root.is_dir():
            raise RecordError(
                f"{root}: expected the committed records there, found no such folder; run this in a clone of the "
                f"repository, with its own `.venv`, not from an installed copy"
            )
        return Store(root)
    elsewhere = os.environ.get(VARIABLE)
    local = REPOSITORY / Path(elsewhere).expanduser() if elsewhere else root / "local"
    if local.is_file():
        raise RecordError(f"{local}: expected a folder for records, found a file; name another in {VARIABLE}")
    return Store(local)


def needed(experiments: Iterable[Experiment], profile: str) -> list[Run]:
    """List the runs that the experiments need at a profile, each once, in the order of the experiments.

    Raises:
        ValueError: there is no such profile.
    """
    check_choice("profile", profile, PROFILES)
    return unique(Run(item.kind, config) for item in experiments for config in item.configs(profile))


def unique(runs: Iterable[Run]) -> list[Run]:
    """Keep the first of equal runs: experiments share some."""
    return list(dict.fromkeys(runs))


def pending(runs: Iterable[Run], store: Store) -> list[Run]:
    """Keep the runs that have no record in the store; those with a stale one are among them.

    Raises:
        RecordError: a record exists and it, or its arrays, cannot be trusted.
    """
    waiting = []
    for run in runs:
        record = store.find(run.kind, run.config)
        if record is None:
            waiting.append(run)
        elif record.array_names:
            record.arrays()  # read to know whether they can be trusted
    return waiting


def states(runs: Iterable[Run], store: Store) -> dict[Run, str]:
    """Say of every run whether it is "recorded", "stale" (its record is of another schema) or "pending".

    Raises:
        RecordError: a record exists and cannot be trusted.
    """
    runs = list(runs)
    waiting = set(pending(runs, store))
    stale = store.stale()
    return {
        run: "recorded" if run not in waiting else "stale" if (run.kind, run.config) in stale else "pending"
        for run in runs
    }


def soonest_first(parts: Iterable[list[Run]], seconds: Callable[[Run], float]) -> list[Run]:
    """Order runs so that figures are complete as soon as possible: what takes least is finished first.

    Args:
        parts: the pending runs of each experiment; experiments may share runs.
        seconds: a run's expected cost.
    Returns:
        Every run once: those of the experiment with the least left to do, then those of the next, where a run
        that is listed already costs nothing more.
    """
    left = [list(part) for part in parts]
    order: dict[Run, None] = {}
    while left:
        best = min(left, key=lambda part: sum(seconds(run) for run in part if run not in order))
        left.remove(best)
        order |= dict.fromkeys(best)
    return list(order)


def groups(runs: Iterable[Run], device: str) -> list[list[Run]]:
    """Group runs that are trained in one computation: on a GPU runs of one shape, on a CPU each alone.

    Args:
        runs: in the order in which they shall be done.
        device: "cpu" or "cuda".
    """
    open_groups: dict[Any, list[Run]] = {}
    done: list[list[Run]] = []
    for run in runs:
        kind, shape = KINDS[run.kind], (run.kind, run.config.shape)
        group = open_groups.setdefault(shape, [])
        if not group:
            done.append(group)
        group.append(run)
        most = kind.at_once if device == "cuda" else 1
        if sum(kind.networks(item.config) for item in [*group, run]) > most:
            del open_groups[shape]
    return done
