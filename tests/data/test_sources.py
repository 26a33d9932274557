"""The table of sources agrees with torchvision's and with itself."""

import os
import re
from pathlib import Path

import pytest
from torchvision import datasets

from data_scripts import fetch
from data_scripts.sources import SOURCES, drive

THEIRS = {  # set -> file -> addresses, checksum
    name: {file: ({mirror + file for mirror in kind.mirrors}, md5) for file, md5 in kind.resources}
    for name, kind in (("mnist", datasets.MNIST), ("fashionmnist", datasets.FashionMNIST))
}
THEIRS["cifar10"] = {datasets.CIFAR10.filename: ({datasets.CIFAR10.url}, datasets.CIFAR10.tgz_md5)}
THEIRS["celeba"] = {file: ({drive(identity)}, md5) for identity, md5, file in datasets.CelebA.file_list}
FILES = [file for source in SOURCES.values() for file in source.files]


@pytest.mark.parametrize("name", THEIRS)
def test_addresses_and_checksums_that_torchvision_has_are_its_own(name):
    ours = {file.name: file for file in SOURCES[name].files}
    assert name == "celeba" or ours.keys() == THEIRS[name].keys()  # of CelebA nothing here reads the other files
    for file in ours.values():
        urls, md5 = THEIRS[name][file.name]
        assert urls <= {mirror.url for mirror in file.mirrors}
        assert {mirror.checksum for mirror in file.mirrors} == {f"md5:{md5}"}
    assert name != "cifar10" or file.path == datasets.CIFAR10.base_folder  # where torchvision looks for it


def test_every_file_can_be_had_has_a_place_of_its_own_and_its_checksums_say_who_states_them():
    assert len({file.path for file in FILES}) == len(FILES)
    for file in FILES:
        assert file.mirrors and file.size > 0 and not Path(file.path).is_absolute()
        for mirror in file.mirrors:
            assert re.match(r"https?://[^ ]+$", mirror.url)
            assert bool(mirror.checksum) == bool(mirror.stated_by)
            assert mirror.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", mirror.checksum)


@pytest.mark.parametrize("name", ["mnist", "fashionmnist"])
def test_real_files_have_the_stated_checksums_and_sizes(name):
    root = Path(os.environ.get("SAMLIB_DATA", ""))
    if not os.environ.get("SAMLIB_DATA") or fetch.state(SOURCES[name], root) != "present":
        pytest.skip(f"SAMLIB_DATA points at no folder with {name}")
    fetch.fetch(SOURCES[name], root)  # checks them
    assert [(root / file.path).stat().st_size for file in SOURCES[name].files] == [f.size for f in SOURCES[name].files]
