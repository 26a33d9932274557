"""Measurements of trained toy networks and what is read off their checkpoints."""

import math

import numpy as np
import pytest
import torch
from plain_toy import train_reference

from edition.records.kept import KeptNetworks, checkpoints, contribution_grid
from edition.records.store import Store
from edition.runs import Run, do
from samlib.measures.importance import importance_weights
from samlib.toy.config import ToyConfig
from samlib.toy.data import Examples, batch_order, sample
from samlib.toy.network import DisentangledNetwork, Weights, initial_weights
from samlib.toy.training import probing_errors, stack_examples, train_toy

CONFIG = ToyConfig(hidden=6, n_steps=40, n_snapshots=2, checkpoints=(40, 0, 12), seeds=(5, 2), rho=0.5)
CONFIG = CONFIG.vary(n_train=20, n_test=50)


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> list[KeptNetworks]:
    return checkpoints(do([Run("toy", CONFIG)], Store(tmp_path_factory.mktemp("records")), device="cpu")[0])


def test_checkpoints_hold_the_weights_after_their_steps_one_member_a_seed(points):
    assert [point.step for point in points] == [0, 12, 40]
    for point in points:
        assert point.config == CONFIG and point.method == "LSAM"
        for row, seed in enumerate(CONFIG.seeds):
            expected = train_reference(CONFIG, seed=seed, n_steps=point.step).weights()
            for found, values in zip(point.weights, expected, strict=True):
                assert torch.allclose(found[row].double(), values[0], atol=1e-5 if point.step else 1e-7)
    assert KeptNetworks(CONFIG.vary(rho=0.0), 0, points[0].weights).method == "SGD"


def test_a_checkpoint_that_is_asked_for_twice_is_kept_once(tmp_path):
    twice = CONFIG.vary(checkpoints=(12, 12), seeds=(0,), rho=0.0)
    (record,) = do([Run("toy", twice)], Store(tmp_path), device="cpu")
    assert [point.step for point in checkpoints(record)] == [12]


def test_a_record_without_checkpoints_is_refused_with_advice(tmp_path):
    empty = Store(tmp_path).write("toy", CONFIG.vary(checkpoints=()), metrics={}, arrays={}, provenance={})
    with pytest.raises(ValueError, match=r"expected a run with checkpoints, got none; use .*'checkpoints'"):
        checkpoints(empty)


def test_a_checkpoint_has_each_seeds_examples_and_its_first_epochs_batches(points):
    found = points[1].examples("train")
    for row, seed in enumerate(CONFIG.seeds):
        expected = sample(CONFIG.data, seed=seed, split="train")
        assert torch.equal(found.inputs[row], expected.inputs.float())
        assert torch.equal(found.labels[row], expected.labels.float())
    order = torch.stack([batch_order(20, 1, seed=seed)[0] for seed in CONFIG.seeds])
    expected = importance_weights(points[1].weights, found, order, rho=0.7, batch_size=5)
    weighed = points[1].importance(0.7)
    assert all((a == b).all() for a, b in zip(weighed, expected, strict=True))
    assert not np.allclose(weighed.real, weighed.phantom)


def test_a_member_is_one_seeds_weights_with_its_test_examples(points):
    weights, examples = points[2].member(2)
    assert torch.equal(weights.v, points[2].weights.v[1:])
    assert torch.equal(examples.inputs, sample(CONFIG.data, seed=2, split="test").inputs)
    with pytest.raises(ValueError, match=r"seed: expected one of \[5, 2\], got 0; pick a recorded one"):
        points[2].member(0)


@pytest.mark.parametrize("feature", [0, 1])
def test_the_grid_holds_v_times_phi_with_the_second_coordinate_along_the_rows(feature):
    network = DisentangledNetwork(hidden=6, last_layer_init=1.5, seed=0)
    values = contribution_grid(network.weights(), feature, radius=2.0, n_points=5)
    for row, second in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
        for column, first in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            inputs = torch.tensor([[first, second, first, second]], dtype=torch.float64)
            expected = (network.features(inputs) * network.v)[0, feature].item()
            assert values[row, column].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "v", "errors", "test_error", "loss"),
    [
        # f = -1 everywhere.
        ([1.0, 1.0, 1.0, -1.0], (1.0, -2.0), [0.25, 0.75], 0.75, (3 * math.log1p(math.e) + math.log1p(1 / math.e)) / 4),
        ([1.0, -1.0], (0.0, math.nan), [1.0, 1.0], 1.0, math.nan),  # zero and NaN err on every example
    ],
)
def test_probing_errors_of_hand_worked_networks(labels, v, errors, test_error, loss):
    """Of a network whose features are always 1, so that its probes are v itself."""
    weights = Weights(*(torch.zeros_like(part) for part in initial_weights([0], hidden=3, last_layer_init=[1.0])))
    weights.b3.fill_(1.0)
    weights.v.copy_(torch.tensor(v))
    examples = Examples(torch.zeros(1, len(labels), 4).double(), torch.tensor([labels]).double())
    found = [part[0].tolist() for part in probing_errors(weights, examples)]
    assert found == [errors, test_error, pytest.approx(loss, nan_ok=True)]


def test_recorded_numbers_are_those_of_the_final_weights_and_of_every_step():
    metrics, arrays = train_toy([CONFIG])[0]
    weights = Weights(**{name: torch.from_numpy(values[-1]) for name, values in arrays.items()})
    members = [(CONFIG, seed) for seed in CONFIG.seeds]
    errors, test_error, _ = probing_errors(weights, stack_examples(members, "test", like=weights.v))
    assert [metrics["final_easy_error"], metrics["final_hard_error"]] == errors.T.tolist()
    assert metrics["final_test_error"] == test_error.tolist()
    curves = {name: np.array(values) for name, values in metrics["curves"].items()}
    assert {curve.shape for curve in curves.values()} == {(2, 2)}  # (seed, snapshot)
    assert curves["v_easy"][:, -1].tolist() == pytest.approx(weights.v[:, 0].tolist(), rel=1e-4)
    assert curves["v_hard"][:, -1].tolist() == pytest.approx(weights.v[:, 1].tolist(), rel=1e-4)
    windows, means = curves["readable_steps"], curves["phantom_ratio"]
    assert windows.sum(1).tolist() == metrics["readable_steps"] == [40.0, 40.0]
    expected = (windows * means).sum(1) / windows.sum(1)
    assert metrics["phantom_ratio"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_progress_counts_every_step_once():
    steps = []
    train_toy([CONFIG.vary(n_steps=10, checkpoints=())], progress=steps.append)
    assert steps == [4, 4, 2]
