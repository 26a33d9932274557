"""What is measured of a trained network beside its errors: sharpness, rank of its features, spread of importance."""

import torch
from torch import Tensor

from samlib.measures.importance import gini
from samlib.measures.rank import effective_rank, n_components, principal_variances
from samlib.methods.gradient import cross_entropy
from samlib.methods.networks import MemberNetwork
from samlib.shapes import Float, Int64
from samlib.streams import stream

ITERATIONS = 20  # of the power method


def largest_curvature(
    network: MemberNetwork, inputs: Tensor, labels: Int64[Tensor, "member example"], *, iterations: int = ITERATIONS
) -> list[float]:
    """Return the largest eigenvalue (by size) of the Hessian of every member's mean loss, by the power method.

    Args:
        network: as trained.
        inputs, labels: the examples.
        iterations: Hessian-vector products; the value is the last Rayleigh quotient. They start from a vector that
            depends on a member's place: short of convergence, so do the last digits.
    """
    parameters = list(network.parameters())
    loss = cross_entropy(network(inputs), labels).mean(1).sum()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    generator = stream(0, "power method")
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    quotient = torch.zeros(len(labels))
    for _ in range(iterations):
        norm = torch.stack([network.squared(part) for part in vector]).sum(0).sqrt().clamp(min=1e-30)
        vector = [part / network.spread(norm, part) for part in vector]
        along = torch.stack([(g * part).sum() for g, part in zip(gradients, vector, strict=True)]).sum()
        product = torch.autograd.grad(along, parameters, retain_graph=True)
        # The inner product of both through |a + b|^2 - |a - b|^2.
        terms = [network.squared(a + b) - network.squared(a - b) for a, b in zip(vector, product, strict=True)]
        quotient = torch.stack(terms).sum(0).detach() / 4
        vector = [part.detach() for part in product]
    return quotient.tolist()


@torch.no_grad()
def ranks(network: MemberNetwork, inputs: Tensor) -> dict[str, list[float]]:
    """Return effective rank and number of components with 99 % of the variance of every member's representation."""
    spectra = [principal_variances(part) for part in network.representation(inputs)]
    return {
        "effective_rank": [effective_rank(values) for values in spectra],
        "components": [float(n_components(values)) for values in spectra],
    }


def ginis(weights: Float[Tensor, "member example"]) -> list[float | None]:
    """Return the Gini coefficient of every member's weights; None where all are zero or one is not finite."""
    usable = weights.isfinite().all(1) & (weights.sum(1) > 0)
    return [gini(row.double().numpy()) if fine else None for row, fine in zip(weights, usable, strict=True)]
