"""Which images train, validate and test the network, and which the probes: pairs, photographs, domains."""

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.config import check_number
from samlib.images.config import DomainConfig, FinetuneConfig, PairConfig, part_sizes
from samlib.images.image_sets import PreparedSet
from samlib.images.tiles import PairSource, Tiles
from samlib.measures.probe import balanced_rows
from samlib.shapes import Int64, UInt8
from samlib.streams import stream

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and not needed for pairs

N_GROUPS = 4  # of photographs
LEAST_OF_A_DOMAIN = 8  # images: fewer leave a part of it empty

Orders = list[list[Tensor]]  # tile numbers in shuffled order, by feature and class
Rows = Int64[Tensor, " row"]


class PairImages(NamedTuple):
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

    train: PairImages
    validation: PairImages
    test: PairImages
    probe_train: PairImages
    probe_test: PairImages
    features: tuple[str, str]
    n_classes: int


def pair_sets(source: PairSource, config: PairConfig) -> PairSets:
    """Pair the tiles of a source into the five sets of one run.

    Every class of every feature is cut to the size of the smallest one, as Shah et al. (2020) do. A cycled
    block is repeated to that size instead, and half of its tiles are trained on. Which tiles remain and which
    meet comes from the run's streams.

    Args:
        source: what `load_pair` returned for `config.pair`.
        config: pair, n_train, validation_share, n_probe, probe_folds and seed are read.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: source and config name different pairs, or the source has too few tiles, for the probes, too.
    """
    if source.name != config.pair:
        raise ValueError(
            f"source: expected the pair {config.pair!r} that the configuration names, got {source.name!r}; "
            f"load_pair({config.pair!r}, root) gives it"
        )
    train, unseen, n_validation = _split(source, config)
    validation = [[order[:n_validation] for order in orders] for orders in unseen]
    shuffled, size = _by_class(source, "test", stream(config.seed, "test pairing"))
    test = [[_cycle(order, size) for order in orders] for orders in shuffled]
    tiles = [block.train for block in source.blocks]
    test_tiles = [block.test for block in source.blocks]
    anew = stream(config.seed, "probe training pairing")
    probed = _balanced([_shuffled(orders, anew) for orders in unseen], config.n_probe, _least(config))
    return PairSets(
        train=_compose(tiles, _correlated(train, stream(config.seed, "training pairing"))),
        validation=_compose(tiles, _correlated(validation, stream(config.seed, "validation pairing"))),
        test=_compose(test_tiles, _correlated(test, stream(config.seed, "test order"))),
        probe_train=_compose(tiles, probed),
        probe_test=_compose(test_tiles, _balanced(test, config.n_probe, 1)),
        features=source.features,
        n_classes=source.n_classes,
    )


def _split(source: PairSource, config: PairConfig) -> tuple[Orders, Orders, int]:
    """Divide the training split's tiles into those to train on and the unseen; also size the validation."""
    shuffled, n_available = _by_class(source, "train", stream(config.seed, "data"))
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


def _by_class(source: PairSource, split: str, generator: torch.Generator) -> tuple[Orders, int]:
    """Shuffle a split's tiles by feature and class; return the size of the smallest class that is not cycled, too."""
    orders = []
    for block in source.blocks:
        labels = getattr(block, split).labels
        orders.append(_shuffled([torch.nonzero(labels == k)[:, 0] for k in range(source.n_classes)], generator))
    sizes = [len(row) for b, rows in zip(source.blocks, orders, strict=True) if not b.cycled for row in rows]
    return orders, min(sizes)


