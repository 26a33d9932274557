"""Random networks on the toy's data, fresh or fitted: how far the first-order law carries, over networks."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.measures.statistics import rank_correlations
from samlib.shapes import Float
from samlib.streams import stream
from samlib.theory.importance import first_order, log_ratio, log_weights, weighted_gradient
from samlib.theory.network import Network, gradient_norm, linear_estimate, logits
from samlib.toy.config import ToyData
from samlib.toy.data import sample

# All of this is our choice; Appendix D has no experiment.
SEEDS = tuple(range(20))
DATA = ToyData(n_train=100)
LEARNING_RATE, N_STEPS = 0.05, 500
KINDS = {
    "two-layer linear": ((4, 16), "linear"),
    "deep linear": ((4, 16, 16, 16), "linear"),
    "ReLU": ((4, 16, 16, 16), "relu"),
}
FITTED = "ReLU, fitted"
TENTH = 0.1
CASES = ("LSAM", *KINDS, FITTED)
STATES = {"fresh": "ReLU", "fitted": FITTED}
RADII = tuple(float(rho) for rho in np.logspace(-3, 1, 13))


class Ensemble(NamedTuple):
    """Networks, one a seed, each with its own examples.

    Attributes:
        network: with a leading axis over networks.
        inputs, labels: (network, example, 4) and (network, example), the toy's (Eqs 39-42).
    """

    network: Network
    inputs: Float[Tensor, "network example 4"]
    labels: Float[Tensor, "network example"]

    @property
    def margins(self) -> Float[Tensor, "network example"]:
        """y f(x) of every example: positive where it is classified correctly."""
        return self.labels * logits(self.network, self.inputs)


class Measured(NamedTuple):
    """Log importance ratios of every example, exactly and by the first-order law, (network, example)."""

    exact: Float[Tensor, "network example"]
    law: Float[Tensor, "network example"]

    def error(self) -> np.ndarray:
        """Median over examples of |exact - law| / |law|, one number a network."""
        return np.median(((self.exact - self.law).abs() / self.law.abs()).numpy(), axis=-1)

    def falling(self) -> np.ndarray:
        """Share of examples whose weight falls, one number a network."""
        return (self.exact < 0).double().mean(-1).numpy()


def draw(widths: Sequence[int], activation: str, *, seed: int) -> Network:
    """Draw a network with independent Gaussian weights, from the stream "theory".

    Variance 1 / fan-in, twice that for a layer with ReLUs: a unit's mean square is about an input's in every layer.

    Args:
        widths: of the input and of every hidden layer.
        activation: "linear" or "relu".
        seed: root seed.

    >>> draw((4, 16), "linear", seed=0).layers[0].shape
    torch.Size([16, 4])
    """
    generator = stream(seed, "theory")
    gain = 2.0 if activation == "relu" else 1.0
    layers = [
        torch.randn(to, source, generator=generator, dtype=torch.float64) * (gain / source) ** 0.5
        for source, to in pairwise(widths)
    ]
    v = torch.randn(widths[-1], generator=generator, dtype=torch.float64) * widths[-1] ** -0.5
    return Network(v, tuple(layers), activation)


def fresh(kind: str, seeds: Sequence[int] = SEEDS) -> Ensemble:
    """Draw one network of a kind (a key of `KINDS`) and one set of examples a seed."""
    widths, activation = KINDS[kind]
    networks = [draw(widths, activation, seed=seed) for seed in seeds]
    v, *layers = [torch.stack(parts) for parts in zip(*(network.weights for network in networks), strict=True)]
    inputs, labels = zip(*(sample(DATA, seed=seed, split="train") for seed in seeds), strict=True)
    return Ensemble(Network(v, tuple(layers), activation), torch.stack(inputs), torch.stack(labels))


@cache
def fitted(seeds: tuple[int, ...] = SEEDS) -> Ensemble:
    """Fit the ReLU networks to their examples: gradient descent on the mean logistic loss, all examples a step."""
    start = fresh("ReLU", seeds)
    network = descend(start.network, start.inputs, start.labels, rate=LEARNING_RATE, n_steps=N_STEPS)
    return start._replace(network=network)


def ensemble(name: str) -> Ensemble:
    """Return the networks of one kind, fresh, or the fitted ones."""
    return fitted() if name == FITTED else fresh(name)


def descend(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    labels: Float[Tensor, "... example"],
    *,
    rate: float,
    n_steps: int,
) -> Network:
    """Take steps of gradient descent on the mean logistic loss (Eq 2 with one batch) and return the new network."""
    for _ in range(n_steps):
        weights = log_weights(labels * logits(network, inputs), "logistic").exp()
        gradient = weighted_gradient(network, inputs, -labels * weights / labels.shape[-1])
        v, *layers = [weight - rate * part for weight, part in zip(network.weights, gradient, strict=True)]
        network = Network(v, tuple(layers), network.activation)
    return network


def measure(
    networks: Ensemble, *, rho: float, batch_size: int = 1, loss: str = "exponential", perturbed: str = "all"
) -> Measured:
    """Compute the log importance ratio of every example at the phantom of its own batch, and the law's value.

    Args:
        networks: networks with their examples, dealt into batches in their (random) order.
        rho: perturbation radius.
        batch_size: a divisor of the number of examples.
        loss, perturbed: as for `samlib.theory.log_ratio`.
    Raises:
        ValueError: the batch size does not divide the number of examples.
    """
    shape = networks.labels.shape
    if batch_size < 1 or shape[1] % batch_size:
        raise ValueError(f"batch_size: expected a divisor of {shape[1]}, got {batch_size}; every example needs a batch")
    v, *layers = [weight[:, None] for weight in networks.network.weights]  # the same network for all batches of it
    network = Network(v, tuple(layers), networks.network.activation)
    inputs = networks.inputs.reshape(shape[0], -1, batch_size, networks.inputs.shape[-1])
    labels = networks.labels.reshape(shape[0], -1, batch_size)
    exact = log_ratio(network, inputs, labels, rho=rho, loss=loss, perturbed=perturbed)
    law = first_order(network, inputs, labels, rho=rho, loss=loss, perturbed=perturbed)
    return Measured(exact.reshape(shape), law.reshape(shape))


def by_radius() -> dict[str, list[Measured]]:
    """Measure every case at each of `RADII`, one example a batch; LSAM moves the fresh ReLU networks' last layer."""
    found = {}
    for name in CASES:
        networks, perturbed = (fresh("ReLU"), "last layer") if name == "LSAM" else (ensemble(name), "all")
        found[name] = [measure(networks, rho=rho, perturbed=perturbed) for rho in RADII]
    return found


