"""`python -m data_scripts.prepare NAME --root DIR`: turn a data set's images into the arrays that training reads.

NAME is waterbirds, celeba, pacs, officehome, vlcs or cifar10; the two MNISTs need nothing, `samlib` reads them as they
are. cifar10 becomes DIR/cifar10_airplane_automobile.npz, see `data_scripts.cifar10`. The others become a folder
DIR/prepared/NAME-SIZE, which appears whole or not at all:

images.npy
    uint8, (n, SIZE, SIZE, 3), red, green, blue; numpy.load(..., mmap_mode="r") maps it. Images of another size were
    resized (bicubic, antialiased) after being made square: squashed, or for CelebA cropped to the middle.
table.csv
    Row i describes image i. Waterbirds and CelebA: split (train, val, test), label, attribute, group, file, where
    group = 2 label + attribute and label and attribute are 0 or 1: waterbird and water background, blond and male.
    Which of the two is the easy feature is measured by probes, never assumed. PACS, Office-Home and VLCS: domain,
    class (names), file; no split, which training draws with a seed. `file` is relative to the set's image folder.
manifest.json
    schema       number of this format
    name, size, images, columns
    fit, resampling, resized, truncated
                 how images became square, by what, how many were resized, which were cut short and filled up
    counted_by, counts, published, difference, coverage
                 images by these columns (values joined by "/"), here, in the official release, here - official;
                 coverage is "full" (all equal), "subset" (some fewer, none more) or "other"
    sha256       of images.npy and table.csv
    source       folder, sha256 of the text files and of all image files in the table's order (SHA-256 of their
                 SHA-256s), and what `fetch` wrote down about the download, if it made the folder
    versions, utc
                 of Python and the libraries; when
"""

import argparse
import datetime
import functools
import hashlib
import importlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import PIL
from tqdm import tqdm

from data_scripts import DataError, data_root, run_command
from data_scripts.cifar10 import prepare_cifar10
from data_scripts.disk import full_disk_explained, move, require_space
from data_scripts.domains import LAYOUTS, list_domains
from data_scripts.listing import Listing
from data_scripts.pixels import RESAMPLING, Pixels, common_size, read_images
from data_scripts.receipts import read_receipts
from edition.console import run_piped
from samlib.files import write_atomically
from samlib.images.catalogue import PHOTOGRAPHS

SCHEMA = 1
LARGEST = 1024  # side of a stored image, pixels


