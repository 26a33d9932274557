"""Importance weights against a plain loop; Lorenz curves, Gini coefficients and medians against hand numbers."""

import numpy as np
import pytest
import torch

from samlib.measures.importance import binned_medians, gini, importance_weights, lorenz
from samlib.toy.data import Examples
from samlib.toy.network import DisentangledNetwork, initial_weights

SEEDS, N, BATCH = [0, 1], 12, 4
WEIGHTS = initial_weights(SEEDS, hidden=6, last_layer_init=[2.0, 0.7])
GENERATOR = torch.Generator().manual_seed(0)
EXAMPLES = Examples(
    torch.randn(2, N, 4, generator=GENERATOR, dtype=torch.float64),
    torch.randint(0, 2, (2, N), generator=GENERATOR).double() * 2 - 1,
)
ORDER = torch.stack([torch.randperm(N, generator=GENERATOR) for _ in SEEDS])


def slow_importance(network: DisentangledNetwork, inputs, labels, order, rho: float) -> tuple[dict, dict]:
    """Real and phantom importance weights of one network, batch by batch with autograd and example by example."""
    real, moved = {}, {}
    for batch in order.view(-1, BATCH).tolist():
        loss = torch.nn.functional.softplus(-labels[batch] * network(inputs[batch])).mean()
        (gradient,) = torch.autograd.grad(loss, network.v)
        phantom_v = network.v + rho * gradient / gradient.norm()
        for index in batch:
            phi = network.features(inputs[index][None])[0]
            real[index] = torch.sigmoid(-labels[index] * (phi @ network.v)).item()
            moved[index] = torch.sigmoid(-labels[index] * (phi @ phantom_v)).item()
    return real, moved


@pytest.mark.parametrize("rho", [0.0, 0.3, 2.0])
def test_weights_equal_a_plain_loop_over_batches_and_examples_and_contributions_are_y_v_phi(rho):
    before = [part.clone() for part in WEIGHTS]
    found = importance_weights(WEIGHTS, EXAMPLES, ORDER, rho=rho, batch_size=BATCH)
    for member, (seed, init) in enumerate(zip(SEEDS, (2.0, 0.7), strict=True)):
        network = DisentangledNetwork(hidden=6, last_layer_init=init, seed=seed)
        inputs, labels = EXAMPLES.inputs[member], EXAMPLES.labels[member]
        real, moved = slow_importance(network, inputs, labels, ORDER[member], rho)
        assert found.real[member] == pytest.approx([real[i] for i in range(N)], abs=1e-12)
        assert found.phantom[member] == pytest.approx([moved[i] for i in range(N)], abs=1e-12)
        expected = (labels[:, None] * network.features(inputs) * network.v).T
        assert np.allclose(found.contributions[member], expected.detach(), atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, WEIGHTS, strict=True))


def test_lorenz_curve_of_one_to_four():
    assert lorenz(np.array([4.0, 1.0, 3.0, 2.0])).tolist() == pytest.approx([0.0, 0.1, 0.3, 0.6, 1.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 0.0),
        ([2.0, 2.0, 2.0], 0.0),
        ([0.0, 0.0, 0.0, 1.0], 0.75),
        ([1.0, 2.0, 3.0, 4.0], 0.25),  # 2 * (1 + 4 + 9 + 16) / (4 * 10) - 5 / 4
        ([3000.0, 1000.0], 0.25),  # mean absolute difference 1000 over twice the mean 2000, in any order and unit
    ],
)
def test_gini_of_hand_worked_values(values, expected):
    assert gini(np.array(values)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, -0.1], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_what_cannot_be_ranked_is_refused_with_the_likely_cause(values):
    for measure in (lorenz, gini):
        with pytest.raises(ValueError, match=r"expected finite non-negative numbers, not all zero.*diverged"):
            measure(np.array(values))


def test_medians_per_bin_with_counts_and_none_for_an_empty_bin():
    position = np.array([-1.0, -0.5, 0.0, 0.2, 0.9, 5.0])
    values = np.array([1.0, 9.0, 2.0, 4.0, 6.0, 100.0])
    medians, counts = binned_medians(position, values, np.array([-1.0, 0.0, 1.0, 2.0]))
    assert counts.tolist() == [2, 3, 0]  # a bin holds its lower end; 5.0 lies outside
    assert medians.tolist() == pytest.approx([5.0, 4.0, np.nan], nan_ok=True)
