"""Sharpness-aware optimisers for any torch module: SAM, Equation (3), and last-layer LSAM, Equation (5)."""

from samlib.optim.lsam import LSAM, LSAMLoss, lsam_loss
from samlib.optim.normalization import normalization_statistics_frozen
from samlib.optim.sam import SAM

__all__ = ["LSAM", "SAM", "LSAMLoss", "lsam_loss", "normalization_statistics_frozen"]
