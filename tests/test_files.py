"""Files are whole or not there."""

import errno
import os

import pytest

from samlib.files import remove_leftovers, temporary_prefix, write_atomically


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.json"


def write(path, text: bytes, **options) -> None:
    write_atomically(path, lambda file: file.write(text), **options)


def names(path) -> list[str]:
    return sorted(item.name for item in path.parent.iterdir())


def refusal(code: str):
    """A system call that a file system does not offer, or cannot do."""

    def refuse(*arguments):
        raise OSError(getattr(errno, code), "not here")

    return refuse


def test_a_file_is_written_and_replaced(path):
    write(path, b"one")
    write(path, b"two")
    assert path.read_bytes() == b"two" and names(path) == ["a.json"]


def test_who_may_read_a_file_is_the_umasks_business(path):
    for mask in (0o077, 0o022):
        old = os.umask(mask)
        try:
            write(path, b"one")
        finally:
            os.umask(old)
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(path):
    write(path, b"old")

    def fail(file) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and names(path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(path):
    others = [".a.json.swp", ".b.json.xyz", "a.json", "b.json"]  # the first is an editor's copy
    for name in (*others, f"{temporary_prefix(path)}xyz"):
        path.with_name(name).touch()
    remove_leftovers(path)
    assert names(path) == others


@pytest.mark.parametrize("hard_links", [None, "EOPNOTSUPP", "EPERM", "ENOSYS"])
def test_a_file_that_may_not_be_replaced_stays_as_it_is(path, monkeypatch, hard_links):
    if hard_links:  # refused with this, as by exFAT and some shares
        monkeypatch.setattr(os, "link", refusal(hard_links))
    write(path, b"one", replace=False)
    with pytest.raises(FileExistsError):
        write(path, b"two", replace=False)
    assert path.read_bytes() == b"one" and names(path) == ["a.json"]


@pytest.fixture
def no_hard_links(monkeypatch):
    monkeypatch.setattr(os, "link", refusal("EPERM"))


def test_without_hard_links_two_writers_exclude_each_other(path, no_hard_links, monkeypatch):
    move = os.replace

    def second_writer(source, target):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", move)
            with pytest.raises(FileExistsError):
                write(path, b"two", replace=False)
        move(source, target)

    monkeypatch.setattr(os, "replace", second_writer)
    write(path, b"one", replace=False)
    assert path.read_bytes() == b"one" and names(path) == ["a.json"]


def test_without_hard_links_a_killed_writer_leaves_nothing_readable_and_nothing_that_stays(
    path, no_hard_links, monkeypatch
):
    def kill(*names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", kill)
        patch.setattr(os, "unlink", kill)
        write(path, b"one", replace=False)
    assert not path.exists() and names(path)
    remove_leftovers(path)
    write(path, b"one", replace=False)
    assert names(path) == ["a.json"]


def test_another_error_of_a_link_is_no_reason_to_go_round_it(path, monkeypatch):
    monkeypatch.setattr(os, "link", refusal("ENOSPC"))
    with pytest.raises(OSError, match="not here"):
        write(path, b"one", replace=False)
    assert not names(path)


def test_a_file_system_without_modes_takes_files(path, monkeypatch):
    monkeypatch.setattr(os, "chmod", refusal("EPERM"))
    write(path, b"one")
    assert path.read_bytes() == b"one"
