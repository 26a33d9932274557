"""Do one job: train the runs of one group, here and now, and say what came out."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from samlib.checkpoint import Checkpoint
from samlib.provenance import provenance
from samlib.records import Record, Store
from samlib.runs.plan import Run
from samlib.toy.training import best_engine, train_toy
from samlib.vision.ensemble import train_pairs
from samlib.vision.sources import load_pair
from samlib.vision.train import train_pair

Report = Callable[[float], None]
# Name of the engine, metrics and arrays of each run, seconds of them all.
Trained = tuple[str, list[tuple[dict[str, Any], dict[str, np.ndarray]]], float]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; plain values that travel to another process or machine.

    Attributes:
        runs: runs of one group of `samlib.runs.plan.groups`.
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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        engine, found, seconds = TRAINERS[job.runs[0].kind](job, report)
        origin = provenance(device=job.device, wall_seconds=seconds / len(job.runs)) | {"engine": engine}
        return [Outcome(metrics, arrays, origin) for metrics, arrays in found]
    finally:
        torch.set_num_threads(threads)


def do(runs: list[Run], store: Store, *, device: str = "cpu", data_root: Path | None = None) -> list[Record]:
    """Train the runs of one group in this process and record them; for few short runs.

    Args:
        runs: runs of one group of `samlib.runs.plan.groups`.
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


class _Reporting:
    """A checkpoint that also reports the share that is done."""

    def __init__(self, checkpoint: Checkpoint, report: Report) -> None:
        self._checkpoint, self._report = checkpoint, report

    def load(self) -> dict[str, Any] | None:
        return self._checkpoint.load()

    def save(self, state: dict[str, Any], fraction: float) -> None:
        self._report(fraction)
        self._checkpoint.save(state, fraction)


def _toys(job: Job, report: Report) -> Trained:
    """Train toy runs of one shape."""
    configs = [run.config for run in job.runs]
    n_steps, done = configs[0].n_steps, 0
    begin = time.perf_counter()

    def progress(steps: int) -> None:
        nonlocal done
        done += steps
        report(done / n_steps)

    engine = best_engine(job.device, n_steps, hidden=configs[0].hidden, batch_size=configs[0].batch_size)
    results = train_toy(configs, device=job.device, engine=engine, progress=progress)
    return engine, [(result.metrics, result.arrays) for result in results], time.perf_counter() - begin


def _pairs(job: Job, report: Report) -> Trained:
    """Train image pair runs of one shape: one network alone, or all together on a GPU."""
    configs = [run.config for run in job.runs]
    checkpoint = Checkpoint(job.checkpoint, device=job.device, seconds=job.seconds)
    reporting = _Reporting(checkpoint, report)
    source = load_pair(configs[0].pair, job.data_root)
    if len(configs) == 1 and (job.device == "cpu" or configs[0].probe_each_epoch):
        result = train_pair(configs[0], source, device=job.device, checkpoint=reporting)
        return "autograd", [(result.metrics, {})], checkpoint.seconds
    results = train_pairs(configs, source, device=job.device, checkpoint=reporting)
    return "ensemble", [(result.metrics, {}) for result in results], checkpoint.seconds


def _resumable(job: Job, report: Report, load: Callable[..., Any], fit: Callable[..., Any]) -> tuple[Any, float]:
    """Train one network on prepared images; return its result and the seconds, those before an interruption too."""
    (run,) = job.runs
    checkpoint = Checkpoint(job.checkpoint, device=job.device, seconds=job.seconds)
    result = fit(
        run.config,
        load(run.config, job.data_root),
        folder=job.data_root,
        device=job.device,
        checkpoint=_Reporting(checkpoint, report),
    )
    return result, checkpoint.seconds


def _finetuned(job: Job, report: Report) -> Trained:
    """Finetune one network."""
    from samlib.finetune.train import load_images, train_finetune  # slow to import: torchvision and pandas

    result, seconds = _resumable(job, report, load_images, train_finetune)
    return "autograd", [(result.metrics, result.arrays)], seconds


def _transferred(job: Job, report: Report) -> Trained:
    """Train one network on all domains but one."""
    from samlib.domainbed.train import load_domains, train_domains  # slow to import, as above

    result, seconds = _resumable(job, report, load_domains, train_domains)
    return "autograd", [(result.metrics, {})], seconds


def _controlled(job: Job, report: Report) -> Trained:
    """Train one method of the controls."""
    from samlib.controls.train import train_control

    (run,) = job.runs
    begin = time.perf_counter()
    metrics = train_control(run.config, root=job.data_root, report=report)
    return "autograd", [(metrics, {})], time.perf_counter() - begin


TRAINERS: dict[str, Callable[[Job, Report], Trained]] = {
    "toy": _toys,
    "pair": _pairs,
    "finetune": _finetuned,
    "domainbed": _transferred,
    "control": _controlled,
}
