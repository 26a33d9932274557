"""Two-feature images: what is read, what is paired with what, and what is refused."""

import gzip
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import samlib
from edition.records.store import Store
from edition.runs import Run, do
from samlib.images.config import PairConfig
from samlib.images.splits import PairSets, pair_sets
from samlib.images.tiles import Block, PairSource, Tiles, load_pair


def numbered(first: int, sizes: list[int]) -> Tiles:
    """Tiles whose every pixel is the tile's own number, counted from `first`, `sizes[k]` of class k."""
    numbers = torch.arange(first, first + sum(sizes)).to(torch.uint8)
    labels = torch.cat([torch.full((size,), k) for k, size in enumerate(sizes)])
    return Tiles(numbers[:, None, None, None].expand(-1, 1, 32, 32).clone(), labels)


def tiny_source(*, cycled: bool = False) -> PairSource:
    """Twenty to thirty training tiles a class and six to eight test tiles; the upper block may be small and cycled."""
    top = [numbered(0, [6, 4]), numbered(60, [2, 3])] if cycled else [numbered(0, [20, 30]), numbered(60, [6, 8])]
    bottom = [numbered(100, [25, 24]), numbered(160, [7, 8])]
    return PairSource("digits_patches", Block("top", *top, cycled=cycled), Block("bottom", *bottom))


def tiny_config(**fields: object) -> PairConfig:
    return PairConfig(**{"pair": "digits_patches", "n_train": 20, "n_probe": 8} | fields)  # type: ignore[arg-type]


def tiny_sets(*, cycled: bool = False, **fields: object) -> PairSets:
    return pair_sets(tiny_source(cycled=cycled), tiny_config(**fields))


def tile_numbers(images: Tensor) -> Tensor:
    """The number of the upper and lower tile of every image, by the value of one pixel each."""
    return images[:, 0, [0, 63], 0].long()


@pytest.fixture(scope="module")
def embedded() -> PairSource:
    return load_pair("digits_patches")


# Configuration


BAD = {"learning_rate": -0.1, "rho": math.inf, "momentum": 1.0, "batch_size": 0, "n_epochs": 0, "n_train": 0}
BAD |= {"validation_share": 0.0, "seed": -1, "pair": "cifar", "backbone": "resnet", "probe_folds": 1}


@pytest.mark.parametrize(("field", "value"), BAD.items())
def test_unusable_configurations_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}: expected .* got {value!r}"):
        PairConfig(**{field: value})  # type: ignore[arg-type]


# Tiles


def test_embedded_pair_has_the_stated_tiles(embedded: PairSource) -> None:
    assert embedded.features == ("digits", "patches")
    counts = [[torch.bincount(t.labels).tolist() for t in (b.train, b.test)] for b in embedded.blocks]
    # 178 zeros and 182 ones, 70 % rounded down; 53 rows of patches, 448 / 8 columns and the other 24.
    assert counts == [[[124, 127], [54, 55]], [[2968, 2968], [1272, 1272]]]
    assert all(t.images.shape[1:] == (1, 32, 32) for b in embedded.blocks for t in (b.train, b.test))


def test_embedded_patches_are_disjoint_regions_of_the_photograph(embedded: PairSource) -> None:
    from sklearn.datasets import load_sample_image

    grey = np.rint(load_sample_image("flower.jpg").mean(2)).astype(np.uint8)
    patches = embedded.bottom
    last_row, last_column = 52, 55  # of the training split's grid
    last_train = patches.train.images[patches.train.labels == 1][last_row * 56 + last_column]
    first_test = patches.test.images[patches.test.labels == 1][0]
    assert np.array_equal(last_train[0, ::4, ::4], grey[416:424, 440:448])
    assert np.array_equal(first_test[0, ::4, ::4], grey[0:8, 448:456])


# Reading files

CIFAR, LABELS = "cifar10_airplane_automobile.npz", "MNIST/raw/train-labels-idx1-ubyte"


def write_idx(path: Path, values: np.ndarray, *, packed: bool = False) -> None:
    """Write whole numbers below 256 as an IDX file, packed with `.gz` appended to its name."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    content = header + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def tiles(labels: np.ndarray, strength: int, side: int) -> np.ndarray:
    """Noise, and in column 4 + 4 * label a stripe of this strength."""
    images = np.random.default_rng(strength).integers(0, 80, (len(labels), side, side))
    for image, label in zip(images, labels, strict=True):
        image[:, 4 + 4 * label : 6 + 4 * label] += strength
    return images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MNIST and Fashion-MNIST with six classes of 40 training and 20 test images, CIFAR-10's two with 40 and 20."""
    for split, count in (("train", 40), ("t10k", 20)):
        labels = np.repeat(np.arange(6), count)
        for name, strength in (("MNIST", 170), ("FashionMNIST", 60)):
            folder, packed = tmp_path / name / "raw", split == "train"
            write_idx(folder / f"{split}-images-idx3-ubyte", tiles(labels, strength, 28), packed=packed)
            write_idx(folder / f"{split}-labels-idx1-ubyte", labels, packed=packed)
    colours = {f"y_{split}": np.repeat(np.arange(2), count) for split, count in (("train", 40), ("test", 20))}
    for split in ("train", "test"):
        grey = tiles(colours[f"y_{split}"], 60, 32).astype(np.uint8)
        colours[f"x_{split}"] = np.stack([grey, grey + 1, grey + 2], axis=3)
    np.savez(tmp_path / CIFAR, **colours)
    return tmp_path


