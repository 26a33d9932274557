"""The pair that needs no download: handwritten digits over patches of two photographs, from scikit-learn."""

import numpy as np
import torch
from torch import Tensor

from samlib.shapes import Int64, UInt8
from samlib.vision.sources import TILE, Block, PairSource, Tiles

PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # classes 0 and 1
PATCH_SIDE = 8  # pixels of the photograph
TRAIN_SHARE = 0.7


def digits_patches() -> PairSource:
    """Build 8 x 8 digits 0 and 1 over grey 8 x 8 patches of two photographs, everything enlarged to 32 x 32.

    Patches lie on a grid, so no two share a pixel, and the test patches come from the right 30 % of each
    photograph. The patches' side is the digits' own, which also gives the most patches. There are few digits
    (about 180 a class), so their block is cycled: a digit returns with many patches, but in one split.

    Returns:
        A source with features ("digits", "patches"), two classes each.
    """
    return PairSource("digits_patches", _digit_block(), _patch_block())


def enlarge(images: UInt8[Tensor, "tile side side"]) -> UInt8[Tensor, "tile 1 32 32"]:
    """Repeat every pixel along both axes until the side is 32, and add a channel axis.

    Args:
        images: uint8, side a divisor of 32.
    Returns:
        A new tensor.

    >>> enlarge(torch.tensor([[[1, 2], [3, 4]]], dtype=torch.uint8))[0, 0, ::16, ::16].tolist()
    [[1, 2], [3, 4]]
    """
    factor = TILE // images.shape[-1]
    return images.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, None]


def _digit_block() -> Block:
    """Digits 0 and 1 of scikit-learn's set; the last 30 % of each class are the test split."""
    from sklearn.datasets import load_digits

    values, classes = load_digits(n_class=2, return_X_y=True)
    images = torch.from_numpy(np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8))
    labels = torch.from_numpy(classes.astype(np.int64))
    train = torch.zeros(len(labels), dtype=torch.bool)
    for k in range(2):
        rows = torch.nonzero(labels == k)[:, 0]
        train[rows[: int(TRAIN_SHARE * len(rows))]] = True
    splits = [Tiles(enlarge(images[part]), labels[part]) for part in (train, ~train)]
    return Block("digits", splits[0], splits[1], cycled=True)


def _patch_block() -> Block:
    """Grid patches of both photographs; columns left of 70 % of the width are the training split."""
    from sklearn.datasets import load_sample_image

    side = PATCH_SIDE
    splits: tuple[list[Tensor], list[Tensor]] = ([], [])
    for photograph in PHOTOGRAPHS:
        grey = np.rint(load_sample_image(photograph).mean(2)).astype(np.uint8)
        border = int(TRAIN_SHARE * grey.shape[1]) // side * side
        for patches, part in zip(splits, (grey[:, :border], grey[:, border:]), strict=True):
            patches.append(enlarge(_grid(torch.from_numpy(part.copy()), side)))
    train, test = (Tiles(torch.cat(parts), _class_labels(parts)) for parts in splits)
    return Block("patches", train, test)


def _grid(picture: UInt8[Tensor, "height width"], side: int) -> UInt8[Tensor, "tile side side"]:
    """Cut a picture into whole squares that share no pixel, row by row."""
    squares = picture.unfold(0, side, side).unfold(1, side, side)  # (row, column, side, side)
    return squares.reshape(-1, side, side)


def _class_labels(parts: list[Tensor]) -> Int64[Tensor, " tile"]:
    """Label every tile with the position of its part."""
    return torch.cat([torch.full((len(part),), k) for k, part in enumerate(parts)])
