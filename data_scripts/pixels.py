"""From image files to square uint8 arrays, in several processes."""

import functools
import hashlib
import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

SAMPLE = 64  # images that are looked at to learn a set's size
RESAMPLING = "PIL bicubic with antialiasing"


class Pixels(NamedTuple):
    """One image, read.

    Attributes:
        values: size x size x 3 bytes, red, green, blue; empty where the image does not decode.
        digest: SHA-256 of the file.
        resized: whether the file had another size.
        problem: why the image does not decode, or only in part; "" where it does.
    """

    values: bytes
    digest: bytes
    resized: bool = False
    problem: str = ""


def read_image(path: Path, *, size: int, fit: str, accept_truncated: bool) -> Pixels:
    """Decode an image, make it square, and resize it.

    Rotation marks in the file are not heeded, as in torchvision's loaders; transparent pixels lose their transparency.

    Args:
        path: the image file.
        size: side of the result, pixels.
        fit: "squash", or "crop" to the middle of the longer side.
        accept_truncated: whether an image of which the end is missing is filled up with grey.
    Returns:
        The pixels, or what is wrong with them.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).digest()
    try:
        return _decode(content, digest, size, fit)
    except Exception as error:  # PIL's decoders raise whatever a damaged file drives them to
        problem = f"{type(error).__name__}: {error}"
    if accept_truncated:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return _decode(content, digest, size, fit)._replace(problem=problem)
        except Exception:
            pass
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
    return Pixels(b"", digest, problem=problem)


def _decode(content: bytes, digest: bytes, size: int, fit: str) -> Pixels:
    with Image.open(io.BytesIO(content)) as opened:
        image = _eight_bits(opened).convert("RGB")
    resized = image.size != (size, size)
    if resized:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side) if fit == "crop" else None
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return Pixels(image.tobytes(), digest, resized)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale sixteen bits of grey to eight, which PIL would cut off at 255; refuse what has no known range."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    wide = image.mode == "I" and image.format not in ("PNG", "PPM")  # of these PIL reads 16 bits so; of a TIFF, 32
    if image.mode == "F" or wide or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"expected 8 or 16 bits a channel, got mode {image.mode} with values {values.min()} to {values.max()}; "
            f"convert the image to 8 bits"
        )
    return Image.fromarray((values.astype(np.uint32) * 255 // 65535).astype(np.uint8))


def read_images(paths: list[Path], *, size: int, fit: str, accept_truncated: bool, workers: int) -> Iterator[Pixels]:
    """Read images in order.

    Args:
        paths: image files.
        size, fit, accept_truncated: as in `read_image`.
        workers: processes; 1 reads in this one.
    """
    read = functools.partial(read_image, size=size, fit=fit, accept_truncated=accept_truncated)
    if workers == 1:
        yield from map(read, paths)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(read, paths, chunksize=64)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def common_size(paths: list[Path]) -> int | None:
    """Return the side of a set's images where all of a sample are squares of one size, None otherwise.

    Args:
        paths: image files; `SAMPLE` of them, evenly spread, are looked at.
    """
    sizes = set()
    for path in paths[:: max(1, len(paths) // SAMPLE)]:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reading it will say what is wrong
    width, height = sizes.pop() if len(sizes) == 1 else (0, -1)
    return width if width == height else None
