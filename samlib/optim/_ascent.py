"""The ascent step's arithmetic, shared by SAM and LSAM: joint norm and factor."""

import math
from collections.abc import Sequence
from functools import reduce
from operator import attrgetter

import torch
from torch import Tensor

from samlib.shapes import Float

_SAFE = 1e-15  # squares of a shorter vector's numbers come near the smallest normal float32
_GATHERED = (torch.float32, torch.float64)  # others want a wider sum
_kind = attrgetter("dtype", "device")


def joint_norm(tensors: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, ""]:
    """Return the L2 norm of all tensors taken as one vector, on the first tensor's device.

    Squares are summed in at least float32, so half-precision gradients do not overflow the sum.
    """
    norms = _norms(tensors, 2.0)
    device = norms[0].device
    return torch.linalg.vector_norm(torch.stack([norm.to(device) for norm in norms]))


def squared_norm(tensors: Sequence[Float[Tensor, "..."]], dtype: torch.dtype) -> Float[Tensor, ""]:
    """Return the sum of all squares in a real dtype."""
    reals = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
    return torch.stack(torch._foreach_norm(reals, 2.0, dtype=dtype)).square().sum()


def ascent_factor(norm: Float[Tensor, ""], rho: float) -> Float[Tensor, ""]:
    """Return rho / norm without reading the norm on the host; a gradient of 0 stays 0, as its factor is finite."""
    return rho / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)  # the squares of shorter ones are 0


def host_norm(tensors: list[Tensor]) -> float:
    """Return the joint norm as a number, rescaled where squares leave float32's range; waits for the device.

    Below the smallest normal float32 the gradient counts as 0: rho / norm would overflow.
    """
    length = _host_norm(tensors)
    if _SAFE < length < math.inf:
        return length
    tensors = [tensor for tensor in tensors if tensor.numel()]  # an empty one has no largest number
    if not tensors:
        return 0.0
    peaks = _norms(tensors, math.inf)
    largest = torch.stack([peak.to(peaks[0].device) for peak in peaks]).max().item()
    if not math.isfinite(largest):
        return largest
    if largest < torch.finfo(torch.float32).tiny:
        return 0.0
    wide = [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]
    return largest * _host_norm(list(torch._foreach_div(wide, largest)))


def _host_norm(tensors: list[Tensor]) -> float:
    """Return the norm without care for the range. Small tensors are gathered first: a norm of each costs more."""
    kinds = set(map(_kind, tensors))
    # One call on one tensor takes about the time of copying 4096 numbers.
    if len(kinds) == 1 and next(iter(kinds))[0] in _GATHERED and sum(map(Tensor.numel, tensors)) <= 4096 * len(tensors):
        vector = torch._C._nn.flatten_dense_tensors(tensors)
        return math.sqrt(torch.dot(vector, vector).item())
    return joint_norm(tensors).item()


def _norms(tensors: Sequence[Tensor], order: float) -> Sequence[Tensor]:
    """Return each tensor's norm in one wide dtype, at least float32; complex numbers lend it their precision alone."""
    wide = reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
    if not wide.is_complex:
        return torch._foreach_norm(list(tensors), order, dtype=wide)
    lengths = [tensor.abs() if tensor.is_complex() else tensor for tensor in tensors]
    return torch._foreach_norm(lengths, order, dtype=wide.to_real())
