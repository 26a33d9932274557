"""Outputs of a backbone's frozen part: computed once for all runs that share them, and kept on disk."""

import contextlib
import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samlib.files import remove_leftovers, write_atomically
from samlib.images.augment import centre_view
from samlib.images.backbones import Backbone, repeatable, state_sha256
from samlib.images.image_sets import PreparedSet
from samlib.shapes import Float, Int64

CHUNK = 32  # images a forward pass; on a CPU, DenseNet-121 is slower with 128
DIGEST_BYTES = 32  # of SHA-256


def stored_activations(
    data: PreparedSet,
    rows: Int64[Tensor, " row"],
    backbone: Backbone,
    *,
    image_size: int,
    mirrored: bool,
    folder: Path | None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "row channel height width"]:
    """Return the frozen part's outputs for some images, from the disk if they have been computed before.

    They are kept in FOLDER/activations/KEY.npy, where KEY depends on the images, rows, crop and frozen weights. Of
    several processes that ask for the same outputs, one computes and the others wait. A damaged file is computed again.
    The folder may be deleted whenever nothing is running.

    Args:
        data: images, and their checksum as their name.
        rows: numbers of images in `data`, in any order.
        backbone: its lower part is used, on `device` already.
        image_size: side of the middle crop, pixels.
        mirrored: whether crops are flipped left to right.
        folder: where to keep them; None, or one that cannot be written, keeps nothing.
        device: where to compute, in single precision.
    Returns:
        A new tensor on the CPU, half precision.
    Side effects:
        Writes the file, and a lock file beside it while it computes.
    """

    @torch.no_grad()
    def compute() -> Tensor:
        parts = []
        with repeatable():
            for chunk in rows.cpu().split(CHUNK):
                view = centre_view(torch.from_numpy(data.images[chunk.numpy()]).to(device), image_size)
                view = view.flip(3) if mirrored else view
                parts.append(backbone.lower(view.contiguous(memory_format=backbone.memory_format)).half().cpu())
        return torch.cat(parts).contiguous()

    if folder is None:
        return compute()
    from filelock import FileLock

    path = folder / "activations" / f"{_key(data, rows, backbone, image_size, mirrored, device)}.npy"
    found = _read(path)  # without the lock: whole files only appear there
    if found is None:
        with contextlib.suppress(OSError):  # not writable, or the disk is full
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                found = _read(path)  # another process may have written it meanwhile
                if found is None:
                    remove_leftovers(path)
                    found = compute()
                    _write(path, found)
    return compute() if found is None else found


def _key(
    data: PreparedSet, rows: Tensor, backbone: Backbone, image_size: int, mirrored: bool, device: torch.device | str
) -> str:
    """Name what decides the outputs: images, rows, crop, frozen weights, and what rounds: device and library."""
    digest = hashlib.sha256()
    weights = state_sha256(backbone.lower.state_dict())
    rounding = f"{torch.device(device).type} {torch.__version__}"
    for part in (data.images_sha256, str(image_size), str(mirrored), backbone.name, weights, rounding):
        digest.update(f"{part}\n".encode())
    digest.update(rows.cpu().to(torch.int64).numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(path: Path, values: Tensor) -> None:
    """Write the array and, after it, the SHA-256 of its file, which numpy.load does not look at."""
    file = io.BytesIO()
    np.save(file, values.numpy())
    contents = file.getbuffer()
    digest = hashlib.sha256(contents).digest()
    write_atomically(path, lambda target: (target.write(contents), target.write(digest)))


def _read(path: Path) -> Tensor | None:
    """Read a file; None if it is not there or damaged."""
    try:
        contents = memoryview(path.read_bytes())
    except OSError:
        return None
    array, digest = contents[:-DIGEST_BYTES], contents[-DIGEST_BYTES:]
    if hashlib.sha256(array).digest() != digest:
        return None
    return torch.from_numpy(np.load(io.BytesIO(array)))
