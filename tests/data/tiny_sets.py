"""Data sets of a few self-made images in the layouts of the official releases."""

from pathlib import Path

import numpy as np
from PIL import Image

BIRDS = [  # file, y, split, place
    ("a/1.jpg", 0, 0, 0),
    ("a/2.jpg", 0, 0, 1),
    ("b/3.jpg", 1, 0, 1),
    ("b/4.jpg", 1, 1, 0),
    ("b/5.jpg", 1, 2, 1),
]
FACES = [  # file, blond, male, split
    ("000001.jpg", 0, 0, 0),
    ("000002.jpg", 1, 1, 0),
    ("000004.jpg", 1, 0, 1),
    ("000005.jpg", 0, 1, 2),
]


def picture(number: int, width: int = 8, height: int = 8) -> np.ndarray:
    """Pixels of an image, different for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[..., 0] = number
    return pixels


def save(path: Path, pixels: np.ndarray, kind: str = "PNG") -> None:
    """Save an image without loss, whatever its name says; readers go by the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=kind)


def waterbirds(root: Path, rows=tuple(BIRDS), folder: str = "waterbirds_v1.0") -> Path:
    """Five birds; image i has `picture(i)`. Returns metadata.csv."""
    for number, (file, *_) in enumerate(BIRDS):
        save(root / folder / file, picture(number))
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    lines += [f"{i},{file},{y},{split},{place},/x.jpg" for i, (file, y, split, place) in enumerate(rows)]
    (path := root / folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return path


def attribute_lines() -> list[str]:
    """list_attr_celeba.txt, with the wider gaps before positive values that the official file has."""
    names = [f"Attribute_{i}" for i in range(40)]
    names[9], names[20] = "Blond_Hair", "Male"
    lines = [str(len(FACES)), " ".join(names) + " "]
    for file, blond, male, _ in FACES:
        values = ["-1"] * 40
        values[9], values[20] = (" 1" if annotated else "-1" for annotated in (blond, male))
        lines.append(f"{file} {' '.join(values)}")
    return lines


def celeba(root: Path) -> Path:
    """Four faces. Returns the folder of the two text files."""
    folder = root / "celeba"
    for number, (file, *_) in enumerate(FACES):
        save(folder / "img_align_celeba" / file, picture(number))
    (folder / "list_attr_celeba.txt").write_text("\r\n".join(attribute_lines()) + "\r\n")
    (folder / "list_eval_partition.txt").write_text("".join(f"{file} {split}\n" for file, *_, split in FACES))
    return folder


def pacs(root: Path) -> Path:
    """One image a class and domain. Returns the folder."""
    for i, domain in enumerate(("art_painting", "cartoon", "photo", "sketch")):
        for j, kind in enumerate(("dog", "horse")):
            save(root / "PACS" / domain / kind / "1.jpg", picture(10 * i + j))
    return root / "PACS"
