"""Waterbirds: birds (the label) before land or water (the attribute), Sagawa et al. (2020)."""

from pathlib import Path

import pandas as pd

from data_scripts import DataError
from data_scripts.listing import Listing, group_counts, require_file, require_folder, require_images

FOLDERS = ("waterbirds_v1.0", "waterbird_complete95_forest2water2")  # WILDS's name and group_DRO's
SPLITS = ("train", "val", "test")  # metadata.csv says 0, 1, 2
COLUMNS = ("img_filename", "y", "split", "place")
# By group = 2 label + place: landbird on land, on water, waterbird on land, on water.
PUBLISHED = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)}


def list_waterbirds(root: Path) -> Listing:
    """Read which bird stands before which place, from metadata.csv.

    Args:
        root: the data folder.
    Returns:
        Columns split, label (1 waterbird), attribute (1 water), group, file.
    Raises:
        DataError: a file, column or image is missing, or a value is not allowed.
    """
    folder = require_folder((root / name for name in FOLDERS), "waterbirds", root)
    path = require_file(folder / "metadata.csv", "waterbirds")
    try:
        found = pd.read_csv(path, dtype={"img_filename": str})
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table, could not read it ({error}); fetch it again") from error
    if missing := [name for name in COLUMNS if name not in found.columns]:
        raise DataError(f"{path}: expected the columns {list(COLUMNS)}, {missing} are missing; fetch it again")
    table = pd.DataFrame({"split": found["split"], "label": found["y"], "attribute": found["place"]})
    table["file"] = found["img_filename"]
    for column, allowed in {"split": [0, 1, 2], "label": [0, 1], "attribute": [0, 1]}.items():
        # One slip makes pandas read a whole column of numbers as text, so each value is read as a number here.
        wrong = table[~pd.to_numeric(table[column], errors="coerce").isin(allowed)]
        if len(wrong):
            rows = "1 such row" if len(wrong) == 1 else f"{len(wrong)} such rows"
            raise DataError(
                f"{path}: expected {column} in {allowed}, got {wrong[column].iloc[0]} for {wrong['file'].iloc[0]} "
                f"({rows}); fetch the file again"
            )
    require_images(folder, table["file"], path)
    table = table.astype({"label": int, "attribute": int})
    table["split"] = [SPLITS[int(number)] for number in table["split"]]
    table.insert(3, "group", 2 * table["label"] + table["attribute"])
    # Training resizes to 256/224 of its crop, squashing, and crops after that (Sagawa et al.): 256 is for crops of 224.
    return Listing(folder, table, ("split", "group"), group_counts(PUBLISHED), "squash", 256, (path,))
