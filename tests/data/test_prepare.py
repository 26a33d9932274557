"""Prepared arrays hold the pixels and rows of their images; a folder appears whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_sets
from PIL import Image

from data_scripts import DataError, cifar10, disk, prepare
from data_scripts.pixels import read_image

ROOT = Path(__file__).resolve().parent.parent.parent


def loaded(folder: Path) -> tuple[np.ndarray, pd.DataFrame, dict]:
    """Read a prepared folder as training does."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return np.load(folder / "images.npy", mmap_mode="r"), pd.read_csv(folder / "table.csv"), manifest


def nothing_left(root: Path) -> bool:
    """Whether no set and no passing file of one is there."""
    return not (root / "prepared").exists() or all(
        path.name.endswith(".lock") for path in (root / "prepared").iterdir()
    )


def test_rows_and_pixels_are_those_of_the_files(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    folder = prepare.prepare("waterbirds", tmp_path)
    images, table, _ = loaded(folder)
    assert folder == tmp_path / "prepared" / "waterbirds-8"
    assert isinstance(images, np.memmap) and images.dtype == np.uint8 and images.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(images, [tiny_sets.picture(i) for i in range(5)])
    assert list(table.columns) == ["split", "label", "attribute", "group", "file"]
    assert list(table["split"]) == ["train", "train", "train", "val", "test"]
    assert list(table["group"]) == [0, 1, 3, 2, 3]
    assert list(table["file"]) == [file for file, *_ in tiny_sets.BIRDS]


def test_the_manifest_counts_and_compares_with_what_was_published(tmp_path, capsys):
    tiny_sets.waterbirds(tmp_path)
    _, _, manifest = loaded(prepare.prepare("waterbirds", tmp_path))
    assert manifest["counts"]["train/0"] == 1 and manifest["counts"]["train/2"] == 0
    assert manifest["published"]["train/0"] == 3498
    assert manifest["difference"]["train/0"] == -3497
    assert manifest["coverage"] == "subset"
    assert manifest["resized"] == 0 and manifest["truncated"] == []
    assert "train/0               1      3,498      -3,497" in capsys.readouterr().out


def test_the_manifest_identifies_source_and_result(tmp_path):
    path = tiny_sets.waterbirds(tmp_path)
    folder = prepare.prepare("waterbirds", tmp_path)
    _, _, manifest = loaded(folder)
    for name in ("images.npy", "table.csv"):
        assert manifest["sha256"][name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    source = manifest["source"]
    assert source["folder"] == "waterbirds_v1.0"
    assert source["files_sha256"] == {"metadata.csv": hashlib.sha256(path.read_bytes()).hexdigest()}
    digests = [hashlib.sha256((path.parent / file).read_bytes()).digest() for file, *_ in tiny_sets.BIRDS]
    assert source["images_sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert str(tmp_path) not in json.dumps(manifest)


def test_what_fetch_wrote_down_goes_into_the_manifest(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    receipt = {"file": "waterbirds.tar.gz", "url": "http://x", "sha256": "0" * 64, "trust": "first use"}
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "waterbirds.json").write_text(json.dumps({"waterbirds.tar.gz": receipt}))
    _, _, manifest = loaded(prepare.prepare("waterbirds", tmp_path))
    assert manifest["source"]["fetched"] == [receipt]


def test_group_dros_folder_name_is_known(tmp_path):
    tiny_sets.waterbirds(tmp_path, folder="waterbird_complete95_forest2water2")
    assert len(loaded(prepare.prepare("waterbirds", tmp_path))[0]) == 5


def test_another_size_is_resized_as_pil_does_and_recorded(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    images, _, manifest = loaded(prepare.prepare("waterbirds", tmp_path, size=3))
    expected = Image.fromarray(tiny_sets.picture(2)).resize((3, 3), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(images[2], np.asarray(expected))
    assert (manifest["size"], manifest["resized"]) == (3, 5)


def test_two_sizes_stand_side_by_side(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    folders = {prepare.prepare("waterbirds", tmp_path, size=size).name for size in (3, 4)}
    assert folders == {path.name for path in (tmp_path / "prepared").glob("[!.]*")} == {"waterbirds-3", "waterbirds-4"}


def test_images_of_several_sizes_get_the_usual_one(tmp_path):
    path = tiny_sets.waterbirds(tmp_path)
    tiny_sets.save(path.parent / "a/1.jpg", tiny_sets.picture(0, width=9))
    assert prepare.prepare("waterbirds", tmp_path).name == "waterbirds-256"


def test_very_large_images_need_a_stated_size(tmp_path, monkeypatch):
    tiny_sets.waterbirds(tmp_path)
    monkeypatch.setattr(prepare, "LARGEST", 7)
    with pytest.raises(DataError, match="at most 7 pixels a side, got 8; pass --size"):
        prepare.prepare("waterbirds", tmp_path)


def test_faces_are_cropped_to_the_middle_and_birds_squashed(tmp_path):
    wide = np.zeros((4, 8, 3), dtype=np.uint8)
    wide[:, 2:6] = 200  # the middle square
    tiny_sets.save(path := tmp_path / "wide.png", wide)
    cropped = read_image(path, size=4, fit="crop", accept_truncated=False)
    squashed = read_image(path, size=4, fit="squash", accept_truncated=False)
    assert set(cropped.values) == {200}
    row = np.frombuffer(squashed.values, dtype=np.uint8).reshape(4, 4, 3)[0, :, 0]
    assert row[0] == row[3] < 50 and row[1] == row[2] > 150  # the dark margins are still there


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path := tmp_path / "x", format="TIFF")
    assert set(read_image(path, size=4, fit="squash", accept_truncated=False).values) == {255}


def test_several_processes_give_the_same_bytes(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    one = loaded(prepare.prepare("waterbirds", tmp_path))[2]["sha256"]
    shutil.rmtree(tmp_path / "prepared")
    assert loaded(prepare.prepare("waterbirds", tmp_path, workers=2))[2]["sha256"] == one


def test_what_is_prepared_stays_as_it_is(tmp_path, capsys):
    tiny_sets.waterbirds(tmp_path)
    folder = prepare.prepare("waterbirds", tmp_path)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert prepare.prepare("waterbirds", tmp_path) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert "prepared already" in capsys.readouterr().out


def test_an_image_that_does_not_decode_is_named_and_nothing_is_left(tmp_path):
    path = tiny_sets.waterbirds(tmp_path)
    (path.parent / "b/4.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 5 do not decode:\n  b/4\.jpg: UnidentifiedImageError"):
        prepare.prepare("waterbirds", tmp_path)
    assert nothing_left(tmp_path)


def cut_short(path: Path) -> None:
    """Put a JPEG there of which the last half is missing, long after its header."""
    tiny_sets.save(path, tiny_sets.picture(0, 64, 64), "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_image_cut_short_is_refused_or_filled_up_and_named(tmp_path):
    path = tiny_sets.waterbirds(tmp_path)
    cut_short(path.parent / "b/4.jpg")
    with pytest.raises(DataError, match=r"b/4\.jpg: OSError: (.|\n)*--accept-truncated"):
        prepare.prepare("waterbirds", tmp_path, size=8)
    assert nothing_left(tmp_path)
    _, _, manifest = loaded(prepare.prepare("waterbirds", tmp_path, size=8, accept_truncated=True))
    assert manifest["truncated"] == ["b/4.jpg"]


def test_accepting_cut_images_accepts_nothing_else(tmp_path):
    path = tiny_sets.waterbirds(tmp_path)
    (path.parent / "b/4.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="do not decode"):
        prepare.prepare("waterbirds", tmp_path, accept_truncated=True)


def test_too_little_space_is_seen_before_an_image_is_read(tmp_path, free):
    tiny_sets.waterbirds(tmp_path)
    free(500)
    with pytest.raises(disk.NoSpaceError, match="expected 960 free bytes for the arrays, got 500"):
        prepare.prepare("waterbirds", tmp_path)
    assert nothing_left(tmp_path)


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    tiny_sets.waterbirds(tmp_path)

    def full(path, content):
        path.write_bytes(content[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "_write", full)
    with pytest.raises(disk.NoSpaceError, match="no space left on the disk; free some, or pass a smaller --size"):
        prepare.prepare("waterbirds", tmp_path)
    assert nothing_left(tmp_path)


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, ".")
from data_scripts import prepare
write = prepare._write
prepare._write = lambda path, content: (write(path, content), print("written", flush=True), time.sleep(60))
prepare.prepare("waterbirds", Path(sys.argv[1]))
"""


def test_a_killed_run_leaves_nothing_that_loads_and_the_next_one_clears_up(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    running = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"written\n"
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert not (tmp_path / "prepared" / "waterbirds-8").exists()
    assert len(list((tmp_path / "prepared").glob(".waterbirds-8.tmp*"))) == 1
    assert len(loaded(prepare.prepare("waterbirds", tmp_path))[0]) == 5
    assert list((tmp_path / "prepared").glob(".waterbirds-8.tmp*")) == []


def test_the_command_reports_an_error_in_one_place(tmp_path, capsys):
    assert prepare.main(["waterbirds", "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "run `python -m data_scripts.fetch waterbirds --root " in error


@pytest.mark.parametrize("options", [["--size", "0"], ["--size", "5000"], ["--workers", "0"], ["--size", "x"]])
def test_impossible_options_are_refused(tmp_path, options):
    with pytest.raises(SystemExit) as caught:
        prepare.main(["waterbirds", "--root", str(tmp_path), *options])
    assert caught.value.code == 2


def test_the_command_prepares_in_the_folder_of_the_environment(tmp_path, monkeypatch):
    tiny_sets.waterbirds(tmp_path)
    monkeypatch.setenv("SAMLIB_DATA", str(tmp_path))
    assert prepare.main(["waterbirds", "--size", "4", "--workers", "1"]) == 0
    assert (tmp_path / "prepared" / "waterbirds-4").is_dir()


def test_mnist_needs_no_preparation(tmp_path, capsys):
    assert prepare.main(["mnist", "--root", str(tmp_path)]) == 0
    assert "nothing to prepare" in capsys.readouterr().out


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """CIFAR-10's batches in small: ten images a file, one of each class, and torchvision's check of them left out."""
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.full((10, 3072), number, dtype=np.uint8)
        data[:, :1024] = np.arange(10)[:, None]  # red tells the class
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    return folder


def test_airplanes_and_automobiles_go_into_one_file_in_the_batches_order(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "PUBLISHED", {"train": 5, "test": 1})
    assert prepare.main(["cifar10", "--root", str(tmp_path)]) == 0
    with np.load(tmp_path / cifar10.FILE) as file:
        arrays = dict(file)
    assert arrays["x_train"].shape == (10, 32, 32, 3) and arrays["x_train"].dtype == np.uint8
    assert arrays["y_train"].tolist() == [0, 1] * 5 and arrays["y_test"].tolist() == [0, 1]
    np.testing.assert_array_equal(arrays["x_train"][..., 0].max((1, 2)), arrays["y_train"])  # red is the class
    assert arrays["x_train"][:, 0, 0, 1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # green is the batch
    manifest = json.loads((tmp_path / cifar10.FILE).with_suffix(".json").read_text())
    assert manifest["counts"] == {"train/airplane": 5, "train/automobile": 5, "test/airplane": 1, "test/automobile": 1}


def test_samlib_reads_the_file_of_airplanes_and_automobiles(batches, tmp_path, monkeypatch):
    from samlib.images.tiles import CIFAR_FILE, _cifar_block

    monkeypatch.setattr(cifar10, "PUBLISHED", {"train": 5, "test": 1})
    cifar10.prepare_cifar10(tmp_path)
    assert cifar10.FILE == CIFAR_FILE
    assert _cifar_block(tmp_path).train.labels.tolist() == [0, 1] * 5


def test_too_few_airplanes_are_refused(batches, tmp_path, capsys):
    assert prepare.main(["cifar10", "--root", str(tmp_path)]) == 1
    assert "'train/airplane': 5000" in capsys.readouterr().err
    assert not (tmp_path / cifar10.FILE).exists()


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


def test_sixteen_bits_of_grey_keep_their_range(tmp_path):
    values = np.array([[0, 257, 25_700, 65_535]] * 4, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png", size=4, fit="squash", accept_truncated=False)
    assert found.problem == ""
    assert np.frombuffer(found.values, np.uint8).reshape(4, 4, 3)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_images_without_a_known_range_are_refused(tmp_path):
    for values in (np.full((4, 4), 0.5, dtype=np.float32), np.full((4, 4), 200, dtype=np.int32)):
        Image.fromarray(values).save(tmp_path / "wide.tiff")
        found = read_image(tmp_path / "wide.tiff", size=4, fit="squash", accept_truncated=False)
        assert (found.values, "expected 8 or 16 bits" in found.problem) == (b"", True)