def _shuffled(groups: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [rows[torch.randperm(len(rows), generator=generator)] for rows in groups]


def _cycle(order: Tensor, n: int) -> Tensor:
    """Return the first n numbers of the order, starting over as often as needed."""
    return order.repeat(math.ceil(n / len(order)))[:n]


def _correlated(orders: Orders, generator: torch.Generator) -> Int64[Tensor, "example 2"]:
    """Pair tiles of equal class one to one and shuffle the examples."""
    top, bottom = orders
    rows = torch.cat([torch.stack([a, b], 1) for a, b in zip(top, bottom, strict=True)])
    return rows[torch.randperm(len(rows), generator=generator)]


def _least(config: PairConfig | FinetuneConfig) -> int:
    """Return how many images of each group a probe needs: one to hold out and one to keep, or one a fold."""
    return max(2, config.probe_folds)


def _balanced(orders: Orders, n_most: int, least: int) -> Int64[Tensor, "example 2"]:
    """Pair tiles so that all K^2 pairs of classes have the same count, using each place of an order once."""
    top, bottom = orders
    n_classes = len(top)
    count = min(n_most // n_classes**2, len(top[0]) // n_classes)  # examples a group
    if count < least:
        raise ValueError(
            f"n_probe: expected at least {least} examples for each of {n_classes**2} label pairs, got n_probe = "
            f"{n_most} and {len(top[0])} tiles a class; raise n_probe, or lower n_train to leave more tiles"
        )
    rows = []
    for a in range(n_classes):
        for b in range(n_classes):
            upper, lower = top[a][b * count : (b + 1) * count], bottom[b][a * count : (a + 1) * count]
            rows.append(torch.stack([upper, lower], 1))
    return torch.cat(rows)


def _compose(tiles: list[Tiles], rows: Int64[Tensor, "example 2"]) -> PairImages:
    halves = [part.images[rows[:, i]].expand(-1, 3, -1, -1) for i, part in enumerate(tiles)]
    labels = torch.stack([part.labels[rows[:, i]] for i, part in enumerate(tiles)], 1)
    return PairImages(torch.cat(halves, 2), labels)


class PhotographSplits(NamedTuple):
    """Row numbers of an annotated set, ascending.

    Attributes:
        train, validation, test: share no image. Probes are tested on `test` too: their errors are means of group
            errors, which is the error on the balanced distribution.
        probe_train: the same number of validation images of every group (Eq 1). The network has not been trained on
            them, because features of memorized images mislead the probe.
        train_frequencies: shares of groups 0..3 in the whole official training split of the set as it is on disk.
    """

    train: Int64[Tensor, " row"]
    validation: Int64[Tensor, " row"]
    test: Int64[Tensor, " row"]
    probe_train: Int64[Tensor, " row"]
    train_frequencies: list[float]

    @property
    def probe_places(self) -> Int64[Tensor, " row"]:
        """Where the probe training images stand among the validation images."""
        return torch.searchsorted(self.validation, self.probe_train)


def photograph_splits(data: PreparedSet, config: FinetuneConfig) -> PhotographSplits:
    """Draw the sets of a run.

    "official" takes them from the release's own splits. "drawn" takes only the training images from the training
    split; all others, of every split, are dealt group by group, half to validation and half to test. That serves a
    subset whose own validation and test splits have a handful of images of a group, and gives up what the release
    keeps apart besides: in CelebA, the same person may be in two of the drawn sets.

    `config.seed` does not matter: as with an official split, runs of all seeds share their images, so that they are
    compared on the same ones, and activations that are stored once serve all of them. A smaller `per_group` takes
    some of the images of a larger one; so does a smaller `n_train`, but for the rounding of the groups' sizes (with
    "drawn", it also decides what is left to deal).

    Args:
        data: set whose table has split and group.
        config: image_set, split, n_train, per_group and probe_folds are read.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: another set than the configuration's, an n_train that is missing or too large, or a group with too
            few images in one of the sets.
    """
    _check_request(data, config)
    official = {split: _group_rows(data, split) for split in ("train", "val", "test")}
    counts = [len(rows) for rows in official["train"]]
    _check_groups("train", counts, 1, official, "use a larger set")
    sizes = largest_remainder(config.n_train or sum(counts), counts)
    generator = stream(0, "split")
    shuffled = _shuffled(official["train"], generator)
    train = [rows[:size] for rows, size in zip(shuffled, sizes, strict=True)]
    if config.split == "official":
        validation, test = (_shuffled(official[split], generator) for split in ("val", "test"))
        advice = "use split='drawn' or a larger set"
    else:
        left = [rows[size:] for rows, size in zip(shuffled, sizes, strict=True)]
        others = [torch.cat(parts) for parts in zip(left, official["val"], official["test"], strict=True)]
        others = _shuffled(others, generator)
        validation = [rows[: len(rows) // 2] for rows in others]
        test = [rows[len(rows) // 2 :] for rows in others]
        advice = "lower n_train or use a larger set"
    validation, test = ([rows[: config.per_group] for rows in part] for part in (validation, test))
    for name, part, least in (("validation", validation, _least(config)), ("test", test, 1)):
        _check_groups(name, [len(rows) for rows in part], least, official, advice)
    groups = torch.repeat_interleave(torch.arange(N_GROUPS), torch.tensor([len(rows) for rows in validation]))
    chosen = balanced_rows(groups, n_groups=N_GROUPS, generator=generator)
    return PhotographSplits(
        train=torch.cat(train).sort().values,
        validation=torch.cat(validation).sort().values,
        test=torch.cat(test).sort().values,
        probe_train=torch.cat(validation)[chosen].sort().values,
        train_frequencies=[count / sum(counts) for count in counts],
    )


def largest_remainder(n: int, counts: list[int]) -> list[int]:
    """Divide n among groups in proportion to their counts, rounded so that all add up and every group gets one.

    What is left after rounding down goes to the largest remainders, of equal ones to the first.

    Args:
        n: what is divided, len(counts) to sum(counts).
        counts: sizes of the groups, all > 0.
    Returns:
        Parts, none larger than its group.

    >>> largest_remainder(10, [73, 4, 1, 22])
    [7, 1, 1, 1]
    >>> largest_remainder(10, [40, 35, 15, 10])
    [4, 4, 1, 1]
    """
    total = sum(counts)
    sizes = [max(1, n * count // total) for count in counts]

    def lack(group: int) -> int:
        """Return by how much a group's part is too small, in units of 1 / total."""
        return n * counts[group] - sizes[group] * total

    while sum(sizes) < n:
        sizes[max(range(len(counts)), key=lack)] += 1
    while sum(sizes) > n:
        sizes[min((group for group, size in enumerate(sizes) if size > 1), key=lack)] -= 1
    return sizes


def _check_set(data: PreparedSet, config: FinetuneConfig | DomainConfig) -> None:
    if data.name != config.image_set:
        raise ValueError(
            f"data: expected the set {config.image_set!r} that the configuration names, got {data.name!r}; load that "
            f"set or change image_set"
        )


def _check_request(data: PreparedSet, config: FinetuneConfig) -> None:
    _check_set(data, config)
    available = int((data.table["split"] == "train").sum())
    if config.split == "drawn" and config.n_train is None:
        raise ValueError(
            f"n_train: expected a number of training images for split='drawn', at most {available}, got None; the "
            f"images that are not drawn become the validation and test set"
        )
    if config.n_train is not None and config.n_train > available:
        raise ValueError(
            f"n_train: expected at most {available}, the training images of {data.name} on disk, got "
            f"{config.n_train}; lower n_train, or use None for all with split='official'"
        )


def _group_rows(data: PreparedSet, split: str) -> list[Tensor]:
    groups = torch.tensor(data.table["group"].to_numpy())
    inside = torch.tensor((data.table["split"] == split).to_numpy())
    return [torch.nonzero(inside & (groups == group))[:, 0] for group in range(N_GROUPS)]


def _check_groups(name: str, counts: list[int], least: int, official: dict[str, list[Tensor]], advice: str) -> None:
    if min(counts) < least:
        there = "; ".join(f"{split} {[len(rows) for rows in groups]}" for split, groups in official.items())
        raise ValueError(
            f"{name}: expected at least {least} images of every group 0..{N_GROUPS - 1}, got {counts}; images of "
            f"each group by split of the release: {there}; {advice}"
        )


class DomainSplits(NamedTuple):
    """Row numbers of an image set, shuffled; no row is in two parts.

    Attributes:
        train, validation: by source, nine tenths and one tenth of its training split: what the network is trained on,
            and what chooses learning rate and radius.
        test: by domain, the target among them: a fifth of it.
        probe_train: the target's whole training split (Eq 44).
    """

    train: Mapping[str, Rows]
    validation: Mapping[str, Rows]
    test: Mapping[str, Rows]
    probe_train: Rows


def seed_hash(*numbers: int) -> int:
    """Turn numbers into one seed, as DomainBed does: the MD5 of the tuple's text, modulo 2^31.

    >>> seed_hash(0, 1)
    1514274641
    """
    return int(hashlib.md5(str(numbers).encode(), usedforsecurity=False).hexdigest(), 16) % 2**31


def domain_splits(data: PreparedSet, config: DomainConfig) -> DomainSplits:
    """Split every domain as DomainBed does with trial seed `config.seed`.

    Domain number i, in DomainBed's order, is shuffled by numpy's legacy generator with the seed `seed_hash(seed, i)`;
    the first fifth is its test split, the rest its training split. Rows of a domain are in the order of class and file
    name, as in torchvision's ImageFolder, so that the test splits of whole releases are DomainBed's own. DomainBed
    validates on what is our test split; Appendix F holds out a tenth of the training split, here the tenth that
    follows in the shuffled order.

    Args:
        data: set whose table has the columns domain and class, sorted by domain, class and file.
        config: image_set, target, probe_folds and seed are read. The target decides only which parts are used.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: another set than the configuration's, a domain that is missing or too small, for the folds, too, or
            a class that is absent in one of the domains.
    """
    _check_domains(data, config)
    train, validation, test = {}, {}, {}
    for i, domain in enumerate(config.domains):
        rows = np.flatnonzero(data.table["domain"].to_numpy() == domain)
        order = list(range(len(rows)))
        np.random.RandomState(seed_hash(config.seed, i)).shuffle(order)  # DomainBed's
        sizes = part_sizes(len(rows))
        parts = torch.from_numpy(rows[order]).split([sizes.test, sizes.validation, sizes.train])
        test[domain], validation[domain], train[domain] = parts
    probe_train = torch.cat([validation.pop(config.target), train.pop(config.target)])
    advice = f"there are no more images in the training split of {config.target}"
    check_number("probe_folds", config.probe_folds, high=len(probe_train), advice=advice)
    return DomainSplits(train, validation, test, probe_train)


def class_labels(table: "pd.DataFrame") -> tuple[tuple[str, ...], Int64[Tensor, " image"]]:
    """Return the names of the classes, sorted, and every image's number among them.

    >>> import pandas as pd
    >>> class_labels(pd.DataFrame({"class": ["horse", "dog"]}))
    (('dog', 'horse'), tensor([1, 0]))
    """
    names, labels = np.unique(table["class"].to_numpy(str), return_inverse=True)
    return tuple(map(str, names)), torch.from_numpy(labels.astype(np.int64))


def _check_domains(data: PreparedSet, config: DomainConfig) -> None:
    import pandas as pd

    _check_set(data, config)
    counts = data.table["domain"].value_counts()
    few = {domain: int(counts.get(domain, 0)) for domain in config.domains if counts.get(domain, 0) < LEAST_OF_A_DOMAIN}
    if few:
        raise ValueError(
            f"{data.name}: expected {LEAST_OF_A_DOMAIN} images or more of each of {', '.join(config.domains)}, got "
            f"{', '.join(f'{n} of {domain}' for domain, n in few.items())}; the table has "
            f"{', '.join(map(str, sorted(counts.index)))}: add the domain's images and prepare the set again"
        )
    for domain, part in data.table.groupby("domain", sort=False):
        order = part.sort_values(["class", "file"], kind="stable").index
        if not part.index.equals(order):
            raise ValueError(
                f"{data.name}: expected the rows of {domain} sorted by class and file name, on which the splits "
                f"depend, got another order; prepare the set again"
            )
    present = pd.crosstab(data.table["class"], data.table["domain"])
    absent = [f"{kind} in {domain}" for domain in config.domains for kind in present.index[present[domain] == 0]]
    if absent:
        raise ValueError(
            f"{data.name}: expected every class in every domain, but there is no {', no '.join(absent)}; add images "
            f"or remove the class from all domains, and prepare the set again"
        )
