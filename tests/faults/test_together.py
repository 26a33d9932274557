"""Several processes at one sweep: two at once, a Dask cluster and its deaths. The records stay the same."""

import contextlib
import itertools
import json
import socket
import sys
import types

import harness
import pytest
import sweep

from edition.runs import cluster
from edition.runs.work import Job


@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["in this process", "two workers"])
def test_two_sweeps_at_once_do_every_run_once(options, reference, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    command = harness.start(store, *options)
    with (
        harness.running(*command, folder=tmp_path, name="first", SWEEP_LOG=str(log)) as first,
        harness.running(*command, folder=tmp_path, name="second", SWEEP_LOG=str(log)) as second,
    ):
        told = harness.finish(first) + harness.finish(second)
    harness.assert_complete(store, reference)
    assert sorted(run for _, _, run in harness.events(log, "begin")) == sorted(run.name for run in sweep.RUNS)
    assert harness.repeated(log) == 0
    assert "done by another process" in told


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


@pytest.fixture
def elsewhere(monkeypatch):
    """This process as a worker of a cluster."""
    monkeypatch.setattr("distributed.get_worker", lambda: types.SimpleNamespace(address="tcp://somewhere"))


def test_a_worker_that_joins_later_with_another_version_refuses_its_job(elsewhere):
    with pytest.raises(RuntimeError, match="this version of samlib on worker tcp://somewhere, got another"):
        cluster._train(Job((sweep.RUNS[0],)), "key", "another")


def test_a_worker_that_does_not_share_the_clients_disk_trains_without_a_checkpoint(elsewhere, tmp_path, monkeypatch):
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
        assert harness.kill_one_at_work(log, 10, client) in workers
        harness.finish(client)
    harness.assert_complete(store, reference)
    after = [event for _, event, *_ in harness.events(log)[n_events:]]
    # The first client's jobs end when their epochs do: nobody would take their results. On a busy machine the news of
    # the client's end may take an epoch to reach a worker.
    assert len(list(itertools.takewhile(lambda event: event == "save", after))) <= 2 * len(workers)
    assert harness.repeated(log) <= 3
