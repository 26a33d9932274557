"""Annotated image sets: what is read from disk, what is drawn from it, and what is refused."""

import hashlib
import importlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_scripts import prepare
from edition.experiments.finetune import reduced
from edition.records.store import Store
from edition.runs import Run, do
from samlib.images.catalogue import PHOTOGRAPHS
from samlib.images.config import FinetuneConfig
from samlib.images.image_sets import (
    SCHEMA,
    PreparedSet,
    _drawn_over,
    digits_on_patches,
    load_images,
    load_prepared,
    three_splits,
)
from samlib.images.splits import largest_remainder, photograph_splits
from samlib.images.tiles import Block, Tiles

COLUMNS = ["split", "label", "attribute", "group", "file"]
# Images of groups 0..3 in each split of the set that most tests use.
COUNTS = {"train": (60, 20, 10, 10), "val": (8, 7, 6, 5), "test": (9, 9, 4, 4)}


def annotated(name: str = "waterbirds", **counts: tuple[int, ...]) -> PreparedSet:
    """A set with so many images of each group, splits and groups mixed; pixels do not matter."""
    sizes = COUNTS | counts
    rows = [(split, g // 2, g % 2, g, "") for split in sizes for g in range(4) for _ in range(sizes[split][g])]
    table = pd.DataFrame(rows, columns=COLUMNS).sample(frac=1, random_state=0, ignore_index=True)
    return PreparedSet(name, np.zeros((len(table), 2, 2, 3), np.uint8), table, "0" * 64, "full")


def config(**fields: object) -> FinetuneConfig:
    return FinetuneConfig(image_set="waterbirds", **fields)  # type: ignore[arg-type]


def group_counts(data: PreparedSet, rows: torch.Tensor) -> list[int]:
    return np.bincount(data.table["group"].to_numpy()[rows], minlength=4).tolist()


def official(data: PreparedSet, split: str) -> list[int]:
    return np.flatnonzero(data.table["split"] == split).tolist()


# Reading


def write(root: Path, images=None, table=None, name: str = "waterbirds") -> Path:
    """A prepared folder; left out, there are three images, and every value of image i is i. Returns the folder."""
    if images is None:
        images = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None, None, None], (3, 4, 4, 3))
    if table is None:
        table = pd.DataFrame([("train", i % 2, 0, 2 * (i % 2), f"{i}.jpg") for i in range(3)], columns=COLUMNS)
    folder = root / "prepared" / f"{name}-{images.shape[1]}"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    table.to_csv(folder / "table.csv", index=False)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("images.npy", "table.csv")}
    manifest = {"schema": SCHEMA, "name": name, "size": images.shape[1], "images": len(images), "coverage": "subset"}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": digests}))
    return folder


