"""Image sets that need no download, drawn from scikit-learn's digits: photographs with attributes, and four domains."""

import hashlib

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from samlib.config import check_choice
from samlib.images.domain_config import DOMAINS
from samlib.images.prepared import PreparedSet
from samlib.images.tiles import Block, Tiles, digits_patches
from samlib.shapes import Float, Int64, UInt8
from samlib.streams import stream

# Images of groups 0..3 = 2 digit + photograph. Those of the training split are at Waterbirds' frequencies: digit and
# photograph agree in 95 % of the images.
COUNTS = {"train": (875, 46, 14, 265), "val": (100,) * 4, "test": (100,) * 4}
ENLARGED = 4  # pixels a side of one of scikit-learn's 8 x 8
NOISE = 0.35  # standard deviation, pixels being 0..1


def digits_on_patches() -> PreparedSet:
    """Draw scikit-learn's digits 0 and 1 in white over grey patches of its two sample photographs.

    Tiles and patches are those of the pair "digits_patches", whose test tiles are dealt half to the validation and
    half to the test split. No digit and no patch is in two splits. Within a split a digit returns on other patches,
    a patch never does. Always the same images.

    Returns:
        1200, 400 and 400 images of 32 x 32 pixels; label is the digit, attribute the photograph.

    >>> digits_on_patches().images.shape
    (2000, 32, 32, 3)
    """
    generator = stream(0, "digits on patches")
    source = digits_patches()
    digits, patches = (three_splits(block, generator) for block in source.blocks)
    images, rows = [], []
    for split, counts in COUNTS.items():
        groups = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
        labels, attributes = groups // 2, groups % 2
        digit = digits[split].images[_picked(digits[split].labels, labels, generator)]
        patch = patches[split].images[_picked(patches[split].labels, attributes, generator)]
        images.append(_drawn_over(digit, patch))
        columns = {"label": labels, "attribute": attributes, "group": groups}
        rows.append(pd.DataFrame({"split": split, **{k: v.tolist() for k, v in columns.items()}, "file": ""}))
    pixels = torch.cat(images).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return PreparedSet("digits_on_patches", pixels, pd.concat(rows, ignore_index=True), digest, "full")


def three_splits(block: Block, generator: torch.Generator) -> dict[str, Tiles]:
    """Divide a block's tiles into three splits that share none.

    Args:
        block: tiles in two splits.
        generator: decides which test tiles become validation tiles.
    Returns:
        "train": the block's training tiles; "val" and "test": half of the test tiles of every class each.
    """
    held_out: dict[str, list[Tensor]] = {"val": [], "test": []}
    for k in range(int(block.test.labels.max()) + 1):
        members = torch.nonzero(block.test.labels == k)[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        held_out["val"].append(members[: len(members) // 2])
        held_out["test"].append(members[len(members) // 2 :])
    rows = {split: torch.cat(parts) for split, parts in held_out.items()}
    return {"train": block.train, **{split: Tiles(*(part[row] for part in block.test)) for split, row in rows.items()}}


def _picked(
    available: Int64[Tensor, " tile"], wanted: Int64[Tensor, " image"], generator: torch.Generator
) -> Int64[Tensor, " image"]:
    """Pick a tile of the wanted class for every image; none returns before all of its class were used."""
    rows = torch.empty_like(wanted)
    for k in range(2):
        members, places = torch.nonzero(available == k)[:, 0], torch.nonzero(wanted == k)[:, 0]
        order = members[torch.randperm(len(members), generator=generator)]
        rows[places] = order[torch.arange(len(places)) % len(order)]
    return rows


def _drawn_over(
    digit: UInt8[Tensor, "image 1 32 32"], patch: UInt8[Tensor, "image 1 32 32"]
) -> UInt8[Tensor, "image 1 32 32"]:
    """Lay white ink on the patches, as opaque as the digit's pixel is bright."""
    ink = digit.int()
    return ((255 * ink + (255 - ink) * patch.int() + 127) // 255).to(torch.uint8)


def digit_domains() -> PreparedSet:
    """Deal scikit-learn's 1,797 digits into four domains and draw each in its domain's manner. Always the same images.

    Returns:
        Images of 32 x 32 pixels, no digit in two domains; columns domain, class ("0" to "9") and file (empty), sorted.

    >>> digit_domains().images.shape
    (1797, 32, 32, 3)
    """
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    generator = stream(0, "digit domains")
    order = torch.randperm(len(digits), generator=generator)
    images, labels = torch.from_numpy(values / 16).float().view(-1, 8, 8)[order], digits[order.numpy()]
    parts, tables = [], []
    for i, domain in enumerate(DOMAINS["digit_domains"]):
        part = slice(i, None, len(DOMAINS["digit_domains"]))
        by_class = np.argsort(labels[part], kind="stable")
        parts.append(draw_in(domain, images[part][torch.from_numpy(by_class)], generator=generator))
        tables.append(pd.DataFrame({"domain": domain, "class": labels[part][by_class].astype(str), "file": ""}))
    pixels = (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)
    array = pixels[..., None].expand(-1, -1, -1, 3).contiguous().numpy()
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return PreparedSet("digit_domains", array, pd.concat(tables, ignore_index=True), digest, "full")


def draw_in(
    domain: str, images: Float[Tensor, "example 8 8"], *, generator: torch.Generator
) -> Float[Tensor, "example 8 8"]:
    """Redraw images in a domain's manner: as they are, white for black, thickened, or noisy.

    Args:
        domain: one of `DOMAINS["digit_domains"]`.
        images: 0..1.
        generator: draws the noise; the other domains do not touch it.
    Returns:
        A new tensor ("plain" gives the images themselves); noise may leave 0..1.
    Raises:
        ValueError: another domain.

    >>> draw_in("inverted", torch.zeros(1, 8, 8), generator=torch.Generator()).min().item()
    1.0
    """
    check_choice("domain", domain, tuple(DOMAINS["digit_domains"]))
    if domain == "inverted":
        return 1 - images
    if domain == "thick":  # each pixel takes the largest of its 3 x 3 neighbourhood
        return nn.functional.max_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]
    if domain == "noisy":
        return images + NOISE * torch.randn(images.shape, generator=generator)
    return images