def test_files_are_read_packed_or_plain_and_other_classes_left_out(root: Path) -> None:
    source = load_pair("cifar_mnist", root)
    assert source.features == ("mnist", "cifar")
    for block, count in ((source.top.train, 40), (source.top.test, 20)):
        assert block.labels.tolist() == [0] * count + [1] * count
        expected = tiles(np.repeat(np.arange(6), count), 170, 28)[: 2 * count]
        assert np.array_equal(block.images[:, 0, 2:30, 2:30], expected)
        assert block.images.shape == (2 * count, 1, 32, 32) and block.images.sum() == expected.sum()  # zeros around
    with np.load(root / CIFAR) as content:
        assert np.array_equal(source.bottom.train.images, content["x_train"].transpose(0, 3, 1, 2))


def test_the_official_cifar_folder_is_read_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_pair("cifar_mnist", root).bottom
    with np.load(root / CIFAR) as content:
        pixels = {split: content[f"x_{split}"] for split in ("train", "test")}
    (root / CIFAR).unlink()
    (root / "cifar-10-batches-py").mkdir()

    class FakeCIFAR10:
        def __init__(self, folder: str, *, train: bool, download: bool) -> None:
            assert folder == str(root) and not download
            self.data = pixels["train" if train else "test"]
            self.targets = [0] * (len(self.data) // 2) + [1] * (len(self.data) // 2 - 1) + [9]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeCIFAR10)
    block = load_pair("cifar_mnist", root).bottom
    assert torch.equal(block.train.images, expected.train.images[:-1])  # the last one is of another class
    assert torch.equal(block.train.labels, expected.train.labels[:-1])


NPY = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n\x00"


def changed(content: bytes) -> bytes:
    """Contents with another byte in the middle."""
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 0xFF]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        (CIFAR, changed, "expected x_train, y_train, x_test, y_test, could not read"),
        (CIFAR, lambda content: NPY, "expected x_train, y_train, x_test, y_test, could not read"),
        (CIFAR, lambda content: content[:1000], "expected x_train, y_train, x_test, y_test, could not read"),
        ("MNIST/raw/t10k-images-idx3-ubyte", lambda content: content[:-1], "unsigned bytes, got 94095 bytes"),
        (f"{LABELS}.gz", lambda content: content[:20], "expected a gzip file, could not unpack"),
        (f"{LABELS}.gz", changed, "expected a gzip file, could not unpack"),
    ],
)
def test_damaged_files_are_refused(root: Path, file: str, damage, told: str) -> None:
    (root / file).write_bytes(damage((root / file).read_bytes()))
    with pytest.raises(ValueError, match=f"{told}.*again"):
        load_pair("cifar_mnist", root)


def test_tiles_of_another_form_are_refused(root: Path) -> None:
    with np.load(root / CIFAR) as content:
        right = dict(content)
    for name, value, told in (
        ("x_train", right["x_train"] / np.float32(255), r"expected CIFAR-10 as uint8 images .* got float32"),
        ("x_test", right["x_test"].transpose(0, 3, 1, 2), r"got uint8 \(\d+, 3, 32, 32\)"),
        ("y_train", right["y_train"][:, None], r"and n labels, got .* and \(\d+, 1\)"),
        ("y_test", right["y_test"] * 0, r"expected airplanes \(0\) and automobiles \(1\), one is missing"),
    ):
        np.savez(root / CIFAR, **right | {name: value})
        with pytest.raises(ValueError, match=told):
            load_pair("cifar_mnist", root)
    write_idx(root / LABELS, np.array([1, 7]), packed=True)
    with pytest.raises(ValueError, match=r"expected train images of 28 x 28 .* got \(240, 28, 28\) and \(2,\)"):
        load_pair("cifar_mnist", root)


def test_what_is_not_there_is_named_with_advice(root: Path) -> None:
    with pytest.raises(ValueError, match=r"root: expected the folder.*got None.*SAMLIB_DATA"):
        load_pair("cifar_mnist")
    with pytest.raises(ValueError, match="pair: expected one of"):
        load_pair("mnist", root)
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*found no such folder; put the official"):
        load_pair("cifar_mnist", root / "elsewhere")
    (root / CIFAR).unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar10_airplane_automobile.npz or .*found .*MNIST; put"):
        load_pair("cifar_mnist", root)


# Pairing


