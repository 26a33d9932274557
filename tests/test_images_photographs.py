"""Annotated image sets: what is read from disk, what is drawn from it, and what is refused."""

import hashlib
import importlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

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

# Images of groups 0..3 in each split of the set that most tests use.
COUNTS = {"train": (60, 20, 10, 10), "val": (8, 7, 6, 5), "test": (9, 9, 4, 4)}


def annotated(counts: dict[str, tuple[int, ...]] = COUNTS, name: str = "waterbirds") -> PreparedSet:
    """A set with so many images of each group, splits and groups mixed; pixels do not matter."""
    rows = [(split, g // 2, g % 2, g, "") for split, sizes in counts.items() for g in range(4) for _ in range(sizes[g])]
    table = pd.DataFrame(rows, columns=["split", "label", "attribute", "group", "file"])
    table = table.sample(frac=1, random_state=0, ignore_index=True)
    return PreparedSet(name, np.zeros((len(table), 2, 2, 3), np.uint8), table, "0" * 64, "full")


def config(**fields: object) -> FinetuneConfig:
    return FinetuneConfig(image_set="waterbirds", **fields)  # type: ignore[arg-type]


def group_counts(data: PreparedSet, rows: torch.Tensor) -> list[int]:
    return [int((data.table["group"].to_numpy()[rows] == group).sum()) for group in range(4)]


def official(data: PreparedSet, split: str) -> set[int]:
    return set(np.flatnonzero(data.table["split"] == split))


# Reading


def write(root: Path, *, n: int = 3, size: int = 4, images=None, table=None, name: str = "waterbirds") -> Path:
    """A prepared folder; left out, there are n images, and every value of image i is i. Returns the folder."""
    if images is None:
        images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3))
        rows = [("train", i % 2, 0, 2 * (i % 2), f"{i}.jpg") for i in range(n)]
        table = pd.DataFrame(rows, columns=["split", "label", "attribute", "group", "file"])
    n, size = images.shape[:2]
    folder = root / "prepared" / f"{name}-{size}"
    folder.mkdir(parents=True)
    store(folder, images)
    table.to_csv(folder / "table.csv", index=False)
    manifest = {"schema": SCHEMA, "name": name, "size": size, "images": n, "coverage": "subset"}
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("images.npy", "table.csv")}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": digests}))
    return folder


def store(folder: Path, images: np.ndarray) -> None:
    np.save(folder / "images.npy", images)


def change(folder: Path, **fields: object) -> None:
    """Change entries of the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def retable(folder: Path, text: str) -> None:
    """Write another table, with its checksum in the manifest."""
    (folder / "table.csv").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    change(folder, sha256={"images.npy": "0" * 64, "table.csv": digest})


@pytest.fixture
def tiny_sets(monkeypatch) -> ModuleType:
    """What the tests of `data_scripts` make their sets with."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data"))
    return importlib.import_module("tiny_sets")


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
    write(tmp_path, images=np.zeros((3, 4, 4, 3), np.uint8), table=table, name="officehome")
    assert load_prepared("officehome", 4, tmp_path).table["class"].tolist() == ["001", "10", "2"]


def test_what_prepare_writes_can_be_read(tmp_path, tiny_sets):
    tiny_sets.waterbirds(tmp_path)
    prepare.prepare("waterbirds", tmp_path, size=8)
    data = load_prepared("waterbirds", 8, tmp_path)
    np.testing.assert_array_equal(data.images, [tiny_sets.picture(i) for i in range(5)])
    assert data.table["split"].tolist() == ["train", "train", "train", "val", "test"]
    assert data.table["group"].tolist() == [0, 1, 3, 2, 3]


def test_a_set_of_domains_can_be_read(tmp_path, tiny_sets):
    tiny_sets.pacs(tmp_path)
    prepare.prepare("pacs", tmp_path, size=8)
    data = load_prepared("pacs", 8, tmp_path)
    assert data.table["class"].tolist() == ["dog", "horse"] * 4


