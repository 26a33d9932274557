"""CelebA: blond hair (the label) and sex as annotated (the attribute), the pair of Sagawa et al. (2020)."""

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

    Args:
        root: the data folder.
    Returns:
        Columns split, label (1 blond), attribute (1 male), group, file, in the order of the partition file.
    Raises:
        DataError: a file or image is missing, a row is malformed, or the files list different images.
    """
    folder = require_folder([root / "celeba"], "celeba")
    images = require_folder([folder / "img_align_celeba"], "celeba")
    attributes_path = require_file(folder / "list_attr_celeba.txt", "celeba")
    splits_path = require_file(folder / "list_eval_partition.txt", "celeba")
    attributes, splits = read_attributes(attributes_path), read_splits(splits_path)
    _same_images(attributes, splits, attributes_path, splits_path)
    rows = [(split, *attributes[name], name) for name, split in splits.items()]
    table = pd.DataFrame(rows, columns=["split", "label", "attribute", "file"])
    table.insert(3, "group", 2 * table["label"] + table["attribute"])
    require_images(images, table["file"], splits_path)
    described_by = (attributes_path, splits_path)
    # 178 x 218 pixels officially; Sagawa et al. crop the middle square before they resize.
    return Listing(images, table, ("split", "group"), group_counts(PUBLISHED), "crop", 178, described_by)


def read_attributes(path: Path) -> dict[str, tuple[int, int]]:
    """Read list_attr_celeba.txt: a number of rows, 40 names, then a file name and 40 values of 1 or -1 a row.

    Returns:
        File name -> (label, attribute), each 0 or 1.
    Raises:
        DataError: the number of rows is another, or a row is malformed; the message says which.
    """
    lines = path.read_text().splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if not names or not lines[0].strip().isdigit() or not {LABEL, ATTRIBUTE} <= set(names):
        raise DataError(f"{path}: expected a number of rows and names with {LABEL} and {ATTRIBUTE}, got another file")
    columns = names.index(LABEL), names.index(ATTRIBUTE)
    found = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise DataError(
                f"{path}, line {number}: expected a file name and {len(names)} values of 1 or -1, got "
                f"{line[:60]!r} ({len(values)} values); fetch the file again"
            )
        found[name] = (int(values[columns[0]] == "1"), int(values[columns[1]] == "1"))
    if len(found) != int(lines[0]):
        raise DataError(
            f"{path}: expected {int(lines[0]):,} images, as its first line says, got {len(found):,}; fetch the file "
            f"again, or correct the first line of a subset"
        )
    return found


def read_splits(path: Path) -> dict[str, str]:
    """Read list_eval_partition.txt: a file name and 0, 1 or 2 a row.

    Returns:
        File name -> "train", "val" or "test".
    Raises:
        DataError: a row is malformed or comes twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in SPLITS or fields[0] in found:
            raise DataError(
                f"{path}, line {number}: expected a new file name and 0, 1 or 2, got {line[:60]!r}; fetch it again"
            )
        found[fields[0]] = SPLITS[fields[1]]
    return found


def _same_images(attributes: dict, splits: dict, attributes_path: Path, splits_path: Path) -> None:
    """Refuse two files that list different images."""
    for lacking, having, lacking_path, having_path in (
        (attributes, splits, attributes_path, splits_path),
        (splits, attributes, splits_path, attributes_path),
    ):
        if missing := [name for name in having if name not in lacking]:
            raise DataError(
                f"{lacking_path}: expected a row for each of the {len(having):,} images of {having_path.name}, "
                f"{len(missing):,} have none ({', '.join(missing[:5])}); fetch both files again, or cut both alike"
            )