@pytest.mark.parametrize("cycled", [False, True])
def test_training_labels_agree_probe_sets_are_balanced_and_no_tile_is_in_two_splits(cycled: bool) -> None:
    sets = tiny_sets(cycled=cycled, validation_share=0.2)
    for data, n in ((sets.train, 20), (sets.validation, 2 * round(10 * 0.2 / 0.8))):
        assert torch.equal(data.labels[:, 0], data.labels[:, 1])
        assert torch.bincount(data.labels[:, 0]).tolist() == [n // 2, n // 2]
    for data in (sets.probe_train, sets.probe_test):
        assert Counter(map(tuple, data.labels.tolist())) == {(a, b): 2 for a in (0, 1) for b in (0, 1)}
    train, validation, test, probe_train, probe_test = (
        set(tile_numbers(part.images).flatten().tolist()) for part in sets[:5]
    )
    assert not train & (validation | probe_train)
    assert not (train | validation | probe_train) & (test | probe_test)


def test_classes_are_cut_to_the_smallest_with_the_tiles_labels_and_the_first_feature_on_top() -> None:
    label_of = {}
    for block in tiny_source().blocks:
        for tiles in (block.train, block.test):
            label_of |= dict(zip(tiles.images[:, 0, 0, 0].tolist(), tiles.labels.tolist(), strict=True))
    sets = tiny_sets(n_train=None, validation_share=0.2, n_probe=2000)
    assert (len(sets.train.labels), len(sets.validation.labels), len(sets.test.labels)) == (32, 8, 12)
    for data in sets[:5]:
        assert (data.images.dtype, data.images.shape[1:]) == (torch.uint8, (3, 64, 32))
        numbers = tile_numbers(data.images)
        assert (numbers[:, 0] < 100).all() and (numbers[:, 1] >= 100).all()
        assert [[label_of[x] for x in row] for row in numbers.tolist()] == data.labels.tolist()
        assert all(len(column.unique()) == len(column) for column in numbers.T)  # no tile is used twice


def test_examples_and_partners_are_in_no_order() -> None:
    train = tiny_sets().train
    labels, numbers = train.labels[:, 0], tile_numbers(train.images)
    assert (labels.diff() != 0).sum() > 3  # sorted by class there would be one change
    for k in range(2):
        top, bottom = numbers[labels == k].T
        assert not torch.equal(top.argsort(), bottom.argsort())  # partners do not follow the files' order


def test_pairing_is_shuffled_by_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, sam, other = (tiny_sets(), tiny_sets(), tiny_sets(rho=0.1, learning_rate=0.1), tiny_sets(seed=1))
    for i in range(5):
        assert torch.equal(first[i].images, again[i].images)
        assert torch.equal(first[i].images, sam[i].images)
        assert not torch.equal(first[i].images, other[i].images)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({"n_train": n}, f"n_train: expected a multiple of 2 classes.*got {n}; lower") for n in (21, 40, 1)),
        ({"n_probe": 7}, "n_probe: expected at least 2 examples for each of 4 label pairs"),  # a probe holds one out
        ({"probe_folds": 3}, "n_probe: expected at least 3 examples for each of 4 label pairs"),
        ({"pair": "cifar_mnist"}, "source: expected the pair 'cifar_mnist'.*got 'digits_patches'"),
    ],
)
def test_sets_that_the_tiles_cannot_fill_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_sets(**fields)


# Trained from files


@pytest.mark.parametrize(("pair", "n_classes"), [("cifar_mnist", 2), ("fmnist_mnist", 5)])
@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_both_pairs_learn_their_label_in_a_few_steps(root: Path, pair: str, n_classes: int, rho: float) -> None:
    config = PairConfig(pair=pair, rho=rho, n_train=20 * n_classes, batch_size=20, n_epochs=8, n_probe=100)
    (record,) = do([Run("pair", config)], Store(root / "records"), data_root=root)
    metrics = record.metrics
    assert metrics["n_train"] == 20 * n_classes and metrics["n_test"] == 20 * n_classes
    assert metrics["curves"]["train_loss"][-1] < metrics["curves"]["train_loss"][0]
    assert metrics["test_error"] < 0.1
    assert metrics["mnist_probe_error"] < metrics[f"{pair.split('_')[0]}_probe_error"] + 0.1
    assert len(metrics["mnist_probe_group_errors"]) == n_classes**2


def test_a_sweep_finds_the_images_in_the_folder_of_the_environment(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("SAMLIB_DATA", str(root))
    table = samlib.sweep([PairConfig(n_train=40, batch_size=20, n_epochs=1, n_probe=100, rho=rho) for rho in (0, 0.05)])
    assert table.rho.tolist() == [0, 0.05] and table.n_train.tolist() == [40, 40]


@pytest.mark.skipif(
    not os.environ.get("SAMLIB_DATA"), reason="set SAMLIB_DATA to the folder with MNIST, FashionMNIST and CIFAR-10"
)
def test_real_cifar_mnist_has_the_official_sizes() -> None:
    source = load_pair("cifar_mnist", os.environ["SAMLIB_DATA"])
    assert torch.bincount(source.top.train.labels).tolist() == [5923, 6742]
    assert torch.bincount(source.bottom.test.labels).tolist() == [1000, 1000]
    sets = pair_sets(source, PairConfig())
    assert [len(data.labels) for data in sets[:5]] == [9000, 1000, 1960, 1000, 1960]
    assert (sets.train.images[:, :, :2] == 0).all()  # MNIST's padding
