"""Which images of an annotated set train the network, choose its settings, train the probes and test them."""

from typing import NamedTuple

import torch
from torch import Tensor

from samlib.images.photograph_config import FinetuneConfig
from samlib.images.prepared import PreparedSet
from samlib.measures.probe import balanced_rows
from samlib.shapes import Int64
from samlib.streams import stream

N_GROUPS = 4
# A probe holds out one image of each group while its C is chosen, so the validation set needs two.
LEAST = {"train": 1, "validation": 2, "test": 1}


class AttributeSplits(NamedTuple):
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


def attribute_splits(data: PreparedSet, config: FinetuneConfig) -> AttributeSplits:
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
        config: image_set, split, n_train and per_group are read.
    Returns:
        New tensors on the CPU.
    Raises:
        ValueError: another set than the configuration's, an n_train that is missing or too large, or a group with too
            few images in one of the sets.
    """
    _check_request(data, config)
    official = {split: _group_rows(data, split) for split in ("train", "val", "test")}
    counts = [len(rows) for rows in official["train"]]
    _check_groups("train", counts, official, "use a larger set")
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
    for name, part in (("validation", validation), ("test", test)):
        _check_groups(name, [len(rows) for rows in part], official, advice)
    groups = torch.repeat_interleave(torch.arange(N_GROUPS), torch.tensor([len(rows) for rows in validation]))
    chosen = balanced_rows(groups, n_groups=N_GROUPS, generator=generator)
    return AttributeSplits(
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


def _check_request(data: PreparedSet, config: FinetuneConfig) -> None:
    """Refuse another set, and a number of training images that the set cannot give."""
    if data.name != config.image_set:
        raise ValueError(
            f"data: expected the set {config.image_set!r} that the configuration names, got {data.name!r}; load that "
            f"set or change image_set"
        )
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
    """Row numbers of the images of a split, by group."""
    groups = torch.tensor(data.table["group"].to_numpy())
    inside = torch.tensor((data.table["split"] == split).to_numpy())
    return [torch.nonzero(inside & (groups == group))[:, 0] for group in range(N_GROUPS)]


def _shuffled(groups: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Shuffle the rows of every group."""
    return [rows[torch.randperm(len(rows), generator=generator)] for rows in groups]


def _check_groups(name: str, counts: list[int], official: dict[str, list[Tensor]], advice: str) -> None:
    """Refuse a set in which a group has too few images."""
    if min(counts) < LEAST[name]:
        there = "; ".join(f"{split} {[len(rows) for rows in groups]}" for split, groups in official.items())
        raise ValueError(
            f"{name}: expected at least {LEAST[name]} images of every group 0..{N_GROUPS - 1}, got {counts}; images of "
            f"each group by split of the release: {there}; {advice}"
        )
