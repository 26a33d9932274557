"""A download is whole and checked, goes on where it was cut, and falls back on the next mirror."""

import dataclasses
import errno
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from data_scripts import DataError, download
from data_scripts.disk import NoSpaceError
from data_scripts.sources import Mirror, RemoteFile

ROOT = Path(__file__).resolve().parent.parent.parent
CONTENT = bytes(range(256)) * 400  # 102,400 bytes
OTHER = CONTENT[::-1]


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def remote(*urls: str, checksum: str | None = None) -> RemoteFile:
    """A file with the same checksum at each address."""
    return RemoteFile("a.bin", "a.bin", len(CONTENT), tuple(Mirror(url, checksum, "a test") for url in urls))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def archive() -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w") as file:
        file.writestr("photo/1.jpg", b"1")
    return held.getvalue()


@pytest.fixture
def cut_once(server, tmp_path, monkeypatch):
    """Begins the download of some content, which ends after 1,000 bytes; returns the file."""

    def begin(content: bytes) -> RemoteFile:
        file = remote(server.add("/a.bin", content, ("cut", 1000)))
        with monkeypatch.context() as patch, pytest.raises(DataError, match="cut after 1,000 of 102,400 bytes"):
            patch.setattr(download, "ATTEMPTS", 1)
            download.download(file, tmp_path, {})
        assert not (tmp_path / "a.bin").exists()
        return file

    return begin


def test_a_good_file_arrives_whole_and_alone(server, tmp_path):
    url = server.add("/a.bin", CONTENT)
    receipt = download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]
    assert receipt["url"] == url and receipt["bytes"] == 102_400 and "stated by a test" in receipt["trust"]
    assert sha256(CONTENT) == f"sha256:{receipt['sha256']}"


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing(server, tmp_path, kind):
    right, wrong = (hashlib.new(kind, content).hexdigest() for content in (CONTENT, OTHER))
    file = remote(server.add("/a.bin", OTHER), checksum=f"{kind}:{right}")
    with pytest.raises(DataError, match=f"expected {kind}:{right} but got {wrong}"):
        download.download(file, tmp_path, {})
    assert names(tmp_path) == []
    assert server.ranges("/a.bin") == [None]  # the same bytes would come again


BAD = {  # what the first mirror has, its fault, what is asked of the file, words
    "wrong checksum": (OTHER, ("none",), {}, "but got"),
    "gone": (CONTENT, ("status", 404), {}, "HTTP 404"),
    "a web page": (b"<html>Quota exceeded</html>", ("page",), {}, "got a web page, no file"),
    "no archive": (OTHER, ("none",), {"holds": ("photo",)}, "expected a zip or tar archive"),
}


@pytest.mark.parametrize(("content", "fault", "wanted", "words"), BAD.values(), ids=BAD)
def test_what_is_not_the_file_gives_way_to_the_next_mirror_at_once(
    server, tmp_path, capsys, content, fault, wanted, words
):
    whole = archive() if wanted else CONTENT
    bad, good = server.add("/bad", content, fault), server.add("/good", whole)
    file = remote(bad, good, checksum=None if wanted else sha256(CONTENT))
    receipt = download.download(dataclasses.replace(file, **wanted), tmp_path, {})
    assert receipt["url"] == good and (tmp_path / "a.bin").read_bytes() == whole
    assert server.ranges("/bad") == [None] and words in capsys.readouterr().err
    assert names(tmp_path) == ["a.bin"]


def test_a_truncated_body_goes_on_where_it_ended(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("cut", 1000), ("cut", 500))
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-", "bytes=1500-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_progress_renews_patience(server, tmp_path):
    url = server.add("/a.bin", CONTENT, *[("cut", 100)] * 8)
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert len(server.ranges("/a.bin")) == 9


def test_standing_still_wears_patience_out(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("cut", 100), *[("cut", 0)] * 9)
    with pytest.raises(DataError, match="cut after 100 of 102,400 bytes"):
        download.download(remote(url), tmp_path, {})
    assert len(server.ranges("/a.bin")) == 3  # one that got further, two that did not


