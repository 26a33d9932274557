"""Do one job: train the runs of one group, here and now, and say what came out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from edition.records.kinds import KINDS, Report
from edition.records.provenance import loaded_revision, provenance
from edition.records.store import Record, Store
from edition.runs.plan import Run


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; plain values that travel to another process or machine.

    Attributes:
        runs: runs of one group of `edition.runs.plan.groups`.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets, for runs that need one.
        checkpoint: file for the state of a long run; None keeps none.
        seconds: time limit, at which a long run stops with its state saved; None is for ever.
    """

    runs: tuple[Run, ...]
    device: str = "cpu"
    data_root: Path | None = None
    checkpoint: Path | None = None
    seconds: float | None = None


class Outcome(NamedTuple):
    """What one run gave: the parts of its record."""

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]


def train(job: Job, report: Report = lambda fraction: None) -> list[Outcome]:
    """Train a job's runs and return their outcomes, in order.

    On a CPU one thread computes, whatever the process is set to: the same configuration gives the same bytes
    whichever worker does it.

    Args:
        job: what to do.
        report: called with the share of the work that is done, 0..1.
    Raises:
        OutOfTime: the time limit came first; the checkpoint holds what was done.
        ValueError, OSError: a run cannot be done here, for instance because its data set is missing.
    """
    loaded_revision()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # those of numpy and scipy
            found = KINDS[job.runs[0].kind].train([run.config for run in job.runs], job, report)
        device, seconds = found.device or job.device, found.seconds / len(job.runs)
        origin = provenance(device=device, wall_seconds=seconds) | {"engine": found.engine}
        return [Outcome(metrics, arrays, origin) for metrics, arrays in found.results]
    finally:
        torch.set_num_threads(threads)


def do(runs: list[Run], store: Store, *, device: str = "cpu", data_root: Path | None = None) -> list[Record]:
    """Train the runs of one group in this process and record them; for few short runs.

    Args:
        runs: runs of one group of `edition.runs.plan.groups`.
        store: where the records go.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets, for runs that need one.
    Returns:
        The records, in order. Each holds its share of the group's wall time.
    Raises:
        RecordError: a record exists already or cannot be written.
    """
    outcomes = train(Job(tuple(runs), device, data_root))
    return [write(run, store, outcome) for run, outcome in zip(runs, outcomes, strict=True)]


def write(run: Run, store: Store, outcome: Outcome) -> Record:
    """Record one outcome.

    Raises:
        RecordError: a record exists already or cannot be written.
    """
    return store.write(run.kind, run.config, **outcome._asdict())
