"""Where the tiles of the two-feature images come from: files under a data root, or scikit-learn's samples."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from samlib.config import check_choice
from samlib.images.catalogue import PAIRS
from samlib.shapes import Int64, UInt8

TILE = 32  # side of a tile, pixels
CIFAR_FILE = "cifar10_airplane_automobile.npz"
CIFAR_FOLDER = "cifar-10-batches-py"
# scikit-learn's sample photographs are classes 0 and 1 of the pair "digits_patches".
SAMPLES = ("china.jpg", "flower.jpg")
PATCH_SIDE = 8  # pixels of the photograph
TRAIN_SHARE = 0.7


class Tiles(NamedTuple):
    """Images of one feature and their classes 0..K-1; one channel stands for three equal ones."""

    images: UInt8[Tensor, "tile channel 32 32"]
    labels: Int64[Tensor, " tile"]


class Block(NamedTuple):
    """One feature's tiles.

    Attributes:
        feature: its name, such as "mnist".
        train, test: tiles of the two splits, which share no image.
        cycled: whether a tile may be used more than once within a set (for a block with few tiles).
    """

    feature: str
    train: Tiles
    test: Tiles
    cycled: bool = False


class PairSource(NamedTuple):
    """Both features of a pair, still unpaired; `top` is the upper half of the composed image."""

    name: str
    top: Block
    bottom: Block

    @property
    def blocks(self) -> tuple[Block, Block]:
        """Both blocks, top first."""
        return self.top, self.bottom

    @property
    def features(self) -> tuple[str, str]:
        """Names of both features, top first."""
        return self.top.feature, self.bottom.feature

    @property
    def n_classes(self) -> int:
        """Classes of either feature, K."""
        return int(self.top.train.labels.max()) + 1


def load_pair(name: str, root: str | Path | None = None) -> PairSource:
    """Read the tiles of a pair; nothing is downloaded and nothing random happens.

    Shah et al. (2020) and Appendix B: MNIST 0/1 with CIFAR-10 airplane/automobile. FashionMNIST's first five
    classes with digits 0-4: the paper's "0-5" would be six. MNIST tiles are on top, as in Shah et al.

    Args:
        name: a key of `PAIRS`.
        root: folder that holds the sets as their official releases lay them out; unused by "digits_patches".
    Returns:
        New tensors, all classes of the pair, in the files' order.
    Raises:
        FileNotFoundError: a file is not under root; the message says which, and what to do.
        ValueError: unknown pair, no root, or a damaged file.
    """
    check_choice("pair", name, tuple(PAIRS))
    if name == "digits_patches":
        return digits_patches()
    if root is None:
        raise ValueError(
            f"root: expected the folder that holds the image sets of {name!r}, got None; {_ADVICE} "
            f"(the pair 'digits_patches' needs no files)"
        )
    folder = Path(root)
    n_classes = PAIRS[name].n_classes
    upper = {
        "cifar_mnist": lambda: _cifar_block(folder),
        "fmnist_mnist": lambda: _idx_block("fmnist", folder / "FashionMNIST" / "raw", n_classes=n_classes),
    }[name]
    return PairSource(name, _idx_block("mnist", folder / "MNIST" / "raw", n_classes=n_classes), upper())


def pad_to_tile(images: UInt8[Tensor, "tile 28 28"]) -> UInt8[Tensor, "tile 1 32 32"]:
    """Surround square greyscale images with zeros up to 32 x 32 pixels, equally on all sides.

    Args:
        images: uint8, side at most 32 and even.
    Returns:
        A new tensor with a channel axis.

    >>> pad_to_tile(torch.ones(1, 28, 28, dtype=torch.uint8)).sum().item()
    784
    """
    margin = (TILE - images.shape[-1]) // 2
    return torch.nn.functional.pad(images, (margin,) * 4)[:, None]


_ADVICE = "put the official files there or point SAMLIB_DATA at the folder that has them; see README"


def _missing(expected: str, folder: Path) -> FileNotFoundError:
    there = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
    return FileNotFoundError(f"{folder}: expected {expected}, found {there or 'an empty folder'}; {_ADVICE}")


def _idx_block(feature: str, folder: Path, *, n_classes: int) -> Block:
    """Read the first classes of an MNIST-like set in torchvision's `raw` folder."""
    splits = []
    for prefix in ("train", "t10k"):
        images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
        labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte").long()
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{folder}: expected {prefix} images of 28 x 28 pixels and a label of each, got {tuple(images.shape)} "
                f"and {tuple(labels.shape)}; fetch them again"
            )
        kept = labels < n_classes
        splits.append(Tiles(pad_to_tile(images[kept]), labels[kept]))
    return Block(feature, splits[0], splits[1])


