"""`python -m data_scripts.fetch NAME --root DIR`: download the official release of a data set into a data folder.

NAME is a data set, `all`, or `list` (what there is, how large, under which terms, and what the folder has). The files
land where `samlib` and `data_scripts.prepare` read them, whole and checked or not at all. An interrupted download goes
on where it stopped; a dead address gives way to the next; an existing file is never overwritten. What came, from where
and with which checksum is written to DIR/downloads/NAME.json.
"""

import argparse
import contextlib
import functools
import shutil
import sys
from pathlib import Path

import filelock
import pooch

from data_scripts import DataError, data_root, explained, run_command
from data_scripts.archives import unpack
from data_scripts.disk import move
from data_scripts.download import checksum, download
from data_scripts.receipts import DOWNLOADS, add_receipt, read_receipts
from data_scripts.sources import SOURCES, RemoteFile, Source
from edition.console import run_piped
from samlib.files import write_atomically


def is_there(file: RemoteFile, root: Path) -> bool:
    """Whether a file, or the folder an archive becomes, lies in its place."""
    path = root / file.path
    if file.holds:
        return path.is_dir() and any(path.iterdir())
    unpacked = path.with_suffix("") if path.suffix == ".gz" else path  # idx files are read either way
    return path.is_file() or unpacked.is_file()


def state(source: Source, root: Path) -> str:
    """Say what a data folder has of a set: "present", "absent", or something between."""
    if stand_in := next((path for path in source.instead if (root / path).exists()), None):
        return f"present ({stand_in})"
    there = sum(is_there(file, root) for file in source.files)
    if there == len(source.files):
        return "present"
    parts = sum(part.stat().st_size for part in (root / DOWNLOADS / source.name).glob("*.part"))
    begun = f", {size_text(parts)} of a download" if parts else ""
    return f"{there} of {len(source.files)} files{begun}" if there or begun else "absent"


def fetch(source: Source, root: Path) -> None:
    """Bring a set into a data folder; what is there already stays as it is.

    Args:
        source: the set.
        root: the data folder; made if it does not exist.
    Raises:
        DataError: a file could not be had, is not what it should be, or the disk is full. What has come is kept.
    Side effects:
        Writes files and prints what happens.
    """
    folder = root / DOWNLOADS / source.name
    if state(source, root).startswith("present"):
        _clear(folder, *read_receipts(source.name, root))  # archives that a kill left after they were unpacked
        _check_present(source, root)
        print(f"{source.name}: {state(source, root)}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            _show_notice(source, root)
            _clear(folder, "tmp*")  # pooch's, from a run that was killed
            for file in source.files:
                if not is_there(file, root):
                    _bring(file, source, root)
            _clear(folder, "*.part", "*.from", "lock")
        with contextlib.suppress(OSError):  # a reader's file stays, and so does the folder
            folder.rmdir()
    except filelock.Timeout as error:
        raise DataError(f"{folder}: another fetch works there; wait for it to end") from error
    _check_present(source, root)
    print(f"{source.name}: fetched into {root}")


def _clear(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _bring(file: RemoteFile, source: Source, root: Path) -> None:
    """Download one file and put it, or what it holds, in its place."""
    folder, target = root / DOWNLOADS / source.name, root / file.path
    receipts = read_receipts(source.name, root).values()
    receipt = download(file, folder, {entry["url"]: f"sha256:{entry['sha256']}" for entry in receipts})
    written = functools.partial(add_receipt, source.name, root, receipt)
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.holds:
        space = target.parent / f".{source.name}-unpacked"
        unpack(folder / file.name, target, holds=file.holds, space=space, whole=written)
        (folder / file.name).unlink()
    else:
        written()  # before the file is in its place: once it is, nobody asks for it again
        move(folder / file.name, target)


def _check_present(source: Source, root: Path) -> None:
    """Compare files in their places with their checksums; a reader's own version is named, not refused."""
    for file in source.files:
        path = root / file.path
        expected = next((mirror.checksum for mirror in file.mirrors if mirror.checksum), None)
        if file.holds or not expected or not path.is_file():
            continue
        found = checksum(path, expected)
        if found != expected and source.own_version:
            print(f"{source.name}: {path} is not the official file (a subset?); prepare records how it differs")
        elif found != expected:
            raise DataError(f"{path}: expected {expected}, got {found}; delete the file and fetch it again")


def _show_notice(source: Source, root: Path) -> None:
    """Print the terms before the first download into a folder."""
    shown = root / DOWNLOADS / f"{source.name}-terms.txt"
    text = f"{source.title}\n{source.page}\n{source.notice}\n"
    if not shown.exists():
        print(text)
        write_atomically(shown, lambda out: out.write(text.encode()))


def plan(source: Source, root: Path) -> str:
    """Return what `fetch` would do, without doing it: addresses, checksums, sizes."""
    found = state(source, root)
    lines = [f"{source.name}: {source.title}; {source.terms}; {found}"]
    if found.startswith("present"):
        return lines[0]
    missing = [file for file in source.files if not is_there(file, root)]
    for file in missing:
        about = "" if file.exact else "about "
        lines.append(f"  {file.name}, {about}{size_text(file.size)} -> {root / file.path}")
        for mirror in file.mirrors:
            vouched = f"{mirror.checksum} (stated by {mirror.stated_by})"
            lines.append(f"    {mirror.url}\n      {vouched if mirror.checksum else 'no checksum stated: first use'}")
    about = "" if all(file.exact for file in missing) else "about "
    total = f"to download: {about}{size_text(sum(file.size for file in missing))}"
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    return "\n".join([*lines, f"  {total}; free: {size_text(shutil.disk_usage(existing).free)}"])


def size_text(size: float) -> str:
    """Return a number of bytes for people.

    >>> size_text(170_498_071)
    '170 MB'
    """
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def overview(root: Path) -> str:
    """Return a line a set: name, size, terms, and what the folder has of it."""
    lines = []
    for source in SOURCES.values():
        about = "" if all(file.exact for file in source.files) else "~"
        size = about + size_text(sum(file.size for file in source.files))
        lines.append(f"{source.name:13}{size:>8}  {source.terms:55}{state(source, root)}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do it; the exit status is 1 where a set could not be had."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.fetch", description="Fetch official data sets.")
    names = (*SOURCES, "all", "list")
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--root", help="the data folder; left out, $SAMLIB_DATA")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, from where and how large")
    given = parser.parse_args(arguments)
    return run_command(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    """Do what the command line asks for; a set that fails does not keep the others waiting."""
    root = data_root(given.root)
    if given.name == "list":
        print(overview(root))
        return 0
    names = list(SOURCES) if given.name == "all" else [given.name]
    if given.dry_run:
        print("\n".join(plan(SOURCES[name], root) for name in names))
        return 0
    pooch.get_logger().setLevel("WARNING")  # it would advise a reader to put a checksum into code
    failed = []
    for name in names:
        try:
            fetch(SOURCES[name], root)
        except (DataError, OSError) as error:
            print(f"error: {name}: {explained(error)}", file=sys.stderr)
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(run_piped(main))
