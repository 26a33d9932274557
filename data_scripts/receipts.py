"""What `fetch` wrote down: which file came from where, with which checksum, and who vouches for it."""

import datetime
import json
from pathlib import Path
from typing import Any

from data_scripts import DataError
from samlib.files import write_atomically

DOWNLOADS = "downloads"  # under the data root


def read_receipts(name: str, root: Path) -> dict[str, dict[str, Any]]:
    """Return what earlier fetches of a set wrote down.

    Returns:
        File name -> url, bytes, sha256, trust, utc; empty where nothing was fetched.
    Raises:
        DataError: the file of receipts is damaged.
    """
    path = _path(name, root)
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise DataError(
            f"{path}: expected what an earlier fetch wrote, could not read it ({error}); delete it"
        ) from error


def add_receipt(name: str, root: Path, receipt: dict[str, Any]) -> None:
    """Write down that a file came, beside what came before; `receipt` names it as "file"."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    receipts = read_receipts(name, root) | {receipt["file"]: receipt | {"utc": now}}
    text = json.dumps(receipts, indent=1) + "\n"
    write_atomically(_path(name, root), lambda out: out.write(text.encode()))


def _path(name: str, root: Path) -> Path:
    return root / DOWNLOADS / f"{name}.json"