def _read_idx(folder: Path, name: str) -> UInt8[Tensor, "..."]:
    """Read one idx file of unsigned bytes, gzipped or plain; torchvision's reader does not name a damaged one."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        raise _missing(f"{name} or {packed.name}", folder)
    path = plain if plain.is_file() else packed
    try:
        content = plain.read_bytes() if path == plain else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file, could not unpack it ({error}); fetch it again") from error
    n_axes = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:start], dtype=">i4") if len(content) >= start else np.array([-1])
    if content[:3] != b"\0\0\x08" or len(content) - start != shape.prod():
        raise ValueError(
            f"{path}: expected an idx file of unsigned bytes, got {len(content)} bytes that do not match its "
            f"header; fetch it again"
        )
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy())


def _cifar_block(root: Path) -> Block:
    """Read airplanes (0) and automobiles (1), from the prepared file or else the official folder."""
    prepared = root / CIFAR_FILE
    if prepared.is_file():
        try:
            with prepared.open("rb") as handle, np.load(handle) as file:
                parts = [(file[f"x_{split}"], file[f"y_{split}"]) for split in ("train", "test")]
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{prepared}: expected x_train, y_train, x_test, y_test, could not read them ({error}); "
                f"prepare the file again"
            ) from error
    elif (root / CIFAR_FOLDER).is_dir():
        from torchvision.datasets import CIFAR10  # slow to import, and needed on this path alone

        try:
            sets = [CIFAR10(str(root), train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            raise ValueError(f"{root / CIFAR_FOLDER}: expected the official batches, got {error}") from error
        parts = [(part.data, np.asarray(part.targets)) for part in sets]
    else:
        raise _missing(f"{CIFAR_FILE} or the official folder {CIFAR_FOLDER}", root)
    splits = []
    for images, labels in parts:
        if images.dtype != np.uint8 or images.shape[1:] != (TILE, TILE, 3) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{root}: expected CIFAR-10 as uint8 images (n, 32, 32, 3) and n labels, got {images.dtype} "
                f"{images.shape} and {labels.shape}; prepare the file again"
            )
        if not {0, 1} <= set(labels.tolist()):
            raise ValueError(f"{root}: expected airplanes (0) and automobiles (1), one is missing; prepare them again")
        kept = labels < 2
        channels_first = np.ascontiguousarray(images[kept].transpose(0, 3, 1, 2))
        splits.append(Tiles(torch.from_numpy(channels_first), torch.from_numpy(labels[kept].astype(np.int64))))
    return Block("cifar", splits[0], splits[1])


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
    for photograph in SAMPLES:
        grey = np.rint(load_sample_image(photograph).mean(2)).astype(np.uint8)
        border = int(TRAIN_SHARE * grey.shape[1]) // side * side
        for patches, part in zip(splits, (grey[:, :border], grey[:, border:]), strict=True):
            squares = torch.from_numpy(part.copy()).unfold(0, side, side).unfold(1, side, side)
            patches.append(enlarge(squares.reshape(-1, side, side)))  # from (row, column, side, side)
    labels = ([torch.full((len(part),), k) for k, part in enumerate(parts)] for parts in splits)
    train, test = (Tiles(torch.cat(parts), torch.cat(classes)) for parts, classes in zip(splits, labels, strict=True))
    return Block("patches", train, test)
