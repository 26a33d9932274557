"""Configurations check themselves and survive a round trip; random streams are independent of each other."""

import json
import math

import pytest
import torch

from samlib.config import check_number, differences, from_dict, to_dict
from samlib.images.config import PairConfig
from samlib.methods.config import ControlConfig
from samlib.search import SearchConfig
from samlib.streams import stream
from samlib.toy.config import Intervention, ToyConfig, ToyData


@pytest.mark.parametrize(
    ("value", "options", "error", "message"),
    [
        (True, {"advice": "advice"}, TypeError, r"a finite number, got True \(bool\); advice"),
        ("1", {}, TypeError, r"a finite number, got '1' \(str\)"),
        (2.0, {"integer": True}, TypeError, r"a whole number, got 2.0 \(float\)"),
        (math.nan, {}, ValueError, "a finite number, got nan"),
        (math.inf, {}, ValueError, "a finite number, got inf"),
        (-0.001, {"low": 0, "high": 1}, ValueError, r"a finite number in \[0, 1\], got -0.001"),
        (1.001, {"low": 0, "high": 1}, ValueError, r"a finite number in \[0, 1\], got 1.001"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(value, options, error, message):
    with pytest.raises(error, match=f"rho: expected {message}"):
        check_number("rho", value, **options)


def test_the_bounds_themselves_are_allowed():
    for value in (0, 1, 0.0, 1.0):
        check_number("flip", value, low=0, high=1)


VARIED = ToyConfig().vary(complexity=540.0, flip=0.1, term="both", ratio=1.5, checkpoints=(0, 60), seeds=(3, 1))


@pytest.mark.parametrize("config", [ToyConfig(), VARIED, PairConfig(), PairConfig(n_train=200, rho=0.1)])
def test_a_configuration_survives_a_trip_through_json(config):
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_the_plain_form_is_a_copy():
    plain = to_dict(VARIED)
    plain["seeds"].append(9)
    plain["data"]["flip"] = 0.5
    assert VARIED.seeds == (3, 1)
    assert VARIED.data.flip == 0.1


@pytest.mark.parametrize(("data", "name"), [({"rhoo": 1.0}, "ToyConfig"), ({"data": {"rhoo": 1.0}}, "ToyData")])
def test_unknown_keys_are_refused_by_name_also_nested(data, name):
    with pytest.raises(ValueError, match=rf"{name}: expected some of the keys .*got unknown \['rhoo'\]"):
        from_dict(ToyConfig, data)


def test_a_missing_key_takes_its_default_and_a_whole_number_becomes_a_float_where_the_field_is_one():
    assert from_dict(ToyConfig, {"data": {"complexity": 180.0}}) == ToyConfig(data=ToyData(complexity=180.0))
    assert isinstance(from_dict(ToyConfig, {"rho": 1}).rho, float)
    assert isinstance(from_dict(ToyConfig, {"hidden": 8}).hidden, int)


def test_only_what_differs_from_the_defaults_identifies_a_run():
    assert differences(ToyConfig()) == {}
    assert differences(VARIED) == {
        "data": {"complexity": 540.0, "flip": 0.1},
        "intervention": {"term": "both", "ratio": 1.5},
        "checkpoints": [0, 60],
        "seeds": [3, 1],
    }


def test_vary_reaches_data_and_intervention_and_leaves_the_original_alone():
    config = ToyConfig()
    varied = config.vary(rho=0.5, easy_scale=1.0, last_layer="weighted")
    assert (varied.rho, varied.data.easy_scale, varied.intervention.last_layer) == (0.5, 1.0, "weighted")
    assert config == ToyConfig()
    fixed = Intervention(term="rate", ratio=3.0)
    whole = config.vary(data=ToyData(complexity=540.0), easy_scale=1.0, intervention=fixed)
    assert (whole.data.complexity, whole.data.easy_scale, whole.intervention.ratio) == (540.0, 1.0, 3.0)
    with pytest.raises(ValueError, match=r"expected fields .*got \['rhoo'\]"):
        config.vary(rhoo=1.0)


def test_snapshots_are_evenly_spaced_and_end_after_the_last_step():
    assert ToyConfig(n_steps=100, n_snapshots=4).snapshots == (25, 50, 75, 100)
    assert ToyConfig(n_steps=10, n_snapshots=3).snapshots == (3, 6, 10)


def test_what_sets_array_sizes_is_part_of_the_shape_and_what_differs_between_members_is_not():
    for change in ({"hidden": 8}, {"batch_size": 10}, {"n_steps": 60}, {"n_train": 600}, {"n_test": 9}):
        assert ToyConfig().vary(**change).shape != ToyConfig().shape, change
    for change in ({"rho": 1.0}, {"complexity": 180.0}, {"seeds": (1, 2)}, {"learning_rate": 0.1}):
        assert ToyConfig().vary(**change).shape == ToyConfig().shape, change


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (ToyData, {"complexity": 0.0}, r"complexity: .*degrees of rotation"),
        (ToyData, {"noisy_features": "easy"}, "noisy_features: expected one of 'both', 'hard'"),
        (ToyData, {"n_test": 0}, r"n_test: expected a whole number in \[1, inf\], got 0"),
        (ToyData, {"gaussian_noise": -0.1}, "gaussian_noise"),
        (Intervention, {"term": "all"}, "term: expected one of 'none', 'importance', 'rate', 'both'"),
        (Intervention, {"vector": "v"}, "vector: expected one of 'fixed', 'phantom'"),
        (Intervention, {"ratio": -1.0}, "ratio"),
        (Intervention, {"norm": "unit"}, "norm: expected one of 'initial', 'matched'"),
        (Intervention, {"last_layer": "none"}, "last_layer: expected one of 'plain', 'weighted'"),
        (ToyConfig, {"n_steps": 5, "n_snapshots": 6}, r"n_snapshots: .*got 6"),
        (ToyConfig, {"checkpoints": (30_001,)}, r"checkpoints: .*got 30001"),
        (ToyConfig, {"seeds": (1, 1)}, r"seeds: expected 1 or more different whole numbers, got \(1, 1\)"),
        (ToyConfig, {"seeds": (-1,)}, "seeds: expected a whole number"),
        (ToyConfig, {"rho": -0.1}, r"rho: expected a finite number.*got -0.1"),
        (ToyConfig, {"batch_size": 0}, r"batch_size: expected a whole number.*got 0"),
        (ToyConfig, {"batch_size": 7}, r"batch_size: expected a divisor of n_train = 300, got 7"),
        (ToyData, {"flip": 1.5}, r"flip: expected .*a probability"),
        (ToyConfig, {"seeds": ()}, r"seeds: expected 1 or more"),
        (ControlConfig, {"seeds": [0, 0]}, r"seeds: expected 1 or more different whole numbers, got \(0, 0\)"),
        (ToyConfig, {"intervention": Intervention("importance"), "rho": 0.5}, r"expected 0 with a fixed ratio"),
        (ToyConfig, {"intervention": Intervention("rate", "phantom")}, r"more with the phantom, got rho = 0.0"),
    ],
)
def test_bad_fields_are_refused_by_name(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


@pytest.mark.parametrize("kind", [ToyConfig, ControlConfig, SearchConfig])
@pytest.mark.parametrize("seeds", [[0, 1], range(2)])
def test_seeds_in_a_list_or_a_range_are_those_in_a_tuple(kind, seeds):
    given = kind(seeds=seeds)
    assert given == kind(seeds=(0, 1)) and hash(given) == hash(kind(seeds=(0, 1)))


def test_a_stream_repeats_and_differs_by_seed_and_by_purpose():
    draw = {
        (seed, purpose): torch.rand(4, generator=stream(seed, purpose)).tolist()
        for seed in (0, 1)
        for purpose in ("noise", "batch order")
    }
    assert len({tuple(values) for values in draw.values()}) == 4
    assert torch.rand(4, generator=stream(0, "noise")).tolist() == draw[0, "noise"]


def test_seed_and_purpose_cannot_be_confused():
    first, second = (stream(seed, purpose).initial_seed() for seed, purpose in ((1, "1/x"), (11, "/x")))
    assert first != second


def test_a_stream_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    torch.rand(10, generator=stream(0, "data"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_seed_that_is_no_whole_number_is_refused(seed, error):
    with pytest.raises(error, match="seed: expected a whole number"):
        stream(seed, "data")
