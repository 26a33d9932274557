"""Run recorded runs again and compare: the same bits on the same kind of machine, a stated tolerance elsewhere."""

import fnmatch
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edition.records.kinds import KINDS
from edition.records.store import Record, RecordError, Store, finite
from edition.runs.backends import Backend, InProcess, done_by
from edition.runs.plan import Run
from edition.runs.progress import Silent
from edition.runs.work import Job, Outcome

FEW_IMAGES = 10  # of a set that another machine may classify otherwise, be the set as small as it may


class Difference(NamedTuple):
    """A metric that came out otherwise.

    Attributes:
        run: name of the run.
        metric: its name, with the place in it, such as "curves.v_hard[3][1]".
        recorded, now: both values.
        allowed: the tolerance, 0 for equal bits.
    """

    run: str
    metric: str
    recorded: Any
    now: Any
    allowed: float


def choose(runs: list[Run], n: int | None, seed: int = 0) -> list[Run]:
    """Draw n of the runs, all where n is None or not smaller than their number; the same ones for one seed."""
    if n is None or n >= len(runs):
        return list(runs)
    return random.Random(seed).sample(runs, n)


def verify(
    runs: list[Run],
    store: Store,
    *,
    device: str = "cpu",
    data_root: Path | None = None,
    backend: Backend | None = None,
    progress: Silent | None = None,
) -> tuple[list[Difference], dict[str, Exception]]:
    """Do recorded runs again, without a checkpoint, and compare with their records; nothing is written.

    Args:
        runs: all of them recorded.
        store: where the records are.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets.
        backend: where runs are done; None is this process. It is closed at the end.
        progress: shows the work; None shows nothing.
    Returns:
        Every difference beyond what is allowed, and the runs that failed.
    Raises:
        RecordError: a run has no record, or one that cannot be trusted.
    """
    backend, progress = backend or InProcess(), progress or Silent()
    records = {}
    for run in runs:
        record = store.find(run.kind, run.config)
        if record is None:
            raise RecordError(f"{run.name}: expected a record in {store.root}, there is none; start the run first")
        records[run] = record
    differences, failed = [], {}
    try:
        progress.begin(len(runs))
        jobs = (Job((run,), device, data_root) for run in runs)
        for job, outcomes in done_by(backend, jobs, progress.update):
            run = job.runs[0]
            if isinstance(outcomes, Exception):
                failed[run.name] = outcomes
                progress.finish(job, f"failed: {outcomes}")
                continue
            found = compare(records[run], outcomes[0])
            differences += found
            progress.finish(job, f"{len(found)} differences" if found else "equal")
        return differences, failed
    finally:
        backend.close()
        progress.close()


def compare(record: Record, outcome: Outcome) -> list[Difference]:
    """List what differs between a record and the same run done again; see `Kind.tolerances` for what may."""
    name = f"{record.kind}-{record.id}"
    now = finite(outcome.metrics)
    # Equal bits can be asked for of the same processor, libraries and engine.
    if any(record.provenance.get(key) != outcome.provenance.get(key) for key in ("device", "versions", "engine")):
        return [
            Difference(name, metric, before, after, allowed)
            for metric, before, after, allowed in _means(record.metrics, now, KINDS[record.kind].tolerances)
            if not _within(before, after, allowed)
        ]
    found = [Difference(name, *found, 0.0) for found in _leaves("", record.metrics, now) if found[1] != found[2]]
    before = record.arrays() if record.array_names else {}
    for key in sorted({*before, *outcome.arrays}):
        if key not in before or key not in outcome.arrays or before[key].tobytes() != outcome.arrays[key].tobytes():
            found.append(Difference(name, f"array {key}", _told(before, key), _told(outcome.arrays, key), 0.0))
    return found


def difference_table(differences: list[Difference], most: int = 40) -> str:
    """Return the differences as lines for a terminal, the first ones where there are many."""
    from pandas import DataFrame  # slow to import

    lines = [DataFrame(differences[:most]).astype(str).to_string(index=False)]
    if len(differences) > most:
        lines.append(f"... and {len(differences) - most} more")
    return "\n".join(lines)


def _leaves(path: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (place, recorded, now) of everything in two nested values; a missing part counts as None."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _leaves(f"{path}.{key}".lstrip("."), before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (left, right) in enumerate(zip(before, now, strict=True)):
            yield from _leaves(f"{path}[{i}]", left, right)
    else:
        yield path, before, now


def _means(
    before: dict[str, Any], now: dict[str, Any], tolerances: dict[str, float]
) -> Iterator[tuple[str, Any, Any, float]]:
    """Yield (metric, recorded mean, mean now, tolerance) of the metrics that have one; on few images it is wider."""
    for pattern, allowed in tolerances.items():
        for metric in fnmatch.filter(sorted(before), pattern):
            n_images = before.get("n_validation" if metric.startswith("validation") else "n_test", math.inf)
            yield metric, _mean(before[metric]), _mean(now.get(metric)), max(allowed, FEW_IMAGES / n_images)


def _mean(value: Any) -> float | None:
    """Mean over seeds of a metric; None where it holds no number."""
    values = [item for item in (value if isinstance(value, list) else [value]) if item is not None]
    return sum(values) / len(values) if values else None


def _within(before: float | None, now: float | None, allowed: float) -> bool:
    """Whether two means agree; two absent ones do."""
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=0, abs_tol=allowed)


def _told(arrays: dict[str, np.ndarray], key: str) -> str:
    """Describe an array in a few words."""
    if key not in arrays:
        return "absent"
    return f"{arrays[key].shape}, sum {float(arrays[key].sum(dtype=np.float64)):.9g}"
