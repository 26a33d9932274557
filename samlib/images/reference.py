"""SAM as a plain step over one network, two passes: what `samlib.optim.SAM` must equal."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def sam_step(network: nn.Module, loss: Callable[[], Tensor], *, rho: float, learning_rate: float) -> None:
    """Take one SAM step (Eq 3) in place; with rho = 0 it is SGD's (Eq 2).

    Args:
        network: its parameters are moved; every one must enter the loss.
        loss: computes the loss of one batch at the network's current parameters.
        rho: perturbation radius, L2 norm over all parameters jointly.
        learning_rate: step size, no momentum.
    """
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    iterate = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if norm > 0:
                parameter.add_(rho * gradient / norm)  # now at the phantom parameters
    at_phantom = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        for parameter, saved, gradient in zip(parameters, iterate, at_phantom, strict=True):
            parameter.copy_(saved - learning_rate * gradient)