def change(folder: Path, **fields: object) -> None:
    """Change entries of the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def retable(folder: Path, text: str) -> None:
    """Write another table, with its checksum in the manifest."""
    (folder / "table.csv").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    change(folder, sha256={"images.npy": "0" * 64, "table.csv": digest})


def test_a_prepared_set_is_read_without_loading_its_images(tmp_path):
    folder = write(tmp_path)
    data = load_prepared("waterbirds", 4, tmp_path)
    assert isinstance(data.images, np.memmap) and not data.images.flags.writeable
    assert data.images.shape == (3, 4, 4, 3) and data.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.table["group"].tolist() == [0, 2, 0] and data.table["file"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert data.images_sha256 == hashlib.sha256((folder / "images.npy").read_bytes()).hexdigest()
    assert (data.name, data.coverage) == ("waterbirds", "subset")


def test_folders_that_are_called_by_numbers_stay_words(tmp_path):
    table = pd.DataFrame([("Art", name, "1.jpg") for name in ("001", "10", "2")], columns=["domain", "class", "file"])
    write(tmp_path, table=table, name="officehome")
    assert load_prepared("officehome", 4, tmp_path).table["class"].tolist() == ["001", "10", "2"]


def test_the_command_for_a_missing_set_can_be_pasted_and_what_it_writes_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data"))
    tiny_sets, root = importlib.import_module("tiny_sets"), tmp_path / "my data #1 für Vögel's"
    root.mkdir()
    tiny_sets.waterbirds(root)
    missing = config(stored_size=8, image_size=8)
    with pytest.raises(FileNotFoundError) as caught:
        load_images(missing, root)
    command = shlex.split(str(caught.value).rpartition("run `")[2].partition("`")[0], comments=True)
    assert command[:3] == ["python", "-m", "data_scripts.prepare"]
    assert prepare.main([*command[3:], "--workers", "1"]) == 0
    data = load_images(missing, root)
    np.testing.assert_array_equal(data.images, [tiny_sets.picture(i) for i in range(5)])
    assert data.table["split"].tolist() == ["train", "train", "train", "val", "test"]
    assert data.table["group"].tolist() == [0, 1, 3, 2, 3]


def test_a_missing_root_or_size_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(ValueError, match=r"root: expected the folder .* got None; point SAMLIB_DATA at it"):
        load_prepared("waterbirds", 4, None)
    for side in (4, 6):
        write(tmp_path, images=np.zeros((3, side, side, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"found waterbirds-4, waterbirds-6 in .* waterbirds --size 8 --root"):
        load_prepared("waterbirds", 8, tmp_path)
    with pytest.raises(FileNotFoundError, match="found no size of celeba"):
        load_prepared("celeba", 4, tmp_path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"no {name}": (lambda folder, name=name: (folder / name).unlink(), f"{name}, found")
        for name in ("images.npy", "table.csv", "manifest.json")
    },
    "schema": (lambda folder: change(folder, schema=2), "got {'schema': 2"),
    "name": (lambda folder: change(folder, name="celeba"), "got .*'name': 'celeba'"),
    "no manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "a manifest"),
    "no checksum": (lambda folder: change(folder, sha256={}), "a manifest.*images.npy"),
    "checksum": (lambda folder: (folder / "table.csv").write_text("x"), "SHA-256 .* got"),
    "rows": (lambda folder: retable(folder, "split,label\ntrain,0\n"), "3 rows .* got 1"),
    "columns": (lambda folder: retable(folder, "split,label\n" + "train,0\n" * 3), "without attribute, group, file"),
    "cut": (lambda folder: os.truncate(folder / "images.npy", 128 + 3 * 4 * 4 * 3 - 1), "could not map it"),
    "no array": (lambda folder: (folder / "images.npy").write_bytes(b""), "could not map it"),
    "shape": (lambda folder: np.save(folder / "images.npy", np.zeros((2, 4, 4, 3), "u1")), r"got .*\(2, 4, 4, 3\)"),
    "type": (lambda folder: np.save(folder / "images.npy", np.zeros((3, 4, 4, 3), "f4")), "uint8 .* got float32"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_with_advice(tmp_path, damage, message):
    damage(write(tmp_path))
    message = f"expected.*{message}.*; (remove the folder and run|use a set that has them)"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_prepared("waterbirds", 4, tmp_path)


# Splits


def test_official_splits_are_taken_as_they_are_and_probes_train_on_a_balanced_unseen_part():
    data = annotated()
    splits = photograph_splits(data, config())
    for rows, name in ((splits.train, "train"), (splits.validation, "val"), (splits.test, "test")):
        assert rows.dtype == torch.int64 and rows.tolist() == official(data, name)
    assert splits.train_frequencies == [0.6, 0.2, 0.1, 0.1]
    assert group_counts(data, splits.probe_train) == [5, 5, 5, 5]
    assert torch.equal(splits.validation[splits.probe_places], splits.probe_train)


@pytest.mark.parametrize("split", ["official", "drawn"])
def test_training_images_are_drawn_at_the_frequencies_of_the_training_split(split):
    data = annotated()
    splits = photograph_splits(data, config(split=split, n_train=25))
    # Exact shares are 15, 5, 2.5 and 2.5; the first of the equal remainders gets the image that is left.
    assert group_counts(data, splits.train) == [15, 5, 3, 2]
    assert set(splits.train.tolist()) < set(official(data, "train"))
    assert splits.train_frequencies == [0.6, 0.2, 0.1, 0.1]


def test_largest_remainders_add_up_and_are_within_one_of_the_share():
    counts = [20, 10, 6, 4]
    for n in range(4, 41):
        sizes = largest_remainder(n, counts)
        assert sum(sizes) == n and all(1 <= size <= count for size, count in zip(sizes, counts, strict=True))
        if n >= 10:  # below, the last group's one image is more than its share
            assert all(abs(size - n * count / 40) < 1 for size, count in zip(sizes, counts, strict=True))
    assert largest_remainder(5, [970, 10, 10, 10]) == [2, 1, 1, 1]


def test_drawn_splits_deal_all_other_images_half_and_half():
    data = annotated()
    splits = photograph_splits(data, config(split="drawn", n_train=50))
    # Left of 60 + 8 + 9, 20 + 7 + 9, 10 + 6 + 4 and 10 + 5 + 4 images are 47, 26, 15 and 14.
    assert group_counts(data, splits.train) == [30, 10, 5, 5]
    assert group_counts(data, splits.validation) == [23, 13, 7, 7]
    assert group_counts(data, splits.test) == [24, 13, 8, 7]
    assert sorted(torch.cat(splits[:3]).tolist()) == list(range(len(data.table)))
    assert all(set(splits.test.tolist()) & set(official(data, name)) for name in COUNTS)


@pytest.mark.parametrize("split", ["official", "drawn"])
def test_sets_share_no_image_per_group_cuts_all_but_training_and_seeds_share_them(split):
    data, state = annotated(), torch.get_rng_state()
    whole, cut, other = (
        photograph_splits(data, config(split=split, n_train=50, **fields))
        for fields in ({}, {"per_group": 6}, {"per_group": 6, "seed": 7})
    )
    assert all(torch.equal(a, b) for a, b in zip(cut[:4], other[:4], strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(whole.train, cut.train)
    for before, after in ((whole.validation, cut.validation), (whole.test, cut.test)):
        assert group_counts(data, after) == [min(6, count) for count in group_counts(data, before)]
        assert set(after.tolist()) <= set(before.tolist())
    rows = torch.cat(whole[:3])
    assert len(rows.unique()) == len(rows)


def test_fewer_training_images_are_some_of_the_more_and_leave_the_rest_alone():
    few, all_ = (photograph_splits(annotated(), config(n_train=n)) for n in (30, None))
    assert set(few.train.tolist()) < set(all_.train.tolist())
    for name in ("validation", "test", "probe_train"):
        assert torch.equal(getattr(few, name), getattr(all_, name))


FEW = {"train": (60, 20, 10, 4), "val": (8, 7, 6, 0), "test": (9, 9, 4, 0)}
ALL = r"train \[60, 20, 10, 10\]; val \[8, 7, 6, 1\]; test \[9, 9, 4, 4\]"


@pytest.mark.parametrize(
    ("counts", "fields", "message"),
    [
        ({"name": "celeba"}, {}, "expected the set 'waterbirds' .* got 'celeba'; load that set"),
        ({}, {"n_train": 101}, "n_train: expected at most 100, .* got 101; lower n_train"),
        ({}, {"split": "drawn"}, "n_train: expected a number .* at most 100, got None"),
        ({"train": (60, 0, 10, 10)}, {}, r"train: expected at least 1 .* got \[60, 0, 10, 10\].*; use a larger set"),
        (
            {"val": (8, 7, 6, 1)},
            {},
            rf"validation: expected at least 2 .* got \[8, 7, 6, 1\].*{ALL}; use split='drawn'",
        ),
        ({"val": (8, 7, 6, 4)}, {"probe_folds": 5}, r"validation: expected at least 5 .* got \[8, 7, 6, 4\]"),
        ({"test": (0, 9, 4, 4)}, {}, r"test: expected at least 1 .* got \[0, 9, 4, 4\].*split='drawn' or a larger set"),
        (FEW, {"split": "drawn", "n_train": 94}, r"validation: .* got \[.*, 0\].*; lower n_train or use a larger set"),
        # 24 of 94 images leave 3 of the last group's 4, of which one is dealt to validation and two to test.
        (FEW, {"split": "drawn", "n_train": 24}, r"validation: expected at least 2 .*, 1\]"),
    ],
)
def test_requests_that_the_set_cannot_serve_are_refused_with_all_counts(counts, fields, message):
    with pytest.raises(ValueError, match=message):
        photograph_splits(annotated(**counts), config(**fields))


# The embedded set


def test_digits_on_patches_has_the_layout_and_frequencies_of_waterbirds_every_time():
    embedded, again = digits_on_patches(), digits_on_patches()
    assert embedded.images.shape == (2000, 32, 32, 3) and embedded.images.dtype == np.uint8
    assert list(embedded.table.columns) == COLUMNS and set(embedded.table["file"]) == {""}
    counts = embedded.table.groupby(["split", "group"]).size()
    # Waterbirds has 3498, 184, 56 and 1057 training images.
    assert counts["train"].tolist() == largest_remainder(1200, [3498, 184, 56, 1057]) == [875, 46, 14, 265]
    assert counts["val"].tolist() == counts["test"].tolist() == [100] * 4
    train = embedded.table[embedded.table["split"] == "train"]
    assert (train["label"] == train["attribute"]).mean() == 0.95
    assert (embedded.table["group"] == 2 * embedded.table["label"] + embedded.table["attribute"]).all()
    np.testing.assert_array_equal(embedded.images, again.images)
    assert embedded.table.equals(again.table) and embedded.coverage == "full"
    assert embedded.images_sha256 == hashlib.sha256(again.images.tobytes()).hexdigest()


def test_ink_is_as_opaque_as_the_digit_is_bright():
    digit, patch = torch.tensor([0, 51, 255], dtype=torch.uint8), torch.tensor([100, 100, 100], dtype=torch.uint8)
    assert _drawn_over(digit, patch).tolist() == [100, 131, 255]  # 51 is a fifth: 0.2 x 255 + 0.8 x 100


def test_three_splits_share_no_tile():
    numbers = torch.arange(17, dtype=torch.uint8)[:, None, None, None]
    labels = torch.tensor([0, 1] * 8 + [0])
    block = Block("tiles", Tiles(numbers[:6], labels[:6]), Tiles(numbers[6:], labels[6:]))
    parts = three_splits(block, torch.Generator().manual_seed(0))
    train, val, test = (parts[name].images.flatten().tolist() for name in ("train", "val", "test"))
    assert train == [0, 1, 2, 3, 4, 5] and sorted(val + test) == list(range(6, 17))
    assert parts["val"].labels.tolist() == [0, 0, 0, 1, 1] and parts["test"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    for tiles in parts.values():
        assert torch.equal(tiles.labels, labels[tiles.images.flatten().long()])


# Training from the files


@pytest.mark.parametrize("name", [name for name, row in PHOTOGRAPHS.items() if not row.embedded])
@pytest.mark.parametrize("trained", ["all", "last block"])
def test_every_set_of_photographs_is_trained_from_prepared_images(tmp_path, name, trained):
    data = annotated(name, **dict.fromkeys(COUNTS, (12,) * 4))
    images = np.random.default_rng(0).integers(0, 60, (len(data.table), 40, 40, 3), dtype=np.uint8)
    images += (90 * data.table.label.to_numpy(np.uint8))[:, None, None, None]  # bright for label 1
    images[:, :, :20] += (90 * data.table.attribute.to_numpy(np.uint8))[:, None, None, None]  # left half: attribute 1
    write(tmp_path, images, data.table, name)
    small = {"stored_size": 40, "image_size": 32, "backbone": "smallnet", "batch_size": 16, "n_epochs": 4}
    run = FinetuneConfig(image_set=name, **small, n_train=32, trained=trained, learning_rate=0.05, rho=0.05)
    (record,) = do([Run("finetune", run)], Store(tmp_path / "records"), data_root=tmp_path)
    assert record.metrics["curves"]["train_loss"][-1] < record.metrics["curves"]["train_loss"][0]
    assert record.metrics[f"{run.features[0]}_probe_error"] < 0.2
    assert (tmp_path / "activations").exists() == (trained == "last block")


def test_a_run_is_recorded_with_its_arrays(tmp_path):
    records = [do([Run("finetune", run)], Store(tmp_path))[0] for run in reduced("smoke")]
    assert [record.config["rho"] for record in records] == [0.0, 0.05]
    assert all(record.arrays()["importance_real"].shape == (2, 128) for record in records)
    assert records[0].metrics != records[1].metrics
