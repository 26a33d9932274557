"""Measurements of trained toy networks and what is read off their checkpoints."""

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
from samlib.toy.network import DisentangledNetwork, initial_weights
from samlib.toy.training import probing_errors, stack_examples, train_toy

CONFIG = ToyConfig(hidden=6, n_steps=40, n_snapshots=2, checkpoints=(40, 0, 12), seeds=(5, 2), rho=0.5)
CONFIG = CONFIG.vary(n_train=20, n_test=50)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return do([Run("toy", CONFIG)], Store(tmp_path_factory.mktemp("records")), device="cpu")[0]


def test_checkpoints_come_in_the_order_of_their_steps_with_one_member_a_seed(record):
    found = checkpoints(record)
    assert [point.step for point in found] == [0, 12, 40]
    assert all(point.config == CONFIG and len(point.weights.v) == 2 for point in found)
    assert found[0].method == "LSAM"
    assert KeptNetworks(CONFIG.vary(rho=0.0), 0, found[0].weights).method == "SGD"


def test_checkpoint_zero_holds_the_initial_weights(record):
    expected = initial_weights([5, 2], hidden=6, last_layer_init=[2.0, 2.0])
    for name, values in checkpoints(record)[0].weights._asdict().items():
        assert torch.equal(values, getattr(expected, name).float()), name


@pytest.mark.parametrize(("index", "step"), [(1, 12), (2, 40)])
def test_later_checkpoints_hold_the_weights_after_their_step(record, index, step):
    weights = checkpoints(record)[index].weights
    expected = train_reference(CONFIG, seed=2, n_steps=step).weights()
    for name, values in expected._asdict().items():
        assert torch.allclose(getattr(weights, name)[1].double(), values[0], atol=1e-5), name


def test_a_record_without_checkpoints_is_refused_with_advice(tmp_path):
    config = CONFIG.vary(checkpoints=())
    empty = Store(tmp_path).write("toy", config, metrics={}, arrays={}, provenance={})
    with pytest.raises(
        ValueError, match=r"expected a run with checkpoints, got none; use the experiment 'checkpoints'"
    ):
        checkpoints(empty)


def test_examples_of_a_checkpoint_are_those_of_each_seed(record):
    found = checkpoints(record)[0].examples("train")
    for row, seed in enumerate((5, 2)):
        expected = sample(CONFIG.data, seed=seed, split="train")
        assert torch.equal(found.inputs[row], expected.inputs.float())
        assert torch.equal(found.labels[row], expected.labels.float())


def test_importance_uses_the_first_epochs_batches(record):
    point = checkpoints(record)[1]
    order = torch.stack([batch_order(20, 1, seed=seed)[0] for seed in (5, 2)])
    expected = importance_weights(point.weights, point.examples("train"), order, rho=0.7, batch_size=5)
    found = point.importance(0.7)
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
    assert not np.allclose(found.real, found.phantom)


def test_a_member_is_one_seeds_weights_with_its_test_examples(record):
    point = checkpoints(record)[2]
    weights, examples = point.member(2)
    assert torch.equal(weights.v, point.weights.v[1:])
    assert torch.equal(examples.inputs, sample(CONFIG.data, seed=2, split="test").inputs)
    with pytest.raises(ValueError, match=r"seed: expected one of \[5, 2\], got 0; pick a recorded one"):
        point.member(0)


@pytest.mark.parametrize("feature", [0, 1])
def test_the_grid_holds_v_times_phi_with_the_second_coordinate_along_the_rows(feature):
    network = DisentangledNetwork(hidden=6, last_layer_init=1.5, seed=0)
    values = contribution_grid(network.weights(), feature, radius=2.0, n_points=5)
    for row, second in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
        for column, first in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            inputs = torch.tensor([[first, second, first, second]], dtype=torch.float64)
            expected = (network.features(inputs) * network.v)[0, feature].item()
            assert values[row, column].item() == pytest.approx(expected, abs=1e-12)


def measured(labels: list[float], v: tuple[float, float]) -> tuple[list, list, list]:
    """Errors of a network whose features are always 1, so that its probes are v itself."""
    weights = initial_weights([0], hidden=3, last_layer_init=[1.0])
    for part in weights:
        part.zero_()
    weights.b3.fill_(1.0)
    weights.v.copy_(torch.tensor(v))
    inputs = torch.zeros(1, len(labels), 4, dtype=torch.float64)
    found = probing_errors(weights, Examples(inputs, torch.tensor([labels], dtype=torch.float64)))
    return tuple(part[0].tolist() for part in found)


def test_probing_errors_of_hand_worked_networks():
    errors, test_error, loss = measured([1.0, 1.0, 1.0, -1.0], (1.0, -2.0))
    assert errors == [0.25, 0.75]
    assert test_error == 0.75  # f = -1 everywhere
    assert loss == pytest.approx((3 * np.log1p(np.e) + np.log1p(1 / np.e)) / 4)


def test_a_probe_of_zero_or_nan_errs_on_every_example():
    errors, test_error, _ = measured([1.0, -1.0], (0.0, float("nan")))
    assert errors == [1.0, 1.0]
    assert test_error == 1.0


def test_recorded_errors_are_those_of_the_final_weights():
    result = train_toy([CONFIG])[0]
    weights = checkpoint_weights(result)
    members = [(CONFIG, seed) for seed in CONFIG.seeds]
    errors, test_error, _ = probing_errors(weights, stack_examples(members, "test", like=weights.v))
    assert result.metrics["final_easy_error"] == errors[:, 0].tolist()
    assert result.metrics["final_hard_error"] == errors[:, 1].tolist()
    assert result.metrics["final_test_error"] == test_error.tolist()
    for row in range(2):
        assert [curve[-1] for curve in (result.metrics["curves"][f"v_{k}"][row] for k in ("easy", "hard"))] == (
            pytest.approx(weights.v[row].tolist(), rel=1e-4)
        )


def checkpoint_weights(result):
    """Weights at the last checkpoint of a result."""
    return type(initial_weights([0], hidden=6, last_layer_init=[1.0]))(
        **{name: torch.from_numpy(values[-1]) for name, values in result.arrays.items()}
    )


def test_curves_have_one_value_a_seed_and_snapshot_and_counts_cover_every_step():
    metrics = train_toy([CONFIG])[0].metrics
    assert {np.shape(curve) for curve in metrics["curves"].values()} == {(2, 2)}
    windows = np.array(metrics["curves"]["readable_steps"])
    assert windows.sum(1).tolist() == metrics["readable_steps"] == [40.0, 40.0]
    means = np.array(metrics["curves"]["phantom_ratio"])
    expected = (windows * means).sum(1) / windows.sum(1)
    assert metrics["phantom_ratio"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_progress_counts_every_step_once():
    steps = []
    train_toy([CONFIG.vary(n_steps=10, checkpoints=())], progress=steps.append)
    assert steps == [4, 4, 2]
