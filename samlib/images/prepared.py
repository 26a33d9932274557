"""Image sets as `python -m data_scripts.prepare` wrote them: a memory-mapped array and a table of its rows."""

import hashlib
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from samlib.shapes import UInt8

SCHEMA = 1  # of the manifest
ATTRIBUTE_COLUMNS = ("split", "label", "attribute", "group", "file")
_FILES = ("images.npy", "table.csv", "manifest.json")


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """One image set.

    Attributes:
        name: such as "waterbirds".
        images: red, green, blue; read-only and memory-mapped where they come from a file.
        table: row i describes image i. Where labels are annotated: split ("train", "val", "test"), label, attribute,
            group = 2 label + attribute, file.
        images_sha256: SHA-256 of the images, as the manifest has it (of images.npy).
        coverage: "full", "subset" or "other", compared with the official release.
    """

    name: str
    images: UInt8[np.ndarray, "image side side 3"]
    table: pd.DataFrame
    images_sha256: str
    coverage: str


def load_prepared(
    name: str, size: int, root: str | Path | None, *, columns: tuple[str, ...] = ATTRIBUTE_COLUMNS
) -> PreparedSet:
    """Read ROOT/prepared/NAME-SIZE; nothing is downloaded.

    The table's checksum is compared with the manifest's. The images' is not, since that would read all of them each
    time: only their number, side and type are looked at.

    Args:
        name: the set, such as "waterbirds".
        size: side of the stored images, pixels.
        root: the data folder.
        columns: those that the caller reads; ("domain", "class", "file") are those of PACS.
    Returns:
        The set; its images are still on the disk.
    Raises:
        FileNotFoundError: folder or file is not there; the message says what is, and what to run.
        ValueError: no root, or what is there is damaged or something else.
    """
    if root is None:
        raise ValueError(
            f"root: expected the folder that holds the prepared images of {name!r}, got None; point SAMLIB_DATA at it, "
            f"see README (the embedded sets 'digits_on_patches' and 'digit_domains' need no files)"
        )
    folder = Path(root) / "prepared" / f"{name}-{size}"
    command = f"python -m data_scripts.prepare {name} --size {size} --root {shlex.quote(str(root))}"
    _check_files(folder, name, command)
    again = f"remove the folder and run `{command}`"
    manifest = _read_manifest(folder / "manifest.json", {"schema": SCHEMA, "name": name, "size": size}, again)
    table = _read_table(folder / "table.csv", manifest, columns, again)
    images = _read_images(folder / "images.npy", (len(table), size, size, 3), again)
    return PreparedSet(name, images, table, manifest["sha256"]["images.npy"], manifest["coverage"])


def _check_files(folder: Path, name: str, command: str) -> None:
    """Refuse a folder that is missing, or lacks one of its files."""
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob(f"{name}-*"))
        raise FileNotFoundError(
            f"{folder}: expected a folder of prepared images, found {', '.join(there) or f'no size of {name}'} in "
            f"{folder.parent}; run `{command}`"
        )
    missing = [file for file in _FILES if not (folder / file).is_file()]
    if missing:
        there = sorted(path.name for path in folder.iterdir())
        raise FileNotFoundError(
            f"{folder}: expected {', '.join(missing)}, found {', '.join(there) or 'an empty folder'}; remove the "
            f"folder and run `{command}`"
        )


def _read_manifest(path: Path, expected: dict[str, Any], again: str) -> dict[str, Any]:
    """Read the manifest of the set that was asked for, in the format that this module knows."""
    try:
        manifest = json.loads(path.read_bytes())
        found = {key: manifest[key] for key in expected}
        used = (manifest["coverage"], *(manifest["sha256"][file] for file in _FILES[:2]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a manifest, could not read it ({error!r}); {again}") from error
    if found != expected or not all(isinstance(word, str) for word in used):
        raise ValueError(f"{path}: expected {expected}, got {found}; {again}")
    return manifest


def _read_table(path: Path, manifest: dict[str, Any], columns: tuple[str, ...], again: str) -> pd.DataFrame:
    """Read the table and compare it with the manifest."""
    content = path.read_bytes()
    digest, stated = hashlib.sha256(content).hexdigest(), manifest["sha256"]["table.csv"]
    if digest != stated:
        raise ValueError(f"{path}: expected SHA-256 {stated} as in the manifest, got {digest}; {again}")
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    if len(table) != manifest.get("images"):
        raise ValueError(
            f"{path}: expected {manifest.get('images')} rows as in the manifest, got {len(table)}; {again}"
        )
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}, got {', '.join(table.columns)} without "
            f"{', '.join(missing)}; use a set that has them"
        )
    return table


def _read_images(path: Path, shape: tuple[int, ...], again: str) -> UInt8[np.ndarray, "image side side 3"]:
    """Map the images and check their number, side and type."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected an array of shape {shape}, could not map it ({error}); {again}") from error
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 of shape {shape}, got {images.dtype} of shape {images.shape}; {again}"
        )
    return images
