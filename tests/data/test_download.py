"""A download is whole and checked, goes on where it was cut, and falls back on the next mirror."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from read_only import ROOT, private_mounts

from data_scripts import DataError, download
from data_scripts.disk import NoSpaceError
from data_scripts.sources import Mirror, RemoteFile

CONTENT = (bytes(range(256)) * 400)[:-22] + b"PK\5\6" + bytes(18)  # 102,400 bytes that end as a zip archive does
OTHER = CONTENT[::-1]


def checksum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def remote(*urls: str, checksum: str | None = None) -> RemoteFile:
    """An archive with the same checksum at each address."""
    mirrors = tuple(Mirror(url, checksum, "a test") for url in urls)
    return RemoteFile("a.bin", "a.bin", len(CONTENT), mirrors, holds=("photo",))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cut_once(server, tmp_path, monkeypatch):
    """Begins the download of some content, which ends after 1,000 bytes; returns the address and the part."""

    def begin(content: bytes) -> tuple[str, Path]:
        url = server.add("/a.bin", content, ("cut", 1000))
        with monkeypatch.context() as patch, pytest.raises(DataError, match="cut after 1,000 of 102,400 bytes"):
            patch.setattr(download, "ATTEMPTS", 1)
            download.download(remote(url), tmp_path, {})
        assert not (tmp_path / "a.bin").exists()
        server.add("/a.bin", CONTENT)
        return url, next(tmp_path.glob("*.part"))

    return begin


ANSWERS = {  # what the server does wrong, which parts it is then asked for
    "all goes well": ((), [None]),
    "cut twice": ((("cut", 1000), ("cut", 500)), [None, "bytes=1000-", "bytes=1500-"]),
    "cut often, but further on each time": ((("cut", 100),) * 8, [None, *(f"bytes={n}00-" for n in range(1, 9))]),
    "silent in the middle": ((("stall", 1000),), [None, "bytes=1000-"]),
    "the whole file instead of the rest": ((("cut", 1000), ("whole",)), [None, "bytes=1000-"]),
    "busy": ((("status", 503), ("status", 429)), [None, None, None]),
    "cut, and nothing says which version it was": ((("undated", 1000),), [None, None]),
    "no length": ((("no length", len(CONTENT)),), [None]),
}


@pytest.mark.parametrize(("faults", "ranges"), ANSWERS.values(), ids=ANSWERS)
def test_a_file_arrives_whole_and_alone_from_where_it_was_cut(server, tmp_path, monkeypatch, faults, ranges):
    monkeypatch.setattr(download, "TIMEOUT", 0.3 if ("stall", 1000) in faults else 5.0)
    url = server.add("/a.bin", CONTENT, *faults)
    receipt = download.download(remote(url, checksum=checksum(CONTENT)), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]
    assert server.ranges("/a.bin") == ranges
    assert receipt["url"] == url and receipt["bytes"] == 102_400 and "stated by a test" in receipt["trust"]
    assert f"sha256:{receipt['sha256']}" == checksum(CONTENT)


BAD = {  # what the first mirror has, its faults, the checksum that is stated, words, requests
    "wrong sha256": (OTHER, (), "sha256", f"{checksum(CONTENT)} but got {checksum(OTHER)[7:]}", 1),
    "wrong md5": (OTHER, (), "md5", f"{checksum(CONTENT, 'md5')} but got {checksum(OTHER, 'md5')[4:]}", 1),
    "gone": (CONTENT, (("status", 404),), "md5", "HTTP 404", 1),
    "a web page": (b"<html>Quota exceeded</html>", (("page",),), "md5", "got a web page, no file", 1),
    "no archive": (OTHER, (), None, "expected a zip or tar archive", 1),
    "another part than the rest": (CONTENT, (("cut", 9), ("shifted",)), None, "bytes 9-, got bytes 10-", 2),
    "no progress": (CONTENT, (("cut", 100), *[("cut", 0)] * 9), None, "cut after 100 of 102,400 bytes", 3),
    "silence": (CONTENT, (("stall", 0),) * 3, None, "timed out", 3),
}


@pytest.mark.parametrize(("content", "faults", "kind", "words", "requests"), BAD.values(), ids=BAD)
def test_what_is_not_the_file_gives_way_to_the_next_mirror(
    server, tmp_path, monkeypatch, capsys, content, faults, kind, words, requests
):
    monkeypatch.setattr(download, "TIMEOUT", 0.3 if words == "timed out" else 5.0)
    bad, good = server.add("/bad", content, *faults), server.add("/good", CONTENT)
    receipt = download.download(remote(bad, good, checksum=kind and checksum(CONTENT, kind)), tmp_path, {})
    assert receipt["url"] == good and (tmp_path / "a.bin").read_bytes() == CONTENT
    assert words in capsys.readouterr().err and len(server.ranges("/bad")) == requests
    assert requests > 1 or names(tmp_path) == ["a.bin"]  # a part is kept, a wrong file is not


NEXT_RUNS = {  # what was cut, what then becomes of the part, the checksum that is stated, where the next run goes on
    "as it was left": (CONTENT, None, None, 1000),
    "of a file that has changed since": (OTHER, None, None, 1000),
    "whole, as if killed before the move": (CONTENT, CONTENT, None, 102_400),
    "with other bytes": (CONTENT, OTHER[:1000], checksum(CONTENT), None),
    "too long": (CONTENT, CONTENT + b"more", None, None),
}


@pytest.mark.parametrize(("first", "part", "stated", "last"), NEXT_RUNS.values(), ids=NEXT_RUNS)
def test_the_next_run_goes_on_with_a_part_or_throws_it_away(server, tmp_path, cut_once, first, part, stated, last):
    url, path = cut_once(first)
    if part:
        path.write_bytes(part)
    download.download(remote(url, checksum=stated), tmp_path, {})
    assert server.ranges("/a.bin")[-1] == (last and f"bytes={last}-")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]


def test_a_run_killed_as_a_changed_file_begins_does_not_mix_the_two(tmp_path, monkeypatch, cut_once):
    url, _ = cut_once(OTHER)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.ResumingDownloader, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        download.download(remote(url), tmp_path, {})
    download.download(remote(url), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_nobody_listening_says_so_for_each_mirror_and_how_to_go_on(server, tmp_path):
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}/gone"
        with pytest.raises(DataError) as caught:
            download.download(remote(gone, f"{gone}2"), tmp_path, {})
    message = str(caught.value)
    assert "from one of 2 addresses" in message and message.count("refused") == 2
    assert f"put it at\n  {tmp_path / 'a.bin'}" in message


def test_a_file_put_there_by_hand_is_checked_and_used_or_named_and_left_alone(server, tmp_path):
    file = remote(server.add("/a.bin", CONTENT), checksum=checksum(CONTENT))
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert f"sha256:{download.download(file, tmp_path, {})['sha256']}" == checksum(CONTENT)
    (tmp_path / "a.bin").write_bytes(OTHER)
    with pytest.raises(DataError, match=f"expected checksum {checksum(CONTENT)}, got {checksum(OTHER)}; delete"):
        download.download(file, tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == OTHER and server.requests == []


def test_too_little_space_is_seen_before_the_download(server, tmp_path, free):
    free(1000)
    with pytest.raises(NoSpaceError, match="expected 102,400 free bytes for the download, got 1,000"):
        download.download(remote(server.add("/a.bin", CONTENT), server.add("/b", CONTENT)), tmp_path, {})
    assert names(tmp_path) == []
    assert server.ranges("/b") == []  # another mirror would not help


FULL = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/data")
from data_scripts import download
from test_download import remote
download.download(remote(sys.argv[1]), Path(sys.argv[2]), {})
"""


