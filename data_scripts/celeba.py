"""CelebA: blond hair (the label) and sex as annotated (the attribute), the pair of Sagawa et al. (2020)."""

import itertools
from pathlib import Path

import pandas as pd

from data_scripts import DataError
from data_scripts.listing import Listing, group_counts, require_file, require_folder, require_images

LABEL, ATTRIBUTE = "Blond_Hair", "Male"
SPLITS = {"0": "train", "1": "val", "2": "test"}
# By group = 2 label + attribute: not blond and female, not blond and male, blond and female, blond and male.
PUBLISHED = {
    "train": (71629, 66874, 22880, 1387),
    "val": (8535, 8276, 2874, 182),
    "test": (9767, 7535, 2480, 180),
}


def list_celeba(root: Path) -> Listing:
    """Read labels and splits from CelebA's two text files; both may list a subset, but the same one.

    Kaggle's copy is read too: the same tables as .csv, and the images one folder deeper.

    Args:
        root: the data folder.
    Returns:
        Columns split, label (1 blond), attribute (1 male), group, file, in the order of the partition file.
    Raises:
        DataError: a file or image is missing, a row is malformed, or the files list different images.
    """
    folder = require_folder([root / "celeba"], "celeba", root)
    nested = folder / "img_align_celeba" / "img_align_celeba"
    images = require_folder([nested, nested.parent], "celeba", root)
    attributes_path = _text_or_csv(folder / "list_attr_celeba.txt")
    splits_path = _text_or_csv(folder / "list_eval_partition.txt")
    attributes, splits = read_attributes(attributes_path), read_splits(splits_path)
    _same_images(attributes, splits, attributes_path, splits_path)
    rows = [(split, *attributes[name], name) for name, split in splits.items()]
    table = pd.DataFrame(rows, columns=["split", "label", "attribute", "file"])
    table.insert(3, "group", 2 * table["label"] + table["attribute"])
    require_images(images, table["file"], splits_path)
    described_by = (attributes_path, splits_path)
    # 178 x 218 pixels officially; Sagawa et al. crop the middle square before they resize.
    return Listing(images, table, ("split", "group"), group_counts(PUBLISHED), "crop", 178, described_by)


def _text_or_csv(path: Path) -> Path:
    """Return the official text file, or the table of the same name where only that is there."""
    table = path.with_suffix(".csv")
    return table if table.is_file() and not path.is_file() else require_file(path, "celeba")


def _lines(path: Path) -> list[list[str]]:
    """Return the fields of every line; a byte order mark and blank lines at the end are none."""
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text, could not read it ({error}); fetch the file again") from error
    separator = "," if path.suffix == ".csv" else None
    return [[field.strip() for field in line.split(separator)] for line in text.splitlines()]


def read_attributes(path: Path) -> dict[str, tuple[int, int]]:
    """Read list_attr_celeba.txt: a number of rows, 40 names, then a file name and 40 values of 1 or -1 a row.

    In a .csv there is no number of rows, and the first name is that of the file names' column.

    Returns:
        File name -> (label, attribute), each 0 or 1.
    Raises:
        DataError: the number of rows is another, or a row is malformed; the message says which.
    """
    lines = _lines(path)
    stated: int | None = None
    if path.suffix == ".csv":
        names, first = (lines[0][1:] if lines else []), 1
    else:
        names, first = (lines[1] if len(lines) > 1 else []), 2
        stated = int(lines[0][0]) if names and lines[0] and lines[0][0].isdigit() else None
    if not {LABEL, ATTRIBUTE} <= set(names) or (first == 2 and stated is None):
        raise DataError(f"{path}: expected a number of rows and names with {LABEL} and {ATTRIBUTE}, got another file")
    columns = names.index(LABEL), names.index(ATTRIBUTE)
    found = {}
    for number, line in enumerate(lines[first:], start=first + 1):
        name, *values = line or [""]
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise DataError(
                f"{path}, line {number}: expected a file name and {len(names)} values of 1 or -1, got "
                f"{' '.join(line)[:60]!r} ({len(values)} values); fetch the file again"
            )
        found[name] = (int(values[columns[0]] == "1"), int(values[columns[1]] == "1"))
    if stated is not None and len(found) != stated:
        raise DataError(
            f"{path}: expected {stated:,} images, as its first line says, got {len(found):,}; fetch the file "
            f"again, or correct the first line of a subset"
        )
    return found


def read_splits(path: Path) -> dict[str, str]:
    """Read list_eval_partition.txt: a file name and 0, 1 or 2 a row; a .csv has a row of names before them.

    Returns:
        File name -> "train", "val" or "test".
    Raises:
        DataError: a row is malformed or comes twice.
    """
    found: dict[str, str] = {}
    first = int(path.suffix == ".csv")
    for number, fields in enumerate(_lines(path)[first:], start=first + 1):
        if len(fields) != 2 or fields[1] not in SPLITS or fields[0] in found:
            raise DataError(
                f"{path}, line {number}: expected a new file name and 0, 1 or 2, got {' '.join(fields)[:60]!r}; "
                f"fetch it again"
            )
        found[fields[0]] = SPLITS[fields[1]]
    return found


def _same_images(attributes: dict, splits: dict, attributes_path: Path, splits_path: Path) -> None:
    """Refuse two files that list different images."""
    files = ((attributes_path, attributes), (splits_path, splits))
    for (lacking_path, lacking), (having_path, having) in itertools.permutations(files):
        if missing := [name for name in having if name not in lacking]:
            raise DataError(
                f"{lacking_path}: expected a row for each of the {len(having):,} images of {having_path.name}, "
                f"{len(missing):,} have none ({', '.join(missing[:5])}); fetch both files again, or cut both alike"
            )
