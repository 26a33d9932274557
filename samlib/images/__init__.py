"""Two-feature image sets, the paper's small network, and training with SGD or SAM (Section 4)."""

from samlib.images.convnet import ConvNet, build_backbone
from samlib.images.pair_config import BACKBONES, PAIRS, PairConfig, demo_config
from samlib.images.pairs import ImageSet, PairSets, pair_sets
from samlib.images.tiles import Block, PairSource, Tiles, load_pair
from samlib.images.train_pairs import (
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