def test_the_command_that_errors_name_exists(tmp_path, tiny_sets):
    tiny_sets.waterbirds(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_prepared("waterbirds", 6, tmp_path)
    command = str(caught.value).split("`")[1].split()
    assert command[:3] == ["python", "-m", "data_scripts.prepare"]
    assert prepare.main([*command[3:], "--workers", "1"]) == 0
    assert load_prepared("waterbirds", 6, tmp_path).images.shape == (5, 6, 6, 3)


def test_without_a_root_nothing_is_guessed():
    with pytest.raises(ValueError, match=r"root: expected the folder .* got None; point SAMLIB_DATA at it"):
        load_prepared("waterbirds", 4, None)


def test_a_missing_size_is_refused_with_those_that_are_there(tmp_path):
    write(tmp_path, size=4)
    write(tmp_path, size=6)
    with pytest.raises(FileNotFoundError, match=r"found waterbirds-4, waterbirds-6 in .* waterbirds --size 8 --root"):
        load_prepared("waterbirds", 8, tmp_path)
    with pytest.raises(FileNotFoundError, match="found no size of celeba"):
        load_prepared("celeba", 4, tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "table.csv", "manifest.json"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"expected {name}, found .*remove the folder and run"):
        load_prepared("waterbirds", 4, tmp_path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "schema": (lambda folder: change(folder, schema=2), "got {'schema': 2"),
    "name": (lambda folder: change(folder, name="celeba"), "got .*'name': 'celeba'"),
    "no manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "a manifest"),
    "no checksum": (lambda folder: change(folder, sha256={}), "a manifest.*images.npy"),
    "checksum": (lambda folder: (folder / "table.csv").write_text("x"), "SHA-256 .* got"),
    "rows": (lambda folder: retable(folder, "split,label\ntrain,0\n"), "3 rows .* got 1"),
    "columns": (lambda folder: retable(folder, "split,label\n" + "train,0\n" * 3), "without attribute, group, file"),
    "cut": (lambda folder: os.truncate(folder / "images.npy", 128 + 3 * 4 * 4 * 3 - 1), "could not map it"),
    "no array": (lambda folder: (folder / "images.npy").write_bytes(b""), "could not map it"),
    "shape": (lambda folder: store(folder, np.zeros((2, 4, 4, 3), "u1")), r"\(3, 4.* got .*\(2, 4, 4, 3\)"),
    "type": (lambda folder: store(folder, np.zeros((3, 4, 4, 3), "f4")), "uint8 .* got float32"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_with_advice(tmp_path, damage, message):
    damage(write(tmp_path))
    with pytest.raises(ValueError, match=f"expected.*{message}.*; (remove the folder and run|use a set that has them)"):
        load_prepared("waterbirds", 4, tmp_path)


# Splits


def test_official_splits_are_taken_as_they_are():
    data = annotated()
    splits = photograph_splits(data, config())
    for rows, name in ((splits.train, "train"), (splits.validation, "val"), (splits.test, "test")):
        assert rows.dtype == torch.int64 and rows.tolist() == sorted(official(data, name))
    assert splits.train_frequencies == [0.6, 0.2, 0.1, 0.1]


@pytest.mark.parametrize("split", ["official", "drawn"])
def test_training_images_are_drawn_at_the_frequencies_of_the_training_split(split):
    data = annotated()
    splits = photograph_splits(data, config(split=split, n_train=25))
    # Exact shares are 15, 5, 2.5 and 2.5; the first of the equal remainders gets the image that is left.
    assert group_counts(data, splits.train) == [15, 5, 3, 2]
    assert set(splits.train.tolist()) < official(data, "train")
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
    assert all(set(splits.test.tolist()) & official(data, name) for name in COUNTS)


@pytest.mark.parametrize("split", ["official", "drawn"])
@pytest.mark.parametrize("per_group", [None, 4])
def test_no_image_is_in_two_sets(split, per_group):
    splits = photograph_splits(annotated(), config(split=split, n_train=50, per_group=per_group))
    rows = torch.cat(splits[:3])
    assert len(rows.unique()) == len(rows)


@pytest.mark.parametrize("split", ["official", "drawn"])
def test_per_group_cuts_validation_and_test_but_not_training(split):
    data = annotated()
    whole = photograph_splits(data, config(split=split, n_train=50))
    cut = photograph_splits(data, config(split=split, n_train=50, per_group=6))
    assert torch.equal(whole.train, cut.train)
    for before, after in ((whole.validation, cut.validation), (whole.test, cut.test)):
        assert group_counts(data, after) == [min(6, count) for count in group_counts(data, before)]
        assert set(after.tolist()) <= set(before.tolist())


def test_the_probe_training_set_is_balanced_and_unseen_in_training():
    data = annotated()
    splits = photograph_splits(data, config())
    assert group_counts(data, splits.probe_train) == [5, 5, 5, 5]
    assert set(splits.probe_train.tolist()) < set(splits.validation.tolist())


def test_fewer_training_images_are_some_of_the_more_and_leave_the_rest_alone():
    data = annotated()
    few, all_ = photograph_splits(data, config(n_train=30)), photograph_splits(data, config())
    assert set(few.train.tolist()) < set(all_.train.tolist())
    for name in ("validation", "test", "probe_train"):
        assert torch.equal(getattr(few, name), getattr(all_, name))


@pytest.mark.parametrize("split", ["official", "drawn"])
def test_runs_of_all_seeds_share_their_images(split):
    data = annotated()
    first = photograph_splits(data, config(split=split, n_train=50, per_group=4, seed=0))
    state = torch.get_rng_state()
    other = photograph_splits(data, config(split=split, n_train=50, per_group=4, seed=7))
    assert all(torch.equal(a, b) for a, b in zip(first[:4], other[:4], strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_requests_that_the_set_cannot_serve_are_refused():
    with pytest.raises(ValueError, match=r"expected the set 'waterbirds' .* got 'celeba'; load that set"):
        photograph_splits(annotated(name="celeba"), config())
    with pytest.raises(ValueError, match=r"n_train: expected at most 100, .* got 101; lower n_train"):
        photograph_splits(annotated(), config(n_train=101))
    with pytest.raises(ValueError, match=r"n_train: expected a number .* at most 100, got None"):
        photograph_splits(annotated(), config(split="drawn"))


@pytest.mark.parametrize(
    ("split", "counts", "message"),
    [
        ("train", (60, 0, 10, 10), r"train: expected at least 1 .* got \[60, 0, 10, 10\].*; use a larger set"),
        ("val", (8, 7, 6, 1), r"validation: expected at least 2 .* got \[8, 7, 6, 1\].*split='drawn' or a larger set"),
        ("test", (0, 9, 4, 4), r"test: expected at least 1 .* got \[0, 9, 4, 4\].*split='drawn' or a larger set"),
    ],
)
def test_an_absent_group_is_refused_with_all_counts(split, counts, message):
    changed = COUNTS | {split: counts}
    with pytest.raises(ValueError, match=message) as caught:
        photograph_splits(annotated(changed), config())
    for name, numbers in changed.items():
        assert f"{name} {list(numbers)}" in str(caught.value)


def test_a_drawn_split_that_leaves_too_few_images_is_refused():
    few = {"train": (60, 20, 10, 4), "val": (8, 7, 6, 0), "test": (9, 9, 4, 0)}
    with pytest.raises(ValueError, match=r"validation: .* got \[.*, 0\].*; lower n_train or use a larger set"):
        photograph_splits(annotated(few), config(split="drawn", n_train=94))
    with pytest.raises(ValueError, match=r"validation: expected at least 5 .* got \[8, 7, 6, 4\]"):
        photograph_splits(annotated(COUNTS | {"val": (8, 7, 6, 4)}), config(probe_folds=5))
    # 24 of 94 images leave 3 of the last group's 4, of which one is dealt to validation and two to test.
    with pytest.raises(ValueError, match=r"validation: expected at least 2 .*, 1\]"):
        photograph_splits(annotated(few), config(split="drawn", n_train=24))


# The embedded set


@pytest.fixture(scope="module")
def embedded() -> PreparedSet:
    return digits_on_patches()


def test_digits_on_patches_has_the_layout_and_frequencies_of_waterbirds(embedded):
    assert embedded.images.shape == (2000, 32, 32, 3) and embedded.images.dtype == np.uint8
    assert list(embedded.table.columns) == ["split", "label", "attribute", "group", "file"]
    counts = embedded.table.groupby(["split", "group"]).size()
    # Waterbirds has 3498, 184, 56 and 1057 training images.
    assert counts["train"].tolist() == largest_remainder(1200, [3498, 184, 56, 1057]) == [875, 46, 14, 265]
    assert counts["val"].tolist() == counts["test"].tolist() == [100] * 4
    train = embedded.table[embedded.table["split"] == "train"]
    assert (train["label"] == train["attribute"]).mean() == 0.95
    assert (embedded.table["group"] == 2 * embedded.table["label"] + embedded.table["attribute"]).all()
    assert set(embedded.table["file"]) == {""} and embedded.coverage == "full"


def test_digits_on_patches_is_the_same_every_time(embedded):
    again = digits_on_patches()
    np.testing.assert_array_equal(embedded.images, again.images)
    assert embedded.table.equals(again.table)
    assert embedded.images_sha256 == hashlib.sha256(again.images.tobytes()).hexdigest()


def test_ink_is_as_opaque_as_the_digit_is_bright():
    digit, patch = torch.tensor([0, 51, 255], dtype=torch.uint8), torch.tensor([100, 100, 100], dtype=torch.uint8)
    assert _drawn_over(digit, patch).tolist() == [100, 131, 255]  # 51 is a fifth: 0.2 x 255 + 0.8 x 100


def test_three_splits_share_no_tile():
    numbers = torch.arange(17, dtype=torch.uint8)[:, None, None, None]
    labels = torch.tensor([0, 1] * 8 + [0])
    block = Block("tiles", Tiles(numbers[:6], labels[:6]), Tiles(numbers[6:], labels[6:]))
    parts = three_splits(block, torch.Generator().manual_seed(0))
    assert parts["train"].images.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    held_out = parts["val"].images.flatten().tolist() + parts["test"].images.flatten().tolist()
    assert sorted(held_out) == list(range(6, 17))
    assert parts["val"].labels.tolist() == [0, 0, 0, 1, 1] and parts["test"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    for tiles in parts.values():
        assert torch.equal(tiles.labels, labels[tiles.images.flatten().long()])


# Training from the files


def test_probe_training_images_are_found_among_the_validation_images():
    splits = photograph_splits(annotated(), config())
    assert torch.equal(splits.validation[splits.probe_places], splits.probe_train)


@pytest.mark.parametrize("name", [name for name, row in PHOTOGRAPHS.items() if not row.embedded])
@pytest.mark.parametrize("trained", ["all", "last block"])
def test_every_set_of_photographs_is_trained_from_prepared_images(tmp_path, name, trained):
    data = annotated({split: (12,) * 4 for split in COUNTS}, name)
    images = np.random.default_rng(0).integers(0, 60, (len(data.table), 40, 40, 3), dtype=np.uint8)
    images += (90 * data.table.label.to_numpy(np.uint8))[:, None, None, None]  # bright for label 1
    images[:, :, :20] += (90 * data.table.attribute.to_numpy(np.uint8))[:, None, None, None]  # left half: attribute 1
    write(tmp_path, images=images, table=data.table, name=name)
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


def test_a_missing_set_is_named_with_a_command_that_can_be_pasted(tmp_path):
    root = tmp_path / "my data #1 für Vögel's"
    with pytest.raises(FileNotFoundError) as caught:
        load_images(FinetuneConfig(), root)
    command = str(caught.value).rpartition("run `")[2].partition("`")[0]
    expected = ["-m", "data_scripts.prepare", "waterbirds", "--size", "110", "--root", str(root)]
    assert shlex.split(command, comments=True)[1:] == expected
