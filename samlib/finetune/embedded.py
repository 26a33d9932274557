"""The annotated image set that needs no download: handwritten digits on patches of two photographs."""

import hashlib

import pandas as pd
import torch
from torch import Tensor

from samlib.finetune.prepared import PreparedSet
from samlib.shapes import Int64, UInt8
from samlib.streams import stream
from samlib.vision.embedded import digits_patches
from samlib.vision.sources import Block, Tiles

# Images of groups 0..3 = 2 digit + photograph. Those of the training split are at Waterbirds' frequencies: digit and
# photograph agree in 95 % of the images.
COUNTS = {"train": (875, 46, 14, 265), "val": (100,) * 4, "test": (100,) * 4}


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
