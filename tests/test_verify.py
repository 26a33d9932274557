"""`verify`: equal bits are asked for on one kind of machine, a tolerance elsewhere, and what differs is named."""

import numpy as np
import pytest

from edition.records.kinds import KINDS
from edition.records.store import Record, RecordError, Store
from edition.runs import Run, do, start
from edition.runs.verify import Difference, choose, compare, difference_table, verify
from edition.runs.work import Outcome
from samlib.images.config import PairConfig
from samlib.toy.config import ToyConfig

TINY = ToyConfig(hidden=4, n_steps=60, n_snapshots=2, seeds=(0, 1), checkpoints=(60,)).vary(n_train=30, n_test=50)
RUNS = [Run("toy", TINY.vary(rho=rho)) for rho in (0.0, 0.5, 1.0)]
ORIGIN = {"device": "processor, 1 of 2 cores", "versions": {"torch": "2.15"}, "engine": "batched"}
METRICS = {
    "final_easy_error": [0.1, 0.1],
    "final_hard_error": [0.2, 0.4],
    "final_test_error": [0.0, 0.0],
    "curves": {"v_hard": [[1.0], [2.0]]},
}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def found(now: dict, before: dict = METRICS, kind: str = "toy", **changes) -> list[Difference]:
    """What differs between a record and the same run done again, where `changes` are made to the machine."""
    record = Record(kind, "abc", {}, before, ORIGIN, path=None)  # type: ignore[arg-type]
    return compare(record, Outcome(now, {}, ORIGIN | changes))


def test_runs_that_are_done_again_give_their_records_and_nothing_is_written(store):
    start(RUNS, store)
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    assert verify(RUNS, store) == ([], {})
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_changed_numbers_and_arrays_are_found_and_named(store):
    record = do(RUNS[:1], store)[0]
    true = record.metrics["curves"]["v_hard"]
    metrics = record.metrics | {"curves": record.metrics["curves"] | {"v_hard": [true[0], [9.0, true[1][1]]]}}
    arrays = record.arrays() | {"v": np.zeros_like(record.arrays()["v"])}
    record.path.unlink()
    store.write("toy", RUNS[0].config, metrics=metrics, arrays=arrays, provenance=record.provenance)
    (number, array), failed = verify(RUNS[:1], store)
    assert failed == {}
    assert number == Difference(RUNS[0].name, "curves.v_hard[1][0]", 9.0, true[1][0], 0.0)
    assert (array.metric, array.recorded) == ("array v", "(1, 2, 2), sum 0")


def test_a_run_without_record_is_refused(store):
    with pytest.raises(RecordError, match=rf"{RUNS[0].name}: expected a record"):
        verify(RUNS[:1], store)


def test_a_run_that_cannot_be_done_here_is_told(store):
    run = Run("pair", PairConfig(pair="cifar_mnist"))
    store.write(run.kind, run.config, metrics={}, arrays={}, provenance=ORIGIN)
    differences, failed = verify([run], store, data_root=store.root / "nowhere")
    assert differences == [] and "nowhere" in str(failed[run.name])


def test_on_one_kind_of_machine_the_last_bit_counts():
    assert found(METRICS) == []
    other = np.nextafter(0.4, 1)
    name = "final_hard_error"
    assert found(METRICS | {name: [0.2, other]}) == [Difference("toy-abc", f"{name}[1]", 0.4, other, 0.0)]
    assert found({"x": [float("nan")]}, {"x": [None]}) == []  # as it would be written


@pytest.mark.parametrize("part", ["device", "versions", "engine"])
def test_elsewhere_means_over_seeds_are_compared_within_a_tolerance(part):
    allowed = KINDS["toy"].tolerances["final_hard_error"]
    within = METRICS | {"final_hard_error": [0.2 + allowed, 0.4 + 0.9 * allowed], "curves": None}
    beyond = METRICS | {"final_hard_error": [0.2 + allowed, 0.4 + 1.1 * allowed]}
    assert found(within, **{part: "another"}) == []
    [difference] = found(beyond, **{part: "another"})
    assert difference[1:3] == ("final_hard_error", pytest.approx(0.3)) and difference.allowed == allowed


def test_a_metric_that_is_missing_now_is_a_difference():
    [elsewhere] = found(METRICS | {"final_hard_error": [None, None]}, device="another")
    [here] = found({name: value for name, value in METRICS.items() if name != "curves"})
    assert (elsewhere.now, here.metric, here.now) == (None, "curves", None)


@pytest.mark.parametrize(
    ("kind", "before", "now", "differ"),
    [
        (
            "pair",
            {"a_probe_error": 0.1, "b_probe_error": 0},
            {"a_probe_error": 0.2, "b_probe_error": 0.001},
            ["a_probe_error"],
        ),
        ("domainbed", {"probe_error": 0.4, "n_test": 90}, {"probe_error": 0.29}, []),
        ("domainbed", {"probe_error": 0.4, "n_test": 900}, {"probe_error": 0.29}, ["probe_error"]),
        ("domainbed", {"validation_error": 0.4, "n_validation": 90, "n_test": 900}, {"validation_error": 0.29}, []),
        ("search", {"premise": 4 * [True] + 6 * [False]}, {"premise": 6 * [True] + 4 * [False]}, []),
        ("search", {"premise": 4 * [True] + 6 * [False]}, {"premise": 7 * [True] + 3 * [False]}, ["premise"]),
    ],
    ids=[
        "probes of any feature",
        "few images",
        "many images",
        "few of validation",
        "near share of settings",
        "far share of settings",
    ],
)
def test_every_kind_has_its_own_tolerances(kind, before, now, differ):
    assert [item.metric for item in found(now, before, kind, device="another")] == differ


def test_a_sample_is_drawn_the_same_way_each_time():
    runs = list(range(100))
    assert choose(runs, 5) == choose(runs, 5) != choose(runs, 5, seed=1)
    assert len(set(choose(runs, 5))) == 5
    assert choose(runs, None) == choose(runs, 100) == runs


def test_the_table_shows_the_first_differences_and_counts_the_others():
    lines = difference_table([Difference("toy-1", "x", 1.0, 2.0, 0.0)] * 5, most=2).splitlines()
    assert lines[0].split() == ["run", "metric", "recorded", "now", "allowed"]
    assert lines[1].split() == ["toy-1", "x", "1.0", "2.0", "0.0"]
    assert lines[-1] == "... and 3 more" and len(lines) == 4
