"""How many directions a representation uses: effective rank and number of principal components."""

import math

import torch
from torch import Tensor

from samlib.shapes import Float

VARIANCE_SHARE = 0.99


def principal_variances(features: Float[Tensor, "example feature"]) -> Float[Tensor, " component"]:
    """Return the eigenvalues of the features' covariance, largest first; rounding errors count as 0.

    Args:
        features: at least two examples, finite.
    Returns:
        min(n, n_features) numbers in double precision, >= 0.
    Raises:
        ValueError: fewer than two examples, or a value that is not finite.
    """
    if features.ndim != 2 or len(features) < 2 or not torch.isfinite(features).all():
        raise ValueError(
            f"features: expected finite values of shape (example, feature) with two examples or more, got shape "
            f"{tuple(features.shape)}; pass the trunk's output of a network that has not diverged"
        )
    # A feature that never varies is 0 exactly, where rounding of its mean would leave a direction.
    centred = torch.where((features == features[0]).all(0), 0.0, features.double() - features.double().mean(0))
    gram = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
    values = torch.linalg.eigvalsh(gram).flip(0) / len(features)
    return torch.where(values > values[0] * 1e-12, values, 0.0)


def effective_rank(variances: Float[Tensor, " component"]) -> float:
    """Return exp of the entropy of the normalized singular values of centred features (Roy & Vetterli, 2007).

    Args:
        variances: what `principal_variances` returned: the squared singular values over the number of examples.
    Returns:
        From 1, all examples on a line, to the number of components, all of one variance; 0 where nothing varies.

    >>> round(effective_rank(torch.tensor([4.0, 4.0, 0.0])), 6)
    2.0
    """
    values = variances[variances > 0].sqrt()
    shares = values / values.sum()
    return math.exp(-(shares * shares.log()).sum().item()) if len(values) else 0.0


def n_components(variances: Float[Tensor, " component"]) -> int:
    """Return how many principal components hold 99 % of the variance: the rank of Andriushchenko et al. (2023).

    Args:
        variances: what `principal_variances` returned.
    Returns:
        1 or more; 0 where nothing varies.

    >>> n_components(torch.tensor([98.0, 1.5, 0.5])), n_components(torch.zeros(3))
    (2, 0)
    """
    total = variances.sum()
    return int((variances.cumsum(0) / total < VARIANCE_SHARE - 1e-12).sum()) + 1 if total > 0 else 0
