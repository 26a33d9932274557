"""Do the runs that a profile needs and that have no record yet."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from samlib.config import check_number, to_dict
from samlib.experiments import EXPERIMENTS, PROFILES, Experiment
from samlib.provenance import provenance
from samlib.records import Record, Store
from samlib.toy.config import ToyConfig
from samlib.toy.training import train_toy

REPOSITORY = Path(__file__).resolve().parent.parent
MEMBERS_AT_ONCE = 100


@dataclass(frozen=True)
class Run:
    """One run: a configuration and the kind of code that trains it."""

    kind: str
    config: Any


def store_for(profile: str) -> Store:
    """Return where a profile's records live: committed ones for "paper", an ignored folder for the others.

    >>> store_for("quick").root.name
    'local'
    """
    root = REPOSITORY / "results"
    return Store(root if profile == "paper" else root / "local")


def needed(experiments: Iterable[Experiment], profile: str) -> list[Run]:
    """List the runs that the experiments need at a profile, each once, in the order that fills figures soonest."""
    runs = {}
    for item in experiments:
        for config in item.configs(profile):
            runs.setdefault((item.kind, repr(config)), Run(item.kind, config))
    return list(runs.values())


def pending(runs: Iterable[Run], store: Store) -> list[Run]:
    """Keep the runs that have no record in the store.

    Raises:
        RecordError: a record exists and cannot be trusted.
    """
    return [run for run in runs if store.find(run.kind, to_dict(run.config)) is None]


def chunks(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that are trained in one batched computation: toy runs of one shape, others alone."""
    open_chunks: dict[Any, list[Run]] = {}
    done: list[list[Run]] = []
    for run in runs:
        if run.kind != "toy":
            done.append([run])
            continue
        shape = run.config.shape
        chunk = open_chunks.setdefault(shape, [])
        if not chunk:
            done.append(chunk)
        chunk.append(run)
        if sum(len(item.config.seeds) for item in chunk) >= MEMBERS_AT_ONCE:
            del open_chunks[shape]
    return done


def do(
    chunk: list[Run], store: Store, *, device: str, data_root: Path | None = None, progress: Callable[[int], None]
) -> list[Record]:
    """Train one chunk and write its records.

    Args:
        chunk: runs of one group of `chunks`.
        store: where the records go.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets, for runs that need one.
        progress: called with the number of steps just done.
    Returns:
        The records, in order. Each holds the share of the wall time that is its own.
    """
    start = time.perf_counter()
    if chunk[0].kind == "toy":
        results = train_toy([run.config for run in chunk], device=device, progress=progress)
    else:
        raise NotImplementedError
    seconds = (time.perf_counter() - start) / len(chunk)
    origin = provenance(device=device, wall_seconds=seconds)
    return [
        store.write(run.kind, to_dict(run.config), metrics=metrics, arrays=arrays, provenance=origin)
        for run, (metrics, arrays) in zip(chunk, results, strict=True)
    ]


def start(runs: list[Run], store: Store, *, device: str, workers: int = 1) -> Iterator[int]:
    """Do the runs and yield the number of runs finished, chunk by chunk.

    Args:
        runs: what `pending` returned.
        store: where the records go; each is written as soon as its chunk is done.
        device: "cpu" or "cuda".
        workers: processes, one thread each; 1 stays in this process.
    """
    check_number("workers", workers, low=1, integer=True, advice="the number of processes")
    groups = chunks(runs)
    if workers == 1:
        for chunk in groups:
            yield len(do(chunk, store, device=device, progress=lambda steps: None))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(_do_quietly, chunk, store, device) for chunk in groups]
        for future in as_completed(futures):
            yield future.result()


def _do_quietly(chunk: list[Run], store: Store, device: str) -> int:
    """`do` for a worker process: no progress, and a number that travels cheaply."""
    return len(do(chunk, store, device=device, progress=lambda steps: None))
