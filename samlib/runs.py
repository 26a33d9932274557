"""Do the runs that a profile needs and that have no record yet."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from samlib.config import check_number
from samlib.experiments import Experiment
from samlib.provenance import provenance
from samlib.records import Record, Store
from samlib.toy.training import best_engine, train_toy
from samlib.vision.config import PairConfig
from samlib.vision.sources import load_pair
from samlib.vision.train import train_pair

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
    return unique(Run(item.kind, config) for item in experiments for config in item.configs(profile))


def unique(runs: Iterable[Run]) -> list[Run]:
    """Keep the first of equal runs: experiments share some."""
    return list(dict.fromkeys(runs))


def pending(runs: Iterable[Run], store: Store) -> list[Run]:
    """Keep the runs that have no record in the store.

    Raises:
        RecordError: a record exists and cannot be trusted.
    """
    return [run for run in runs if store.find(run.kind, run.config) is None]


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
    chunk: list[Run],
    store: Store,
    *,
    device: str,
    data_root: Path | None = None,
    progress: Callable[[int], None] = lambda steps: None,
) -> list[Record]:
    """Train one chunk and write its records.

    Args:
        chunk: runs of one group of `chunks`.
        store: where the records go.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets, for runs that need one.
        progress: called with the number of steps (toy) or images (pairs) just done.
    Returns:
        The records, in order. Each holds its share of the chunk's wall time.
    """
    begin, engine = time.perf_counter(), "autograd"
    if chunk[0].kind == "toy":
        engine = best_engine(device)
        results = train_toy([run.config for run in chunk], device=device, engine=engine, progress=progress)
        outcomes = [(result.metrics, result.arrays) for result in results]
    else:
        outcomes = [(_train_pair(run.config, data_root, device, progress), {}) for run in chunk]
    seconds = (time.perf_counter() - begin) / len(chunk)
    origin = provenance(device=device, wall_seconds=seconds) | {"engine": engine}
    return [
        store.write(run.kind, run.config, metrics=metrics, arrays=arrays, provenance=origin)
        for run, (metrics, arrays) in zip(chunk, outcomes, strict=True)
    ]


def start(
    runs: list[Run], store: Store, *, device: str, data_root: Path | None = None, workers: int = 1
) -> Iterator[int]:
    """Do the runs; yield, chunk by chunk, how many were just finished.

    Args:
        runs: what `pending` returned.
        store: where the records go; each is written as soon as its chunk is done.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets.
        workers: processes, one thread each; 1 stays in this process.
    """
    check_number("workers", workers, low=1, integer=True, advice="the number of processes")
    groups = chunks(runs)
    if workers == 1:
        for chunk in groups:
            yield len(do(chunk, store, device=device, data_root=data_root))
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(_count, chunk, store, device, data_root) for chunk in groups]
        for future in as_completed(futures):
            yield future.result()


def _count(chunk: list[Run], store: Store, device: str, data_root: Path | None) -> int:
    """`do` for a worker process; the number of records travels back, the records are on disk."""
    return len(do(chunk, store, device=device, data_root=data_root))


def _train_pair(
    config: PairConfig, data_root: Path | None, device: str, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Train one image pair run and return its metrics."""
    return train_pair(config, load_pair(config.pair, data_root), device=device, progress=progress).metrics
