"""The benchmarks' output: what it names, and that its ratios are those of its rates. No rate is tested."""

import json

import pytest
import torch

from edition.bench import __main__ as command
from edition.bench import photographs, toy
from edition.bench.toy import measure_growth
from samlib.images.config import FinetuneConfig
from samlib.toy.compiled import available
from samlib.toy.config import ToyConfig

SMALL = ToyConfig(hidden=8, rho=0.5, seeds=(0, 1))


def test_growth_has_a_row_for_every_size_engine_and_number_of_threads():
    rows = measure_growth(SMALL, (1, 3), engines=("batched",), threads=(1, 2), rounds=1, seconds=0.001)
    assert [(row["members"], row["engine"], row["threads"]) for row in rows] == [
        (1, "batched", 1),
        (1, "batched", 2),
        (3, "batched", 1),
        (3, "batched", 2),
    ]
    assert all(row["device"] == "cpu" and row["width"] == 8 and row["steps_per_s"] > 0 for row in rows)


def test_growth_counts_the_steps_of_all_members_and_compares_within_a_round(monkeypatch):
    # The loop takes 10, 20 and 40 steps a second in the three rounds, the engine 5, 6 and 7 epochs.
    rates = iter([10.0, 5.0, 20.0, 6.0, 40.0, 7.0])
    monkeypatch.setattr(toy, "rate", lambda *_, **__: next(rates))
    (row,) = measure_growth(SMALL, (2,), engines=("batched",), rounds=3)
    per_epoch = 2 * (SMALL.data.n_train // SMALL.batch_size)  # members times batches
    assert row["steps_per_s"] == 6 * per_epoch
    assert row["ratio"] == 6 / 20 * per_epoch


def test_without_engines_the_batched_and_the_fastest_are_compared():
    rows = measure_growth(SMALL, (1,), rounds=1, seconds=0.001)
    assert [row["engine"] for row in rows] == (["batched", "compiled"] if available() else ["batched"])


def test_measuring_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    measure_growth(SMALL, (1,), engines=("batched",), threads=(before + 1,), rounds=1, seconds=0.001)
    assert torch.get_num_threads() == before


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


def test_the_toy_is_measured_with_the_threads_asked_for(capsys, monkeypatch):
    def measured(config: ToyConfig, members: tuple[int, ...], **options: object) -> list[dict[str, object]]:
        return [{"members": members[0], "width": config.hidden, **options}]

    monkeypatch.setattr(command, "measure_growth", measured)
    assert command.main(["toy", "--threads", "2", "--rounds", "1", "--json"]) == 0
    expected = {"members": 64, "width": 100, "threads": [2], "device": "cpu", "rounds": 1}
    assert json.loads(capsys.readouterr().out) == [expected]


def test_no_threads_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["toy", "--threads", "0"])
    assert stop.value.code == 2
    assert "threads" in capsys.readouterr().err
