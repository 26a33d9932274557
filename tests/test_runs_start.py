"""`start`: what it does, in which order, within which budget; and what it leaves alone."""

import errno
import fcntl
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest
from clock import Clock

from edition.experiments.finetune import WATERBIRDS, reduced
from edition.records.checkpoint import OutOfTime
from edition.records.kinds import KINDS, MEASUREMENT
from edition.records.provenance import device_name
from edition.records.store import Record, RecordError, Store
from edition.runs import Run, backends, pending, schedule, start
from edition.runs.backends import Done, Pool
from edition.runs.cost import GPU_SPEEDUP, Costs, expectation, work
from edition.runs.locks import Locks
from edition.runs.progress import Silent
from edition.runs.work import Job, Outcome
from samlib.images.config import PairConfig
from samlib.toy.config import ToyConfig

TINY = ToyConfig(hidden=4, n_steps=60, n_snapshots=2, seeds=(0, 1)).vary(n_train=30, n_test=50)
RUNS = [Run("toy", TINY.vary(**change)) for change in ({}, {"rho": 0.5}, {"hidden": 5}, {"rho": 1.0})]
PAIRS = [Run("pair", PairConfig(pair="digits_patches", n_train=1000, n_epochs=10, seed=seed)) for seed in range(4)]


class Scripted:
    """A backend that trains nothing: every job gives the next answer of its script, its seconds or an error."""

    def __init__(self, *answers: float | Exception, slots: int = 1, clock: Clock | None = None) -> None:
        self.answers, self.n, self.jobs, self.submitted, self.closed = list(answers), slots, [], [], False
        self.clock = clock or Clock()

    def slots(self) -> int:
        return self.n

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.submitted.append(job)

    def wait(self, progress) -> list[Done]:
        job, answer = self.jobs.pop(0), self.answers.pop(0) if self.answers else 1.0
        if isinstance(answer, Exception):
            return [Done(job, answer)]
        self.clock.now += answer
        origin = {"wall_seconds": answer, "device": device_name("cpu"), "versions": {}}
        return [Done(job, [Outcome({}, {}, origin) for _ in job.runs])]

    def close(self) -> None:
        self.closed = True


class AtFinish(Silent):
    """Does something whenever a job is over."""

    def __init__(self, do) -> None:
        self._do = do

    def finish(self, job: Job, text: str) -> None:
        self._do()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_the_same_configuration_gives_the_same_bytes_in_any_order_and_process(tmp_path):
    alone, shared = Store(tmp_path / "alone"), Store(tmp_path / "shared")
    kept = [Run("toy", run.config.vary(checkpoints=(30, 60))) for run in RUNS]
    start(kept, alone)
    assert set(start(kept[::-1], shared, backend=Pool(2)).recorded) == set(kept)
    for run in kept:
        one, other = (store.find(run.kind, run.config) for store in (alone, shared))
        assert one.metrics == other.metrics
        assert one.path.with_suffix(".npz").read_bytes() == other.path.with_suffix(".npz").read_bytes()


