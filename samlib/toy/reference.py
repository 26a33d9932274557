"""LSAM's step on one toy network as two autograd passes: what the engines must equal."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from samlib.shapes import Float
from samlib.toy.network import DisentangledNetwork


def lsam_step(
    network: DisentangledNetwork,
    inputs: Float[Tensor, "batch 4"],
    labels: Float[Tensor, " batch"],
    *,
    rho: float,
    learning_rate: float,
) -> None:
    """Take one LSAM step (Eq 5) in place: ascend on v, differentiate there, restore v, descend on everything."""
    v = network.v.detach().clone()
    (gradient,) = torch.autograd.grad(softplus(-labels * network(inputs)).mean(), network.v)
    norm = gradient.norm()
    with torch.no_grad():
        if norm > 0:
            network.v.add_(rho * gradient / norm)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(softplus(-labels * network(inputs)).mean(), parameters)
    with torch.no_grad():
        network.v.copy_(v)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(learning_rate * gradient)
