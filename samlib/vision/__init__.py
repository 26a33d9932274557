"""Two-feature image sets, the paper's small network, and training with SGD or SAM (Section 4)."""

from samlib.vision.backbones import ConvNet, build_backbone
from samlib.vision.config import BACKBONES, PAIRS, PairConfig, demo_config
from samlib.vision.pairs import ImageSet, PairSets, pair_sets
from samlib.vision.sources import Block, PairSource, Tiles, load_pair
from samlib.vision.train import (
    PairResult,
    evaluate,
    learning_rate_at,
    mean_pixel,
    measure,
    normalize,
    train_pair,
)

__all__ = [
    "BACKBONES",
    "PAIRS",
    "Block",
    "ConvNet",
    "ImageSet",
    "PairConfig",
    "PairResult",
    "PairSets",
    "PairSource",
    "Tiles",
    "build_backbone",
    "demo_config",
    "evaluate",
    "learning_rate_at",
    "load_pair",
    "mean_pixel",
    "measure",
    "normalize",
    "pair_sets",
    "train_pair",
]
