"""What a data set's own files say about its images: one row an image, checked before any pixel is read."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from data_scripts import DataError
from data_scripts.sources import SOURCES


class Listing(NamedTuple):
    """The images of a set.

    Attributes:
        folder: what the column `file` is relative to.
        table: one row an image, in the order of the official files; its last column is `file`.
        counted_by: columns by which the images are counted.
        published: counts of the official release, keyed by the values of these columns, joined by "/".
        fit: how an image that is not square becomes so: "squash", or "crop" to the middle of the longer side.
        usual_size: side of the stored images where the official ones have no one square size, pixels.
        described_by: the text files that the table was read from.
    """

    folder: Path
    table: pd.DataFrame
    counted_by: tuple[str, ...]
    published: dict[str, int]
    fit: str
    usual_size: int
    described_by: tuple[Path, ...] = ()


def group_counts(by_split: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return published counts in `Listing`'s form, groups being numbered from 0.

    >>> group_counts({"train": (3, 1)})
    {'train/0': 3, 'train/1': 1}
    """
    return {f"{split}/{group}": n for split, counts in by_split.items() for group, n in enumerate(counts)}


def require_folder(folders: Iterable[Path], name: str, root: Path) -> Path:
    """Return the first of several folders that exists.

    Args:
        folders: where the set may lie.
        name: the set.
        root: the data folder, for the command that the message suggests.
    Raises:
        DataError: none does.
    """
    folders = list(folders)
    for folder in folders:
        if folder.is_dir():
            return folder
    tried = " or ".join(map(str, folders))
    command = f"run `python -m data_scripts.fetch {name} --root {shlex.quote(str(root))}`"
    advice = command if name in SOURCES else "put it there"
    raise DataError(f"{tried}: expected the folder of {name}, found none; {advice}")


def require_file(path: Path, name: str) -> Path:
    """Return a path that is a file.

    Raises:
        DataError: it is none.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file of {name}, found none; complete the folder or fetch {name} again")
    return path


def require_images(folder: Path, files: pd.Series, described_by: Path) -> None:
    """Refuse a list of images that is empty, leaves its folder, or names an image twice or one that is not there.

    Args:
        folder: the images' folder.
        files: paths relative to it.
        described_by: the file that lists them, for the message.
    Raises:
        DataError: one of these.
    """
    if not len(files) or files.isna().any():
        found = f"no file name in row {files.isna().argmax() + 1}" if len(files) else "no rows"
        raise DataError(f"{described_by}: expected a row for each image, got {found}; fetch the file again")
    outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise DataError(f"{described_by}: expected images inside {folder}, got {outside[0]!r}; fetch the file again")
    twice = files[files.map(PurePosixPath).duplicated()]  # ./a.png is a.png
    if len(twice):
        raise DataError(f"{described_by}: expected each image once, got {twice.iloc[0]} twice; fetch the file again")
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        shown = ", ".join(missing[:5])
        raise DataError(
            f"{folder}: expected the {len(files):,} images that {described_by.name} lists, {len(missing):,} are "
            f"missing ({shown}{', ...' if len(missing) > 5 else ''}); fetch them again, or for a subset cut the list"
        )
