"""Which last-layer vector each term of Eq 6 uses: LSAM's phantom (Eq 5) or a fixed ratio (Eqs 7-10)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from samlib.toy.config import Intervention


class Terms(NamedTuple):
    """The last-layer vectors that enter a descent step, each of shape (member, 2).

    Attributes:
        importance: in the importance weight of every example (first factor of Eq 6).
        rate: in the sum of feature gradients (second factor of Eq 6).
        last_layer: in the importance weight of v's own gradient.
    """

    importance: Float[Tensor, "member 2"]
    rate: Float[Tensor, "member 2"]
    last_layer: Float[Tensor, "member 2"]


def phantom(
    v: Float[Tensor, "member 2"], gradient: Float[Tensor, "member 2"], rho: Float[Tensor, " member"]
) -> Float[Tensor, "member 2"]:
    """Take LSAM's ascent step on the last layer: v~ = v + rho g / ||g|| (Eq 5), member by member.

    The norm is that of the last-layer gradient alone. A member whose gradient is zero stays where it is.

    Args:
        v: last-layer weights.
        gradient: gradient of the batch loss with respect to v.
        rho: perturbation radius of each member, parameter units.
    Returns:
        A new tensor.

    >>> phantom(torch.tensor([[1.0, 1.0]]), torch.tensor([[-3.0, -4.0]]), torch.tensor([0.5]))
    tensor([[0.7000, 0.6000]])
    """
    norm = _norm(gradient)
    tiny = torch.finfo(norm.dtype).tiny
    return v + gradient * (rho[:, None] / norm.clamp_min(tiny))


class FixedRatio(NamedTuple):
    """The interventions of many members as tensors; masks have shape (member, 1).

    Attributes:
        direction: (1, c) / sqrt(1 + c^2) of each member.
        initial_norm: norm of v at initialization.
        importance, rate: whether the term of Eq 6 is replaced.
        matched: whether v-hat follows the norm of the current v instead of keeping `initial_norm`.
        weighted: whether v's own gradient uses the replaced importance weights too.
    """

    direction: Float[Tensor, "member 2"]
    initial_norm: Float[Tensor, "member 1"]
    importance: Bool[Tensor, "member 1"]
    rate: Bool[Tensor, "member 1"]
    matched: Bool[Tensor, "member 1"]
    weighted: Bool[Tensor, "member 1"]


def fixed_ratios(interventions: list[Intervention], v: Float[Tensor, "member 2"]) -> FixedRatio | None:
    """Collect the interventions of all members, given their initial last layers; None where nobody has one."""
    if all(settings.term == "none" for settings in interventions):
        return None
    direction = torch.tensor([[1.0, settings.ratio] for settings in interventions]).to(v)
    masks = [
        [[settings.term in terms] for settings in interventions] for terms in (("importance", "both"), ("rate", "both"))
    ]
    masks.append([[settings.norm == "matched"] for settings in interventions])
    masks.append([[settings.last_layer == "weighted"] for settings in interventions])
    return FixedRatio(direction / _norm(direction), _norm(v), *(torch.tensor(mask, device=v.device) for mask in masks))


def fixed_ratio_terms(v: Float[Tensor, "member 2"], settings: FixedRatio) -> Terms:
    """Replace one or both terms of Eq 6 by a vector v-hat with v-hat_hard / v-hat_easy = c (Eqs 7-10).

    v-hat = norm * (1, c) / sqrt(1 + c^2), where norm is that of v at initialization or of the current v.

    Args:
        v: current last-layer weights; phantom ones for members without intervention.
        settings: what `fixed_ratios` returned.
    Returns:
        The vectors to use, new tensors; values of `v` where a term is left alone.
    """
    fixed = torch.where(settings.matched, _norm(v), settings.initial_norm) * settings.direction
    importance = torch.where(settings.importance, fixed, v)
    rate = torch.where(settings.rate, fixed, v)
    return Terms(importance, rate, torch.where(settings.weighted, importance, v))


def _norm(vector: Tensor) -> Tensor:
    """Norm of each row, keeping the axis."""
    return torch.linalg.vector_norm(vector, dim=1, keepdim=True)
