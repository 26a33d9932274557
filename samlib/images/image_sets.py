"""Image sets of photographs and domains: as `python -m data_scripts.prepare` wrote them, or drawn from scikit-learn's.

A set is an array, memory-mapped where it comes from a file, and a table of its rows. scikit-learn's samples give two
stand-ins that need no download: `digits_on_patches` and `digit_domains`.
"""

import hashlib
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from samlib.config import check_choice
from samlib.images.catalogue import DOMAINS, PHOTOGRAPHS
from samlib.images.config import DomainConfig, FinetuneConfig
from samlib.images.tiles import Block, Tiles, digits_patches, enlarge
from samlib.shapes import Float, Int64, UInt8
from samlib.streams import stream

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and not needed for pairs

SCHEMA = 1  # of the manifest
# Images of groups 0..3 = 2 digit + photograph. Those of the training split are at Waterbirds' frequencies: digit and
# photograph agree in 95 % of the images.
COUNTS = {"train": (875, 46, 14, 265), "val": (100,) * 4, "test": (100,) * 4}
NOISE = 0.35  # standard deviation, pixels being 0..1
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
    table: "pd.DataFrame"
    images_sha256: str
    coverage: str


def load_images(config: FinetuneConfig | DomainConfig, root: str | Path | None) -> PreparedSet:
    """Return the image set that a configuration names: ROOT/prepared/NAME-SIZE, or the embedded one without files.

    Raises:
        FileNotFoundError, ValueError: the set is not there or damaged; see `load_prepared`.
    """
    if config.row.embedded:
        return {"digits_on_patches": digits_on_patches, "digit_domains": digit_domains}[config.image_set]()
    return load_prepared(config.image_set, config.stored_size, root)


def load_prepared(name: str, size: int, root: str | Path | None) -> PreparedSet:
    """Read ROOT/prepared/NAME-SIZE; nothing is downloaded.

    The table's checksum is compared with the manifest's. The images' is not, since that would read all of them each
    time: only their number, side and type are looked at.

    Args:
        name: a key of `PHOTOGRAPHS` or `DOMAINS`.
        size: side of the stored images, pixels.
        root: the data folder.
    Returns:
        The set; its images are still on the disk.
    Raises:
        FileNotFoundError: folder or file is not there; the message says what is, and what to run.
        ValueError: no root, or what is there is damaged or something else.
    """
    check_choice("name", name, (*PHOTOGRAPHS, *DOMAINS))
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
    columns = ("split", "label", "attribute", "group", "file") if name in PHOTOGRAPHS else ("domain", "class", "file")
    table = _read_table(folder / "table.csv", manifest, columns, again)
    images = _read_images(folder / "images.npy", (len(table), size, size, 3), again)
    return PreparedSet(name, images, table, manifest["sha256"]["images.npy"], manifest["coverage"])


def _check_files(folder: Path, name: str, command: str) -> None:
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
    try:
        manifest = json.loads(path.read_bytes())
        found = {key: manifest[key] for key in expected}
        used = (manifest["coverage"], *(manifest["sha256"][file] for file in _FILES[:2]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a manifest, could not read it ({error!r}); {again}") from error
    if found != expected or not all(isinstance(word, str) for word in used):
        raise ValueError(f"{path}: expected {expected}, got {found}; {again}")
    return manifest


def _read_table(path: Path, manifest: dict[str, Any], columns: tuple[str, ...], again: str) -> "pd.DataFrame":
    import pandas as pd

    content = path.read_bytes()
    digest, stated = hashlib.sha256(content).hexdigest(), manifest["sha256"]["table.csv"]
    if digest != stated:
        raise ValueError(f"{path}: expected SHA-256 {stated} as in the manifest, got {digest}; {again}")
    words = dict.fromkeys(("domain", "class", "file"), str)  # folders may be called 001, and are sorted as text
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=words)
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
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected an array of shape {shape}, could not map it ({error}); {again}") from error
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 of shape {shape}, got {images.dtype} of shape {images.shape}; {again}"
        )
    return images


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
    import pandas as pd

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


def digit_domains() -> PreparedSet:
    """Deal scikit-learn's 1,797 digits into four domains and draw each in its domain's manner. Always the same images.

    Returns:
        Images of 32 x 32 pixels, no digit in two domains; columns domain, class ("0" to "9") and file (empty), sorted.

    >>> digit_domains().images.shape
    (1797, 32, 32, 3)
    """
    import pandas as pd
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    generator = stream(0, "digit domains")
    order = torch.randperm(len(digits), generator=generator)
    images, labels = torch.from_numpy(values / 16).float().view(-1, 8, 8)[order], digits[order.numpy()]
    domains = DOMAINS["digit_domains"].domains
    parts, tables = [], []
    for i, domain in enumerate(domains):
        part = slice(i, None, len(domains))
        by_class = np.argsort(labels[part], kind="stable")
        parts.append(draw_in(domain, images[part][torch.from_numpy(by_class)], generator=generator))
        tables.append(pd.DataFrame({"domain": domain, "class": labels[part][by_class].astype(str), "file": ""}))
    pixels = (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)
    array = enlarge(pixels).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return PreparedSet("digit_domains", array, pd.concat(tables, ignore_index=True), digest, "full")


def draw_in(
    domain: str, images: Float[Tensor, "example 8 8"], *, generator: torch.Generator
) -> Float[Tensor, "example 8 8"]:
    """Redraw images in a domain's manner: as they are, white for black, thickened, or noisy.

    Args:
        domain: one of the domains of "digit_domains".
        images: 0..1.
        generator: draws the noise; the other domains do not touch it.
    Returns:
        A new tensor ("plain" gives the images themselves); noise may leave 0..1.
    Raises:
        ValueError: another domain.

    >>> draw_in("inverted", torch.zeros(1, 8, 8), generator=torch.Generator()).min().item()
    1.0
    """
    check_choice("domain", domain, tuple(DOMAINS["digit_domains"].domains))
    if domain == "inverted":
        return 1 - images
    if domain == "thick":  # each pixel takes the largest of its 3 x 3 neighbourhood
        return nn.functional.max_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]
    if domain == "noisy":
        return images + NOISE * torch.randn(images.shape, generator=generator, dtype=torch.float32)
    return images