def by_batch(sizes: Sequence[int], *, rho: float) -> dict[str, list[Measured]]:
    """Measure the fresh and the fitted ReLU networks at several batch sizes."""
    return {
        state: [measure(ensemble(name), rho=rho, batch_size=size) for size in sizes] for state, name in STATES.items()
    }


def median_errors(measured: Mapping[str, Sequence[Measured]]) -> dict[str, np.ndarray]:
    """Median over networks of each one's median relative error, a number a radius, by case."""
    return {name: np.array([np.median(part.error()) for part in parts]) for name, parts in measured.items()}


def breaking_radii(measured: Mapping[str, Sequence[Measured]], radii: Sequence[float] = RADII) -> dict[str, float]:
    """Radius at which the law is a tenth off, by case; NaN where it never is."""
    return {name: crossing(radii, errors, TENTH) for name, errors in median_errors(measured).items()}


def crossing(radii: Sequence[float], errors: Sequence[float] | np.ndarray, level: float) -> float:
    """Return the radius at which an error first reaches a level, interpolated in the logarithms of both; NaN if never.

    >>> round(crossing([0.1, 1.0], [0.01, 1.0], 0.1), 3)
    0.316
    """
    found = np.flatnonzero(np.asarray(errors) >= level)
    if len(found) == 0:
        return float("nan")
    last = int(found[0])
    if last == 0:
        return float(radii[0])
    span = slice(last - 1, last + 1)
    return float(np.exp(np.interp(np.log(level), np.log(errors[span]), np.log(radii[span]))))


def by_differentiation(networks: Ensemble) -> Float[Tensor, "network example part"]:
    """Return what `samlib.theory.squared_norms` does, from automatic differentiation of one copy an example."""
    inputs = networks.inputs[:, :, None]  # (network, example, 1, 4): each example is a batch with weights of its own
    copies = []
    for weight in networks.network.weights:
        shape = (*inputs.shape[:2], *weight.shape[1:])
        copies.append(weight[:, None].expand(shape).clone().requires_grad_())
    network = Network(copies[0], tuple(copies[1:]), networks.network.activation)
    gradients = torch.autograd.grad(logits(network, inputs).sum(), copies)
    return torch.stack([gradient.flatten(2).square().sum(2) for gradient in gradients], dim=2)


def ranks(first: Float[Tensor, "network example"], second: Float[Tensor, "network example"]) -> np.ndarray:
    """Return the rank correlation over examples of two quantities, one number a network."""
    rows = zip(first.tolist(), second.numpy(), strict=True)
    return np.concatenate([rank_correlations(x, y[None]) for x, y in rows])


def norms(networks: Ensemble, *, scaled: bool = False) -> tuple[Tensor, Tensor]:
    """Return |grad f| and its linear approximation (`samlib.theory.linear_estimate`), (network, example) each.

    Args:
        networks: networks with their examples.
        scaled: scale every input to length 1 first. All norms grow with |x|, and that alone correlates them.
    """
    inputs = networks.inputs
    if scaled:
        inputs = inputs / inputs.norm(dim=-1, keepdim=True)
    return gradient_norm(networks.network, inputs), linear_estimate(networks.network, inputs).sqrt()


def length(networks: Ensemble) -> float:
    """Return the mean over networks of ||w||, all weights as one vector: what a radius is read against."""
    squared = sum(weight.square().flatten(1).sum(1) for weight in networks.network.weights)
    return float(torch.as_tensor(squared).sqrt().mean())
