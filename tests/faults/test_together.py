"""Several processes at one sweep: workers that die, two sweeps at once, a Dask cluster. The records stay the same."""

import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import types
from collections import Counter

import harness
import pytest
import sweep

from edition.records.store import Store
from edition.runs import cluster, start
from edition.runs.backends import InProcess, Pool
from edition.runs.work import Job, write

COMPANIES = [([], []), (["--workers", "2"], ["--workers", "2"])]


def repeated(log) -> int:
    """How many epochs were trained more than once, counting each repetition."""
    epochs = Counter((run, share) for _, _, run, share in harness.events(log, "save"))
    assert len(epochs) == len(sweep.PAIR) * sweep.N_EPOCHS
    return epochs.total() - len(epochs)


def kill_one_at_work(log, n: int, process) -> int:
    """Wait for n more epochs, then kill the process that trained the last one; return its number."""
    before = len(harness.events(log, "save"))
    harness.wait_for(lambda: len(harness.events(log, "save")) >= before + n, f"{n} more epochs", process)
    worker = int(harness.events(log, "save")[-1][0])
    os.kill(worker, signal.SIGKILL)
    return worker


@pytest.mark.parametrize(("first", "second"), COMPANIES)
def test_two_sweeps_at_once_do_every_run_once(first, second, reference, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                harness.running(*harness.start(store, *options), folder=tmp_path, name=name, SWEEP_LOG=str(log))
            )
            for name, options in (("first", first), ("second", second))
        ]
        told = [harness.finish(process) for process in processes]
    harness.assert_complete(store, reference)
    begun = Counter(run for _, _, run in harness.events(log, "begin"))
    assert begun == dict.fromkeys(begun, 1) and len(begun) == len(sweep.RUNS)
    assert repeated(log) == 0
    assert any("done by another process" in text for text in told)


