"""Where a result came from: source revision, library versions, machine, time."""

import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "edition", ROOT / "samlib")
LIBRARIES = ("torch", "torchvision", "numpy", "numba", "scikit-learn")


def provenance(*, device: torch.device | str, wall_seconds: float) -> dict[str, Any]:
    """Describe this machine, this code and this moment.

    Args:
        device: where the run computed.
        wall_seconds: how long it took.
    Returns:
        Plain values: source revision (None outside a git checkout), whether the code differs from it, versions,
        device name, thread count, wall seconds, UTC time.
    """
    revision, dirty = loaded_revision()
    return {
        "revision": revision,
        "dirty": dirty,
        "versions": versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "wall_seconds": round(wall_seconds, 3),
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def loaded_revision() -> tuple[str | None, bool | None]:
    """Return the git revision and whether the code differs from it; (None, None) outside a checkout of its own.

    As it was when first asked for, which is when the first run began: what is committed while a run trains is not the
    code that it has loaded.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None, None  # a copy that was installed into a folder below somebody's checkout
        revision = _git("rev-parse", "--short=12", "HEAD")
        return revision, bool(_git("status", "--porcelain", "--", *map(str, SOURCES)))
    except (OSError, subprocess.CalledProcessError):
        return None, None


@functools.cache
def source_digest() -> str:
    """Return the first 12 hexadecimal digits of SHA-256 over the modules of both packages, also outside a checkout."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in SOURCES for path in folder.rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries a number can depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def usable_device(asked: str) -> str:
    """Return where to compute, "cpu" or "cuda": "auto" means the GPU where there is one.

    Raises:
        ValueError: a GPU is asked for, and there is none.
    """
    here = torch.cuda.is_available()
    if asked == "cuda" and not here:
        raise ValueError("device: expected cpu, since there is no GPU here, got cuda; choose cpu")
    return ("cuda" if here else "cpu") if asked == "auto" else asked


def device_name(device: torch.device | str) -> str:
    """Return the model name of the GPU, or of the processor and its core count."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} of {os.cpu_count() or 1} cores"


def processor() -> str:
    """Return the model name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
