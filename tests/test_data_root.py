"""The data folder: one reading of it, whoever asks and from whichever folder."""

import os

import pytest

from data_scripts import data_root as of_scripts
from edition.__main__ import _parser
from edition.page.chapter import open_chapter
from edition.publish.execute import kernel_environment
from edition.publish.fingerprint import data_listing
from samlib.data_root import data_root


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "with a blank", "Bücher #1"])
@pytest.mark.parametrize("form", ["~/{}", "{}", "./x/../{}"])
def test_scripts_chapters_and_the_build_see_one_folder(name, form, home, monkeypatch):
    (home / name / "MNIST").mkdir(parents=True)
    given = form.format(name)
    monkeypatch.delenv("SAMLIB_DATA", raising=False)
    assert data_root(given) == open_chapter({"data_root": given}).data_root == of_scripts(given) == home / name
    monkeypatch.setenv("SAMLIB_DATA", given)
    assert data_root() == open_chapter({}).data_root == of_scripts(None) == home / name
    assert data_listing() == ["MNIST"]
    with kernel_environment():
        assert os.environ["SAMLIB_DATA"] == str(home / name)
    assert os.environ["SAMLIB_DATA"] == given


def test_without_a_folder_there_is_none(monkeypatch):
    monkeypatch.setenv("SAMLIB_DATA", "")
    assert data_root() is data_root("") is None
    monkeypatch.delenv("SAMLIB_DATA")
    assert data_root() is data_root("") is None
    assert data_listing() == []


def test_commands_expand_the_home_folder(home):
    options = _parser().parse_args(["runs", "start", "--data-root", "~/d"])
    assert options.data_root == home / "d"