def test_a_killed_worker_of_the_pool_loses_no_more_than_an_epoch(reference, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    with harness.running(*harness.start(store, "--workers", "2"), folder=tmp_path, SWEEP_LOG=str(log)) as process:
        assert kill_one_at_work(log, 6, process) != process.pid
        harness.finish(process)
        harness.wait_for(lambda: not harness.survivors(process.pid), "the workers to end with their parent")
    harness.assert_complete(store, reference)
    assert repeated(log) <= 2  # one for each worker: the fellow of the killed one begins its job again, too


def test_a_pool_takes_a_job_after_the_death_of_its_workers(reference, tmp_path):
    jobs, pool, store, done = [Job((run,)) for run in sweep.RUNS[:2]], Pool(2), Store(tmp_path), []
    try:
        pool.submit(jobs[0])
        for process in [*pool._pool._processes.values()]:
            process.kill()
        harness.wait_for(lambda: pool._pool._broken, "the pool to see it")
        pool.submit(jobs[1])
        harness.wait_for(lambda: done.extend(pool.wait(lambda job, fraction: None)) or len(done) == 2, "both jobs")
    finally:
        pool.close()
    for job, outcomes in done:
        write(job.runs[0], store, outcomes[0])
    assert harness.contents(tmp_path) == {run.name: harness.contents(reference)[run.name] for run in sweep.RUNS[:2]}


def test_runs_are_free_for_others_once_a_sweep_was_interrupted(tmp_path):
    class Interrupted(InProcess):
        def slots(self) -> int:
            return 2

        def wait(self, progress):
            raise KeyboardInterrupt

    runs, store = sweep.RUNS[:2], Store(tmp_path)
    with pytest.raises(KeyboardInterrupt) as kept:  # and with it everything that the call of `start` held
        start(runs, store, backend=Interrupted())
    assert kept.value.__traceback__ is not None
    assert start(runs, store).recorded == runs


@pytest.fixture
def scheduler(tmp_path):
    """A Dask scheduler, a process of its own, and its address."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with harness.running(
        sys.executable, "-m", "distributed.cli.dask_scheduler", *options, folder=tmp_path, name="scheduler"
    ) as process:
        # The file appears before its text does.
        text = harness.wait_for(lambda: file.exists() and file.read_text(), "the scheduler", process)
        yield types.SimpleNamespace(process=process, address=json.loads(text)["address"])


def dask_worker(address, folder, name, **environment):
    """A worker process of the cluster, which notes what it trains as the sweep does."""
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--name", name]
    options += ["--preload", str(harness.FOLDER / "sweep.py"), "--local-directory", str(folder / name)]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, *options]
    return harness.running(*command, folder=folder, name=name, **environment)


def test_a_cluster_that_cannot_do_the_sweep_is_refused_with_the_reason(scheduler, tmp_path):
    def refused(address) -> str:
        command = harness.start(tmp_path / "store", "--scheduler", address)
        with harness.running(*command, folder=tmp_path, name="client", SWEEP_WAIT="2") as process:
            harness.finish(process, status=1)
            assert "Traceback" not in process.err.read_text()
            (error,) = [line for line in process.err.read_text().splitlines() if line.startswith("error:")]
        return error

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        assert f"expected a Dask scheduler with workers at {address}" in refused(address)
    assert "with workers at" in refused(scheduler.address)  # it has none
    with dask_worker(scheduler.address, tmp_path, "other", SWEEP_DIGEST="another") as worker:
        harness.wait_for(lambda: "Registered to" in worker.told(), "the worker", worker)
        assert "expected this version of samlib on every worker, got another on tcp://" in refused(scheduler.address)
    assert not (tmp_path / "store").exists()


def test_a_killed_scheduler_is_named_and_leaves_records_and_checkpoint(scheduler, reference, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    with dask_worker(scheduler.address, tmp_path, "worker", SWEEP_LOG=str(log)) as worker:
        command = harness.start(store, "--scheduler", scheduler.address)
        with harness.running(*command, folder=tmp_path, name="client", SWEEP_WAIT="10") as client:
            harness.wait_for(lambda: len(harness.events(log, "save")) > 3, "some epochs", client)
            scheduler.process.kill()
            told = harness.finish(client, status=1)
        assert [line for line in told.splitlines() if line.startswith("error: --scheduler:")] != []
        harness.wait_for(lambda: worker.poll() is not None, "the worker to end with its scheduler")
    expected = harness.contents(reference)
    assert harness.contents(store) == {run.name: expected[run.name] for run in sweep.RUNS[: len(sweep.TOY)]}
    (checkpoint,) = (store / ".work").glob("*.pt")  # where the next start goes on
    assert checkpoint.stem == harness.events(log, "save")[-1][2]


def test_a_worker_that_joins_later_with_another_version_refuses_its_job(monkeypatch):
    monkeypatch.setattr("distributed.get_worker", lambda: types.SimpleNamespace(address="tcp://somewhere"))
    with pytest.raises(RuntimeError, match="this version of samlib on worker tcp://somewhere, got another"):
        cluster._train(Job((sweep.RUNS[0],)), "key", "another")


def test_a_worker_that_does_not_share_the_clients_disk_trains_without_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("distributed.get_worker", lambda: types.SimpleNamespace(address="tcp://somewhere"))
    monkeypatch.setattr(cluster, "train", lambda job, report: job.checkpoint)
    for folder, kept in ((tmp_path, True), (tmp_path / "of the client", False)):
        job = Job((sweep.RUNS[0],), checkpoint=folder / "a.pt")
        assert cluster._train(job, "key", cluster.source_digest()) == (job.checkpoint if kept else None)


def test_a_cluster_whose_client_and_then_a_worker_are_killed_loses_no_more_than_an_epoch(
    scheduler, reference, tmp_path
):
    store, log = tmp_path / "store", tmp_path / "log"
    command = harness.start(store, "--scheduler", scheduler.address)
    with contextlib.ExitStack() as stack:
        workers = {
            stack.enter_context(dask_worker(scheduler.address, tmp_path, name, SWEEP_LOG=str(log))).pid
            for name in ("one", "two")
        }
        client = stack.enter_context(harness.running(*command, folder=tmp_path, name="client 1"))
        at_work = {str(worker) for worker in workers}
        harness.wait_for(lambda: {words[0] for words in harness.events(log, "save")} == at_work, "some epochs", client)
        client.kill()
        n_events = len(harness.events(log))
        client = stack.enter_context(harness.running(*command, folder=tmp_path, name="client 2"))
        assert kill_one_at_work(log, 10, client) in workers
        harness.finish(client)
    harness.assert_complete(store, reference)
    after = [event for _, event, *_ in harness.events(log)[n_events:]]
    # The first client's jobs end when their epochs do: nobody would take their results. On a busy machine the news of
    # the client's end may take an epoch to reach a worker.
    assert len(list(itertools.takewhile(lambda event: event == "save", after))) <= 2 * len(workers)
    assert repeated(log) <= 3
