"""CIFAR-10's airplanes and automobiles in one small file, the half of CIFAR-MNIST that is not MNIST."""

import datetime
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from data_scripts import DataError
from data_scripts.disk import full_disk_explained
from data_scripts.listing import require_folder
from data_scripts.receipts import read_receipts
from samlib.files import write_atomically

FILE = "cifar10_airplane_automobile.npz"
CLASSES = ("airplane", "automobile")
PUBLISHED = {"train": 5000, "test": 1000}  # images a class


def prepare_cifar10(root: Path) -> Path:
    """Write the two classes of the official batches as one .npz, and a manifest of counts beside it.

    x_train (10000, 32, 32, 3) and y_train, x_test (2000, ...) and y_test, all uint8; 0 airplane, 1 automobile, in the
    batches' order.

    Args:
        root: the data folder, with `cifar-10-batches-py` in it.
    Returns:
        The file; one that exists already is left as it is.
    Raises:
        DataError: the batches are missing or damaged, do not hold 5,000 and 1,000 images of each class, or the disk
            is full.
    Side effects:
        Writes two files and prints.
    """
    path = root / FILE
    if path.exists():
        print(f"{path}: prepared already; remove it to prepare it again")
        return path
    arrays = _read(root)
    counts = {
        f"{split}/{name}": int((arrays[f"y_{split}"] == i).sum())
        for split in PUBLISHED
        for i, name in enumerate(CLASSES)
    }
    published = {key: PUBLISHED[key.split("/")[0]] for key in counts}
    if counts != published:
        raise DataError(f"{root}: expected {published}, got {counts}; fetch cifar10 again")
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, classes=np.array(CLASSES), **arrays)
    manifest = {
        "name": "cifar10",
        "classes": list(CLASSES),
        "counts": counts,
        "published": published,
        "sha256": {FILE: hashlib.sha256(content.getvalue()).hexdigest()},
        "source": {"fetched": list(read_receipts("cifar10", root).values())},
        "versions": {"numpy": np.__version__},
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    text = (json.dumps(manifest, indent=1) + "\n").encode()
    with full_disk_explained(root, "free some and run the same command again"):
        write_atomically(path.with_suffix(".json"), lambda file: file.write(text))
        write_atomically(path, lambda file: file.write(content.getvalue()))
    print(f"{path}: {counts}, as published")
    return path


def _read(root: Path) -> dict[str, np.ndarray]:
    """Read both classes; torchvision knows the batches and their checksums."""
    from torchvision.datasets import CIFAR10  # slow to import, and needed here alone

    require_folder([root / CIFAR10.base_folder], "cifar10", root)
    arrays: dict[str, np.ndarray] = {}
    for split in PUBLISHED:
        try:
            batches = CIFAR10(str(root), train=split == "train", download=False)
        except RuntimeError as error:
            raise DataError(
                f"{root / CIFAR10.base_folder}: expected the official batches, at least one is missing or has another "
                f"checksum; remove the folder and fetch cifar10 again"
            ) from error
        labels = np.asarray(batches.targets, dtype=np.uint8)
        kept = labels < len(CLASSES)
        arrays |= {f"x_{split}": batches.data[kept], f"y_{split}": labels[kept]}
    return arrays
