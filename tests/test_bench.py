"""The benchmark's output: what it names, and that its ratio is its own two rates. No rate is tested."""

import json

import pytest
from typer.testing import CliRunner

from samlib.bench import app, measure_toy
from samlib.toy.config import ToyConfig


@pytest.mark.parametrize("engine", ["batched", "compiled"])
def test_ratio_is_engine_over_sequential(engine):
    result = measure_toy(ToyConfig(hidden=8, rho=0.5, seeds=(0, 1)), rounds=1, seconds=0.01, engine=engine)
    assert result["engine_steps_per_s"] > 0
    assert result["sequential_steps_per_s"] > 0
    assert result["ratio"] == result["engine_steps_per_s"] / result["sequential_steps_per_s"]


def test_json_is_one_object_with_the_promised_keys():
    done = CliRunner().invoke(app, ["toy", "--members", "2", "--width", "8", "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert {"sequential_steps_per_s", "engine_steps_per_s", "ratio"} <= set(json.loads(done.stdout))


def test_no_members_is_refused():
    done = CliRunner().invoke(app, ["toy", "--members", "0"])
    assert done.exit_code == 2
    assert "members" in done.output
