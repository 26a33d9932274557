"""The ascent step's arithmetic, shared by SAM and LSAM: joint norm and factor."""

import math
from collections.abc import Sequence
from functools import reduce
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from samlib.shapes import Float

_SAFE = 1e-15  # squares of a shorter vector's numbers come near the smallest normal float32
_layout = attrgetter("dtype", "device", "shape")


def layouts(tensors: Sequence[Tensor]) -> list[Any]:
    """Return what memory for copies of the tensors must match: dtype, device and shape of each."""
    return list(map(_layout, tensors))


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
    """Return rho / norm, or 0 where the norm is 0, without reading the norm on the host."""
    return torch.where(norm > 0, rho / norm, torch.zeros_like(norm))


class HostNorm:
    """The joint norm as a number, rescaled where squares leave float32's range; waits for the device.

    Below the smallest normal float32 the gradient counts as 0: rho / norm would overflow. Small tensors are gathered
    in one vector, because a norm of each costs more than copying it; the vector's memory is kept from call to call.
    """

    def __init__(self) -> None:
        self._layouts: list[Any] = []
        self._vector: Tensor | None = None  # None where the tensors are large
        self._parts: list[Tensor] = []

    def __call__(self, tensors: list[Tensor]) -> float:
        """Return the norm of all tensors taken as one vector."""
        length = self._plain(tensors)
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
        return largest * self._plain(list(torch._foreach_div(wide, largest)))

    def __reduce__(self) -> Any:
        return HostNorm, ()  # a pickled part would no longer be a part of the vector

    def _plain(self, tensors: list[Tensor]) -> float:
        """Return the norm without care for the range."""
        found = layouts(tensors)
        if found != self._layouts:
            self._prepare(tensors)
            self._layouts = found
        if self._vector is None:
            return joint_norm(tensors).item()
        torch._foreach_copy_(self._parts, tensors)
        return math.sqrt(torch.dot(self._vector, self._vector).item())

    def _prepare(self, tensors: list[Tensor]) -> None:
        """Make the vector that tensors of these shapes are gathered in, if they are small."""
        sizes = [tensor.numel() for tensor in tensors]
        # One call on one tensor takes about the time of copying 4096 numbers.
        if sum(sizes) > 4096 * len(sizes) or any(tensor.is_complex() for tensor in tensors):
            self._vector, self._parts = None, []
            return
        self._vector = torch.empty(sum(sizes), dtype=_wide_dtype(tensors), device=tensors[0].device)
        self._parts = [part.view(like.shape) for part, like in zip(self._vector.split(sizes), tensors, strict=True)]


def _norms(tensors: Sequence[Tensor], order: float) -> Sequence[Tensor]:
    """Return each tensor's norm in one wide dtype; complex numbers lend it their precision alone."""
    wide = _wide_dtype(tensors)
    if not wide.is_complex:
        return torch._foreach_norm(list(tensors), order, dtype=wide)
    lengths = [tensor.abs() if tensor.is_complex() else tensor for tensor in tensors]
    return torch._foreach_norm(lengths, order, dtype=wide.to_real())


def _wide_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """Return the widest dtype among the tensors, at least float32."""
    return reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
