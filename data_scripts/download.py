"""Downloads that survive a cut connection and a dead mirror; pooch checks them and moves them into place."""

import hashlib
import http.client
import os
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pooch
from tqdm import tqdm

from data_scripts import DataError
from data_scripts.disk import full_disk_explained, require_space
from data_scripts.sources import Mirror, RemoteFile

TIMEOUT = 60.0  # seconds without a byte after which a connection counts as cut
ATTEMPTS = 5  # cut connections before the next mirror; one that got further than all before counts as the first
PAUSE = 1.0  # seconds before the second attempt; doubles with every further one
CHUNK = 1 << 18
PASSING = {408, 429, 500, 502, 503, 504}  # HTTP states worth another attempt
BROKEN = (OSError, http.client.HTTPException)  # while talking to a server; a file's errors are told apart


class CutError(Exception):
    """A connection that ended early; what has come is kept."""


class RefusedError(Exception):
    """An answer that another attempt would not change."""


class ResumingDownloader:
    """A pooch downloader that keeps what has come in a file of its own and asks the server for the rest.

    A part goes on only where the server says that the file is still the same (`If-Range` with its ETag or date);
    otherwise it starts again.

    Args:
        part: where the part is kept; its validator lies beside it, with ".from" at the end of its name.
        name: what the progress bar says.
    """

    def __init__(self, part: Path, name: str) -> None:
        self.part = part
        self.validator = part.with_name(part.name + ".from")
        self.name = name
        self.resumed = False

    def __call__(self, url: str, output_file: str, _pooch: Any = None) -> None:
        """Bring the whole file to output_file.

        Raises:
            NoSpaceError: the disk is full; the part is kept.
            RefusedError: the server will not give the file, or a web page in its place.
            CutError: the connection was cut `ATTEMPTS` times without getting further; the part is kept.
        """
        best, failures = 0, 0
        while True:
            try:
                self._receive(url)
                break
            except CutError:
                best, failures = max(best, self._size()), failures + 1 if self._size() <= best else 1
                if failures >= ATTEMPTS:
                    raise
                time.sleep(PAUSE * 2 ** (failures - 1))
        os.replace(self.part, output_file)
        self.validator.unlink(missing_ok=True)

    def forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str) -> None:
        """Make one request, for the rest where there is a part, and write what it brings."""
        start = self._size() if self.validator.exists() else 0
        headers = {"User-Agent": "samlib-data", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": self.validator.read_text()}
        with _open(urllib.request.Request(url, headers=headers)) as response:
            if response.status == 416:  # the part is whole already, or longer than the file
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return
                self.forget()
                raise CutError("the server has no such part")
            if "text/html" in response.headers.get("Content-Type", ""):
                raise RefusedError("got a web page, no file (at Google Drive: its download quota is used up)")
            start = _start(response, asked=start)
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            require_space(self.part.parent, (total or start) - start, "the download")
            self.resumed = self.resumed or start > 0
            if not start:  # an older part must not meet the new validator, whenever this run is killed
                self.forget()
            self._note(response)
            with full_disk_explained(self.part.parent, "free some and run the same command again: it goes on"):
                self._write(start, _chunks(response, self.name, start, total))
        if total is not None and self._size() != total:
            raise CutError(f"the connection was cut after {self._size():,} of {total:,} bytes")

    def _write(self, start: int, chunks: Iterator[bytes]) -> None:
        """Write what comes behind the part's first bytes."""
        with self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            for chunk in chunks:
                file.write(chunk)
                file.flush()  # a killed run keeps it
            os.fsync(file.fileno())

    def _note(self, response: http.client.HTTPResponse) -> None:
        """Keep what identifies this version of the file; without any, a part cannot go on."""
        tag = response.headers.get("ETag", "")
        mark = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        if mark:
            self.validator.write_text(mark)
        else:
            self.validator.unlink(missing_ok=True)


def _open(request: urllib.request.Request) -> Any:
    """Send a request; what a server or a network does wrong becomes a CutError or a RefusedError."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # an answer to work with
            return error
        error.close()
        kind = CutError if error.code in PASSING else RefusedError
        raise kind(f"HTTP {error.code} {error.reason}") from error
    except BROKEN as error:
        raise CutError(f"no connection ({getattr(error, 'reason', error)})") from error


def _start(response: http.client.HTTPResponse, *, asked: int) -> int:
    """Return at which byte the answer begins: 0 where the server sends the whole file."""
    if response.status != 206:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
        raise RefusedError(f"asked for bytes {asked}-, got {response.headers.get('Content-Range')}")
    return asked


def _chunks(response: http.client.HTTPResponse, name: str, start: int, total: int | None) -> Iterator[bytes]:
    """Yield what comes as it comes, under a progress bar (none where standard error is no terminal)."""
    with tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True, disable=None) as bar:
        while True:
            try:
                chunk = response.read1(CHUNK)
            except BROKEN as error:
                raise CutError(f"the connection failed ({error})") from error
            if not chunk:
                return
            bar.update(len(chunk))
            yield chunk


def download(file: RemoteFile, folder: Path, remembered: dict[str, str]) -> dict[str, Any]:
    """Bring a file into a folder, from the first mirror that gives it whole.

    A file of that name in the folder, put there by hand or left by an earlier run, is checked and used.

    Args:
        file: what to bring.
        folder: exists; the result is folder / file.name, unfinished parts lie beside it.
        remembered: URL -> "sha256:..." of an earlier first use.
    Returns:
        What came: file, url, bytes, sha256, and trust: who vouches for the checksum.
    Raises:
        NoSpaceError: the disk is full.
        DataError: no mirror gave the file; the message lists what each did and how to go on by hand.
    """
    target = folder / file.name
    if target.exists():
        return _receipt(file, target, _owner(file, target, remembered))
    problems = []
    for mirror in file.mirrors:
        try:
            _from_mirror(file, mirror, target, remembered.get(mirror.url))
        except (CutError, RefusedError) as error:
            print(f"{file.name}: {mirror.url}: {error}", file=sys.stderr)
            problems.append(f"  {mirror.url}\n    {error}")
        else:
            return _receipt(file, target, mirror)
    raise DataError(
        f"{file.name}: expected the file from one of {len(file.mirrors)} addresses, got it from none:\n"
        + "\n".join(problems)
        + f"\n  Try again later (what has come is kept), or download it with a browser, put it at\n  {target}\n"
        f"  and run the same command again."
    )


def _from_mirror(file: RemoteFile, mirror: Mirror, target: Path, remembered: str | None) -> None:
    """Bring a file from one mirror and check it; a resumed file with a wrong checksum is tried once from its start."""
    key = hashlib.sha256(mirror.url.encode()).hexdigest()[:8]  # a part belongs to one address
    downloader = ResumingDownloader(target.with_name(f"{file.name}.{key}.part"), file.name)
    known = mirror.checksum or remembered
    for _ in range(2):
        downloader.resumed = False
        try:
            pooch.retrieve(mirror.url, known, fname=target.name, path=target.parent, downloader=downloader)
            break
        except ValueError as error:
            if not downloader.resumed:
                hint = "" if mirror.checksum else "; it was another file the first time it was fetched"
                raise RefusedError(f"{error}{hint}") from error
    else:
        raise RefusedError("a wrong checksum, twice")
    if file.holds and not mirror.checksum and not (zipfile.is_zipfile(target) or tarfile.is_tarfile(target)):
        target.unlink()
        raise RefusedError("expected a zip or tar archive, got another kind of file")


def _owner(file: RemoteFile, target: Path, remembered: dict[str, str]) -> Mirror:
    """Find the mirror whose checksum an existing file has; one without a checksum takes any."""
    for mirror in file.mirrors:
        known = mirror.checksum or remembered.get(mirror.url)
        if known is None or checksum(target, known) == known:
            return mirror
    expected = ", ".join(str(mirror.checksum or remembered.get(mirror.url)) for mirror in file.mirrors)
    raise DataError(
        f"{target}: expected checksum {expected}, got {checksum(target, expected)}; delete the file to have it fetched"
    )


def checksum(path: Path, like: str) -> str:
    """Return a file's checksum by the algorithm of another, in the same form ("md5:...", "sha256:...")."""
    algorithm = like.split(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def _receipt(file: RemoteFile, path: Path, mirror: Mirror) -> dict[str, Any]:
    """Describe what came and who vouches for it."""
    vouched = f"{mirror.checksum}, stated by {mirror.stated_by}"
    return {
        "file": file.name,
        "url": mirror.url,
        "bytes": path.stat().st_size,
        "sha256": pooch.file_hash(str(path)),
        "trust": vouched if mirror.checksum else "first use: nobody states a checksum for this address",
    }
