"""Two-feature images: one tile above another, with labels that agree perfectly or not at all."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from samlib.images.pair_config import PairConfig
from samlib.images.tiles import Block, PairSource, Tiles
from samlib.shapes import Int64, UInt8
from samlib.streams import stream

Orders = list[list[Tensor]]  # tile numbers in shuffled order, by feature and class


class ImageSet(NamedTuple):
    """Composed images, 0..255, and both features' labels (column 0: the upper tile)."""

    images: UInt8[Tensor, "example 3 64 32"]
    labels: Int64[Tensor, "example 2"]


class PairSets(NamedTuple):
    """Everything one run needs.

    Attributes:
        train, validation, test: perfectly correlated (equal label columns). No tile is in two of them.
        probe_train: balanced, all K^2 label pairs equally frequent; tiles of the training split that are not
            in `train` (those of `validation` and those that n_train left over), paired anew. Eq 1 asks for
            training data of the balanced distribution; that the network has not been trained on these tiles
            is our choice, because features of memorized tiles mislead the probe and the choice of its C.
        probe_test: balanced, made of the test split's tiles.
        features: names of the label columns.
        n_classes: K.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    probe_train: ImageSet
    probe_test: ImageSet
    features: tuple[str, str]
    n_classes: int


def pair_sets(source: PairSource, config: PairConfig) -> PairSets:
    """Pair the tiles of a source into the five sets of one run.

    Every class of every feature is cut to the size of the smallest one, as Shah et al. (2020) do. A cycled
    block is repeated to that size instead, and half of its tiles are trained on. Which tiles remain and which
    meet comes from the run's streams.

    Args:
        source: what `load_pair` returned for `config.pair`.
        config: pair, n_train, validation_share, n_probe and seed are read.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: source and config name different pairs, or the source has too few tiles.
    """
    if source.name != config.pair:
        raise ValueError(
            f"source: expected the pair {config.pair!r} that the configuration names, got {source.name!r}; "
            f"load_pair({config.pair!r}, root) gives it"
        )
    train, unseen, n_validation = _split(source, config)
    validation = [[order[:n_validation] for order in orders] for orders in unseen]
    test = _orders(source, "test", stream(config.seed, "test pairing"))
    tiles = [block.train for block in source.blocks]
    test_tiles = [block.test for block in source.blocks]
    anew = stream(config.seed, "probe training pairing")
    return PairSets(
        train=_compose(tiles, _correlated(train, stream(config.seed, "training pairing"))),
        validation=_compose(tiles, _correlated(validation, stream(config.seed, "validation pairing"))),
        test=_compose(test_tiles, _correlated(test, stream(config.seed, "test order"))),
        probe_train=_compose(tiles, _balanced(_shuffled(unseen, anew), config.n_probe)),
        probe_test=_compose(test_tiles, _balanced(test, config.n_probe)),
        features=source.features,
        n_classes=source.n_classes,
    )


def _split(source: PairSource, config: PairConfig) -> tuple[Orders, Orders, int]:
    """Divide the training split's tiles into those to train on and the unseen; also size the validation."""
    generator = stream(config.seed, "data")
    shuffled = [_class_orders(block.train, source.n_classes, generator) for block in source.blocks]
    n_available = _smallest(source.blocks, shuffled)
    n_train, n_validation = _sizes(config, source.n_classes, n_available)
    n_unseen = n_available - n_train
    train, unseen = [], []
    for block, orders in zip(source.blocks, shuffled, strict=True):
        cuts = [len(order) // 2 if block.cycled else n_train for order in orders]
        train.append([_cycle(order[:cut], n_train) for order, cut in zip(orders, cuts, strict=True)])
        unseen.append([_cycle(order[cut:], n_unseen) for order, cut in zip(orders, cuts, strict=True)])
    return train, unseen, n_validation


def _sizes(config: PairConfig, n_classes: int, n_available: int) -> tuple[int, int]:
    """Training and validation examples of each class, out of `n_available`."""
    share = config.validation_share
    if config.n_train is None:
        n_validation = max(1, round(share * n_available))
        return n_available - n_validation, n_validation
    n_train = config.n_train // n_classes
    n_validation = max(1, round(n_train * share / (1 - share)))
    if config.n_train % n_classes or n_train < 1 or n_train + n_validation > n_available:
        most = n_classes * int(n_available * (1 - share))
        raise ValueError(
            f"n_train: expected a multiple of {n_classes} classes, at most about {most} beside a validation "
            f"share of {share:g}, got {config.n_train}; lower n_train, or use None for all images"
        )
    return n_train, n_validation


def _orders(source: PairSource, split: str, generator: torch.Generator) -> Orders:
    """Shuffle a split's tiles by feature and class and cut (or cycle) them to the smallest class's size."""
    shuffled = [_class_orders(getattr(b, split), source.n_classes, generator) for b in source.blocks]
    size = _smallest(source.blocks, shuffled)
    return [[_cycle(order, size) for order in orders] for orders in shuffled]


def _class_orders(tiles: Tiles, n_classes: int, generator: torch.Generator) -> list[Tensor]:
    """Tile numbers of each class, shuffled."""
    rows = [torch.nonzero(tiles.labels == k)[:, 0] for k in range(n_classes)]
    return [row[torch.randperm(len(row), generator=generator)] for row in rows]


def _shuffled(orders: Orders, generator: torch.Generator) -> Orders:
    """Shuffle every list of tile numbers anew."""
    return [[row[torch.randperm(len(row), generator=generator)] for row in rows] for rows in orders]


def _smallest(blocks: tuple[Block, Block], orders: Orders) -> int:
    """Size of the smallest class among the blocks that are not cycled."""
    sizes = [len(row) for b, rows in zip(blocks, orders, strict=True) if not b.cycled for row in rows]
    return min(sizes)


def _cycle(order: Tensor, n: int) -> Tensor:
    """Return the first n numbers of the order, starting over as often as needed."""
    return order.repeat(math.ceil(n / len(order)))[:n]


def _correlated(orders: Orders, generator: torch.Generator) -> Int64[Tensor, "example 2"]:
    """Pair tiles of equal class one to one and shuffle the examples."""
    top, bottom = orders
    rows = torch.cat([torch.stack([a, b], 1) for a, b in zip(top, bottom, strict=True)])
    return rows[torch.randperm(len(rows), generator=generator)]


def _balanced(orders: Orders, n_most: int) -> Int64[Tensor, "example 2"]:
    """Pair tiles so that all K^2 pairs of classes have the same count, using each place of an order once."""
    top, bottom = orders
    n_classes = len(top)
    count = min(n_most // n_classes**2, len(top[0]) // n_classes)  # examples a group
    if count < 1:
        raise ValueError(
            f"n_probe: expected at least one example for each of {n_classes**2} label pairs, got n_probe = "
            f"{n_most} and {len(top[0])} tiles a class; raise n_probe, or lower n_train to leave more tiles"
        )
    rows = []
    for a in range(n_classes):
        for b in range(n_classes):
            upper, lower = top[a][b * count : (b + 1) * count], bottom[b][a * count : (a + 1) * count]
            rows.append(torch.stack([upper, lower], 1))
    return torch.cat(rows)


def _compose(tiles: list[Tiles], rows: Int64[Tensor, "example 2"]) -> ImageSet:
    """Put the chosen tiles of both features above each other."""
    halves = [part.images[rows[:, i]].expand(-1, 3, -1, -1) for i, part in enumerate(tiles)]
    labels = torch.stack([part.labels[rows[:, i]] for i, part in enumerate(tiles)], 1)
    return ImageSet(torch.cat(halves, 2), labels)
