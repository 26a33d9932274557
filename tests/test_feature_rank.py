"""Effective rank and number of principal components, against spectra that can be worked out."""

import math

import pytest
import torch

from samlib.measures.rank import effective_rank, n_components, principal_variances


def with_deviations(*deviations: float) -> torch.Tensor:
    """Examples at +-d sqrt(k) on each of k axes: variances d^2, and a mean that is not 0."""
    k = len(deviations)
    points = math.sqrt(k) * torch.diag(torch.tensor(deviations, dtype=torch.float64))
    return torch.cat([points, -points]) + 7.0


@pytest.mark.parametrize("pad", [0, 9], ids=["tall", "wide"])
def test_variances_are_those_along_the_axes(pad):
    features = torch.nn.functional.pad(with_deviations(1.0, 3.0, 2.0), (0, pad))
    found = principal_variances(features)
    assert len(found) == min(features.shape)
    torch.testing.assert_close(found[:3], torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64))
    assert (found[3:] == 0).all()


def test_rotation_and_shift_change_nothing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(principal_variances(features), principal_variances(features @ rotation + 3))


ENTROPY = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)  # of the singular values 3 and 1


@pytest.mark.parametrize(
    "deviations, rank",
    [((2.0, 2.0, 2.0, 2.0), 4.0), ((5.0, 0.0, 0.0), 1.0), ((3.0, 1.0), math.exp(ENTROPY)), ((0.0, 0.0), 0.0)],
)
def test_the_rank_is_exp_of_the_entropy_of_singular_values(deviations, rank):
    assert effective_rank(principal_variances(with_deviations(*deviations))) == pytest.approx(rank)


def test_components_hold_99_percent_of_the_variance():
    cases = ([99.0, 1.0], 1), ([98.0, 2.0], 2), ([98.0, 1.0, 1.0], 2), ([97.0, 1.5, 1.5], 3)
    assert [n_components(torch.tensor(variances)) for variances, _ in cases] == [expected for _, expected in cases]
    assert n_components(principal_variances(torch.ones(5, 3))) == 0


@pytest.mark.parametrize("n", [3, 7, 100])
def test_features_that_never_vary_have_no_direction_although_their_mean_is_rounded(n):
    still = torch.full((n, 1), 0.1) * torch.tensor([1.0, 3.0, 1e9])
    assert principal_variances(still).max() == 0
    moving = torch.cat([torch.arange(n)[:, None] * 1e-3, still], 1)
    assert n_components(principal_variances(moving)) == 1


@pytest.mark.parametrize("features", [torch.ones(1, 3), torch.ones(3), torch.tensor([[1.0], [math.nan]])])
def test_features_that_have_no_spectrum_are_refused(features):
    with pytest.raises(ValueError, match="features: expected finite values of shape"):
        principal_variances(features)
