"""Sharpness-aware optimisers for any torch module: SAM, Equation (3), last-layer LSAM, Equation (5), and variants."""

from samlib.optim.lsam import LSAM, LSAMLoss, lsam_loss
from samlib.optim.normalization import normalization_statistics_frozen
from samlib.optim.sam import SAM
from samlib.optim.variants import ASAM, MSAM, RhoSchedule, is_normalization, perturbed_where

__all__ = [
    "ASAM",
    "LSAM",
    "MSAM",
    "SAM",
    "LSAMLoss",
    "RhoSchedule",
    "is_normalization",
    "lsam_loss",
    "normalization_statistics_frozen",
    "perturbed_where",
]
