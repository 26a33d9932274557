"""DomainBed's splits: which images of a domain train, validate and test."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from samlib.images.domain_config import DomainConfig, part_sizes
from samlib.images.prepared import PreparedSet
from samlib.shapes import Int64

COLUMNS = ("domain", "class", "file")
LEAST = 8  # images of a domain: fewer leave a part of it empty

Rows = Int64[Tensor, " row"]


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
        config: image_set, target and seed are read. The target decides only which parts are used.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: another set than the configuration's, a domain that is missing or too small, or a class that is
            absent in one of the domains.
    """
    _check(data, config)
    train, validation, test = {}, {}, {}
    for i, domain in enumerate(config.domains):
        rows = np.flatnonzero(data.table["domain"].to_numpy() == domain)
        order = list(range(len(rows)))
        np.random.RandomState(seed_hash(config.seed, i)).shuffle(order)  # DomainBed's
        sizes = part_sizes(len(rows))
        parts = torch.from_numpy(rows[order]).split([sizes.test, sizes.validation, sizes.train])
        test[domain], validation[domain], train[domain] = parts
    probe_train = torch.cat([validation.pop(config.target), train.pop(config.target)])
    return DomainSplits(train, validation, test, probe_train)


def class_labels(table: pd.DataFrame) -> tuple[tuple[str, ...], Int64[Tensor, " image"]]:
    """Return the names of the classes, sorted, and every image's number among them.

    >>> class_labels(pd.DataFrame({"class": ["horse", "dog"]}))
    (('dog', 'horse'), tensor([1, 0]))
    """
    names, labels = np.unique(table["class"].to_numpy(str), return_inverse=True)
    return tuple(map(str, names)), torch.from_numpy(labels.astype(np.int64))


def _check(data: PreparedSet, config: DomainConfig) -> None:
    """Refuse another set, and one with a domain or a class missing."""
    if data.name != config.image_set:
        raise ValueError(
            f"data: expected the set {config.image_set!r} that the configuration names, got {data.name!r}; load that "
            f"set or change image_set"
        )
    counts = data.table["domain"].value_counts()
    few = {domain: int(counts.get(domain, 0)) for domain in config.domains if counts.get(domain, 0) < LEAST}
    if few:
        raise ValueError(
            f"{data.name}: expected {LEAST} images or more of each of {', '.join(config.domains)}, got "
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
