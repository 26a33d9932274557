"""Benchmark records: one JSON file a machine in results/bench, replaced when that machine is measured again."""

import importlib.metadata
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from edition.records.provenance import provenance
from edition.records.store import RecordError, Store, checksum
from samlib.files import write_atomically


def require_writable(store: Store) -> None:
    """Refuse to measure for a quarter of an hour what could not be written down.

    Raises:
        RecordError: no file can be written to the store's folder "bench".
    """
    folder = store.root / "bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RecordError(
            f"{folder}: expected to write a record there, got {error.strerror}; measure without --record, or copy the "
            f"repository to a folder that you may write to and measure in it"
        ) from error


def save(measured: dict[str, Any], store: Store, *, device: str, wall_seconds: float) -> Path:
    """Write what was measured on this machine.

    Args:
        measured: plain values, by benchmark.
        store: the record goes to its folder "bench".
        device: what was measured, "cpu" or "cuda".
        wall_seconds: how long it took.
    Returns:
        The file, named after the processor or GPU.
    """
    source = provenance(device=device, wall_seconds=wall_seconds)
    name = re.sub("[^a-z0-9]+", "-", source["device"].lower()).strip("-")
    return _write({"measured": measured, "provenance": source}, store.root / "bench" / f"{name}.json")


def save_untimed(name: str, rows: list[dict[str, Any]], store: Store, *, wall_seconds: float) -> Path:
    """Write what holds no timing, so that one record serves all machines.

    Args:
        name: "uses" for what `edition.bench.uses.measure_uses` returned, "memory" for `measure_memory`'s.
        rows: that.
        store: the record goes to its folder "uses".
        wall_seconds: how long it took.
    Returns:
        The file.
    """
    source = provenance(device="cpu", wall_seconds=wall_seconds) | {"pytorch_optimizer": _version("pytorch-optimizer")}
    return _write({"measured": rows, "provenance": source}, store.root / "uses" / f"{name}.json")


def load_untimed(name: str, store: Store) -> dict[str, Any] | None:
    """Read the record of `save_untimed`: {"measured": ..., "provenance": ..., "path": ...}; None where there is none.

    Raises:
        RecordError: the file is damaged or was edited.
    """
    path = store.root / "uses" / f"{name}.json"
    return _read(path) if path.exists() else None


def load(store: Store) -> dict[str, dict[str, Any]]:
    """Read the records of all machines: device name -> {"measured": ..., "provenance": ..., "path": ...}.

    Raises:
        RecordError: a file is damaged or was edited.
    """
    found = {}
    for path in sorted((store.root / "bench").glob("*.json")):
        if not re.fullmatch("[a-z0-9-]+", path.stem):
            continue  # not a name that `save` gives: left there by a system or an editor
        body = _read(path)
        found[body["provenance"]["device"]] = body
    return found


def is_gpu(record: dict[str, Any]) -> bool:
    """Whether a record was made on a GPU."""
    return "cores" not in record["provenance"]["device"]


def _write(body: dict[str, Any], path: Path) -> Path:
    """Write a body with its checksum."""
    body["sha256"] = checksum(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write((json.dumps(body, indent=1) + "\n").encode()))
    return path


def _read(path: Path) -> dict[str, Any]:
    """Read what `_write` wrote; refuse anything else."""
    try:
        body = json.loads(path.read_text())
        right = body["sha256"] == checksum(body)
        found = {"measured": body["measured"], "provenance": body["provenance"], "path": path}
        found["provenance"]["device"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: expected a benchmark record, could not read it ({error}); measure again with "
            f"`python -m edition.bench all --record`"
        ) from error
    if not right:
        raise RecordError(f"{path}: expected an unchanged record, its checksum does not match; measure again")
    return found


def _version(package: str) -> str:
    """Version of an installed package, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
