"""`verify`: equal bits are asked for on one kind of machine, a tolerance elsewhere, and what differs is named."""

import json

import numpy as np
import pytest

from edition.records import store as records
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


def recorded(**changes) -> Record:
    return Record("toy", "abc", {}, METRICS, ORIGIN | changes, path=None)  # type: ignore[arg-type]


def again(metrics=METRICS, **changes) -> Outcome:
    return Outcome(metrics, {}, ORIGIN | changes)


def test_runs_that_are_done_again_give_their_records(tmp_path):
    store = Store(tmp_path)
    start(RUNS, store)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert verify(RUNS, store) == ([], {})
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_changed_number_is_found_and_named(tmp_path):
    store = Store(tmp_path)
    path = do(RUNS[:1], store)[0].path
    body = json.loads(path.read_text())
    true = body["metrics"]["curves"]["v_hard"][1][0]
    body["metrics"]["curves"]["v_hard"][1][0] = 9.0
    body["sha256"] = records.checksum(body)
    path.write_text(json.dumps(body))
    assert verify(RUNS[:1], store) == ([Difference(RUNS[0].name, "curves.v_hard[1][0]", 9.0, true, 0.0)], {})


def test_changed_arrays_are_found(tmp_path):
    store = Store(tmp_path)
    record = do(RUNS[:1], store)[0]
    arrays = record.arrays() | {"v": np.zeros_like(record.arrays()["v"])}
    record.path.unlink()
    store.write("toy", RUNS[0].config, metrics=record.metrics, arrays=arrays, provenance=record.provenance)
    found, _ = verify(RUNS[:1], store)
    assert [difference.metric for difference in found] == ["array v"]
    assert found[0].recorded == "(1, 2, 2), sum 0"


def test_a_run_without_record_is_refused(tmp_path):
    with pytest.raises(RecordError, match=rf"{RUNS[0].name}: expected a record"):
        verify(RUNS[:1], Store(tmp_path))


def test_a_run_that_cannot_be_done_here_is_told(tmp_path):
    store = Store(tmp_path)
    run = Run("pair", PairConfig(pair="cifar_mnist"))
    store.write(run.kind, run.config, metrics={}, arrays={}, provenance=ORIGIN)
    found, failed = verify([run], store, data_root=tmp_path / "nowhere")
    assert found == [] and "nowhere" in str(failed[run.name])


def test_on_one_kind_of_machine_the_last_bit_counts():
    changed = METRICS | {"final_hard_error": [0.2, np.nextafter(0.4, 1)]}
    [found] = compare(recorded(), again(changed))
    assert (found.metric, found.recorded, found.now, found.allowed) == (
        "final_hard_error[1]",
        0.4,
        np.nextafter(0.4, 1),
        0.0,
    )
    assert compare(recorded(), again()) == []


def test_numbers_that_are_not_finite_equal_the_null_of_the_record():
    assert (
        compare(
            Record("toy", "abc", {}, METRICS | {"x": [None]}, ORIGIN, path=None),  # type: ignore[arg-type]
            again(METRICS | {"x": [float("nan")]}),
        )
        == []
    )


@pytest.mark.parametrize("part", ["device", "versions", "engine"])
def test_elsewhere_means_over_seeds_are_compared_within_a_tolerance(part):
    allowed = KINDS["toy"].tolerances["final_hard_error"]
    within = METRICS | {"final_hard_error": [0.2 + allowed, 0.4 + 0.9 * allowed], "curves": None}
    beyond = METRICS | {"final_hard_error": [0.2 + allowed, 0.4 + 1.1 * allowed]}
    assert compare(recorded(), again(within, **{part: "another"})) == []
    [found] = compare(recorded(), again(beyond, **{part: "another"}))
    assert (found.metric, found.recorded, found.allowed) == ("final_hard_error", pytest.approx(0.3), allowed)


def test_a_metric_that_is_missing_now_is_a_difference():
    [found] = compare(recorded(), again(METRICS | {"final_hard_error": [None, None]}, device="another"))
    assert found.now is None
    [found] = compare(recorded(), again({key: value for key, value in METRICS.items() if key != "curves"}))
    assert (found.metric, found.now) == ("curves", None)


def test_probing_errors_of_any_feature_have_a_tolerance():
    record = Record("pair", "abc", {}, {"cifar_probe_error": 0.1, "mnist_probe_error": 0.0}, ORIGIN, path=None)  # type: ignore[arg-type]
    outcome = again({"cifar_probe_error": 0.2, "mnist_probe_error": 0.001}, device="another")
    assert [difference.metric for difference in compare(record, outcome)] == ["cifar_probe_error"]


def test_of_a_search_the_share_of_settings_that_count_is_compared_elsewhere():
    record = Record("search", "abc", {}, {"premise": [True] * 4 + [False] * 6}, ORIGIN, path=None)  # type: ignore[arg-type]
    near, far = ({"premise": [True] * n + [False] * (10 - n)} for n in (6, 7))
    assert compare(record, again(near, device="another")) == []
    assert [found.metric for found in compare(record, again(far, device="another"))] == ["premise"]


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
