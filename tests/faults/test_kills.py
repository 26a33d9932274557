"""A sweep that is killed over and over: resumed, it ends with the records of one that nothing disturbed."""

import itertools
import os
import random
import signal
import subprocess
from collections import Counter

import harness
import pytest
import sweep

START_UP = 3.0  # seconds in which a process imports and looks around before it trains


class Kills:
    """Kills sweeps at random moments, one store after the other until there were enough."""

    def __init__(self, folder, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.random = random.Random(workers)
        self.n_under_way = self.n_starting = 0

    def kill_once(self, store, log) -> bool:
        """Start the sweep and kill it; False if it was done before."""
        starting = self.random.random() < 0.2
        options = ("--workers", str(self.workers)) if self.workers > 1 else ()
        before = len(harness.events(log))
        with harness.running(*harness.start(store, *options), folder=self.folder, SWEEP_LOG=str(log)) as process:
            if starting:
                moment = self.random.uniform(0, START_UP)
            else:
                enough = before + self.random.randint(1, 6)  # trainings begun and epochs done, however slow they are
                harness.wait_for(lambda: process.poll() is not None or len(harness.events(log)) >= enough, "epochs")
                moment = self.random.uniform(0, 0.3)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
            if process.wait() == 0:
                return False
            assert process.returncode == -signal.SIGKILL, process.told()
            self.n_starting += starting
            self.n_under_way += not starting
            # Workers are not killed: they must see for themselves that nobody waits for them.
            harness.wait_for(lambda: not harness.survivors(process.pid), "the workers to end with their parent")
        return True

    def until_done(self, store, log, n: int) -> int:
        """Kill the sweep in one store until it is done, or n more trainings are interrupted; return the kills."""
        end = self.n_under_way + n
        for kills in itertools.count():
            if self.n_under_way >= end or not self.kill_once(store, log):
                return kills
        raise AssertionError("unreachable")

    def finish(self, store, log) -> None:
        """Let the sweep come to its end."""
        with harness.running(*harness.start(store), folder=self.folder, SWEEP_LOG=str(log)) as process:
            harness.finish(process)


def resumed(log) -> int:
    """Number of runs whose epochs were trained by more than one process."""
    parts = {(run, process) for process, _, run, *_ in harness.events(log, "save")}
    return sum(count > 1 for count in Counter(run for run, _ in parts).values())


@pytest.mark.parametrize(("workers", "n_kills"), [(1, 15), (2, 5)], ids=["in this process", "two workers"])
def test_random_kills_lose_no_more_than_an_epoch_each(workers, n_kills, reference, tmp_path):
    kills, n_resumed = Kills(tmp_path, workers), 0
    for i in itertools.count():
        store, log = tmp_path / f"store{i}", tmp_path / f"log{i}"
        n_here = kills.until_done(store, log, n_kills - kills.n_under_way)
        kills.finish(store, log)
        harness.assert_complete(store, reference)
        epochs = Counter((run, share) for _, _, run, share in harness.events(log, "save"))
        assert len(epochs) == len(sweep.PAIR) * sweep.N_EPOCHS
        assert epochs.total() - len(epochs) <= n_here * workers, "more than the epoch that a kill interrupted was lost"
        n_resumed += resumed(log)
        if kills.n_under_way >= n_kills:
            break
    assert n_resumed > 0, "no kill came between two epochs of a run: nothing was shown about checkpoints"