@pytest.mark.parametrize("code", [None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_run_that_another_process_has_claimed_is_left_to_it(store, monkeypatch, code):
    def refuse(handle, operation):
        raise OSError(code, "no locks here")

    if code:  # a file system without locks
        monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = Locks(store), Locks(store)
    assert first.take(RUNS[0]) and not second.take(RUNS[0])
    summary = start(RUNS[:2], store, backend=Scripted())
    assert (summary.recorded, summary.elsewhere) == (RUNS[1:2], RUNS[:1])
    first.drop_all()
    assert second.take(RUNS[0])
    second.drop(RUNS[0])
    assert start(RUNS[:2], store, backend=Scripted()).recorded == RUNS[:1]
    assert not list(store.work.glob("*.held"))


def test_a_claim_that_is_given_up_meanwhile_is_taken_over(store):
    other = Locks(store)
    assert other.take(RUNS[0])
    summary = start(RUNS[:2], store, backend=Scripted(), progress=AtFinish(other.drop_all))
    assert summary.recorded == [RUNS[1], RUNS[0]]


def test_only_one_of_many_can_claim_a_run(store):
    ready, found = threading.Barrier(9), []

    def race() -> None:
        claims = Locks(store)
        ready.wait()
        found.append((claims.take(RUNS[0]), claims))  # kept, and with it the claim

    threads = [threading.Thread(target=race) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken for taken, _ in found) == [False] * 8 + [True]


def test_another_error_of_a_lock_is_told_before_anything_is_trained(store, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(fcntl, "flock", refuse)
    backend = Scripted()
    with pytest.raises(RecordError, match=r"expected to claim a run there, got .*broken disk"):
        start(RUNS, store, backend=backend)
    assert not backend.submitted


def test_when_the_reader_stops_what_is_finished_is_kept_and_the_rest_is_free_for_others(store):
    def stop() -> None:
        raise KeyboardInterrupt

    backend = Scripted(slots=2)
    with pytest.raises(KeyboardInterrupt) as kept:  # and with it everything that the call of `start` held
        start(RUNS, store, backend=backend, progress=AtFinish(stop))
    assert [job.runs for job in backend.submitted] == [(RUNS[0],), (RUNS[1],)]  # as many as there are places
    assert pending(RUNS, store) == RUNS[1:]
    assert start(RUNS, store, backend=Scripted()).recorded == RUNS[1:]
    assert kept.value.__traceback__ is not None


def test_a_failure_is_told_and_does_not_stop_the_others(store):
    backend = Scripted(1.0, ValueError("no such data"), 1.0)
    summary = start(RUNS[:3], store, backend=backend)
    assert summary.recorded == [RUNS[0], RUNS[2]]
    assert {name: str(error) for name, error in summary.failed.items()} == {RUNS[1].name: "no such data"}
    assert pending(RUNS[:3], store) == [RUNS[1]]
    assert backend.closed


def test_a_full_disk_stops_everything(store):
    backend = Scripted(OSError(28, "No space left on device"))
    with pytest.raises(RecordError, match=r"expected room for checkpoints, got .*No space left.*free some space"):
        start(PAIRS, store, backend=backend)
    assert len(backend.submitted) == 1 and backend.closed


def test_a_stale_record_is_done_again_and_removed(store, monkeypatch):
    start(RUNS[:1], store, backend=Scripted())
    [old] = store.all()
    monkeypatch.setitem(KINDS, "toy", KINDS["toy"]._replace(schema=2))
    assert start(RUNS[:1], store, backend=Scripted()).recorded == RUNS[:1]
    assert not old.path.exists()
    assert [record.path for record in store.all()] == [store.path("toy", RUNS[0].config)]


def measured(store: Store, run: Run, seconds: float, device: str = "") -> Record:
    """Write a record of a run that took this long."""
    origin = {"wall_seconds": seconds, "device": device or device_name("cpu")}
    return store.write(run.kind, run.config, metrics={}, arrays={}, provenance=origin)


def test_what_would_not_end_within_the_budget_is_not_begun_and_a_cheap_run_behind_it_is(store):
    measured(store, RUNS[3], 10.0)
    cheap = Run("toy", TINY.vary(n_steps=6))
    backend = Scripted()
    summary = start([RUNS[0], cheap], store, backend=backend, budget=5)
    assert (summary.recorded, summary.over_budget) == ([cheap], [RUNS[0]])
    assert [job.runs for job in backend.submitted] == [(cheap,)]


def test_estimates_follow_what_runs_turn_out_to_cost(store):
    measured(store, RUNS[3], 1.0)
    runs = [Run("toy", TINY.vary(rho=0.1 * i)) for i in range(3)]
    summary = start(runs, store, backend=Scripted(100.0), budget=50)
    assert (summary.recorded, summary.over_budget) == (runs[:1], runs[1:])


def test_a_run_longer_than_the_whole_budget_is_begun_with_a_time_limit_and_resumed(store):
    measured(store, PAIRS[3], 100.0)
    backend = Scripted(OutOfTime("stopped after 50%"))
    summary = start(PAIRS[:1], store, backend=backend, budget=60)
    assert (summary.stopped, summary.recorded) == (PAIRS[:1], [])
    [job] = backend.submitted
    assert 59 < job.seconds <= 60
    assert job.checkpoint == (store.work / f"{PAIRS[0].name}.pt").absolute()


def test_what_is_left_of_a_budget_goes_to_a_run_that_was_begun(store, monkeypatch):
    measured(store, PAIRS[3], 100.0)
    clock = Clock()
    monkeypatch.setattr(schedule, "time", clock)
    (store.work).mkdir()
    (store.work / f"{PAIRS[2].name}.pt").touch()
    backend = Scripted(100.0, OutOfTime("stopped after 80%"), clock=clock)
    summary = start(PAIRS[:3], store, backend=backend, budget=120)
    assert (summary.recorded, summary.over_budget, summary.stopped) == (PAIRS[:1], PAIRS[1:2], PAIRS[2:3])
    assert [job.seconds for job in backend.submitted] == [120, 20]


def test_a_run_whose_worker_died_has_what_is_left_of_its_time_and_is_given_up_at_last(monkeypatch):
    clock, submitted = Clock(), []

    class Broken:
        """Its workers die: at work, or before they are given any."""

        _processes = None

        def __init__(self, *arguments, **options) -> None:
            pass

        def submit(self, call, job, place) -> Future:
            submitted.append(job.seconds)
            if len(submitted) == 2:
                raise BrokenProcessPool("killed")
            (future := Future()).set_exception(BrokenProcessPool("killed"))
            return future

        def shutdown(self, **options) -> None:
            pass

    monkeypatch.setattr(backends, "ProcessPoolExecutor", Broken)
    monkeypatch.setattr(backends, "time", clock)
    pool = Pool(1)
    pool.submit(Job((RUNS[0],), seconds=12.0))
    for _ in range(3):
        clock.now += 7
        assert pool.wait(lambda job, fraction: None) == []
    [over] = pool.wait(lambda job, fraction: None)
    assert submitted == [12.0, 5.0, 0.0, 0.0]
    assert "worker process died 4 times" in str(over.outcomes)


def test_a_time_limit_stops_a_real_run_and_a_second_call_finishes_it(store, monkeypatch):
    run = Run("pair", PairConfig(pair="digits_patches", n_train=100, n_epochs=4, n_probe=100))
    whole = Store(store.root / "whole")
    start([run], whole)
    monkeypatch.setattr(schedule._Work, "_fits", lambda self, group, remaining: True)
    assert start([run], store, budget=1e-9).stopped == [run]
    assert (store.work / f"{run.name}.pt").exists()
    while not start([run], store, budget=1e-9).recorded:
        pass  # one more epoch each time
    assert store.find("pair", run.config).metrics == whole.find("pair", run.config).metrics
    assert not list(store.work.iterdir())


def test_work_is_counted_in_steps_and_passes():
    assert work(Run("toy", TINY.vary(n_steps=120))) == 2 * work(RUNS[0])
    sgd, sam = Run("pair", PairConfig(n_train=1000)), Run("pair", PairConfig(n_train=1000, rho=0.1))
    assert work(sgd) == 20_000 + MEASUREMENT
    assert work(sam) == 40_000 + MEASUREMENT


def test_rates_of_this_machine_count_before_others_and_defaults_come_last(store):
    assert Costs([], "cpu").seconds(PAIRS[0]) == work(PAIRS[0]) * KINDS["pair"].seconds
    elsewhere = measured(store, PAIRS[1], 1.0, "elsewhere")
    here = [measured(store, PAIRS[2], 3.0), measured(store, PAIRS[3], 5.0)]
    assert Costs([elsewhere, *here], "cpu").seconds(PAIRS[0]) == pytest.approx(4.0)
    assert Costs([elsewhere], "cpu").seconds(PAIRS[0]) == pytest.approx(1.0)


def test_without_a_record_the_embedded_demonstrations_count_in_seconds_and_pretrained_networks_in_minutes():
    expected = Costs([], "cpu")
    assert all(expected.seconds(Run("finetune", config)) < 30 for config in reduced("quick"))
    assert expected.seconds(Run("finetune", WATERBIRDS)) > 600


def test_what_long_runs_take_is_told_for_a_core_and_for_a_gpu_and_assumed_where_none_was_measured(store):
    core = measured(store, PAIRS[0], 7200.0, "a core, 1 of 2 cores")
    gpu = measured(store, PAIRS[1], 60.0, "a GPU")
    long = PAIRS[2:]
    assert expectation([*long, RUNS[0]], [core, gpu]) == "2 long runs: about 4.0 h on one core, about 2 min on a GPU"
    told = expectation(long[:1], [core])
    assert told.startswith(f"1 long run: about 2.0 h on one core, about 6 min on a GPU (assumed {GPU_SPEEDUP} times")
    assert expectation(RUNS, [core]) == ""
