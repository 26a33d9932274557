"""The benchmarks' output: what it names, and that its ratios are those of its rates. No rate is tested."""

import json
import subprocess
import sys

import pytest
import torch

from edition.bench import __main__ as command
from edition.bench import cluster, photographs, toy
from edition.bench.memory import measure_memory, peak_bytes
from edition.bench.toy import measure_growth
from edition.figures import performance
from edition.runs.schedule import Summary
from samlib.images.config import FinetuneConfig
from samlib.toy.compiled import available
from samlib.toy.config import ToyConfig

SMALL = ToyConfig(hidden=8, rho=0.5, seeds=(0, 1))


def test_growth_has_a_row_for_every_size_engine_and_number_of_threads_and_puts_these_back():
    before = torch.get_num_threads()
    rows = measure_growth(SMALL, (1, 3), engines=("batched",), threads=(1, before + 1), rounds=1, seconds=0.001)
    expected = [(members, "batched", threads) for members in (1, 3) for threads in (1, before + 1)]
    assert [(row["members"], row["engine"], row["threads"]) for row in rows] == expected
    assert all(row["device"] == "cpu" and row["width"] == 8 and row["steps_per_s"] > 0 for row in rows)
    assert torch.get_num_threads() == before
    told = measure_growth(SMALL, (1,), rounds=1, seconds=0.001)
    assert [row["engine"] for row in told] == ["batched", "compiled"][: 1 + available()]


def test_growth_counts_the_steps_of_all_members_and_compares_within_a_round(monkeypatch):
    # The loop takes 10, 20 and 40 steps a second in the three rounds, the engine 5, 6 and 7 epochs.
    rates = iter([10.0, 5.0, 20.0, 6.0, 40.0, 7.0])
    monkeypatch.setattr(toy, "rate", lambda *_, **__: next(rates))
    (row,) = measure_growth(SMALL, (2,), engines=("batched",), rounds=3)
    per_epoch = 2 * (SMALL.data.n_train // SMALL.batch_size)  # members times batches
    assert row["steps_per_s"] == 6 * per_epoch
    assert row["ratio"] == 6 / 20 * per_epoch


SMALL_IMAGES = FinetuneConfig(stored_size=36, image_size=32, backbone="resnet18", batch_size=4, n_epochs=1)


def test_the_bare_loop_takes_the_same_step_on_the_same_crops_as_the_loop_that_trains_on_photographs():
    images = torch.randint(256, (4, 36, 36, 3), dtype=torch.uint8, generator=torch.Generator())
    labels = torch.tensor([0, 1, 0, 1])
    own, step = photographs.ours(SMALL_IMAGES, images, labels, "cpu")
    other, bare_step = photographs.bare(SMALL_IMAGES, images, labels, "cpu", own.memory_format, 1)
    before = [parameter.detach().clone() for parameter in own.parameters()]
    step(), bare_step()
    for start, one, two in zip(before, own.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6) and not torch.equal(start, one)


def test_rates_on_photographs_are_compared_with_the_faster_bare_loop(monkeypatch):
    # Seconds of SGD: ours 2, bare 3 and 1; of SAM: ours 4, bare 4 and 8.
    seconds = iter([2.0, 3.0, 1.0, 4.0, 4.0, 8.0])
    monkeypatch.setattr(photographs, "interleave", lambda works, **_: {name: [next(seconds)] for name in works})
    rows = photographs.measure_photographs(batch_size=4, image_size=28)
    assert [(row["method"], row["loop"]) for row in rows][:2] == [("sgd", "samlib"), ("sgd", "bare, contiguous")]
    assert [row["ratio"] for row in rows] == [0.5, 1 / 3, 1, 1, 1, 0.5]
    assert [row["images_per_s"] for row in rows][:3] == [2, 4 / 3, 4]


def test_the_toy_is_measured_with_the_threads_asked_for_and_not_with_none(capsys, monkeypatch):
    def measured(config: ToyConfig, members: tuple[int, ...], **options: object) -> list[dict[str, object]]:
        return [{"members": members[0], "width": config.hidden, **options}]

    monkeypatch.setattr(command, "measure_growth", measured)
    assert command.main(["toy", "--threads", "2", "--rounds", "1", "--json"]) == 0
    expected = {"members": 64, "width": 100, "threads": [2], "device": "cpu", "rounds": 1}
    assert json.loads(capsys.readouterr().out) == [expected]
    with pytest.raises(SystemExit, match="2"):
        command.main(["toy", "--threads", "0"])
    assert "threads" in capsys.readouterr().err


# In a process of its own, with the start of a script: workers are started anew and look for one.
SCRIPT = """
from edition.bench.cluster import measure_cluster
from samlib.search import SearchConfig

if __name__ == "__main__":
    chunks = [SearchConfig(first, 1, n_steps=20, n_test=20, seeds=(0, 1)) for first in (0, 1)]
    (row,) = measure_cluster(workers=(1,), chunks=chunks, rounds=1)
    print(row["workers"], row["settings"], row["seconds"] * row["settings_per_s"], row["ratio"])
"""


@pytest.mark.slow
def test_a_search_on_a_real_cluster_is_timed(tmp_path):
    (tmp_path / "measure.py").write_text(SCRIPT)
    told = subprocess.run([sys.executable, str(tmp_path / "measure.py")], capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    workers, settings, product, ratio = map(float, told.stdout.split())
    assert (workers, settings, ratio) == (1, 2, 1) and product == pytest.approx(2)


def test_a_chunk_that_fails_on_the_cluster_is_no_measurement(monkeypatch):
    monkeypatch.setattr(cluster, "Cluster", lambda address: None)
    monkeypatch.setattr(cluster.runs, "start", lambda *_, **__: Summary(failed={"search": OSError("gone")}))
    with pytest.raises(RuntimeError, match=r"expected 8 chunks, got errors: .*gone"):
        cluster._timed("tcp://nowhere", cluster.CHUNKS)


def test_the_table_has_settings_a_minute():
    row = {"workers": 2, "settings": 40, "seconds": 20.0, "settings_per_s": 2.0, "ratio": 1.96}
    assert performance.cluster_table([row]).iloc[0].tolist() == [2, 40, "20.0 s", "120", 1.96]


def test_the_peak_counts_what_lives_together():
    def work():
        first = torch.empty(1000)  # 4,000 bytes
        del first
        second, third = torch.empty(2000), torch.empty(500)
        return second, third

    assert peak_bytes(work) == 10_000


def test_sam_adds_one_copy_of_the_parameters_and_lsam_one_of_its_head():
    head = 2 * 4096 / 102978  # the part of the conv net's parameters that is perturbed
    over = {row["method"]: row["copies_over_sgd"] for row in measure_memory(("convnet",))}
    assert abs(over["sam"] - 1.0) < 0.01 and over["lsam"] < 1.1 * head and over["floor"] == 0
