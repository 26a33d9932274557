"""Importance weights and how evenly they are spread (Section 6.2): Lorenz curves, Gini, medians by contribution."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.shapes import Bool, Float, Int
from samlib.toy.data import Examples
from samlib.toy.interventions import phantom
from samlib.toy.network import Weights, feature_values

POORLY_FIT = 0.25  # share of the examples with the lowest signed contribution: our choice


class Importance(NamedTuple):
    """Importance weights of every training example of every member at one moment.

    Attributes:
        real: lambda at the real parameters (Eq 6).
        phantom: lambda at the phantom parameters of the example's own batch (Eqs 5-6).
        contributions: y v_k phi_k at the real parameters, second axis (easy, hard); positive where the feature
            alone classifies the example correctly.
    """

    real: Float[np.ndarray, "member example"]
    phantom: Float[np.ndarray, "member example"]
    contributions: Float[np.ndarray, "member 2 example"]


def importance(logits: Float[Tensor, "... class"], labels: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return lambda = 1 - p(y), p the softmax of the logits (Eq 6), without a gradient.

    It is summed over the other classes, so that it is exact also where p(y) rounds to 1. Half precision is widened.

    >>> importance(torch.tensor([0.0, 0.0]), torch.tensor(1)).item()
    0.5
    """
    logits = logits.detach()
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    return logits.softmax(-1).scatter(-1, labels[..., None].long(), 0.0).sum(-1)


def importance_weights(
    weights: Weights, examples: Examples, order: Int[Tensor, "member example"], *, rho: float, batch_size: int
) -> Importance:
    """Weigh every example as a step of SGD (real) and as a step of LSAM (phantom) would.

    lambda = sigma(-y f(x)) with v, and with v~ = v + rho g / ||g|| (Eqs 5-6), g the last-layer gradient of the
    example's own batch, as in training.

    Args:
        weights: networks of m members.
        examples: inputs (member, example, 4) and labels (member, example).
        order: how each member's examples are dealt into batches; a permutation each.
        rho: perturbation radius, parameter units.
        batch_size: examples a batch; divides the number of examples.
    Returns:
        New arrays, in the order of `examples`.
    """
    phi = feature_values(weights, examples.inputs)
    signed = examples.labels[:, None] * phi  # (member, feature, example)
    real = torch.sigmoid(-(weights.v[:, :, None] * signed).sum(1))
    members, n = real.shape
    rows = torch.arange(members)[:, None]
    dealt = signed.transpose(1, 2)[rows, order].view(-1, batch_size, 2)  # (member * batch, example, feature)
    v = weights.v.repeat_interleave(n // batch_size, dim=0)
    dealt_real = real[rows, order].view(-1, batch_size)
    gradient = -(dealt_real[:, :, None] * dealt).mean(1)
    moved = phantom(v, gradient, torch.full((len(v),), rho, dtype=v.dtype))
    dealt_phantom = torch.sigmoid(-(moved[:, None] * dealt).sum(2)).view(members, n)
    at_phantom = torch.full_like(real, torch.nan).scatter_(1, order, dealt_phantom)
    contributions = weights.v[:, :, None] * signed
    return Importance(*(part.numpy() for part in (real, at_phantom, contributions)))


def worst(contributions: Float[np.ndarray, "2 example"], feature: int) -> Bool[np.ndarray, " example"]:
    """Choose the share `POORLY_FIT` of a member's examples that a feature fits worst, by signed contribution."""
    return contributions[feature] <= np.quantile(contributions[feature], POORLY_FIT)


def only_easy(contributions: Float[np.ndarray, "2 example"]) -> Bool[np.ndarray, " example"]:
    """Choose a member's examples that the easy feature classifies correctly and the hard one wrongly."""
    return (contributions[0] > 0) & (contributions[1] < 0)


def lorenz(values: Float[np.ndarray, " example"]) -> Float[np.ndarray, " point"]:
    """Return the Lorenz curve: the share of the total held by the smallest k values, k = 0..n.

    The paper plots the cumulative share of the top points; mirrored at the diagonal it is the same curve, and evenly
    spread weights lie on the diagonal in both.

    Args:
        values: non-negative numbers, not all zero.
    Returns:
        n + 1 points from 0 to 1.
    Raises:
        ValueError: no value, a negative one, one that is not finite, or all zero; several dimensions.

    >>> lorenz(np.array([3.0, 1.0])).tolist()
    [0.0, 0.25, 1.0]
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(
            f"values: expected finite non-negative numbers, not all zero, in one dimension, got shape {values.shape} "
            f"with sum {values.sum()}; take each network's weights alone, and none of a diverged one"
        )
    return np.concatenate([[0.0], np.cumsum(np.sort(values))]) / values.sum()


def gini(values: Float[np.ndarray, " example"]) -> float:
    """Return the Gini coefficient: twice the area between the diagonal and the Lorenz curve.

    Args:
        values: as for `lorenz`.
    Returns:
        0 for equal values, (n - 1) / n where one value holds everything.

    >>> gini(np.array([1.0, 1.0, 1.0])), gini(np.array([0.0, 1.0]))
    (0.0, 0.5)
    """
    curve = lorenz(values)
    area = (curve[1:] + curve[:-1]).sum() / (2 * (len(curve) - 1))
    return round(float(1 - 2 * area), 12)


def binned_medians(
    position: Float[np.ndarray, "... example"],
    values: Float[np.ndarray, "... example"],
    edges: Float[np.ndarray, " edge"],
) -> tuple[Float[np.ndarray, " bin"], Int[np.ndarray, " bin"]]:
    """Return the median of the values in each bin of positions, and how many examples each bin holds (Figure 5).

    Args:
        position: signed contribution of each example.
        values: importance weight of each example.
        edges: ends of the bins, rising; bin i is [edges[i], edges[i+1]).
    Returns:
        Medians (NaN for an empty bin) and counts.

    >>> binned_medians(np.array([0.1, 0.2, 0.9]), np.array([1.0, 3.0, 5.0]), np.array([0.0, 0.5, 1.0]))[0].tolist()
    [2.0, 5.0]
    """
    bins = np.digitize(position, edges) - 1
    counts = np.array([(bins == i).sum() for i in range(len(edges) - 1)])
    medians = [np.median(values[bins == i]) if counts[i] else np.nan for i in range(len(edges) - 1)]
    return np.array(medians), counts
