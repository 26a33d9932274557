"""Prepared arrays hold the pixels and rows of their images; a folder appears whole or not at all."""

import errno
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import tiny_sets
from PIL import Image

from data_scripts import DataError, cifar10, disk, prepare
from data_scripts.pixels import Pixels, read_image
from samlib.images.tiles import CIFAR_FILE, _cifar_block


def loaded(folder: Path) -> tuple[np.ndarray, pd.DataFrame, dict]:
    """Read a prepared folder as training does."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return np.load(folder / "images.npy", mmap_mode="r"), pd.read_csv(folder / "table.csv"), manifest


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nothing_left(root: Path) -> bool:
    """Whether no set and no passing file of one is there."""
    return all(path.name.endswith(".lock") for path in (root / "prepared").glob("*"))


@pytest.fixture
def birds(tmp_path) -> Path:
    """Five birds to prepare. Returns their folder."""
    return tiny_sets.waterbirds(tmp_path).parent


def test_rows_and_pixels_are_those_of_the_files(birds, tmp_path):
    folder = prepare.prepare("waterbirds", tmp_path)
    images, table, manifest = loaded(folder)
    assert folder == tmp_path / "prepared" / "waterbirds-8"
    assert isinstance(images, np.memmap) and images.dtype == np.uint8 and images.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(images, [tiny_sets.picture(i) for i in range(5)])
    assert table.to_dict("list") == {
        "split": ["train", "train", "train", "val", "test"],
        "label": [0, 0, 1, 1, 1],
        "attribute": [0, 1, 1, 0, 1],
        "group": [0, 1, 3, 2, 3],
        "file": [file for file, *_ in tiny_sets.BIRDS],
    }
    assert list(table.columns) == manifest["columns"] == ["split", "label", "attribute", "group", "file"]
    assert manifest["resized"] == 0 and manifest["truncated"] == []


@pytest.mark.parametrize("name", ["waterbirds_v1.0", "waterbird_complete95_forest2water2"])
def test_the_manifest_identifies_source_and_result_and_compares_with_what_was_published(tmp_path, name, capsys):
    metadata = tiny_sets.waterbirds(tmp_path, folder=name)
    receipt = {"file": "waterbirds.tar.gz", "url": "http://x", "sha256": "0" * 64, "trust": "first use"}
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "waterbirds.json").write_text(json.dumps({"waterbirds.tar.gz": receipt}))
    folder = prepare.prepare("waterbirds", tmp_path)
    _, _, manifest = loaded(folder)
    assert manifest["counts"]["train/0"] == 1 and manifest["counts"]["train/2"] == 0
    assert manifest["published"]["train/0"] == 3498 and manifest["difference"]["train/0"] == -3497
    assert manifest["coverage"] == "subset"
    assert "train/0               1      3,498      -3,497" in capsys.readouterr().out
    assert manifest["sha256"] == {name: sha256(folder / name) for name in ("images.npy", "table.csv")}
    digests = [hashlib.sha256((metadata.parent / file).read_bytes()).digest() for file, *_ in tiny_sets.BIRDS]
    assert manifest["source"] == {
        "folder": name,
        "files_sha256": {"metadata.csv": sha256(metadata)},
        "fetched": [receipt],
        "images_sha256": hashlib.sha256(b"".join(digests)).hexdigest(),
    }
    assert str(tmp_path) not in json.dumps(manifest)


def test_another_size_is_resized_as_pil_does_and_stands_beside_the_first(birds, tmp_path):
    folders = [prepare.prepare("waterbirds", tmp_path, size=size) for size in (4, 3)]
    images, _, manifest = loaded(folders[1])
    expected = Image.fromarray(tiny_sets.picture(2)).resize((3, 3), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(images[2], np.asarray(expected))
    assert (manifest["size"], manifest["resized"]) == (3, 5)
    assert folders == [tmp_path / "prepared" / name for name in ("waterbirds-4", "waterbirds-3")]
    assert loaded(folders[0])[0].shape == (5, 4, 4, 3)


def test_images_of_several_sizes_get_the_usual_one_and_very_large_ones_need_a_stated_size(birds, tmp_path, monkeypatch):
    tiny_sets.save(birds / "a/1.jpg", tiny_sets.picture(0, width=9))
    assert prepare.prepare("waterbirds", tmp_path).name == "waterbirds-256"
    monkeypatch.setattr(prepare, "LARGEST", 255)
    with pytest.raises(DataError, match="at most 255 pixels a side, got 256; pass --size"):
        prepare.prepare("waterbirds", tmp_path)


def test_several_processes_give_the_same_bytes_in_the_folder_of_the_environment(birds, tmp_path, monkeypatch):
    one = loaded(folder := prepare.prepare("waterbirds", tmp_path, size=4))[2]["sha256"]
    shutil.rmtree(folder)
    monkeypatch.setenv("SAMLIB_DATA", str(tmp_path))
    assert prepare.main(["waterbirds", "--size", "4", "--workers", "2"]) == 0
    assert loaded(folder)[2]["sha256"] == one


def test_what_is_prepared_stays_as_it_is(birds, tmp_path, capsys):
    folder = prepare.prepare("waterbirds", tmp_path)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert prepare.prepare("waterbirds", tmp_path) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert "prepared already" in capsys.readouterr().out


def test_a_set_that_another_process_prepares_is_left_to_it(birds, tmp_path):
    (tmp_path / "prepared").mkdir()
    with filelock.FileLock(tmp_path / "prepared/.waterbirds-8.lock"):
        with pytest.raises(DataError, match="waterbirds-8: being prepared by another process; wait"):
            prepare.prepare("waterbirds", tmp_path)
        assert nothing_left(tmp_path)
    assert len(loaded(prepare.prepare("waterbirds", tmp_path))[0]) == 5


def cut_short(path: Path) -> None:
    """Put a JPEG there of which the last half is missing, long after its header."""
    tiny_sets.save(path, tiny_sets.picture(0, 64, 64), "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_IMAGES = {  # what becomes of the image, whether one that is cut short is accepted, words
    "no image": (lambda path: path.write_bytes(b"no image"), False, r"1 of 5 .*:\n  b/4\.jpg: UnidentifiedImageError"),
    "cut short": (cut_short, False, r"1 of 5 .*:\n  b/4\.jpg: OSError: (.|\n)*--accept-truncated"),
    "empty": (lambda path: path.write_bytes(b""), True, r"1 of 5 do not decode:\n  b/4\.jpg"),
}


@pytest.mark.parametrize(("spoil", "accept", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_an_image_that_does_not_decode_is_named_and_nothing_is_left(birds, tmp_path, spoil, accept, message):
    spoil(birds / "b/4.jpg")
    with pytest.raises(DataError, match=message):
        prepare.prepare("waterbirds", tmp_path, accept_truncated=accept)
    assert nothing_left(tmp_path)


def test_a_name_that_no_table_can_hold_is_refused_before_an_image_is_read(birds, tmp_path, monkeypatch):
    listing = prepare.LISTINGS["waterbirds"](tmp_path)
    odd = listing.table.assign(file=["b/caf\udce9.jpg", *listing.table["file"][1:]])  # latin-1, as Python reads it
    monkeypatch.setitem(prepare.LISTINGS, "waterbirds", lambda root: listing._replace(table=odd))
    with pytest.raises(DataError, match=r"file names in UTF-8, got .*rename it"):
        prepare.prepare("waterbirds", tmp_path)


def test_an_image_cut_short_is_filled_up_and_named_where_the_reader_accepts_it(birds, tmp_path):
    cut_short(birds / "b/4.jpg")
    _, _, manifest = loaded(prepare.prepare("waterbirds", tmp_path, size=8, accept_truncated=True))
    assert manifest["truncated"] == ["b/4.jpg"]


def test_too_little_space_is_seen_before_an_image_is_read(birds, tmp_path, free):
    free(500)
    with pytest.raises(disk.NoSpaceError, match="expected 960 free bytes for the arrays, got 500"):
        prepare.prepare("waterbirds", tmp_path)
    assert nothing_left(tmp_path)


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(birds, tmp_path, monkeypatch):
    def full(path, write):
        path.write_bytes(b"som")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "write_atomically", full)
    with pytest.raises(disk.NoSpaceError, match="no space left on the disk; free some, or pass a smaller --size"):
        prepare.prepare("waterbirds", tmp_path)
    assert nothing_left(tmp_path)


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, ".")
from data_scripts import prepare
write = prepare.write_atomically
prepare.write_atomically = lambda *file: (write(*file), print("written", flush=True), time.sleep(60))
prepare.prepare("waterbirds", Path(sys.argv[1]))
"""


