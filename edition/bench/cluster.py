"""How a Dask cluster shares out the search of the lost constants: settings a second, by the number of its workers."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edition import runs
from edition.records.store import Store
from edition.runs.cluster import Cluster
from samlib.search import SearchConfig, search
from samlib.toy.training import best_engine

# Eight short chunks: some forty seconds of one core.
CHUNKS = tuple(SearchConfig(n, 5, n_steps=3000, n_test=500, seeds=tuple(range(4))) for n in range(0, 40, 5))


def measure_cluster(
    *, workers: Sequence[int] = (1, 2), chunks: Sequence[SearchConfig] = CHUNKS, rounds: int = 3
) -> list[dict[str, Any]]:
    """Search the same settings on a Dask cluster of this machine, with one worker process, with two, ...

    The clock starts when the workers are up and have compiled their engine, and stops when all records are written.

    Args:
        workers: sizes of the cluster; workers have one thread each.
        chunks: what to search.
        rounds: measurements of each; the fastest counts, since a chunk has no other noise than the machine's.
    Returns:
        One row a size: "workers", "settings", "seconds", "settings_per_s", "ratio" of that to the first row's.
    """
    from distributed import Client, LocalCluster  # takes a second

    rows: list[dict[str, Any]] = []
    for size in workers:
        with (
            LocalCluster(n_workers=size, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.run(_compile)
            seconds = min(_timed(cluster.scheduler_address, chunks) for _ in range(rounds))
        settings = sum(chunk.n_settings for chunk in chunks)
        first = rows[0]["seconds"] if rows else seconds
        row = {"workers": size, "settings": settings, "seconds": seconds}
        rows.append({**row, "settings_per_s": settings / seconds, "ratio": first / seconds})
    return rows


def _compile() -> None:
    """Import and compile what a chunk takes, in a worker."""
    search(SearchConfig(0, 1, n_steps=10, n_test=20, seeds=(0, 1)), engine=best_engine("cpu"))


def _timed(address: str, chunks: Sequence[SearchConfig]) -> float:
    """Do the chunks on a cluster, with their records in a folder of their own; return the seconds.

    Raises:
        RuntimeError: one of them failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        backend = Cluster(address)
        begin = time.perf_counter()
        summary = runs.start([runs.Run("search", chunk) for chunk in chunks], Store(Path(folder)), backend=backend)
        seconds = time.perf_counter() - begin
    if summary.failed:
        raise RuntimeError(f"the cluster: expected {len(chunks)} chunks, got errors: {summary.failed}")
    return seconds
