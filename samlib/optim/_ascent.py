"""The ascent step's arithmetic, shared by SAM and LSAM: joint norm and factor."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def joint_norm(tensors: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, ""]:
    """Return the L2 norm of all tensors taken as one vector, on the first tensor's device.

    Squares are summed in at least float32, so half-precision gradients do not overflow the sum.
    """
    norms = torch._foreach_norm(list(tensors), 2.0, dtype=_wide_dtype(tensors))
    device = norms[0].device
    return torch.linalg.vector_norm(torch.stack([norm.to(device) for norm in norms]))


def ascent_factor(norm: Float[Tensor, ""], rho: float) -> Float[Tensor, ""]:
    """Return rho / norm, or 0 where the norm is 0, without reading the norm on the host."""
    return torch.where(norm > 0, rho / norm, torch.zeros_like(norm))


def host_norm(tensors: Sequence[Float[Tensor, "..."]]) -> float:
    """Return the joint norm as a number, rescaled where squares leave float32's range; waits for the device.

    Below the smallest normal float32 the gradient counts as 0: rho / norm would overflow.
    """
    length = joint_norm(tensors).item()
    if 0 < length < math.inf:
        return length
    peaks = torch._foreach_norm(list(tensors), math.inf, dtype=_wide_dtype(tensors))
    largest = torch.stack([peak.to(peaks[0].device) for peak in peaks]).max().item()
    if not math.isfinite(largest):
        return largest
    if largest < torch.finfo(torch.float32).tiny:
        return 0.0
    return largest * joint_norm(torch._foreach_div(list(tensors), largest)).item()


def _wide_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """Return the widest dtype among the tensors, at least float32."""
    dtype = torch.float32
    for kind in {tensor.dtype for tensor in tensors}:
        dtype = torch.promote_types(dtype, kind)
    return dtype
