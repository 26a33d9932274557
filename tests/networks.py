"""Small networks, losses and numbers that tests of SAM and of the theory share."""

import torch
from torch import Tensor, nn


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


def quadratic_backward(weight: nn.Parameter) -> Tensor:
    """Backward of ||w||^2 / 2, whose gradient is w."""
    loss = (weight**2).sum() / 2
    loss.backward()
    return loss


def numbers_of(*values: float | list[float]) -> Tensor:
    """A tensor in double precision."""
    return torch.tensor(values, dtype=torch.float64)
