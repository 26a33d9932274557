"""Records: one JSON file a run (arrays beside it in npz), addressed by the run's configuration.

A record is written once, atomically, and never changed. Its id is a hash of kind, schema and the configuration's
differences from the defaults: another configuration has another id, a new field with a default that keeps the old
behaviour leaves every id as it is, and a changed default makes old records untrusted by name. A changed schema makes
them stale: they stay where they are until the run is done again.
"""

import contextlib
import hashlib
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edition.records.kinds import KINDS
from samlib.config import differences, from_dict, to_dict
from samlib.files import write_atomically


class RecordError(ValueError):
    """A record that cannot be read or trusted; the message names the file."""


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        kind: which code made it, such as "toy".
        id: address, 12 hexadecimal digits.
        config: the configuration as plain values.
        metrics: numbers and lists; units and meaning are those of the code that made them.
        provenance: source revision, versions, machine, wall seconds, UTC time.
        path: the JSON file.
        array_names: names of the arrays beside it.
        arrays_sha256: checksum of these arrays.
    """

    kind: str
    id: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    path: Path
    array_names: tuple[str, ...] = ()
    arrays_sha256: str | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the arrays beside the record.

        Raises:
            RecordError: the npz file is missing, damaged or not the one that was written with the record.
        """
        path = self.path.with_suffix(".npz")
        try:
            with path.open("rb") as raw, np.load(raw) as file:
                found = {name: file[name] for name in self.array_names}
            if found and _arrays_checksum(found) != self.arrays_sha256:
                raise ValueError("they do not match the record's checksum of them")
            return found
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RecordError(
                f"{path}: expected arrays {list(self.array_names)}, could not read them ({error}); "
                f"restore the file from version control or delete the record and run it again"
            ) from error