def test_a_disk_that_fills_up_on_the_way_is_named(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("no length", len(CONTENT)))  # so that nothing is known beforehand
    small_disk = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'  # seen by the command alone
    script = [sys.executable, "-c", FULL, url, str(tmp_path)]
    own = {"NO_PROXY": "127.0.0.1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [*private_mounts(), "sh", "-c", small_disk, str(tmp_path), *script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | own,
    )
    assert done.returncode == 1
    assert f"NoSpaceError: {tmp_path}: no space left on the disk; free some" in done.stderr


def test_a_full_disk_keeps_what_has_come(server, tmp_path, monkeypatch):
    url = server.add("/a.bin", CONTENT)
    write = download.ResumingDownloader._write

    def full(self, start, chunks):
        write(self, start, [next(chunks)[:1000]])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(NoSpaceError, match=r"no space left on .*it goes on"):
        patch.setattr(download.ResumingDownloader, "_write", full)
        download.download(remote(url, url), tmp_path, {})
    assert len(server.requests) == 1  # another mirror would not help
    download.download(remote(url, checksum=checksum(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-"]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
from data_scripts import download
from data_scripts.sources import Mirror, RemoteFile
chunks = download._chunks
def told(*given):
    for chunk in chunks(*given):
        yield chunk
        print("written", flush=True)
download._chunks = told
download.download(RemoteFile("a.bin", "a.bin", 1, (Mirror(sys.argv[1]),)), Path(sys.argv[2]), {})
"""


def test_a_killed_download_leaves_no_file_and_goes_on(server, tmp_path, killed):
    url = server.add("/a.bin", CONTENT, ("stall", 1000))
    killed(KILLED, url, tmp_path)
    assert not (tmp_path / "a.bin").exists()
    download.download(remote(url, checksum=checksum(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
