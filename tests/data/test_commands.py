"""What the commands tell a reader whose folder is missing, not named, or not to be written to."""

import errno
import shlex

import pytest
import tiny_sets
from read_only import commands_told

from data_scripts import fetch, prepare


def test_only_what_writes_is_refused_in_a_read_only_folder_and_a_folder_of_links_is_the_way_out(tmp_path):
    data, own = tmp_path / "data", tmp_path / "own"
    tiny_sets.waterbirds(data)
    prepare.prepare("waterbirds", data, size=4)
    own.mkdir()
    (own / "waterbirds_v1.0").symlink_to(data / "waterbirds_v1.0")
    options = ["waterbirds", "--workers", "1", "--root"]
    refused, fetched, ready, linked, check = commands_told(
        data,
        ("data_scripts.prepare", [*options, str(data)]),
        ("data_scripts.fetch", ["mnist", "--root", str(data)]),
        ("data_scripts.prepare", [*options, str(data), "--size", "4"]),
        ("data_scripts.prepare", [*options, str(own)]),
        ("data_scripts.check", [str(data)]),
    )
    for (status, said), place in ((refused, data / "prepared"), (fetched, data / "downloads")):
        message = next(line for line in said.splitlines() if line.startswith("error: "))
        assert status == 1 and str(place) in message and "pass as --root a folder of your own" in message
    assert ready[0] == 0 and "prepared already" in ready[1]
    assert linked[0] == 0 and (own / "prepared" / "waterbirds-8").is_dir()
    assert check[0] == 1 and "Read-only" not in check[1]  # the pairs are not there; that is all it says


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO])
@pytest.mark.parametrize(("command", "name"), [(prepare.main, "waterbirds"), (fetch.main, "mnist")])
def test_a_place_that_is_not_ours_to_write_is_told_in_one_line(tmp_path, number, command, name, monkeypatch, capsys):
    def refuse(path, *args, **options):
        raise OSError(number, "no", str(path))

    tiny_sets.waterbirds(tmp_path)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert command([name, "--root", str(tmp_path)]) == 1
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(tmp_path) in message
    told = "[Errno 5] no" if number == errno.EIO else "pass as --root a folder of your own"  # others keep their words
    assert told in message


@pytest.mark.parametrize("name", ["waterbirds", "celeba", "cifar10", "pacs"])
def test_the_command_that_fetches_a_missing_set_can_be_pasted_whatever_the_folder_is_called(tmp_path, name, capsys):
    root = tmp_path / "my data #1 für Vögel's"
    root.mkdir()
    assert prepare.main([name, "--root", str(root)]) == 1
    error = capsys.readouterr().err
    command = error.rpartition("run `")[2].partition("`")[0]
    assert shlex.split(command, comments=True)[1:] == ["-m", "data_scripts.fetch", name, "--root", str(root)]
    assert error.startswith("error: ")


@pytest.mark.parametrize(("command", "name"), [(fetch.main, "list"), (prepare.main, "pacs")])
def test_no_data_folder_is_an_error_with_advice(command, name, monkeypatch, capsys):
    monkeypatch.delenv("SAMLIB_DATA", raising=False)
    assert command([name]) == 1
    assert "pass --root DIR" in capsys.readouterr().err


IMPOSSIBLE = {  # command, arguments, words
    "fetch an unknown set": (fetch.main, ["imagenet"], "'waterbirds'"),
    "size 0": (prepare.main, ["waterbirds", "--size", "0"], "--size: expected 1 to 1024, got 0"),
    "size 5000": (prepare.main, ["waterbirds", "--size", "5000"], "--size: expected 1 to 1024, got 5000"),
    "no workers": (prepare.main, ["waterbirds", "--workers", "0"], "--workers: expected 1 or more, got 0"),
}


@pytest.mark.parametrize(("command", "arguments", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_arguments_are_refused(command, arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        command([*arguments, "--root", "x"])
    assert caught.value.code == 2 and words in capsys.readouterr().err
