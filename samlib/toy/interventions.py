"""Which last-layer vector each term of Eq 6 uses: LSAM's phantom (Eq 5), a fixed ratio (Eqs 7-10), or a stand-in."""

from typing import NamedTuple

import torch
from torch import Tensor

from samlib.shapes import Bool, Float, Int
from samlib.toy.config import VECTORS, Intervention

MEMORY = 60  # steps that the running mean of the ascent directions spans, about: an epoch of the paper's batches
FIXED, PHANTOM, PERMUTED, MEAN, HELPS, HURTS = range(len(VECTORS))


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
    # In double precision: in single, the squares of a gradient below 1e-19 are none, and its norm would be zero.
    norm = _norm(gradient.double())
    # Dividing first keeps a zero gradient at zero: rho / tiny would overflow, and 0 * inf is NaN.
    return v + rho[:, None] * (gradient / norm.clamp_min(torch.finfo(torch.float64).tiny)).to(v.dtype)


class Replacement(NamedTuple):
    """The interventions of many members as tensors; masks have shape (member, 1).

    Attributes:
        direction: (1, c) / sqrt(1 + c^2) of each member.
        initial_norm: norm of v at initialization.
        plain: whether the member has no intervention: v~ everywhere.
        importance, rate: whether v-hat replaces v in this term of Eq 6.
        vector: what v-hat is, a place in `VECTORS`.
        matched: whether a fixed v-hat follows the norm of the current v instead of keeping `initial_norm`.
        weighted: whether v's own gradient uses the replaced importance weights too.
        mean: running mean of g / ||g||; changed by every step of a member whose vector is "mean".
        steps: how many steps it has seen.
    """

    direction: Float[Tensor, "member 2"]
    initial_norm: Float[Tensor, "member 1"]
    plain: Bool[Tensor, "member 1"]
    importance: Bool[Tensor, "member 1"]
    rate: Bool[Tensor, "member 1"]
    vector: Int[Tensor, "member 1"]
    matched: Bool[Tensor, "member 1"]
    weighted: Bool[Tensor, "member 1"]
    mean: Float[Tensor, "member 2"]
    steps: Float[Tensor, "member 1"]


def replacement(interventions: list[Intervention], v: Float[Tensor, "member 2"]) -> Replacement | None:
    """Collect the interventions of all members, given their initial last layers; None where nobody has one."""
    if all(settings.term == "none" for settings in interventions):
        return None
    direction = torch.tensor([[1.0, settings.ratio] for settings in interventions]).to(v)
    masks = [
        [
            settings.term == "none",
            settings.term in ("importance", "both"),
            settings.term in ("rate", "both"),
            settings.norm == "matched",
            settings.last_layer == "weighted",
        ]
        for settings in interventions
    ]
    plain, importance, rate, matched, weighted = torch.tensor(masks, device=v.device).unsqueeze(-1).unbind(1)
    vector = torch.tensor([[VECTORS.index(settings.vector)] for settings in interventions], device=v.device)
    state = torch.zeros_like(v), torch.zeros_like(v[:, :1])
    return Replacement(
        direction / _norm(direction), _norm(v), plain, importance, rate, vector, matched, weighted, *state
    )


def stand_in(
    v: Float[Tensor, "member 2"],
    gradient: Float[Tensor, "member 2"],
    elsewhere: Float[Tensor, "member 2"],
    rho: Float[Tensor, " member"],
    settings: Replacement,
) -> Float[Tensor, "member 2"]:
    """Make v-hat of the members whose vector is made from LSAM's phantom; see `Intervention`.

    Args:
        v: current last-layer weights.
        gradient: of the batch loss with respect to v.
        elsewhere: the same on the batch half an epoch away; only "permuted" looks at it.
        rho: perturbation radius of each member, parameter units.
        settings: what `replacement` returned.
    Returns:
        A new tensor.
    Side effects:
        The running means of `settings` take `gradient` in.
    """
    kind, radius = settings.vector, rho[:, None]
    hat = torch.where(kind == PERMUTED, phantom(v, elsewhere, rho), phantom(v, gradient, rho))
    hat = torch.where(kind == MEAN, v + radius * settings.mean, hat)
    helps = -gradient[:, 1:] * v[:, 1:] > 0
    hat = torch.where(((kind == HELPS) & ~helps) | ((kind == HURTS) & helps), v, hat)
    settings.steps.add_(1)
    direction = phantom(torch.zeros_like(v), gradient, torch.ones_like(rho))
    settings.mean.add_((direction - settings.mean) / settings.steps.clamp_max(MEMORY))
    return hat


def replaced_terms(v: Float[Tensor, "member 2"], moved: Float[Tensor, "member 2"], settings: Replacement) -> Terms:
    """Replace one or both terms of Eq 6 by v-hat (Eqs 7-10).

    A fixed v-hat is norm * (1, c) / sqrt(1 + c^2), where norm is that of v at initialization or of the current v.

    Args:
        v: current last-layer weights.
        moved: phantom ones, v~, or what stands in for them.
        settings: what `replacement` returned.
    Returns:
        The vectors to use, new tensors: v-hat in a replaced term, v in the other, v~ for members without intervention.
    """
    fixed = torch.where(settings.matched, _norm(v), settings.initial_norm) * settings.direction
    hat = torch.where(settings.vector == FIXED, fixed, moved)
    left = torch.where(settings.plain, moved, v)
    importance = torch.where(settings.importance, hat, left)
    rate = torch.where(settings.rate, hat, left)
    return Terms(importance, rate, torch.where(settings.weighted, importance, left))


def _norm(vector: Tensor) -> Tensor:
    """Norm of each row, keeping the axis."""
    return torch.linalg.vector_norm(vector, dim=1, keepdim=True)
