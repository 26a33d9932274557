"""Files are whole or not there."""

import errno
import os

import pytest

from samlib.files import remove_leftovers, temporary_prefix, write_atomically


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, lambda file: file.write(b"one"))
    write_atomically(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_file_that_may_not_be_replaced_stays_as_it_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"one")
    with pytest.raises(FileExistsError):
        write_atomically(path, lambda file: file.write(b"two"), replace=False)
    assert path.read_bytes() == b"one"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def write(file) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    for name in ("a.json", f"{temporary_prefix(path)}xyz", ".b.json.xyz", "b.json"):
        (tmp_path / name).touch()
    remove_leftovers(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".b.json.xyz", "a.json", "b.json"]


@pytest.fixture(params=["EOPNOTSUPP", "EPERM", "ENOSYS"])
def no_hard_links(request, monkeypatch):
    """A file system without hard links, as exFAT and some shares are."""

    def refuse(source, target):
        raise OSError(getattr(errno, request.param), "no hard links here")

    monkeypatch.setattr(os, "link", refuse)


def test_without_hard_links_a_new_file_is_written_whole_and_an_existing_one_stays(tmp_path, no_hard_links):
    path = tmp_path / "a.json"
    write_atomically(path, lambda file: file.write(b"one"), replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(path, lambda file: file.write(b"two"), replace=False)
    assert path.read_bytes() == b"one"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_without_hard_links_two_writers_exclude_each_other(tmp_path, no_hard_links, monkeypatch):
    path, move = tmp_path / "a.json", os.replace

    def second_writer(source, target):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", move)
            with pytest.raises(FileExistsError):
                write_atomically(path, lambda file: file.write(b"two"), replace=False)
        move(source, target)

    monkeypatch.setattr(os, "replace", second_writer)
    write_atomically(path, lambda file: file.write(b"one"), replace=False)
    assert path.read_bytes() == b"one"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_without_hard_links_a_killed_writer_leaves_nothing_readable_and_nothing_that_stays(
    tmp_path, no_hard_links, monkeypatch
):
    path = tmp_path / "a.json"

    def kill(*names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", kill)
        patch.setattr(os, "unlink", kill)
        write_atomically(path, lambda file: file.write(b"one"), replace=False)
    assert not path.exists() and list(tmp_path.iterdir())
    remove_leftovers(path)
    write_atomically(path, lambda file: file.write(b"one"), replace=False)
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_another_error_of_a_link_is_no_reason_to_go_round_it(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "a.json", lambda file: file.write(b"one"), replace=False)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_modes_takes_files(tmp_path, monkeypatch):
    def refuse(name, mode):
        raise PermissionError(errno.EPERM, "no modes here")

    monkeypatch.setattr(os, "chmod", refuse)
    write_atomically(tmp_path / "a.json", lambda file: file.write(b"one"))
    assert (tmp_path / "a.json").read_bytes() == b"one"


def test_copies_of_editors_are_no_leftovers(tmp_path):
    (tmp_path / ".a.json.swp").touch()
    remove_leftovers(tmp_path / "a.json")
    assert [item.name for item in tmp_path.iterdir()] == [".a.json.swp"]
