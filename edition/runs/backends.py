"""Where jobs are done: in this process, or in worker processes of this machine. `cluster` has the third: Dask."""

import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_process
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple, Protocol

from edition.runs.work import Job, Outcome, train

POLL_SECONDS = 0.2
LIVES = 4  # how often a job is tried whose worker dies


class Done(NamedTuple):
    """A job that is over, with its outcomes or with what stopped it."""

    job: Job
    outcomes: list[Outcome] | Exception


class Backend(Protocol):
    """Does jobs, several at a time. `progress` is called with a job and its share done."""

    def slots(self) -> int:
        """How many jobs can be under way at once."""

    def submit(self, job: Job) -> None:
        """Begin a job, or queue it."""

    def wait(self, progress: Callable[[Job, float], None]) -> list[Done]:
        """Wait until jobs are over, a moment at most where others do them; return those."""

    def close(self) -> None:
        """Stop: what is under way is given up."""


def done_by(backend: Backend, jobs: Iterable[Job], progress: Callable[[Job, float], None]) -> Iterator[Done]:
    """Have jobs done, as many at a time as there are places, and yield each that is over.

    Args:
        backend: does them.
        jobs: in their order; the next one is asked for when a place is free.
        progress: called with a job and its share done.
    """
    waiting, n_under_way = iter(jobs), 0
    while True:
        while n_under_way < backend.slots() and (job := next(waiting, None)) is not None:
            backend.submit(job)
            n_under_way += 1
        if n_under_way == 0:
            return
        for done in backend.wait(progress):
            n_under_way -= 1
            yield done


class InProcess:
    """One job at a time, in this process."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def slots(self) -> int:
        return 1

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self, progress: Callable[[Job, float], None]) -> list[Done]:
        job = self._jobs.pop(0)
        try:
            return [Done(job, train(job, lambda fraction: progress(job, fraction)))]
        except Exception as error:
            return [Done(job, error)]

    def close(self) -> None:
        self._jobs.clear()


class Pool:
    """Worker processes of this machine, one thread each, without Dask, which has to be installed and starts slowly.

    A worker that dies (killed, out of memory) takes its fellows' jobs with it: all jobs under way are done again
    from their checkpoints, `LIVES` times at most. Workers end themselves when this process dies.

    Args:
        workers: how many.
    Side effects:
        Two variables of glibc's memory in the environment, where they are not set, for the workers.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._fractions = RawArray("d", workers)  # without a lock, which a killed worker would keep
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[Future[list[Outcome]], tuple[Job, int]] = {}  # job and its place in `_fractions`
        self._deaths: dict[Job, int] = {}
        self._begun: dict[Job, float] = {}

    def slots(self) -> int:
        return self._workers

    def submit(self, job: Job) -> None:
        if self._pool is None:
            # Else glibc takes a large tensor's memory from the system each time: a tenth of a training on photographs.
            os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)} | os.environ
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin_worker,
                initargs=(self._fractions,),
            )
        place = min(set(range(self._workers)) - {place for _, place in self._futures.values()})
        self._fractions[place] = 0.0
        gone = time.monotonic() - self._begun.setdefault(job, time.monotonic())  # with workers that died
        left = job if job.seconds is None else dataclasses.replace(job, seconds=max(0.0, job.seconds - gone))
        try:
            future = self._pool.submit(_train, left, place)
        except BrokenProcessPool as error:  # a worker died since the last `wait`; the next one begins anew
            future = Future()
            future.set_exception(error)
        self._futures[future] = job, place

    def wait(self, progress: Callable[[Job, float], None]) -> list[Done]:
        finished, _ = wait(self._futures, POLL_SECONDS, FIRST_COMPLETED)
        for job, place in self._futures.values():
            progress(job, self._fractions[place])
        if any(isinstance(future.exception(), BrokenProcessPool) for future in finished):
            return self._revive()
        return [self._result(future) for future in finished]

    def close(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._futures.clear()

    def _result(self, future: "Future[list[Outcome]]") -> Done:
        job, _ = self._futures.pop(future)
        try:
            return Done(job, future.result())
        except Exception as error:
            return Done(job, error)

    def _revive(self) -> list[Done]:
        """Begin a new pool after a worker's death and hand its jobs out again; return those that died too often."""
        ended = [future for future in self._futures if future.done()]
        over = [self._result(future) for future in ended if not isinstance(future.exception(), BrokenProcessPool)]
        jobs = [job for job, _ in self._futures.values()]
        self.close()
        for job in jobs:
            self._deaths[job] = self._deaths.get(job, 0) + 1
            if self._deaths[job] < LIVES:
                self.submit(job)
            else:
                text = f"its worker process died {LIVES} times (killed, or out of memory); use fewer workers"
                over.append(Done(job, RuntimeError(text)))
        return over


_fractions: Any = None  # in a worker: where it writes the share done


def _begin_worker(fractions: Any) -> None:
    """Prepare a worker process: it ends when its parent does, even if that was killed."""
    global _fractions
    _fractions = fractions
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def follow() -> None:
        wait_for_process([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _train(job: Job, place: int) -> list[Outcome]:
    """`train` in a worker process."""

    def report(fraction: float) -> None:
        _fractions[place] = fraction

    return train(job, report)
