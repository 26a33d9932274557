"""Jobs on many machines: a Dask cluster does them, this process hands them out and records what comes back."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from edition.records.provenance import source_digest
from edition.runs.backends import POLL_SECONDS, Done
from edition.runs.work import Job, Outcome, train

TOPIC = "samlib-progress"
CONNECT_SECONDS = 20
WORKER_WAIT_SECONDS = 60


class Cluster:
    """A Dask cluster. Dask does a job again, elsewhere, when its worker dies; its checkpoint spares the repetition.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786".
    Raises:
        ValueError: nobody answers there, it has no workers, or they have another version of samlib.
        ImportError: the package distributed is missing.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError(
                "--scheduler: expected the package distributed, it cannot be imported; pip install distributed"
            ) from error
        self._wait, self._names = distributed.wait, itertools.count()
        try:
            self._client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=WORKER_WAIT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ValueError(
                f"--scheduler: expected a Dask scheduler with workers at {address}, got {error!r}; start them with "
                f"`dask scheduler` and `dask worker {address} --nthreads 1`"
            ) from error
        self._futures: dict[str, tuple[Any, Job]] = {}
        self._fractions: dict[str, float] = {}
        self._client.subscribe_topic(TOPIC, self._hear)
        self._require_one_version()

    def slots(self) -> int:
        """One a thread of the cluster; workers may come and go.

        Raises:
            ValueError: the scheduler is gone.
        """
        try:
            return max(1, sum(self._client.nthreads().values()))
        except OSError as error:
            raise ValueError(
                f"--scheduler: expected the scheduler to go on, lost it ({error}); start one with workers again, then "
                f"this command: what is recorded stays, long runs go on from their last checkpoint"
            ) from error

    def submit(self, job: Job) -> None:
        key = f"{job.runs[0].name}-{self._client.id}-{next(self._names)}"
        self._futures[key] = self._client.submit(_train, job, key, source_digest(), key=key, pure=False), job

    def wait(self, progress: Callable[[Job, float], None]) -> list[Done]:
        futures = [future for future, _ in self._futures.values()]
        with contextlib.suppress(TimeoutError, CancelledError), self._client.as_current():
            self._wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        for key, (_, job) in self._futures.items():
            progress(job, self._fractions.get(key, 0.0))
        over = [key for key, (future, _) in self._futures.items() if future.done()]
        return [self._result(key) for key in over]

    def close(self) -> None:
        """Give up what is under way and leave the cluster; it goes on without us."""
        self._client.cancel([future for future, _ in self._futures.values()])
        self._client.close()

    def _result(self, key: str) -> Done:
        future, job = self._futures.pop(key)
        if future.status == "finished":
            return Done(job, future.result())
        error = future.exception() if future.status == "error" else RuntimeError("the cluster cancelled it")
        return Done(job, error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _hear(self, event: tuple[Any, Any]) -> None:
        _, (key, fraction) = event
        self._fractions[key] = fraction

    def _require_one_version(self) -> None:
        """Refuse workers with another samlib: their numbers would not be ours."""
        found = self._client.run(source_digest, on_error="return")
        others = sorted(worker for worker, digest in found.items() if digest != source_digest())
        if others:
            self.close()
            raise ValueError(
                f"--scheduler: expected this version of samlib on every worker, got another on {', '.join(others)}; "
                f"update it there and restart the workers"
            )


def _train(job: Job, key: str, digest: str) -> list[Outcome]:
    """`train` on a worker of the cluster, with the client's version of samlib and while the client wants it."""
    import distributed

    worker = distributed.get_worker()
    if source_digest() != digest:
        raise RuntimeError(f"expected this version of samlib on worker {worker.address}, got another; restart it")

    def report(fraction: float) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled" or worker.status.name in ("closing", "closed"):
            raise RuntimeError("nobody waits for this job any more")  # its client or its scheduler is gone
        worker.log_event(TOPIC, (key, fraction))

    if job.checkpoint is not None and not job.checkpoint.parent.is_dir():
        job = dataclasses.replace(job, checkpoint=None)  # the store is on the client's disk alone
    return train(job, report)
