"""The gradient of every method: where the perturbation goes, and which factor of the gradient is taken there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samlib.measures.importance import importance
from samlib.methods.config import ControlConfig
from samlib.methods.networks import MemberNetwork
from samlib.shapes import Float, Int64

ADAPTIVE_SHIFT = 0.01  # eta of ASAM
TINY = 1e-12  # below this norm a gradient has no direction


class Batch(NamedTuple):
    """One batch of every member, and how much each example counts (1 is usual)."""

    inputs: Tensor
    labels: Int64[Tensor, "member example"]
    weights: Float[Tensor, "member example"]

    def split(self, size: int) -> list["Batch"]:
        """Divide the examples into parts of this size, the last one of what is left."""
        return [Batch(*parts) for parts in zip(*(part.split(size, dim=1) for part in self), strict=True)]


class Descent(NamedTuple):
    """What one batch gave.

    Attributes:
        gradients: one for every parameter.
        weights: how much each example counts in this gradient: its weight in the batch times its importance where the
            derivative of the loss was taken.
        losses: cross-entropy at the real parameters.
    """

    gradients: list[Tensor]
    weights: Float[Tensor, "member example"]
    losses: Float[Tensor, "member example"]


def descent(network: MemberNetwork, batch: Batch, config: ControlConfig, *, active: bool) -> Descent:
    """Return the gradient that a step follows (Eqs 2, 3 and their variants).

    Args:
        network: left as it was found, bit for bit.
        batch: of every member.
        config: the method.
        active: whether the perturbation is on in this epoch.
    """
    if not active or config.rho == 0:
        return _plain(network, batch, config)
    parts = batch.split(config.per_perturbation or batch.labels.shape[1])
    found = [_perturbed(network, part, config) for part in parts]
    if len(found) == 1:
        return found[0]
    shares = [part.labels.shape[1] / batch.labels.shape[1] for part in parts]
    gradients = [
        torch.stack([share * gradient for share, gradient in zip(shares, each, strict=True)]).sum(0)
        for each in zip(*(item.gradients for item in found), strict=True)
    ]
    return Descent(
        gradients, torch.cat([item.weights for item in found], 1), torch.cat([item.losses for item in found], 1)
    )


def cross_entropy(logits: Tensor, labels: Tensor) -> Float[Tensor, "member example"]:
    """Return every example's loss."""
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


def perturbation(
    network: MemberNetwork, parameters: list[nn.Parameter], gradients: list[Tensor], config: ControlConfig
) -> list[Tensor]:
    """Return the ascent step of some parameters; a member whose gradient has no direction gets none.

    Args:
        network: whose members count for themselves.
        parameters: those that are moved.
        gradients: of the loss, by these parameters.
        config: rho and scale are read.
    """
    if config.scale == "none":
        return [config.rho * gradient for gradient in gradients]
    directions = scaled = gradients
    if config.scale == "adaptive":
        sizes = [p.detach().abs() + ADAPTIVE_SHIFT for p in parameters]
        scaled = [size * gradient for size, gradient in zip(sizes, gradients, strict=True)]
        directions = [size * part for size, part in zip(sizes, scaled, strict=True)]
    norm = torch.stack([network.squared(part) for part in scaled]).sum(0).sqrt()
    factor = torch.where(norm > TINY, config.rho / norm.clamp(min=TINY), 0.0)
    return [network.spread(factor, part) * part for part in directions]


@contextmanager
def moved(parameters: list[nn.Parameter], steps: list[Tensor]) -> Iterator[None]:
    """Add steps to parameters for a while; afterwards they have their old values, bit for bit."""
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(list[Tensor](parameters), steps)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list[Tensor](parameters), kept)


def _plain(network: MemberNetwork, batch: Batch, config: ControlConfig) -> Descent:
    """SGD's gradient."""
    features = network.features(batch.inputs)
    logits = network.read(features)
    losses = cross_entropy(logits, batch.labels)
    total = torch.add((batch.weights * losses).mean(1).sum(), _penalty(network, features, config))
    gradients = torch.autograd.grad(total, list(network.parameters()))
    return Descent(list(gradients), batch.weights * importance(logits, batch.labels), losses.detach())


def _perturbed(network: MemberNetwork, batch: Batch, config: ControlConfig) -> Descent:
    """The gradient of SAM or of one of its parts, with one perturbation for the whole batch."""
    at_w = _plain(network, batch, config)
    named = dict(zip(network.parameters(), at_w.gradients, strict=True))
    parameters = network.chosen(config.perturbed)
    steps = perturbation(network, parameters, [named[parameter] for parameter in parameters], config)
    if config.part == "both":
        with moved(parameters, steps):
            there = _plain(network, batch, config)
        return Descent(there.gradients, there.weights, at_w.losses)
    if config.part == "logit":
        with moved(parameters, steps), torch.no_grad():
            logits = network(batch.inputs)
        slopes = _slopes(logits, batch)
        gradients = _along(network, batch, slopes, config)
    else:
        logits = network(batch.inputs).detach()
        slopes = _slopes(logits, batch)
        with moved(parameters, steps):
            gradients = _along(network, batch, slopes, config)
    return Descent(gradients, batch.weights * importance(logits, batch.labels), at_w.losses)


def _slopes(logits: Tensor, batch: Batch) -> Float[Tensor, "member example class"]:
    """Derivative of the weighted mean loss by the logits: softmax minus one-hot label, over the batch's size."""
    true = nn.functional.one_hot(batch.labels, logits.shape[2]).to(logits.dtype)
    return (logits.softmax(2) - true) * (batch.weights / batch.labels.shape[1])[..., None]


def _along(network: MemberNetwork, batch: Batch, slopes: Tensor, config: ControlConfig) -> list[Tensor]:
    """Gradient of the logits here, along slopes that were taken elsewhere."""
    features = network.features(batch.inputs)
    total = (slopes * network.read(features)).sum() + _penalty(network, features, config)
    return list(torch.autograd.grad(total, list(network.parameters())))


def _penalty(network: MemberNetwork, features: Tensor, config: ControlConfig) -> Tensor:
    """The l2 terms of the loss, summed over members."""
    total = features.new_zeros(())
    if config.feature_l2:
        total = total + config.feature_l2 * features.square().sum(2).mean(1).sum()
    if config.last_layer_l2:
        named = dict(network.named_parameters())
        total = total + config.last_layer_l2 * torch.stack([named[n].square().sum() for n in network.last_layer]).sum()
    return total
