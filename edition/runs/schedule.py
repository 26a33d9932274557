"""Do pending runs: lock them, hand them to a backend, record what comes back, within a budget of time."""

import errno
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edition.records.checkpoint import OutOfTime
from edition.records.kinds import KINDS
from edition.records.store import RecordError, Store
from edition.runs.backends import Backend, Done, InProcess, done_by
from edition.runs.cost import Costs
from edition.runs.locks import Locks
from edition.runs.plan import Run, groups, pending
from edition.runs.progress import Silent, label
from edition.runs.work import Job, write

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass
class Summary:
    """What a call of `start` did.

    Attributes:
        recorded: runs whose records were written.
        stopped: runs that were begun and stopped at the time limit, their states saved.
        over_budget: runs that were not begun, since they would not have ended in time.
        elsewhere: runs that another process is doing, or has done meanwhile.
        failed: what went wrong, by job.
    """

    recorded: list[Run] = field(default_factory=list)
    stopped: list[Run] = field(default_factory=list)
    over_budget: list[Run] = field(default_factory=list)
    elsewhere: list[Run] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


def start(
    runs: list[Run],
    store: Store,
    *,
    device: str = "cpu",
    data_root: Path | None = None,
    backend: Backend | None = None,
    budget: float | None = None,
    progress: Silent | None = None,
    costs: Costs | None = None,
) -> Summary:
    """Do runs in their order and record them; those that have records, or that others do, are left alone.

    A kill at any moment loses no record, and of a long run only what was done since its last checkpoint. What
    cannot be finished within the budget is not begun, except long runs: one that was begun before, or whose expected
    cost is more than the whole budget, runs until the budget ends and is resumed by a later call.

    Args:
        runs: what to do.
        store: where the records go; each is written as soon as its job is done.
        device: "cpu" or "cuda".
        data_root: folder of the real data sets.
        backend: where jobs are done; None is this process. It is closed at the end.
        budget: seconds; None is without limit.
        progress: shows the work; None shows nothing.
        costs: what runs are expected to cost, corrected as they finish; None learns it from the store's records.
    Returns:
        What was done and what was not. A run that fails does not stop the others.
    Raises:
        RecordError: a record cannot be trusted or written, or the disk is full.
    Side effects:
        Locks and checkpoints in `store.work`, and at the end what killed processes left there is removed; a stale
        record is removed when its run is done again.
    """
    backend, progress, locks = backend or InProcess(), progress or Silent(), Locks(store)
    try:
        costs = costs or Costs(store.all(), device)
        work = _Work(pending(runs, store), store, locks, device, data_root, budget, costs)
        progress.begin(len(runs))
        for done in done_by(backend, work.jobs(), progress.update):
            progress.finish(done.job, work.take(done))
        work.tidy()
        return work.summary
    finally:
        backend.close()
        locks.drop_all()
        progress.close()


class _Work:
    """The state of one call of `start`."""

    def __init__(
        self,
        runs: list[Run],
        store: Store,
        locks: Locks,
        device: str,
        data_root: Path | None,
        budget: float | None,
        costs: Costs,
    ) -> None:
        self.summary = Summary()
        self._store, self._device, self._data_root = store, device, data_root
        self._budget = math.inf if budget is None else budget
        self._end = time.monotonic() + self._budget
        self._queue = groups(runs, device)
        self._again: list[list[Run]] = []  # others had claimed them; looked at once more at the end
        self._locks = locks
        self._costs = costs
        self._stale = store.stale()

    def jobs(self) -> Iterator[Job]:
        """Lock one group after the other, if it fits into the time that is left, and make its job."""
        while self._queue or self._again:
            last_look = not self._queue
            group = (self._queue or self._again).pop(0)
            remaining = self._end - time.monotonic()
            if not self._fits(group, remaining):
                self.summary.over_budget += group
                continue
            mine = [run for run in group if self._locks.take(run)]
            others = [run for run in group if run not in mine]
            if last_look:
                self.summary.elsewhere += others
            elif others:
                self._again.append(others)
            if mine:
                limit = remaining if math.isfinite(remaining) else None
                yield Job(tuple(mine), self._device, self._data_root, self._checkpoint(mine), limit)

    def take(self, done: Done) -> str:
        """Record what a job gave, or note what stopped it; return a word on it."""
        runs = done.job.runs
        try:
            if isinstance(done.outcomes, OutOfTime):
                self.summary.stopped += runs
                return str(done.outcomes)
            if isinstance(done.outcomes, Exception):
                return self._fail(done.job, done.outcomes)
            for run, outcome in zip(runs, done.outcomes, strict=True):
                write(run, self._store, outcome)
                self._costs.learn(run, outcome.provenance["wall_seconds"])
            self.summary.recorded += runs
            if done.job.checkpoint is not None:
                done.job.checkpoint.unlink(missing_ok=True)
            return f"{sum(outcome.provenance['wall_seconds'] for outcome in done.outcomes):.1f} s"
        finally:
            for run in runs:
                self._locks.drop(run)

    def tidy(self) -> None:
        """Remove records of an earlier schema whose runs have one of this, and what killed processes left."""
        for (kind, config), path in self._stale.items():
            if self._store.path(kind, config).exists():
                path.with_suffix(".npz").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        self._locks.tidy()

    def _fits(self, group: list[Run], remaining: float) -> bool:
        """Whether a group may be begun now; see `start`."""
        seconds = sum(self._costs.seconds(run) for run in group)
        if seconds <= remaining:
            return True
        checkpoint = self._checkpoint(group)
        return checkpoint is not None and remaining > 0 and (checkpoint.exists() or seconds > self._budget)

    def _checkpoint(self, group: list[Run]) -> Path | None:
        """Return the file of a long group's state, named after its first run and, if it has more, a hash of all."""
        if not KINDS[group[0].kind].checkpointed:
            return None
        names = [run.name for run in group]
        others = f"-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}" if len(names) > 1 else ""
        return self._store.work.absolute() / f"{names[0]}{others}.pt"

    def _fail(self, job: Job, error: Exception) -> str:
        """Note a failure; one that no other run would escape is raised."""
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise RecordError(
                f"{self._store.root}: expected room for checkpoints, got {error}; free some space or make the folder "
                f"writable, then start again. Every record is intact"
            ) from error
        self.summary.failed[label(job)] = error
        return f"failed: {error}"
