"""Appendix D: closed forms against automatic differentiation, the first-order law, batches, losses, bad input."""

import math

import pytest
import torch
from networks import numbers_of as numbers

from samlib.theory import (
    Network,
    first_order,
    gradient_norm,
    hidden_layers,
    linear_estimate,
    log_ratio,
    log_weights,
    logits,
    phantom,
    squared_norms,
)
from samlib.theory.importance import ascent_direction
from samlib.theory.study import draw

SHAPES = [((4, 6), "linear"), ((4, 6, 5, 3), "linear"), ((4, 12), "relu"), ((4, 9, 8, 7), "relu")]
NAMES = ["two-layer linear", "deep linear", "two-layer ReLU", "deep ReLU"]
networks = pytest.mark.parametrize("net", [draw(*shape, seed=0) for shape in SHAPES], ids=NAMES)
losses = pytest.mark.parametrize("loss", ["exponential", "logistic"])
RELU = draw((4, 9, 8, 7), "relu", seed=0)


def batch(n: int = 12, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of n examples."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0).double()


def reference(net: Network, x: torch.Tensor, weights=None) -> torch.Tensor:
    """f(x) of one example, as a reader would write it."""
    v, *layers = weights or net.weights
    for layer in layers:
        x = layer @ x
        x = torch.clamp(x, min=0) if net.activation == "relu" else x
    return v @ x


def autograd(net: Network, inputs: torch.Tensor) -> list[list[torch.Tensor]]:
    """Gradient of f at every example, a list of parts v, W_1, ..., W_L."""
    found = []
    for x in inputs:
        weights = [weight.clone().requires_grad_() for weight in net.weights]
        found.append(torch.autograd.grad(reference(net, x, weights), weights))
    return found


def flat(parts) -> torch.Tensor:
    return torch.cat([part.flatten() for part in parts])


ONE, TWO = numbers(1), numbers([2])
TINY = Network(ONE, (TWO,))  # f(x) = 2 x


def test_a_network_of_two_weights_by_hand():
    x = numbers([3])  # h = 6, f = 6, grad_v f = 6, grad_W f = v x = 3
    assert logits(TINY, x).tolist() == [6]
    assert squared_norms(TINY, x).tolist() == [[36, 9]]
    assert gradient_norm(TINY, x).item() == pytest.approx(math.sqrt(45))
    assert gradient_norm(TINY, x, perturbed="last layer").item() == 6
    moved = phantom(TINY, x, ONE, rho=math.sqrt(45))  # w~ = w - (6, 3): v~ = -5, W~ = -1, f~ = 15
    assert (moved.v.item(), moved.layers[0].item()) == pytest.approx((-5, -1))
    assert log_ratio(TINY, x, ONE, rho=math.sqrt(45)).item() == pytest.approx(-(15 - 6))
    assert first_order(TINY, x, ONE, rho=math.sqrt(45)).item() == pytest.approx(45)


def test_a_relu_that_is_off_cuts_its_layer_out():
    net = Network(numbers(1, 1), (numbers([2], [-3]),), "relu")  # at x = 1 only the first unit is on
    assert squared_norms(net, numbers([1])).tolist() == [[4, 1]]
    assert linear_estimate(net, numbers([1])).tolist() == [4 + 2]


@networks
def test_logits_and_squared_norms_equal_automatic_differentiation_layer_by_layer(net):
    inputs, _ = batch()
    plain = torch.stack([reference(net, x) for x in inputs])
    assert torch.allclose(logits(net, inputs), plain, rtol=0, atol=1e-12)
    expected = torch.stack([torch.stack([part.square().sum() for part in row]) for row in autograd(net, inputs)])
    assert torch.allclose(squared_norms(net, inputs), expected, rtol=1e-10, atol=1e-10)
    exact = torch.allclose(linear_estimate(net, inputs), expected.sum(1), rtol=1e-10)
    assert exact == (net.activation == "linear")


@networks
@losses
@pytest.mark.parametrize("perturbed", ["all", "last layer"])
def test_log_ratios_of_a_batch_equal_a_loop_with_automatic_differentiation(net, loss, perturbed):
    inputs, labels = batch()
    weights = [weight.clone().requires_grad_() for weight in net.weights]
    margins = labels * torch.stack([reference(net, x, weights) for x in inputs])
    total = margins.neg().exp().sum() if loss == "exponential" else torch.log1p(margins.neg().exp()).sum()
    moving = weights if perturbed == "all" else weights[:1]
    gradient = torch.autograd.grad(total, moving)
    norm = flat(gradient).norm()
    moved = [weight.detach() for weight in weights]
    for index, part in enumerate(gradient):
        moved[index] = moved[index] + 0.3 * part / norm
    there = labels * torch.stack([reference(net, x, moved) for x in inputs])
    importance = {"exponential": lambda m: (-m).exp(), "logistic": lambda m: torch.sigmoid(-m)}[loss]
    expected = (importance(there) / importance(margins.detach())).log()
    found = log_ratio(net, inputs, labels, rho=0.3, loss=loss, perturbed=perturbed)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@networks
@losses
def test_the_law_of_a_batch_is_built_from_the_examples_gradients(net, loss):
    inputs, labels = batch()
    gradients = torch.stack([flat(row) for row in autograd(net, inputs)])
    weights = log_weights(labels * logits(net, inputs), loss).exp()
    total = (weights * labels) @ gradients
    expected = 0.2 * labels * (gradients @ total) / total.norm()
    if loss == "logistic":
        expected = (1 - weights) * expected
    assert torch.allclose(first_order(net, inputs, labels, rho=0.2, loss=loss), expected, rtol=1e-10, atol=1e-10)


@networks
def test_one_example_a_batch_obeys_equation_23_for_either_label(net):
    inputs, labels = batch()
    law = first_order(net, inputs[:, None], labels[:, None], rho=0.1)[:, 0]
    assert torch.allclose(law, 0.1 * gradient_norm(net, inputs), rtol=1e-10)
    assert torch.equal(law, first_order(net, inputs[:, None], -labels[:, None], rho=0.1)[:, 0])


@pytest.mark.parametrize("rho", [0.01, 1.0, 100.0])
def test_perturbing_the_last_layer_is_exact_at_every_radius(rho):
    inputs, labels = batch()
    exact = log_ratio(RELU, inputs[:, None], labels[:, None], rho=rho, perturbed="last layer")[:, 0]
    lengths = hidden_layers(RELU, inputs)[-1].norm(dim=1)
    assert torch.allclose(exact, rho * lengths, rtol=1e-10)


def test_two_linear_layers_have_a_second_order_term_and_no_other():
    net, (inputs, labels) = draw((4, 6), "linear", seed=3), batch()
    norm, f = gradient_norm(net, inputs), logits(net, inputs)
    expected = 2.0 * norm - 4.0 * labels * f * inputs.square().sum(1) / norm.square()
    found = log_ratio(net, inputs[:, None], labels[:, None], rho=2.0)[:, 0]
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_an_example_on_the_wrong_side_of_its_batch_loses_weight():
    inputs, labels = numbers([3], [1]), numbers(1, -1)  # f = 6, 2: the second is wrong and pulls the batch its way
    found = log_ratio(TINY, inputs, labels, rho=0.1, perturbed="last layer")  # lambda = e^-6, e^2: v moves up by 0.1
    assert found.tolist() == pytest.approx([-0.6, 0.2])


def test_of_lsam_the_logistic_weights_are_known_at_every_radius():
    inputs, labels = batch()
    margins, phi = labels * logits(RELU, inputs), hidden_layers(RELU, inputs)[-1]
    weights = torch.sigmoid(-margins)
    g = (weights * labels) @ phi
    for rho in (0.1, 3.0):
        d = rho * labels * (phi @ g) / g.norm()
        exact = torch.log((1 + margins.exp()) / (1 + (margins - d).exp()))  # Eq T5
        found = log_ratio(RELU, inputs, labels, rho=rho, loss="logistic", perturbed="last layer")
        assert torch.allclose(found, exact, rtol=1e-10, atol=1e-12)
        law = first_order(RELU, inputs, labels, rho=rho, loss="logistic", perturbed="last layer")
        assert (found <= law + 1e-12).all() and (found.sign() == law.sign()).all()


def test_weights_however_large_have_a_phantom_and_a_radius_of_zero_changes_nothing():
    huge = Network(1000 * RELU.v, RELU.layers, "relu")  # exp(-y f) alone would overflow
    inputs, labels = batch()
    assert flat(ascent_direction(huge, inputs, labels)).norm().item() == pytest.approx(1)
    assert log_ratio(huge, inputs, labels, rho=0.1).isfinite().all()
    assert log_ratio(RELU, inputs, labels, rho=0).abs().max() == 0


X, Y = batch(3)
DEAD = Network(ONE, (-TWO,), "relu")
BAD = [
    (lambda: Network(ONE, ()), ValueError, "at least one W_l"),
    (lambda: Network(numbers(1, 1), (TWO,)), ValueError, r"got v \(2,\) and \(1, 1\)"),
    (lambda: Network(ONE, (torch.ones(3, 4).double(), torch.ones(1, 2).double())), ValueError, "check the order"),
    (lambda: Network(ONE, (TWO[None],)), ValueError, "equal leading axes"),
    (lambda: Network(ONE.float(), (TWO.float(),)), TypeError, "expected torch.float64 throughout"),
    (lambda: Network(ONE, (TWO,), "tanh"), ValueError, "activation: expected one of 'linear', 'relu'"),
    (lambda: logits(TINY, X), ValueError, r"inputs: expected \(..., example, 1\), as W_1 takes, got \(3, 4\)"),
    (lambda: logits(RELU, X[0]), ValueError, "one example is a row"),
    (lambda: logits(RELU, X.float()), TypeError, "inputs: expected torch.float64"),
    (lambda: log_ratio(RELU, X, Y, rho=-0.1), ValueError, "rho"),
    (lambda: first_order(RELU, X, Y, rho=math.nan), ValueError, "rho"),
    (lambda: log_ratio(RELU, X, Y[:2], rho=0.1), ValueError, r"one an example, \(3,\), got \(2,\)"),
    (lambda: log_ratio(RELU, X, (Y + 1) / 2, rho=0.1), ValueError, "expected -1 or \\+1"),
    (lambda: log_ratio(RELU, X, torch.ones(3, dtype=torch.uint8), rho=0.1), ValueError, "holds -1, got torch.uint8"),
    (lambda: log_ratio(RELU, X, Y, rho=0.1, loss="hinge"), ValueError, "loss: expected one of"),
    (lambda: log_ratio(RELU, X, Y, rho=0.1, perturbed="first"), ValueError, "perturbed: expected one of"),
    (lambda: gradient_norm(RELU, X, perturbed="first"), ValueError, "perturbed: expected one of"),
    # The one unit is off at 3, on at -3: one of two batches has a gradient of zero. Then two examples that cancel.
    (lambda: phantom(DEAD, numbers([[3]], [[-3]]), numbers([1], [1]), rho=0.1), ValueError, "zero for 1 of 2 batches"),
    (lambda: log_ratio(Network(0 * ONE, (TWO,)), numbers([3], [3]), numbers(1, -1), rho=0.1), ValueError, "1 of 1"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=[words for _, _, words in BAD])
def test_bad_input_is_refused_with_advice(call, error, words):
    with pytest.raises(error, match=words):
        call()
