"""Sweeps that are killed, or their workers: resumed, they end with the records of one that nothing disturbed."""

import random
import signal
import sys
from collections import Counter

import harness
import pytest


def test_a_kill_before_any_file_operation_loses_nothing(tmp_path):
    script = [sys.executable, str(harness.FOLDER / "every_step.py"), str(tmp_path / "stores")]
    with harness.running(*script, folder=tmp_path) as process:
        told = harness.finish(process)
    moments, problems = told.split(" moments; problems: ")
    assert problems == "none\n", told
    assert int(moments) > 20


@pytest.mark.parametrize(("workers", "n_kills"), [(1, 5), (2, 4)], ids=["in this process", "two workers"])
def test_kills_at_random_moments_lose_no_more_than_an_epoch_each(workers, n_kills, reference, tmp_path):
    store, log, chance = tmp_path / "store", tmp_path / "log", random.Random(workers)

    def sweep():
        command = harness.start(store, "--workers", str(workers))
        return harness.running(*command, folder=tmp_path, SWEEP_LOG=str(log))

    for _ in range(n_kills):
        enough = len(harness.events(log, "save")) + chance.randint(1, 3)
        with sweep() as process:
            harness.wait_for(lambda n=enough: len(harness.events(log, "save")) >= n, "some epochs", process)
            process.kill()
            assert process.wait() == -signal.SIGKILL, process.told()
            # Workers are not killed: they must see for themselves that nobody waits for them.
            harness.wait_for(lambda group=process.pid: not harness.survivors(group), "the workers to end")
    with sweep() as process:
        harness.finish(process)
    harness.assert_complete(store, reference)
    assert harness.repeated(log) <= n_kills * workers
    parts = {(run, process) for process, _, run, _ in harness.events(log, "save")}
    assert max(Counter(run for run, _ in parts).values()) > 1, "no kill came between two epochs of a run"


def test_a_killed_worker_of_the_pool_loses_no_more_than_an_epoch(reference, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    with harness.running(*harness.start(store, "--workers", "2"), folder=tmp_path, SWEEP_LOG=str(log)) as process:
        assert harness.kill_one_at_work(log, 6, process) != process.pid
        harness.finish(process)
        harness.wait_for(lambda: not harness.survivors(process.pid), "the workers to end with their parent")
    harness.assert_complete(store, reference)
    assert harness.repeated(log) <= 2  # one for each worker: the fellow of the killed one begins its job again, too
