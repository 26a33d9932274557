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
from data_scripts.receipts import read_receipts
from data_scripts.sources import SOURCES, Mirror, RemoteFile, Source

PHOTOS = {"kfold/photo/dog/1.jpg": b"dog", "kfold/sketch/dog/2.jpg": b"another dog", "kfold/readme.txt": b"read"}
UNPACKED = {name.removeprefix("kfold/"): content for name, content in PHOTOS.items()}


def zipped(files: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def tarred(files: dict[str, bytes], odd: tarfile.TarInfo | None = None, compression: str = "gz") -> bytes:
    with tarfile.open(fileobj=(held := io.BytesIO()), mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if odd:
            archive.addfile(odd)
    return held.getvalue()


def one_archive(url: str, name: str = "tiny") -> Source:
    """A set that is one archive, which becomes the folder Tiny."""
    file = RemoteFile("tiny.zip", "Tiny", 1000, (Mirror(url),), holds=("photo", "sketch"))
    return Source(name, "Tiny (Nobody, 2020)", "http://nowhere", "free", "Do as you like.", (file,))


@pytest.fixture
def tiny(server) -> Source:
    return one_archive(server.add("/a", zipped(PHOTOS)))


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SHADOW = {f"__MACOSX/{name.replace('dog/', 'dog/._')}": b"shadow" for name in PHOTOS}  # macOS packs it beside a folder
INNER = {f"kfold/old/{name}": b"an inner copy" for name in UNPACKED}
LAYOUTS = {
    "in a folder": PHOTOS,
    "deep": {f"a/b/{name}": content for name, content in UNPACKED.items()},
    "at the top": UNPACKED,
    "beside macOS's shadow": PHOTOS | INNER | SHADOW,
}


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_an_archive_becomes_its_folder_wherever_that_lies_and_what_came_is_written_down(server, tmp_path, pack, files):
    url = server.add("/a", pack(files))
    fetch.fetch(one_archive(url), tmp_path)
    found = tree(tmp_path / "Tiny")
    assert {name: content for name, content in found.items() if not name.startswith("old/")} == UNPACKED
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir()) == ["tiny-terms.txt", "tiny.json"]
    receipt = json.loads((tmp_path / "downloads" / "tiny.json").read_text())["tiny.zip"]
    assert receipt["url"] == url and receipt["trust"].startswith("first use") and len(receipt["sha256"]) == 64


def test_an_archive_that_changed_since_its_first_use_is_refused_without_the_terms(server, tmp_path, tiny, capsys):
    fetch.fetch(tiny, tmp_path)
    (tmp_path / "Tiny").rename(tmp_path / "Old")
    server.add("/a", zipped(PHOTOS | {"kfold/photo/cat/3.jpg": b"cat"}))
    with pytest.raises(DataError, match="another file the first time"):
        fetch.fetch(tiny, tmp_path)
    assert not (tmp_path / "Tiny").exists()
    assert capsys.readouterr().out.count("Do as you like.") == 1  # they are shown once


def tar_link(kind: bytes, target: str = "") -> bytes:
    member = tarfile.TarInfo("kfold/link")
    member.type, member.linkname = kind, target
    return tarred(PHOTOS, member)


def zip_link() -> bytes:
    link = zipfile.ZipInfo("kfold/link")
    link.external_attr = 0o120777 << 16
    return zipped({link: b"/etc/passwd"})


def encrypted() -> bytes:
    content = zipped(PHOTOS)
    return flipped(flipped(content, content.index(b"PK\x03\x04") + 6), content.index(b"PK\x01\x02") + 8)


def flipped(content: bytes, at: int) -> bytes:
    """Flip a bit of one byte; a place below 0 counts from the end."""
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


LARGE = {"kfold/photo/1.jpg": random.Random(0).randbytes(1_000_000), "kfold/sketch/2.jpg": b"2"}
OUTSIDE = r"'.*outside\.txt' would land outside its folder; do not use"
LINK = "'kfold/link' is a link or a device, no file"
DAMAGED = "expected a whole zip or tar archive, could not unpack it"
REFUSED = {
    "zip, upwards": (zipped(PHOTOS | {"kfold/../../../outside.txt": b"x"}), OUTSIDE),
    "zip, absolute": (zipped(PHOTOS | {"/outside.txt": b"x"}), OUTSIDE),
    "zip, drive": (zipped(PHOTOS | {"c:/outside.txt": b"x"}), OUTSIDE),
    "zip, backslash": (zipped(PHOTOS | {"..\\outside.txt": b"x"}), OUTSIDE),
    "tar, upwards": (tarred(PHOTOS | {"../outside.txt": b"x"}), OUTSIDE),
    "tar, absolute": (tarred(PHOTOS | {"/outside.txt": b"x"}), OUTSIDE),
    "zip, link": (zip_link(), LINK),
    "tar, link": (tar_link(tarfile.SYMTYPE, "/etc/passwd"), LINK),
    "tar, hard link": (tar_link(tarfile.LNKTYPE, "kfold/readme.txt"), LINK),
    "tar, device": (tar_link(tarfile.CHRTYPE), LINK),
    "tar, pipe": (tar_link(tarfile.FIFOTYPE), LINK),
    "tar cut short": (tarred(LARGE)[:-60], DAMAGED),
    "tar, header": (flipped(plain := tarred(LARGE, compression=""), plain.index(b"kfold/sketch")), DAMAGED),
    "tar.gz, checksum": (flipped(tarred(LARGE), -8), DAMAGED),
    "tar.gz, a byte": (flipped(tarred(LARGE), 300_000), DAMAGED),
    "tar.xz, a byte": (flipped(tarred(LARGE, compression="xz"), 300_000), DAMAGED),
    "tar.bz2, a byte": (flipped(tarred(LARGE, compression="bz2"), -50_000), DAMAGED),
    "zip, a byte": (flipped(content := zipped(PHOTOS), content.index(b"dog/1.jpg") + 10), DAMAGED),
    "zip with a password": (encrypted(), DAMAGED),
    "something else": (zipped({"kfold/photo/1.jpg": b"1"}), "expected a folder that holds photo, sketch, found none"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_archive_is_refused_and_nothing_appears(server, tmp_path, content, message):
    root = tmp_path / "a" / "b"
    with pytest.raises(DataError, match=message):
        fetch.fetch(one_archive(server.add("/a", content)), root)
    kept = ["tiny-terms.txt", "tiny/lock", "tiny/tiny.zip"]
    assert sorted(tree(tmp_path)) == [f"a/b/downloads/{name}" for name in kept]
    assert [path.name for path in root.iterdir()] == ["downloads"]


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


def test_leftovers_of_a_killed_run_do_no_harm_and_a_readers_own_file_stays(tmp_path, tiny):
    folder, space = tmp_path / "downloads" / "tiny", tmp_path / ".tiny-unpacked"
    for path in (space / "kfold" / "photo" / "stale.jpg", folder / "tmpabc", folder / "notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    fetch.fetch(tiny, tmp_path)
    assert tree(tmp_path / "Tiny") == UNPACKED and tree(folder) == {"notes.txt": b"half"} and not space.exists()


def test_a_fetch_killed_when_the_set_is_in_its_place_keeps_its_receipt_and_the_next_one_clears_up(tmp_path, tiny):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        unpack = fetch.unpack

        def killed(*arguments, **options):
            unpack(*arguments, **options)
            raise KeyboardInterrupt

        patch.setattr(fetch, "unpack", killed)
        fetch.fetch(tiny, tmp_path)
    assert tree(tmp_path / "Tiny") == UNPACKED and (tmp_path / "downloads/tiny/tiny.zip").exists()
    fetch.fetch(tiny, tmp_path)
    assert list(read_receipts("tiny", tmp_path)) == ["tiny.zip"]
    assert not (tmp_path / "downloads/tiny/tiny.zip").exists()


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


def test_two_fetches_of_a_set_do_not_meet(tmp_path, tiny):
    (folder := tmp_path / "downloads" / "tiny").mkdir(parents=True)
    with filelock.FileLock(folder / "lock"), pytest.raises(DataError, match="another fetch works there"):
        fetch.fetch(tiny, tmp_path)


@pytest.mark.parametrize("own_version", [False, True])
def test_a_file_that_is_there_is_checked_and_never_overwritten(server, tmp_path, capsys, own_version):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.txt").write_bytes(b"mine")
    files = (
        RemoteFile("a.txt", "x/a.txt", 1, (Mirror(server.add("/a", b"a")),)),
        RemoteFile("b.txt", "x/b.txt", 1, (Mirror(server.add("/b", b"b"), "md5:" + "0" * 32, "a test"),)),
    )
    source = Source("tiny", "Tiny", "http://nowhere", "free", "Free.", files, own_version=own_version)
    for _ in range(2):  # while another file is missing, and after
        if own_version:  # a set of which a reader may have a subset
            fetch.fetch(source, tmp_path)
            assert "is not the official file (a subset?)" in capsys.readouterr().out
        else:
            with pytest.raises(DataError, match=r"expected md5:0000.*; delete the file and fetch it again"):
                fetch.fetch(source, tmp_path)
    assert tree(tmp_path / "x") == {"a.txt": b"a", "b.txt": b"mine"}


@pytest.fixture
def two_sets(server, tiny, monkeypatch):
    """The command knows two sets: the first cannot be had, the second can."""
    bad = one_archive(server.add("/gone", b"", ("status", 404)), "bad")
    monkeypatch.setattr(fetch, "SOURCES", {"bad": bad, "tiny": tiny})


def test_all_goes_on_after_a_failure_and_says_so(two_sets, tmp_path, capsys):
    assert fetch.main(["all", "--root", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "tiny: fetched" in told.out
    assert "error: bad: tiny.zip: expected the file from one of 1 addresses" in told.err
    assert told.err.endswith("failed: bad\n")


def test_a_set_comes_once_into_the_folder_of_the_environment(two_sets, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAMLIB_DATA", str(tmp_path))
    for _ in range(2):
        assert fetch.main(["tiny"]) == 0
    assert tree(tmp_path / "Tiny") == UNPACKED
    assert len(server.requests) == 1 and capsys.readouterr().out.endswith("tiny: present\n")


def test_a_dry_run_shows_the_plan_and_does_nothing(two_sets, server, tiny, tmp_path, capsys):
    root = tmp_path / "new"
    assert fetch.main(["all", "--dry-run", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert f"tiny.zip, 1 kB -> {root / 'Tiny'}" in told
    assert f"{tiny.files[0].mirrors[0].url}\n      no checksum stated: first use" in told
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


def test_an_interrupt_says_how_to_go_on(two_sets, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_open", interrupted)
    assert fetch.main(["tiny", "--root", str(tmp_path)]) == 130
    assert "run the same command again" in capsys.readouterr().err
