"""Benchmark records and the page drawn from them: what is shown comes from the record, and an edited one is refused."""

import pytest

from edition.bench import __main__ as command
from edition.bench.record import is_gpu, load, load_untimed, save, save_untimed
from edition.figures import performance
from edition.page.lists import benchmark_box, benchmark_source, uses_table
from edition.records.store import RecordError, Store


def step(workload: str, method: str, ratio: float) -> dict:
    row = {"workload": workload, "method": method, "median_ms": ratio, "ratio_to_sgd": ratio}
    return row | {"ratio_low": ratio - 0.1, "ratio_high": ratio + 0.05}


def measured(sam: float, lsam: float, compiled: float) -> dict:
    ratios = {"sgd": 1.0, "floor": 1.9, "sam": sam, "lsam": lsam, "two_step_sam": 2.0}
    engine = {"device": "cpu", "engine": "compiled", "members": 64, "width": 100}
    return {
        "step": [step(name, method, r) for name in performance.WORKLOADS for method, r in ratios.items()],
        "toy": [engine | {"threads": 1, "steps_per_s": 1000.0, "ratio": compiled}],
        "toy_width_50": [engine | {"threads": 1, "steps_per_s": 3000.0, "ratio": 2 * compiled, "width": 50}],
        "toy_cores": [engine | {"threads": n, "steps_per_s": 1000.0 * n, "ratio": compiled * n} for n in (1, 2)],
        "toy_growth": [engine | {"threads": 1, "steps_per_s": 900.0, "ratio": compiled}],
    }


def met(**numbers: float) -> list[str]:
    return performance.targets_table(measured(**numbers)).met.tolist()


def test_a_place_for_no_record_is_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    (tmp_path / "bench").write_text("a file stands in the way")
    monkeypatch.setattr(command, "store_for", lambda profile: Store(tmp_path))
    monkeypatch.setattr(command, "measure_steps", lambda **options: pytest.fail("measured"))
    assert command.main(["all", "--record"]) == 1
    assert f"error: {tmp_path / 'bench'}: expected to write a record there" in capsys.readouterr().err


def test_a_machine_has_one_record_which_survives_a_round_trip_and_is_named_after_it(tmp_path):
    store = Store(tmp_path)
    for number in (1.0, 1.5):  # the second replaces the first
        path = save({"step": [number]}, store, device="cpu", wall_seconds=2.0)
    [record] = load(store).values()
    assert record["measured"] == {"step": [1.5]} and record["path"] == path
    assert path.parent.name == "bench" and not is_gpu(record)
    assert path.name in benchmark_source(record)


def test_the_record_of_uses_survives_a_round_trip_and_is_shown_escaped(tmp_path):
    store = Store(tmp_path)
    assert load_untimed("uses", store) is None and "bench uses --record" in uses_table(None)
    rows = [{"use": "a", "what": "A <use>", "sam": "right", "two_step_sam": "wrong"}]
    save_untimed("uses", rows, store, wall_seconds=1.0)
    shown = uses_table(load_untimed("uses", store))
    assert "<td>A &lt;use&gt;</td><td>right</td><td>wrong</td>" in shown
    assert "two-step 0 right, two-step 1 wrong" in shown


@pytest.mark.parametrize("change", [lambda text: text.replace("1.5", "1.0"), lambda text: text[:40]])
def test_a_changed_record_is_named_and_refused(tmp_path, change):
    store = Store(tmp_path)
    machine = save({"step": [1.5]}, store, device="cpu", wall_seconds=2.0)
    untimed = save_untimed("memory", [{"copies": 1.5}], store, wall_seconds=2.0)
    for path, read in ((machine, lambda: load(store)), (untimed, lambda: load_untimed("memory", store))):
        path.write_text(change(path.read_text()))
        with pytest.raises(RecordError, match=rf"{path.name}.*measure again"):
            read()


def test_aims_are_judged_by_the_record():
    assert set(met(sam=1.9, lsam=1.05, compiled=81.0)) == {"yes"}
    assert met(sam=1.9, lsam=1.2, compiled=81.0)[:3] == ["yes", "no", "no"]
    # SAM: MLP, against two-step; conv net, against two-step; ResNet-18, against two-step. 2.04 is within 2.0's spread,
    # and 1.07 times the floor.
    assert met(sam=2.04, lsam=1.0, compiled=81.0)[3:9] == ["yes", "yes", "no", "yes", "no", "yes"]
    assert met(sam=2.1, lsam=1.0, compiled=81.0)[3:9] == ["no"] * 6
    assert met(sam=1.9, lsam=1.0, compiled=79.0)[-2:] == ["no", "yes"]


def test_figures_show_every_method_and_engine():
    record = measured(sam=2.0, lsam=1.0, compiled=90.0)
    panels = performance.step_ratios(record["step"]).axes
    assert len(panels) == 3 and panels[0].get_yticklabels()[0].get_text() == "SGD"
    bars = performance.engine_rates(record).axes[1]
    assert [round(bar.get_width()) for bar in bars.patches] == [90, 180, 180]


def test_a_promise_costs_what_its_part_takes_over_sgds():
    parts = {key: 10.0 for key in performance.PROMISES} | {("sgd", "head and loss"): 4.0}
    rows = [
        {"workload": name, "method": m, "part": p, "percent_of_sgd": times * v}
        for name, times in (("mlp", 1), ("resnet18", 0.1))
        for (m, p), v in parts.items()
    ]
    told = performance.promises_table(rows).set_index(["step", "part"]).iloc[:, :2]
    assert told.loc[("LSAM (samlib)", "head and loss, twice")].tolist() == ["6.0", "0.6"]
    assert told.loc[("SAM (samlib)", "w saved")].tolist() == ["10.0", "1.0"]


def test_memory_stands_beside_the_least_possible():
    row = {"workload": "convnet", "method": "sam", "peak_bytes": 5_000_000, "copies_over_sgd": 1.004}
    told = performance.memory_table([row, row | {"method": "lsam", "copies_over_sgd": 0.08}])
    assert told.iloc[:, 2:].to_numpy().tolist() == [["5.00 MB", "1.00", "1"], ["5.00 MB", "0.08", "0"]]


def test_a_machine_that_was_not_measured_has_a_box_with_its_command():
    assert "python -m edition.bench all --device cuda --record" in benchmark_box("cuda").data
    assert "python -m edition.bench memory --device cpu --record" in benchmark_box("cpu", "memory").data