def test_a_killed_run_leaves_nothing_that_loads_and_the_next_one_clears_up(birds, tmp_path, killed):
    killed(SLOW, tmp_path)
    assert not (tmp_path / "prepared" / "waterbirds-8").exists()
    assert len(list((tmp_path / "prepared").glob(".waterbirds-8.tmp*"))) == 1
    assert len(loaded(prepare.prepare("waterbirds", tmp_path))[0]) == 5
    assert list((tmp_path / "prepared").glob(".waterbirds-8.tmp*")) == []


def test_mnist_needs_no_preparation(tmp_path, capsys):
    assert prepare.main(["mnist", "--root", str(tmp_path)]) == 0
    assert "nothing to prepare" in capsys.readouterr().out


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """CIFAR-10's batches in small: ten images a file, one of each class, and torchvision's check of them left out."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.full((10, 3072), number, dtype=np.uint8)
        data[:, :1024] = np.arange(10)[:, None]  # red tells the class
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)


def test_airplanes_and_automobiles_go_into_one_file_in_the_batches_order(batches, tmp_path, monkeypatch, capsys):
    assert prepare.main(["cifar10", "--root", str(tmp_path)]) == 1
    assert "'train/airplane': 5000" in capsys.readouterr().err and not (tmp_path / CIFAR_FILE).exists()  # too few
    monkeypatch.setattr(cifar10, "PUBLISHED", {"train": 5, "test": 1})
    for _ in range(2):  # what is there stays
        assert prepare.main(["cifar10", "--root", str(tmp_path)]) == 0
    with np.load(tmp_path / CIFAR_FILE) as file:
        arrays = dict(file)
    assert arrays["x_train"].shape == (10, 32, 32, 3) and arrays["x_train"].dtype == np.uint8
    assert arrays["y_train"].tolist() == [0, 1] * 5 and arrays["y_test"].tolist() == [0, 1]
    np.testing.assert_array_equal(arrays["x_train"][..., 0].max((1, 2)), arrays["y_train"])  # red is the class
    assert arrays["x_train"][:, 0, 0, 1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # green is the batch
    manifest = json.loads((tmp_path / CIFAR_FILE).with_suffix(".json").read_text())
    assert manifest["counts"] == {"train/airplane": 5, "train/automobile": 5, "test/airplane": 1, "test/automobile": 1}
    assert _cifar_block(tmp_path).train.labels.tolist() == [0, 1] * 5  # what training reads


def test_a_damaged_batch_is_refused(tmp_path, capsys):
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert prepare.main(["cifar10", "--root", str(tmp_path)]) == 1
    assert "expected the official batches, at least one is missing or has another checksum" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["waterbirds", "celeba", "pacs"])
def test_real_images_are_counted_as_published(name):
    root = Path(os.environ.get("SAMLIB_DATA", ""))
    try:
        listing = prepare.LISTINGS[name](root)
    except DataError:
        pytest.skip(f"SAMLIB_DATA points at no folder with {name}")
    here = prepare.count(listing.table, listing.counted_by)
    assert sum(here.values()) == len(listing.table)
    if name == "celeba":  # may be a subset
        assert all(here[key] <= n for key, n in listing.published.items())
    else:
        assert here == listing.published


wide = np.zeros((4, 8), np.uint8)
wide[:, 2:6] = 200  # the middle square
deep = np.array([[0, 257, 25_700, 65_535]] * 4, np.uint16)
white = Image.new("RGB", (4, 4), (255, 255, 255))
GREYS = {  # an image, its file's kind, how it becomes square, the first row of the result
    "cropped to the middle": (Image.fromarray(wide), "PNG", "crop", [200] * 4),
    "16 bits": (Image.fromarray(deep), "PNG", "squash", [0, 1, 100, 255]),
    **{mode: (white.convert(mode), "TIFF", "squash", [255] * 4) for mode in ("L", "P", "RGBA", "CMYK", "1")},
}


def read(path: Path, image: Image.Image, kind: str, fit: str) -> Pixels:
    image.save(path, format=kind)
    return read_image(path, size=4, fit=fit, accept_truncated=False)


@pytest.mark.parametrize(("image", "kind", "fit", "row"), GREYS.values(), ids=GREYS)
def test_images_become_square_and_every_colour_mode_rgb(tmp_path, image, kind, fit, row):
    found = read(tmp_path / "x", image, kind, fit)
    assert np.frombuffer(found.values, np.uint8).reshape(4, 4, 3)[0].tolist() == [[value] * 3 for value in row]
    assert found.problem == ""


def test_a_squashed_image_keeps_its_margins(tmp_path):
    row = read(tmp_path / "x", Image.fromarray(wide), "PNG", "squash").values[:12:3]
    assert row[0] == row[3] < 50 and row[1] == row[2] > 150


@pytest.mark.parametrize(("value", "kind"), [(0.5, np.float32), (200, np.int32)])
def test_images_without_a_known_range_are_refused(tmp_path, value, kind):
    found = read(tmp_path / "x", Image.fromarray(np.full((4, 4), value, dtype=kind)), "TIFF", "squash")
    assert (found.values, "expected 8 or 16 bits" in found.problem) == (b"", True)