def _list_photographs(name: str, root: Path) -> Listing:
    """List a set of photographs by the file of its own here, NAME.py with `list_NAME`, read when it is asked for."""
    try:
        module = importlib.import_module(f"data_scripts.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"data_scripts.{name}":
            raise
        raise DataError(f"data_scripts/{name}.py: expected a file with list_{name}(root), found none") from error
    listing: Listing = getattr(module, f"list_{name}")(root)
    return listing


LISTINGS: dict[str, Callable[[Path], Listing]] = {
    **{name: functools.partial(_list_photographs, name) for name, row in PHOTOGRAPHS.items() if not row.embedded},
    **{name: functools.partial(list_domains, name) for name in LAYOUTS},
}
AS_FETCHED = ("mnist", "fashionmnist")


def prepare(
    name: str, root: Path, *, size: int | None = None, workers: int = 1, accept_truncated: bool = False
) -> Path:
    """Prepare one set.

    Args:
        name: one of `LISTINGS`.
        root: the data folder.
        size: side of the stored images, pixels; None: as the files are, where all are squares of one size, else the
            listing's usual size.
        workers: processes that decode.
        accept_truncated: whether images that are cut short are filled up, and named in the manifest, or refused.
    Returns:
        The folder; one that exists already is left as it is.
    Raises:
        DataError: something is missing or damaged, or the disk is full; nothing is left behind.
    Side effects:
        Writes the folder and prints its counts.
    """
    listing = LISTINGS[name](root)
    for file in listing.table["file"]:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{listing.folder}: expected file names in UTF-8, got {file!r}; rename it") from error
    paths = [listing.folder / file for file in listing.table["file"]]
    size = size or common_size(paths) or listing.usual_size
    if size > LARGEST:
        raise DataError(
            f"{listing.folder}: expected images of at most {LARGEST} pixels a side, got {size}; pass --size"
        )
    target = root / "prepared" / f"{name}-{size}"
    prepared = f"{target}: prepared already; remove the folder to prepare it again"
    if target.exists():  # asked before anything is written: the folder may be one that cannot be
        print(prepared)
        return target
    target.parent.mkdir(exist_ok=True)
    try:
        with filelock.FileLock(target.parent / f".{target.name}.lock", timeout=0):
            for leftover in target.parent.glob(f".{target.name}.tmp*"):  # of a run that was killed
                shutil.rmtree(leftover)
            if target.exists():
                print(prepared)
                return target
            images = read_images(paths, size=size, fit=listing.fit, accept_truncated=accept_truncated, workers=workers)
            _make(target, listing, images, _described(name, root, listing, size))
    except filelock.Timeout as error:
        raise DataError(f"{target}: being prepared by another process; wait for it to end") from error
    return target


def _make(target: Path, listing: Listing, images: Iterable[Pixels], manifest: dict[str, Any]) -> None:
    """Write everything under a passing name, then give it its own."""
    n, size = manifest["images"], manifest["size"]
    require_space(target.parent, n * size * size * 3, "the arrays")
    folder = target.parent / f".{target.name}.tmp{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        with full_disk_explained(target.parent, "free some, or pass a smaller --size"):
            digest = write_images(folder / "images.npy", images, listing, manifest)
            table = listing.table.to_csv(index=False, lineterminator="\n").encode()
            manifest["sha256"] = {"images.npy": digest, "table.csv": hashlib.sha256(table).hexdigest()}
            write_atomically(folder / "table.csv", lambda file: file.write(table))
            text = json.dumps(manifest, indent=1) + "\n"
            write_atomically(folder / "manifest.json", lambda file: file.write(text.encode()))
        move(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{target}: {n:,} images of {size} x {size}, {manifest['coverage']}\n{counts_text(manifest)}")


def write_images(path: Path, images: Iterable[Pixels], listing: Listing, manifest: dict[str, Any]) -> str:
    """Write the array image by image; what was seen on the way goes into the manifest.

    Not through a memory map: on a full disk that ends the process instead of raising an error.

    Args:
        images: in the table's order.
        manifest: gets `resized`, `truncated` and the source's `images_sha256`.
    Returns:
        SHA-256 of the file.
    Raises:
        DataError: images do not decode; the message names the first few.
    """
    n, size = manifest["images"], manifest["size"]
    digest, source_digest, resized = hashlib.sha256(), hashlib.sha256(), 0
    damaged, truncated = [], []
    with path.open("w+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(0)
        digest.update(file.read())
        progress = tqdm(images, total=n, desc=manifest["name"], unit=" images", disable=None)
        for name, image in zip(listing.table["file"], progress, strict=True):
            if not image.values:
                damaged.append(f"  {name}: {image.problem}")
                continue
            if image.problem:
                truncated.append(name)
            resized += image.resized
            source_digest.update(image.digest)
            digest.update(image.values)
            file.write(image.values)
        file.flush()
        os.fsync(file.fileno())
    if damaged:
        raise DataError(
            f"{listing.folder}: expected images, {len(damaged):,} of {n:,} do not decode:\n"
            + "\n".join(damaged[:5])
            + "\n  Fetch the set again; images that are only cut short are accepted with --accept-truncated."
        )
    manifest |= {"resized": resized, "truncated": truncated}
    manifest["source"]["images_sha256"] = source_digest.hexdigest()
    return digest.hexdigest()


def _described(name: str, root: Path, listing: Listing, size: int) -> dict[str, Any]:
    """Return what the manifest says before any pixel is read."""
    here = count(listing.table, listing.counted_by)
    keys = [*listing.published, *sorted(here.keys() - listing.published.keys())]
    difference = {key: here.get(key, 0) - listing.published.get(key, 0) for key in keys}
    return {
        "schema": SCHEMA,
        "name": name,
        "size": size,
        "images": len(listing.table),
        "columns": list(listing.table.columns),
        "fit": listing.fit,
        "resampling": RESAMPLING,
        "counted_by": list(listing.counted_by),
        "counts": {key: here.get(key, 0) for key in keys},
        "published": listing.published,
        "difference": difference,
        "coverage": coverage(difference.values()),
        "source": {
            "folder": listing.folder.relative_to(root).as_posix(),
            "files_sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in listing.described_by},
            "fetched": list(read_receipts(name, root).values()),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "pillow": PIL.__version__,
        },
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def count(table: pd.DataFrame, columns: Iterable[str]) -> dict[str, int]:
    """Count rows by the values of columns.

    >>> count(pd.DataFrame({"split": ["train", "train"], "group": [0, 0]}), ["split", "group"])
    {'train/0': 2}
    """
    counts = table[list(columns)].value_counts()
    return {"/".join(map(str, values)): int(n) for values, n in counts.items()}


def coverage(difference: Iterable[int]) -> str:
    """Name how counts compare with the published ones: "full", "subset" or "other".

    >>> coverage([0, -5]), coverage([0, 0]), coverage([1, -1])
    ('subset', 'full', 'other')
    """
    values = list(difference)
    if any(value > 0 for value in values):
        return "other"
    return "subset" if any(values) else "full"


def counts_text(manifest: dict[str, Any]) -> str:
    """Return a table of counts here and published, and their differences."""
    rows = [("/".join(manifest["counted_by"]), "here", "published", "difference")]
    for key, here in manifest["counts"].items():
        rows.append((key, f"{here:,}", f"{manifest['published'].get(key, 0):,}", f"{manifest['difference'][key]:+,}"))
    return "\n".join(f"  {key:14}{here:>9}{published:>11}{difference:>12}" for key, here, published, difference in rows)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and prepare; the exit status is 1 where something is wrong with the set."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.prepare", description="Prepare arrays for training.")
    names = (*LISTINGS, "cifar10", *AS_FETCHED)
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--root", help="the data folder; left out, $SAMLIB_DATA")
    parser.add_argument("--size", type=int, help="side of the stored images, pixels; left out, as in the files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that decode")
    parser.add_argument("--accept-truncated", action="store_true", help="fill up images that are cut short")
    given = parser.parse_args(arguments)
    if given.size is not None and not 1 <= given.size <= LARGEST:
        parser.error(f"--size: expected 1 to {LARGEST}, got {given.size}")
    if given.workers < 1:
        parser.error(f"--workers: expected 1 or more, got {given.workers}")
    return run_command(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    root = data_root(given.root)
    if given.name in AS_FETCHED:
        print(f"{given.name}: nothing to prepare; training reads the files as they were fetched")
    elif given.name == "cifar10":
        prepare_cifar10(root)
    else:
        prepare(given.name, root, size=given.size, workers=given.workers, accept_truncated=given.accept_truncated)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_piped(main))
