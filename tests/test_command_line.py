"""The command line: list, status and start, on a registry of one tiny experiment; and once for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from samlib import runs
from samlib.__main__ import app
from samlib.experiments import EXPERIMENTS, Experiment
from samlib.records import Store, record_id
from samlib.toy.config import ToyConfig

TINY = ToyConfig(hidden=4, n_steps=12, n_snapshots=1).vary(n_train=30, n_test=20)
CONFIGS = [TINY, TINY.vary(rho=0.5)]


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """A store in a temporary folder, and a registry of two tiny experiments that share a run."""
    for name in list(EXPERIMENTS):
        monkeypatch.delitem(EXPERIMENTS, name)
    for name, configs in (("one", CONFIGS), ("two", CONFIGS[1:])):
        monkeypatch.setitem(EXPERIMENTS, name, Experiment(name, "toy", name, lambda profile, c=configs: c))
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store(tmp_path / "paper")


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["runs", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_list_shows_every_run_with_its_state_and_file(store):
    store.write("toy", CONFIGS[1], metrics={}, arrays={}, provenance={})
    lines = call("list").splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["one", "pending", f"{record_id('toy', CONFIGS[0])}.json"],
        ["one", "recorded", f"{record_id('toy', CONFIGS[1])}.json"],
        ["two", "recorded", f"{record_id('toy', CONFIGS[1])}.json"],
    ]
    assert "rho=0.5" in lines[1]
    assert [line.split()[0] for line in call("list", "--experiment", "two").splitlines()] == ["two"]


def test_status_counts_recorded_and_pending_runs(store):
    store.write("toy", CONFIGS[1], metrics={}, arrays={}, provenance={})
    found = json.loads(call("status", "--experiment", "one", "--json"))
    assert found == {"recorded": 1, "pending": 1, "experiments": {"one": {"recorded": 1, "pending": 1}}}
    words = [line.split() for line in call("status", "--experiment", "one").splitlines()]
    assert words == [
        ["one", "1", "recorded", "1", "pending"],
        ["in", "all", "1", "recorded", "1", "pending"],
    ]


def test_status_counts_each_profile_by_its_own_records(store):
    store.write("toy", CONFIGS[1], metrics={}, arrays={}, provenance={})
    assert json.loads(call("status", "--json", "--profile", "quick"))["recorded"] == 0


def test_start_writes_what_is_pending_and_a_second_start_finds_nothing_to_do(store):
    first = store.write("toy", CONFIGS[1], metrics={"kept": 1}, arrays={}, provenance={})
    call("start", "--device", "cpu")
    assert {record.id for record in store.all()} == {record_id("toy", config) for config in CONFIGS}
    assert store.find("toy", CONFIGS[1]) == first
    times = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")}
    call("start", "--device", "cpu")
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")} == times


def test_start_of_one_experiment_leaves_the_others_pending(store):
    call("start", "--experiment", "two", "--device", "cpu")
    assert [record.id for record in store.all()] == [record_id("toy", CONFIGS[1])]


def test_a_damaged_record_stops_start_with_its_name_and_no_traceback(store):
    path = store.write("toy", CONFIGS[0], metrics={}, arrays={}, provenance={}).path
    path.write_text("{")
    output = call("start", code=1)
    assert "error:" in output and path.name in output
    assert "Traceback" not in output


def test_a_damaged_record_stops_status_with_its_name_and_no_traceback(store):
    path = store.write("toy", CONFIGS[0], metrics={}, arrays={}, provenance={}).path
    path.write_text("{")
    result = CliRunner().invoke(app, ["runs", "status"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert path.name in result.output


@pytest.mark.parametrize("command", ["list", "status", "start"])
@pytest.mark.parametrize("option", ["--experiment", "--profile"])
def test_unknown_names_are_refused_with_what_there_is(store, command, option):
    output = " ".join(call(command, option, "nonsense", code=2).split())
    assert "expected one of" in output and "nonsense" in output
    assert not store.root.exists()


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_refused_before_anything_runs(store, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(app, ["runs", "start", "--device", device])
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert device in result.output and not store.root.exists()


def test_zero_workers_are_refused(store):
    call("start", "--workers", "0", code=2)


def test_the_real_command_counts_every_experiment():
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "samlib", "runs", "status", "--profile", "smoke", "--json"],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(found["experiments"]) == set(EXPERIMENTS)
    for name, item in EXPERIMENTS.items():
        counts = found["experiments"][name]
        assert counts["recorded"] + counts["pending"] == len(set(item.configs("smoke")))
    assert found["pending"] == sum(counts["pending"] for counts in found["experiments"].values())