def record_id(kind: str, config: Any) -> str:
    """Address of a run: the first 12 hexadecimal digits of SHA-256 over kind, schema and what differs from defaults.

    Args:
        kind: a key of `KINDS`.
        config: the configuration, an instance of `KINDS[kind].config`.
    Raises:
        ValueError: unknown kind.
        TypeError: a configuration of another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {sorted(KINDS)}, got {kind!r}; add its row to KINDS")
    if not isinstance(config, KINDS[kind].config):
        raise TypeError(
            f"config: expected a {KINDS[kind].config.__name__} for kind {kind!r}, got {type(config).__name__}"
        )
    config = from_dict(KINDS[kind].config, to_dict(config))  # rho = 1 and rho = 1.0 are one run
    text = _canonical({"kind": kind, "schema": KINDS[kind].schema, "config": differences(config)})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """A folder of records, one sub-folder a kind.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def work(self) -> Path:
        """Folder of locks and checkpoints of runs under way; not part of the results."""
        return self.root / ".work"

    def path(self, kind: str, config: Any) -> Path:
        """Return where the record of this run is or would be."""
        return self.root / kind / f"{record_id(kind, config)}.json"

    def find(self, kind: str, config: Any) -> Record | None:
        """Return the record of this run, or None where there is none.

        Raises:
            RecordError: there is one, and it cannot be read or trusted.
        """
        path = self.path(kind, config)
        return read_record(path) if path.exists() else None

    def all(self) -> Iterator[Record]:
        """Yield every record, by kind and id.

        Raises:
            RecordError: one cannot be read or trusted.
        """
        stale = set(self.stale().values())
        for kind in sorted(KINDS):
            for path in self._files(kind):
                if path not in stale:
                    yield read_record(path)

    def stale(self) -> dict[tuple[str, Any], Path]:
        """Find the records of earlier schemas: (kind, configuration) -> file.

        Raises:
            RecordError: one cannot be read, or its configuration is not one of this code's.
        """
        found: dict[tuple[str, Any], Path] = {}
        for kind, row in KINDS.items():
            for path in self._files(kind):
                body = _read(path)
                if not isinstance(body["schema"], int) or body["schema"] >= row.schema:
                    continue
                try:
                    found[kind, from_dict(row.config, body["config"])] = path
                except (TypeError, ValueError) as error:
                    raise RecordError(
                        f"{path}: expected a configuration of this code, got another ({error}); delete the record"
                    ) from error
        return found

    def _files(self, kind: str) -> list[Path]:
        """List the files that have a record's name; what systems and editors leave beside them has others."""
        return sorted(path for path in (self.root / kind).glob("*.json") if re.fullmatch("[0-9a-f]{12}", path.stem))

    def write(
        self,
        kind: str,
        config: Any,
        *,
        metrics: dict[str, Any],
        arrays: dict[str, np.ndarray],
        provenance: dict[str, Any],
    ) -> Record:
        """Write one record atomically: arrays first, then the JSON that names them.

        Args:
            kind: a key of `KINDS`.
            config: the configuration, an instance of `KINDS[kind].config`.
            metrics, provenance: plain values. Numbers that are not finite are stored as null.
            arrays: stored beside the record, compressed.
        Raises:
            RecordError: a record of this run exists already (it is left as it is), or the folder is not writable.
        """
        path = self.path(kind, config)
        if path.exists():
            raise RecordError(
                f"{path}: expected no record of this run, found one; it was left as it is: delete it first"
            )
        body = {
            "schema": KINDS[kind].schema,
            "kind": kind,
            "id": path.stem,
            "config": to_dict(config),
            "metrics": finite(metrics),
            "array_names": sorted(arrays),
            "provenance": provenance,
        }
        if arrays:
            body["arrays_sha256"] = _arrays_checksum(arrays)
        body["sha256"] = checksum(body)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if arrays:
                write_atomically(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
            write_atomically(path, lambda file: file.write(_pretty(body).encode()), replace=False)
        except OSError as error:
            with contextlib.suppress(OSError):
                if not path.exists():  # arrays without a record would be nobody's
                    path.with_suffix(".npz").unlink(missing_ok=True)
            raise RecordError(
                f"{path}: expected to write a record, got {error}; make the folder writable, free some "
                f"space, or name another folder (--store; SAMLIB_RESULTS for reduced profiles). Earlier records are "
                f"untouched"
            ) from error
        return read_record(path)


def read_record(path: Path) -> Record:
    """Read and check one record.

    Args:
        path: its JSON file.
    Raises:
        RecordError: the file is missing, truncated, edited by hand, of another schema, or under another name than
            its configuration's address.
    """
    body = _read(path)
    kind, schema = body["kind"], body["schema"]
    expected = KINDS[kind].schema if kind in KINDS else None
    if expected != schema:
        raise RecordError(
            f"{path}: expected schema {expected} of kind {kind!r}, got schema {schema}; it was written by "
            f"another version of the code: delete it and run it again"
        )
    wrong = _distrust(body, path.stem)
    if wrong:
        raise RecordError(
            f"{path}: expected an unchanged record, but {wrong}; restore it from version control or delete it and "
            f"run it again"
        )
    return Record(
        kind,
        body["id"],
        body["config"],
        body["metrics"],
        body["provenance"],
        path,
        tuple(body["array_names"]),
        body.get("arrays_sha256"),
    )


def _read(path: Path) -> dict[str, Any]:
    """Read a record's JSON and make sure that it says what it is."""
    try:
        body = json.loads(path.read_text())
        body["kind"], body["schema"], body["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: expected a record (JSON), could not read it ({error}); restore it from version control or "
            f"delete it and run it again"
        ) from error
    return body


def _distrust(body: dict[str, Any], name: str) -> str | None:
    """Say what is wrong with a record's contents, or None."""
    try:
        if body.get("sha256") != checksum(body):
            return "the contents do not match the record's own checksum"
    except ValueError as error:  # NaN, which no record holds
        return f"it holds what no record does ({error})"
    try:
        address = record_id(body["kind"], from_dict(KINDS[body["kind"]].config, body["config"]))
    except (TypeError, ValueError) as error:
        return f"its configuration is not one of this code's ({error})"
    if not name == body["id"] == address:
        return f"its configuration's address is {address}"
    return None


def checksum(body: dict[str, Any]) -> str:
    """SHA-256 of everything in the record but the checksum itself."""
    return hashlib.sha256(_canonical({k: v for k, v in body.items() if k != "sha256"}).encode()).hexdigest()


def _arrays_checksum(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of arrays: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _pretty(body: dict[str, Any]) -> str:
    """JSON with one line a metric, so that a person can read it and a diff stays short."""
    inner = {
        key: "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
        if isinstance(value, dict)
        else json.dumps(value)
        for key, value in body.items()
    }
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {text}" for key, text in inner.items()) + "\n}\n"


def finite(value: Any) -> Any:
    """Replace numbers that are not finite by None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
