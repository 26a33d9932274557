"""The table of sources agrees with torchvision's and with itself."""

import os
import re
from pathlib import Path

import pytest
from torchvision import datasets

from data_scripts import fetch
from data_scripts.sources import SOURCES, drive

FILES = [file for source in SOURCES.values() for file in source.files]


@pytest.mark.parametrize(("name", "theirs"), [("mnist", datasets.MNIST), ("fashionmnist", datasets.FashionMNIST)])
def test_mnist_files_and_mirrors_are_torchvisions(name, theirs):
    files = SOURCES[name].files
    assert [(file.name, file.mirrors[0].checksum) for file in files] == [
        (n, f"md5:{md5}") for n, md5 in theirs.resources
    ]
    for mirror in theirs.mirrors:
        assert all(mirror + file.name in [own.url for own in file.mirrors] for file in files)


def test_cifar10_is_torchvisions():
    (file,) = SOURCES["cifar10"].files
    (mirror,) = file.mirrors
    theirs = datasets.CIFAR10
    assert (file.name, file.path, mirror.url) == (theirs.filename, theirs.base_folder, theirs.url)
    assert mirror.checksum == f"md5:{theirs.tgz_md5}"


def test_celeba_files_are_torchvisions():
    theirs = {name: (identity, md5) for identity, md5, name in datasets.CelebA.file_list}
    for file in SOURCES["celeba"].files:
        identity, md5 = theirs[file.name]
        (mirror,) = file.mirrors
        assert (mirror.url, mirror.checksum) == (drive(identity), f"md5:{md5}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_can_be_had_and_its_checksums_say_who_states_them(file):
    assert file.mirrors and file.size > 0 and not Path(file.path).is_absolute()
    for mirror in file.mirrors:
        assert re.match(r"https?://[^ ]+$", mirror.url)
        assert bool(mirror.checksum) == bool(mirror.stated_by)
        assert mirror.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", mirror.checksum)


def test_no_two_files_go_to_the_same_place():
    assert len({file.path for file in FILES}) == len(FILES)


@pytest.mark.parametrize("name", ["mnist", "fashionmnist"])
def test_real_files_have_the_stated_checksums_and_sizes(name):
    root = Path(os.environ.get("SAMLIB_DATA", ""))
    if not os.environ.get("SAMLIB_DATA") or fetch.state(SOURCES[name], root) != "present":
        pytest.skip(f"SAMLIB_DATA points at no folder with {name}")
    fetch.fetch(SOURCES[name], root)  # checks them
    assert [(root / file.path).stat().st_size for file in SOURCES[name].files] == [f.size for f in SOURCES[name].files]
