"""Small networks, losses and numbers that tests of SAM and of the theory share, and SAM's slow reference."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from samlib.optim import SAM


def network(seed: int = 0, *, hidden: int = 8, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two layers: 3 inputs, 2 outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2)).to(dtype)


def normalised_network() -> nn.Sequential:
    """Batch norm between two layers, for `inputs()`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def inputs() -> Tensor:
    """A batch of eight rows for `normalised_network()`."""
    return torch.randn(8, 2, generator=torch.Generator().manual_seed(1))


def weights(model: nn.Module) -> Tensor:
    """All parameters in one vector, a copy."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def parameter(values: list[float]) -> nn.Parameter:
    """One parameter."""
    return nn.Parameter(torch.tensor(values))


def backward(loss: Tensor) -> Tensor:
    """Backward, and the loss again, as a closure returns it."""
    loss.backward()
    return loss


def quadratic_backward(weight: nn.Parameter) -> Tensor:
    """Backward of ||w||^2 / 2, whose gradient is w."""
    return backward((weight**2).sum() / 2)


def small_sam(kind: type[SAM] = SAM, **options: Any) -> tuple[SAM, nn.Parameter, Callable[[], Tensor]]:
    """SAM of radius 1 around SGD of rate 0.5; its w = (3, 4); a closure for ||w||^2 / 2.

    By hand: g = (3, 4) and ||g|| = 5, so the phantom is (3.6, 4.8), and a step ends at w - 0.5 (3.6, 4.8).
    """
    weight = parameter([3.0, 4.0])
    return kind([weight], **{"rho": 1.0, "lr": 0.5} | options), weight, partial(quadratic_backward, weight)


def sam_step(sam: SAM, closure: Callable[[], Tensor], *, two_step: bool = False) -> Tensor:
    """One step of SAM by its closure, or by two steps."""
    if not two_step:
        return sam.step(closure)
    loss = closure()
    sam.ascent_step()
    closure()
    sam.descent_step()
    return loss.detach()


def assert_stepped(weight: Tensor) -> None:
    """Where `small_sam` is after one step."""
    torch.testing.assert_close(weight.detach(), torch.tensor([1.2, 1.6], dtype=weight.dtype))


def phantom_gradients(
    loss: Callable[[], Tensor],
    parameters: list[nn.Parameter],
    *,
    rho: float,
    perturbed: list[nn.Parameter] | None = None,
    eta: float | None = None,
) -> list[Tensor]:
    """The gradient at w + epsilon, Equation (3) spelt out with loops; w is put back.

    Args:
        perturbed: the parameters that epsilon moves and its norm runs over; all by default.
        eta: makes it ASAM, epsilon = rho T^2 g / ||T g|| with T = |w| + eta.
    """
    perturbed = parameters if perturbed is None else perturbed
    gradients = torch.autograd.grad(loss(), perturbed)
    scales = [torch.ones_like(p) if eta is None else p.detach().abs() + eta for p in perturbed]
    norm = sum(float((t * g).square().sum()) for t, g in zip(scales, gradients, strict=True)) ** 0.5
    saved = [p.detach().clone() for p in perturbed]
    with torch.no_grad():
        for p, t, g in zip(perturbed, scales, gradients, strict=True):
            p += rho * t**2 * g / norm
    at_phantom = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        for p, w in zip(perturbed, saved, strict=True):
            p.copy_(w)
    return list(at_phantom)


def take_step(base: torch.optim.Optimizer, gradients: list[Tensor]) -> None:
    """Step an optimiser of one group with these gradients."""
    for p, gradient in zip(base.param_groups[0]["params"], gradients, strict=True):
        p.grad = gradient
    base.step()


def numbers_of(*values: float | list[float]) -> Tensor:
    """A tensor in double precision."""
    return torch.tensor(values, dtype=torch.float64)
