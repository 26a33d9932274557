"""Checkpoints: saved states come back, those of other code do not, and the time limit stops a run between epochs."""

import pytest
import torch
from clock import Clock

from edition.records import checkpoint as module
from edition.records.checkpoint import Checkpoint, OutOfTime

STATE = {"weights": torch.arange(3.0), "curves": {"loss": [0.5, 0.25]}, "epoch": 2}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "work" / "run.pt"


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_state_comes_back_as_it_was_saved(path):
    assert Checkpoint(path).load() is None
    Checkpoint(path).save(STATE, 0.5)
    found = Checkpoint(path).load()
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {"curves": {"loss": [0.5, 0.25]}, "epoch": 2}
    assert [item.name for item in path.parent.iterdir()] == ["run.pt"]


def test_without_a_file_nothing_is_kept():
    keeper = Checkpoint()
    keeper.save(STATE, 0.5)
    assert keeper.load() is None


def test_the_seconds_of_earlier_parts_are_counted(path, clock):
    first = Checkpoint(path)
    clock.now += 7
    first.save(STATE, 0.5)
    clock.now += 1000  # killed, and begun again much later
    second = Checkpoint(path)
    second.load()
    clock.now += 5
    assert second.seconds == 12


@pytest.mark.parametrize("part", ["source_digest", "versions", "device_name"])
def test_a_state_of_other_code_or_another_machine_is_not_resumed(path, monkeypatch, part):
    Checkpoint(path).save(STATE, 0.5)
    monkeypatch.setattr(module, part, lambda *device: "another")
    with pytest.warns(UserWarning, match=r"run\.pt: saved by other code or on another machine; begun anew"):
        assert Checkpoint(path).load() is None


def test_a_damaged_file_is_named_and_the_run_begins_anew(path):
    Checkpoint(path).save(STATE, 0.5)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"run\.pt: expected a checkpoint, could not read it"):
        assert Checkpoint(path).load() is None


def test_a_run_stops_when_the_next_epoch_would_not_fit_and_never_after_the_last(path, clock):
    keeper = Checkpoint(path, seconds=10)
    clock.now += 4
    keeper.save(STATE, 0.25)  # 4 s an epoch, 6 s left
    clock.now += 4
    with pytest.raises(OutOfTime, match="stopped after 50%, 8 s"):
        keeper.save(STATE, 0.5)  # 2 s left
    assert Checkpoint(path).load()["epoch"] == 2
    clock.now += 4
    keeper.save(STATE, 1.0)