def test_a_file_that_changed_in_between_starts_again(server, tmp_path, cut_once):
    file = cut_once(OTHER)
    server.add("/a.bin", CONTENT)  # asks for the rest are answered with the whole new file
    download.download(file, tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_run_killed_as_a_changed_file_begins_does_not_mix_the_two(server, tmp_path, monkeypatch, cut_once):
    file = cut_once(OTHER)
    server.add("/a.bin", CONTENT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.ResumingDownloader, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        download.download(file, tmp_path, {})
    download.download(file, tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_sends_the_whole_file_instead_of_the_rest_is_understood(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("cut", 1000), ("whole",))
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_sends_another_part_is_refused(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("cut", 1000), ("shifted",))
    with pytest.raises(DataError, match="asked for bytes 1000-, got bytes 1001-"):
        download.download(remote(url), tmp_path, {})


def test_without_a_validator_a_cut_download_starts_again(server, tmp_path):
    server.dated = False
    url = server.add("/a.bin", CONTENT, ("cut", 1000))
    download.download(remote(url), tmp_path, {})
    assert server.ranges("/a.bin") == [None, None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, tmp_path, cut_once):
    file = cut_once(CONTENT)
    next(tmp_path.glob("*.part")).write_bytes(CONTENT)  # as if killed between the last byte and the move
    download.download(file, tmp_path, {})
    assert server.ranges("/a.bin")[-1] == f"bytes={len(CONTENT)}-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [OTHER[:1000], CONTENT + b"more"], ids=["other bytes", "too long"])
def test_a_damaged_part_is_thrown_away_and_the_file_fetched_from_its_start(tmp_path, cut_once, damage):
    url = cut_once(CONTENT).mirrors[0].url
    next(tmp_path.glob("*.part")).write_bytes(damage)
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("status", 503), ("status", 429))
    download.download(remote(url), tmp_path, {})
    assert len(server.ranges("/a.bin")) == 3


def test_silence_counts_as_a_cut_connection(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    slow, good = server.add("/slow", CONTENT, *[("stall", 0)] * 3), server.add("/good", CONTENT)
    receipt = download.download(remote(slow, good, checksum=sha256(CONTENT)), tmp_path, {})
    assert receipt["url"] == good
    assert len(server.ranges("/slow")) == 3


def test_silence_in_the_middle_is_followed_by_the_rest(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    url = server.add("/a.bin", CONTENT, ("stall", 1000))
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_nobody_listening_says_so_for_each_mirror_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}/gone"
        with pytest.raises(DataError) as caught:
            download.download(remote(gone, f"{gone}2"), tmp_path, {})
    message = str(caught.value)
    assert "expected the file from one of 2 addresses" in message
    assert message.count("refused") == 2
    assert f"put it at\n  {tmp_path / 'a.bin'}" in message


def test_a_file_put_there_by_hand_is_checked_and_used(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    receipt = download.download(remote(server.url("/a.bin"), checksum=sha256(CONTENT)), tmp_path, {})
    assert receipt["sha256"] == sha256(CONTENT)[7:]
    assert server.requests == []


def test_a_wrong_file_put_there_by_hand_is_named_and_left_alone(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(OTHER)
    with pytest.raises(DataError, match=f"expected checksum {sha256(CONTENT)}, got {sha256(OTHER)}; delete the file"):
        download.download(remote(server.add("/a.bin", CONTENT), checksum=sha256(CONTENT)), tmp_path, {})
    assert (tmp_path / "a.bin").read_bytes() == OTHER


def test_too_little_space_is_seen_before_the_download(server, tmp_path, free):
    free(1000)
    with pytest.raises(NoSpaceError, match="expected 102,400 free bytes for the download, got 1,000"):
        download.download(remote(server.add("/a.bin", CONTENT), server.add("/b", CONTENT)), tmp_path, {})
    assert names(tmp_path) == []
    assert server.ranges("/b") == []  # another mirror would not help


FULL = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/data", "."]
from data_scripts import download
from test_download import remote
download.download(remote(sys.argv[1]), Path(sys.argv[2]), {})
"""


def on_small_disk(folder: Path, size: str, *command: str) -> subprocess.CompletedProcess:
    """Run a command with a disk of a size mounted at folder, seen by it alone."""
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(folder), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
    )


def test_a_disk_that_fills_up_on_the_way_is_named(server, tmp_path):
    if shutil.which("unshare") is None or on_small_disk(tmp_path, "64k", "true").returncode:
        pytest.skip("no private mounts here: the simulated test below stands alone")
    url = server.add("/a.bin", CONTENT, ("no length",))  # so that nothing is known beforehand
    done = on_small_disk(tmp_path, "64k", sys.executable, "-c", FULL, url, str(tmp_path))
    assert done.returncode == 1
    assert f"NoSpaceError: {tmp_path}: no space left on the disk; free some" in done.stderr


def test_a_full_disk_keeps_what_has_come(server, tmp_path, monkeypatch):
    url = server.add("/a.bin", CONTENT)
    write = download.ResumingDownloader._write

    def full(self, start, chunks):
        write(self, start, [next(chunks)[:1000]])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download.ResumingDownloader, "_write", full)
        with pytest.raises(NoSpaceError, match="it goes on"):
            download.download(remote(url, url), tmp_path, {})
    assert len(server.requests) == 1  # another mirror would not help
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-"]


def test_a_killed_download_leaves_no_file_and_goes_on(server, tmp_path):
    url = server.add("/a.bin", CONTENT, ("stall", 1000))
    running = subprocess.Popen([sys.executable, "-c", FULL, url, str(tmp_path)], cwd=ROOT)
    try:
        while not any(part.stat().st_size == 1000 for part in tmp_path.glob("*.part")):
            assert running.poll() is None
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert not (tmp_path / "a.bin").exists()
    download.download(remote(url, checksum=sha256(CONTENT)), tmp_path, {})
    assert server.ranges("/a.bin") == [None, "bytes=1000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
