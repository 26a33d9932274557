"""Files are whole or not there."""

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
