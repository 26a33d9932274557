"""The command that brings a data set: archives are unpacked safely, sets appear whole or not at all."""

import errno
import io
import json
import os
import random
import tarfile
import zipfile
from pathlib import Path

import filelock
import pytest

from data_scripts import DataError, download, fetch
from data_scripts.disk import NoSpaceError, move
from data_scripts.sources import SOURCES, Mirror, RemoteFile, Source

PHOTOS = {"kfold/photo/dog/1.jpg": b"dog", "kfold/sketch/dog/2.jpg": b"another dog", "kfold/readme.txt": b"read"}
HOLDS = ("photo", "sketch")


def zipped(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def tarred(files: dict[str, bytes], *odd: tarfile.TarInfo, compression: str = "gz") -> bytes:
    with tarfile.open(fileobj=(held := io.BytesIO()), mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in odd:
            archive.addfile(member)
    return held.getvalue()


def tar_member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def one_archive(url: str, name: str = "tiny") -> Source:
    """A set that is one archive, which becomes the folder Tiny."""
    file = RemoteFile("tiny.zip", "Tiny", 1000, (Mirror(url),), holds=HOLDS)
    return Source(name, "Tiny (Nobody, 2020)", "http://nowhere", "free", "Do as you like.", (file,))


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("inside", ["kfold/", "a/b/", ""], ids=["in a folder", "deep", "at the top"])
def test_an_archive_becomes_its_folder_wherever_that_lies(server, tmp_path, pack, inside):
    files = {name.replace("kfold/", inside): content for name, content in PHOTOS.items()}
    fetch.fetch(one_archive(server.add("/a", pack(files))), tmp_path)
    assert tree(tmp_path / "Tiny") == {name.removeprefix("kfold/"): content for name, content in PHOTOS.items()}
    assert sorted(tree(tmp_path / "downloads")) == ["tiny-terms.txt", "tiny.json"]  # neither archive nor parts


def test_what_came_is_written_down(server, tmp_path):
    url = server.add("/a", zipped(PHOTOS))
    fetch.fetch(one_archive(url), tmp_path)
    receipt = json.loads((tmp_path / "downloads" / "tiny.json").read_text())["tiny.zip"]
    assert receipt["url"] == url
    assert receipt["trust"].startswith("first use")
    assert len(receipt["sha256"]) == 64


def test_an_archive_that_changed_since_its_first_use_is_refused(server, tmp_path):
    source = one_archive(server.add("/a", zipped(PHOTOS)))
    fetch.fetch(source, tmp_path)
    (tmp_path / "Tiny").rename(tmp_path / "Old")
    server.add("/a", zipped(PHOTOS | {"kfold/photo/cat/3.jpg": b"cat"}))
    with pytest.raises(DataError, match="another file the first time"):
        fetch.fetch(source, tmp_path)
    assert not (tmp_path / "Tiny").exists()


ESCAPES = {
    "zip, upwards": zipped(PHOTOS | {"kfold/../../../outside.txt": b"x"}),
    "zip, absolute": zipped(PHOTOS | {"/outside.txt": b"x"}),
    "zip, drive": zipped(PHOTOS | {"c:/outside.txt": b"x"}),
    "zip, backslash": zipped(PHOTOS | {"..\\outside.txt": b"x"}),
    "tar, upwards": tarred(PHOTOS | {"../outside.txt": b"x"}),
    "tar, absolute": tarred(PHOTOS | {"/outside.txt": b"x"}),
}


@pytest.mark.parametrize("content", ESCAPES.values(), ids=ESCAPES)
def test_a_path_that_escapes_is_refused_and_nothing_appears(server, tmp_path, content):
    root = tmp_path / "a" / "b"
    with pytest.raises(DataError, match=r"'.*outside\.txt' would land outside its folder; do not use"):
        fetch.fetch(one_archive(server.add("/a", content)), root)
    assert not (root / "Tiny").exists()
    assert [path for path in tmp_path.rglob("*") if "outside" in path.name or path.name == "unpacked"] == []


def zip_with_link() -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w") as archive:
        link = zipfile.ZipInfo("kfold/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return held.getvalue()


LINKS = {
    "zip, link": zip_with_link(),
    "tar, link": tarred(PHOTOS, tar_member("kfold/link", tarfile.SYMTYPE, "/etc/passwd")),
    "tar, hard link": tarred(PHOTOS, tar_member("kfold/link", tarfile.LNKTYPE, "kfold/readme.txt")),
    "tar, device": tarred(PHOTOS, tar_member("kfold/link", tarfile.CHRTYPE)),
    "tar, pipe": tarred(PHOTOS, tar_member("kfold/link", tarfile.FIFOTYPE)),
}


@pytest.mark.parametrize("content", LINKS.values(), ids=LINKS)
def test_a_link_or_device_is_refused_and_nothing_appears(server, tmp_path, content):
    with pytest.raises(DataError, match="'kfold/link' is a link or a device, no file"):
        fetch.fetch(one_archive(server.add("/a", content)), tmp_path)
    assert not (tmp_path / "Tiny").exists()


def encrypted() -> bytes:
    content = bytearray(zipped(PHOTOS))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at] |= 1
    return bytes(content)


def changed(content: bytes) -> bytes:
    """Flip the bits of a byte inside the first member's data."""
    at = content.index(b"dog/1.jpg") + len(b"dog/1.jpg") + 1
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


LARGE = {"kfold/photo/1.jpg": random.Random(0).randbytes(1_000_000), "kfold/sketch/2.jpg": b"2"}


def flipped(content: bytes, at: int) -> bytes:
    """Flip a bit of one byte; a place below 0 counts from the end."""
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


DAMAGED = {
    "tar cut short": tarred(LARGE)[:-60],
    "tar with a changed header": flipped(plain := tarred(LARGE, compression=""), plain.index(b"kfold/sketch")),
    "tar.gz with a changed checksum": flipped(tarred(LARGE), -8),
    "tar.gz with a changed byte": flipped(tarred(LARGE), 300_000),
    "tar.xz with a changed byte": flipped(tarred(LARGE, compression="xz"), 300_000),
    "tar.bz2 with a changed byte": flipped(tarred(LARGE, compression="bz2"), -50_000),
    "zip with a changed byte": changed(zipped(PHOTOS)),
    "zip with a password": encrypted(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_archive_is_named_and_nothing_appears(server, tmp_path, content):
    with pytest.raises(DataError, match="expected a whole zip or tar archive, could not unpack it"):
        fetch.fetch(one_archive(server.add("/a", content)), tmp_path)
    assert not (tmp_path / "Tiny").exists()
    assert sorted(tree(tmp_path / "downloads")) == ["tiny-terms.txt", "tiny/lock", "tiny/tiny.zip"]


def test_an_archive_of_something_else_is_refused(server, tmp_path):
    with pytest.raises(DataError, match="expected a folder that holds photo, sketch, found none"):
        fetch.fetch(one_archive(server.add("/a", zipped({"kfold/photo/1.jpg": b"1"}))), tmp_path)
    assert not (tmp_path / "Tiny").exists()


def test_an_archive_that_will_not_fit_unpacked_is_refused_before(server, tmp_path, free):
    free(2000)
    source = one_archive(server.add("/a", zipped(PHOTOS | {"kfold/zeros": bytes(100_000)})))
    with pytest.raises(NoSpaceError, match=r"expected 100,018 free bytes for the unpacked archive, got 2,000"):
        fetch.fetch(source, tmp_path)
    assert not (tmp_path / "Tiny").exists()


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(server, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = one_archive(server.add("/a", tarred(PHOTOS)))
    with monkeypatch.context() as patch, pytest.raises(NoSpaceError, match="run the same command again"):
        patch.setattr(tarfile.TarFile, "extract", full)
        fetch.fetch(source, tmp_path)
    assert not (tmp_path / "Tiny").exists()
    fetch.fetch(source, tmp_path)
    assert len(server.requests) == 1  # the archive had been kept


def test_leftovers_of_a_killed_run_do_no_harm(server, tmp_path):
    folder, space = tmp_path / "downloads" / "tiny", tmp_path / ".tiny-unpacked"
    (space / "kfold" / "photo").mkdir(parents=True)
    (space / "kfold" / "stale.jpg").write_bytes(b"half")
    folder.mkdir(parents=True)
    (folder / "tmpabc").write_bytes(b"half")
    fetch.fetch(one_archive(server.add("/a", zipped(PHOTOS))), tmp_path)
    assert "stale.jpg" not in tree(tmp_path / "Tiny")
    assert not folder.exists() and not space.exists()


@pytest.mark.parametrize("first", [True, False])
def test_the_shadow_that_macos_packs_beside_a_folder_is_not_taken_for_it(server, tmp_path, first):
    shadow = {f"__MACOSX/{name.replace('dog/', 'dog/._')}": b"shadow" for name in PHOTOS}
    inner = {f"kfold/old/{name.removeprefix('kfold/')}": b"an inner copy" for name in PHOTOS}
    files = shadow | inner | PHOTOS if first else PHOTOS | inner | shadow
    fetch.fetch(one_archive(server.add("/a", zipped(files))), tmp_path)
    assert tree(tmp_path / "Tiny")["photo/dog/1.jpg"] == b"dog"


def test_a_folder_that_is_a_link_to_another_disk_is_filled(tmp_path, monkeypatch):
    rename = os.rename

    def apart(path, target):
        if Path(path).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(path, target)

    monkeypatch.setattr(os, "rename", apart)
    (tmp_path / "set").mkdir()
    (tmp_path / "b.txt").write_bytes(b"all of it")
    move(tmp_path / "b.txt", tmp_path / "set" / "b.txt")
    assert tree(tmp_path) == {"set/b.txt": b"all of it"}


def test_a_readers_own_file_among_the_downloads_stays(server, tmp_path):
    (folder := tmp_path / "downloads" / "tiny").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    fetch.fetch(one_archive(server.add("/a", zipped(PHOTOS))), tmp_path)
    assert tree(folder) == {"notes.txt": b"mine"}


def test_what_is_there_is_not_fetched_again(server, tmp_path, capsys):
    source = one_archive(server.add("/a", zipped(PHOTOS)))
    fetch.fetch(source, tmp_path)
    fetch.fetch(source, tmp_path)
    assert len(server.requests) == 1
    assert capsys.readouterr().out.endswith("tiny: present\n")


def test_terms_are_shown_once(server, tmp_path, capsys):
    source = one_archive(server.add("/a", b"no archive"))
    for _ in range(2):
        with pytest.raises(DataError):
            fetch.fetch(source, tmp_path)
    assert capsys.readouterr().out.count("Do as you like.") == 1


def test_two_fetches_of_a_set_do_not_meet(server, tmp_path):
    (folder := tmp_path / "downloads" / "tiny").mkdir(parents=True)
    with filelock.FileLock(folder / "lock"), pytest.raises(DataError, match="another fetch works there"):
        fetch.fetch(one_archive(server.add("/a", zipped(PHOTOS))), tmp_path)


def two_files(server, *, own_version: bool) -> Source:
    """A set of two plain files, the second with a checksum that nothing has."""
    files = (
        RemoteFile("a.txt", "x/a.txt", 1, (Mirror(server.add("/a", b"a")),)),
        RemoteFile("b.txt", "x/b.txt", 1, (Mirror(server.add("/b", b"b"), "md5:" + "0" * 32, "a test"),)),
    )
    return Source("tiny", "Tiny", "http://nowhere", "free", "Free.", files, own_version=own_version)


def test_a_file_that_is_there_is_checked_and_never_overwritten(server, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.txt").write_bytes(b"mine")
    source = two_files(server, own_version=False)
    for _ in range(2):  # while another file is missing, and after
        with pytest.raises(DataError, match=r"expected md5:0000.*; delete the file and fetch it again"):
            fetch.fetch(source, tmp_path)
    assert tree(tmp_path / "x") == {"a.txt": b"a", "b.txt": b"mine"}


def test_a_readers_own_version_is_accepted_where_the_set_allows_one(server, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.txt").write_bytes(b"mine")
    fetch.fetch(two_files(server, own_version=True), tmp_path)
    assert "is not the official file (a subset?)" in capsys.readouterr().out
    assert tree(tmp_path / "x")["b.txt"] == b"mine"


@pytest.fixture
def two_sets(server, monkeypatch):
    """The command knows two sets: the first cannot be had, the second can."""
    bad, good = one_archive(server.url("/gone"), "bad"), one_archive(server.add("/a", zipped(PHOTOS)), "good")
    monkeypatch.setattr(fetch, "SOURCES", {"bad": bad, "good": good})


def test_all_goes_on_after_a_failure_and_says_so(two_sets, tmp_path, capsys):
    assert fetch.main(["all", "--root", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "good: fetched" in told.out
    assert "error: bad: tiny.zip: expected the file from one of 1 addresses" in told.err
    assert told.err.endswith("failed: bad\n")


def test_one_set_that_can_be_had_succeeds(two_sets, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLIB_DATA", str(tmp_path))
    assert fetch.main(["good"]) == 0
    assert (tmp_path / "Tiny" / "photo" / "dog" / "1.jpg").read_bytes() == b"dog"


def test_a_dry_run_shows_the_plan_and_does_nothing(two_sets, server, tmp_path, capsys):
    root = tmp_path / "new"
    assert fetch.main(["all", "--dry-run", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert f"tiny.zip, 1 kB -> {root / 'Tiny'}" in told
    assert f"{server.url('/a')}\n      no checksum stated: first use" in told
    assert "to download: 1 kB; free: " in told
    assert server.requests == [] and not root.exists()


def test_list_names_size_terms_and_state_in_a_line_each(tmp_path, capsys):
    (tmp_path / "PACS" / "photo").mkdir(parents=True)
    (tmp_path / "cifar10_airplane_automobile.npz").touch()
    (part := tmp_path / "downloads" / "vlcs" / "VLCS.tar.gz.0.part").parent.mkdir(parents=True)
    part.write_bytes(b"x" * 2000)
    assert fetch.main(["list", "--root", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == list(SOURCES)
    assert "170 MB" in lines["cifar10"] and lines["cifar10"].endswith("present (cifar10_airplane_automobile.npz)")
    assert "~174 MB" in lines["pacs"] and lines["pacs"].endswith("present")
    assert "non-commercial" in lines["celeba"] and lines["celeba"].endswith("absent")
    assert lines["vlcs"].endswith("0 of 1 files, 2 kB of a download")


def test_no_data_folder_is_an_error_with_advice(monkeypatch, capsys):
    monkeypatch.delenv("SAMLIB_DATA", raising=False)
    assert fetch.main(["list"]) == 1
    assert "pass --root DIR" in capsys.readouterr().err


def test_an_unknown_set_is_refused_with_the_list(capsys):
    with pytest.raises(SystemExit) as caught:
        fetch.main(["imagenet", "--root", "x"])
    assert caught.value.code == 2
    assert "'waterbirds'" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(two_sets, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_open", interrupted)
    assert fetch.main(["good", "--root", str(tmp_path)]) == 130
    assert "run the same command again" in capsys.readouterr().err
