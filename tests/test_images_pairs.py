"""Two-feature images: what is read, what is paired with what, and what is refused."""

import dataclasses
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from idx import write_idx
from torch import Tensor

from samlib.images.config import PairConfig
from samlib.images.splits import pair_sets
from samlib.images.tiles import Block, PairSource, Tiles, load_pair, pad_to_tile


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


def tile_numbers(images: Tensor) -> Tensor:
    """The number of the upper and lower tile of every image, by the value of one pixel each."""
    return images[:, 0, [0, 63], 0].long()


@pytest.fixture(scope="module")
def embedded() -> PairSource:
    return load_pair("digits_patches")


# Configuration


BAD = {"learning_rate": -0.1, "rho": math.inf, "momentum": 1.0, "batch_size": 0, "n_epochs": 0, "n_train": 0}
BAD |= {"validation_share": 0.0, "seed": -1, "pair": "cifar", "backbone": "resnet"}


@pytest.mark.parametrize(("field", "value"), BAD.items())
def test_unusable_configurations_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{field}: expected .* got {value!r}"):
        PairConfig(**{field: value})  # type: ignore[arg-type]


# Tiles


def test_mnist_is_padded_by_two_zeros_on_every_side() -> None:
    image = torch.arange(1, 785).remainder(255).add(1).to(torch.uint8).view(1, 28, 28)
    tile = pad_to_tile(image)
    assert tile.shape == (1, 1, 32, 32)
    assert torch.equal(tile[0, 0, 2:30, 2:30], image[0])
    assert tile.sum() == image.sum()


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


def write_root(root: Path) -> None:
    """A data root with three MNIST images a split (classes 0, 1, 7) and one CIFAR image a class and split."""
    for prefix, packed in (("train", True), ("t10k", False)):
        write_idx(root / f"MNIST/raw/{prefix}-images-idx3-ubyte", np.full((3, 28, 28), 9), packed=packed)
        write_idx(root / f"MNIST/raw/{prefix}-labels-idx1-ubyte", np.array([1, 7, 0]), packed=packed)
    pixels = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).astype(np.uint8)
    labels = np.array([0, 1])
    path = root / "cifar10_airplane_automobile.npz"
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)


def test_files_are_read_packed_or_plain_and_other_classes_left_out(tmp_path: Path) -> None:
    write_root(tmp_path)
    source = load_pair("cifar_mnist", tmp_path)
    assert source.features == ("mnist", "cifar")
    assert source.top.train.labels.tolist() == source.top.test.labels.tolist() == [1, 0]
    assert source.top.train.images.shape == (2, 1, 32, 32)
    # Pixel (row 1, column 2, channel 0) of the second image: 3072 + 3 * (32 + 2) = 3174, in bytes 102.
    assert source.bottom.train.images[1, 0, 1, 2] == 3174 % 256


def test_the_official_cifar_folder_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_root(tmp_path)
    expected = load_pair("cifar_mnist", tmp_path).bottom
    (tmp_path / "cifar10_airplane_automobile.npz").unlink()
    (tmp_path / "cifar-10-batches-py").mkdir()

    class FakeCIFAR10:
        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            assert root == str(tmp_path) and not download
            pixels = np.arange(3 * 32 * 32 * 3).reshape(3, 32, 32, 3).astype(np.uint8)
            self.data, self.targets = pixels, [0, 1, 9]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeCIFAR10)
    block = load_pair("cifar_mnist", tmp_path).bottom
    assert torch.equal(block.train.images, expected.train.images)
    assert block.train.labels.tolist() == [0, 1]


def test_missing_and_damaged_files_are_named_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"root: expected the folder.*got None.*SAMLIB_DATA"):
        load_pair("cifar_mnist")
    with pytest.raises(ValueError, match="pair: expected one of"):
        load_pair("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*found no such folder; put the official"):
        load_pair("cifar_mnist", tmp_path)
    write_root(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"FashionMNIST"):
        load_pair("fmnist_mnist", tmp_path)
    cifar = tmp_path / "cifar10_airplane_automobile.npz"
    cifar.write_bytes(cifar.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"expected x_train, y_train, x_test, y_test, could not read"):
        load_pair("cifar_mnist", tmp_path)
    cifar.unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar10_airplane_automobile.npz or .*found MNIST; put"):
        load_pair("cifar_mnist", tmp_path)
    plain = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"expected an idx file of unsigned bytes, got 2367 bytes"):
        load_pair("cifar_mnist", tmp_path)
    packed = tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"expected a gzip file, could not unpack"):
        load_pair("cifar_mnist", tmp_path)


def test_tiles_of_another_form_are_refused(tmp_path: Path) -> None:
    write_root(tmp_path)
    file = tmp_path / "cifar10_airplane_automobile.npz"
    with np.load(file) as content:
        right = dict(content)
    for name, value, told in (
        ("x_train", right["x_train"] / np.float32(255), r"expected CIFAR-10 as uint8 images .* got float32"),
        ("x_test", right["x_test"].transpose(0, 3, 1, 2), r"got uint8 \(\d+, 3, 32, 32\)"),
        ("y_train", right["y_train"][:, None], r"and n labels, got .* and \(\d+, 1\)"),
        ("y_test", right["y_test"] * 0, r"expected airplanes \(0\) and automobiles \(1\), one is missing"),
    ):
        np.savez(file, **right | {name: value})
        with pytest.raises(ValueError, match=told):
            load_pair("cifar_mnist", tmp_path)
    labels = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    write_idx(labels, np.array([1, 7]), packed=True)
    with pytest.raises(ValueError, match=r"expected train images of 28 x 28 .* got \(3, 28, 28\) and \(2,\)"):
        load_pair("cifar_mnist", tmp_path)
    packed = labels.with_name(f"{labels.name}.gz")
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(ValueError, match="expected a gzip file, could not unpack"):
        load_pair("cifar_mnist", tmp_path)


# Pairing


@pytest.mark.parametrize("cycled", [False, True])
def test_training_labels_agree_and_probe_sets_are_balanced(cycled: bool) -> None:
    config = PairConfig(pair="digits_patches", n_train=20, validation_share=0.2, n_probe=8)
    sets = pair_sets(tiny_source(cycled=cycled), config)
    for data, n in ((sets.train, 20), (sets.validation, 2 * round(10 * 0.2 / 0.8))):
        assert torch.equal(data.labels[:, 0], data.labels[:, 1])
        assert torch.bincount(data.labels[:, 0]).tolist() == [n // 2, n // 2]
    for data in (sets.probe_train, sets.probe_test):
        assert Counter(map(tuple, data.labels.tolist())) == {(a, b): 2 for a in (0, 1) for b in (0, 1)}


def test_labels_are_those_of_the_tiles_and_the_first_feature_is_on_top() -> None:
    source = tiny_source()
    sets = pair_sets(source, PairConfig(pair="digits_patches", n_train=20, n_probe=8))
    label_of = {}
    for block in source.blocks:
        for tiles in (block.train, block.test):
            label_of |= dict(zip(tiles.images[:, 0, 0, 0].tolist(), tiles.labels.tolist(), strict=True))
    for data in sets[:5]:
        assert data.images.shape[1:] == (3, 64, 32)
        assert data.images.dtype == torch.uint8
        numbers = tile_numbers(data.images)
        assert (numbers[:, 0] < 100).all() and (numbers[:, 1] >= 100).all()
        assert [[label_of[x] for x in row] for row in numbers.tolist()] == data.labels.tolist()


def test_classes_are_cut_to_the_smallest_and_no_tile_is_used_twice() -> None:
    sets = pair_sets(tiny_source(), PairConfig(pair="digits_patches", validation_share=0.2))
    assert (len(sets.train.labels), len(sets.validation.labels), len(sets.test.labels)) == (32, 8, 12)
    for data in sets[:5]:
        numbers = tile_numbers(data.images)
        assert all(len(set(column.tolist())) == len(column) for column in numbers.T)


@pytest.mark.parametrize("cycled", [False, True])
def test_no_tile_is_in_two_splits(cycled: bool) -> None:
    sets = pair_sets(tiny_source(cycled=cycled), PairConfig(pair="digits_patches", n_train=20, n_probe=12))
    train, validation, test, probe_train, probe_test = (
        set(tile_numbers(s.images).flatten().tolist()) for s in sets[:5]
    )
    for first, second in ((train, validation), (train, probe_train)):
        assert not first & second
    assert not (train | validation | probe_train) & (test | probe_test)


def test_examples_and_partners_are_in_no_order() -> None:
    train = pair_sets(tiny_source(), PairConfig(pair="digits_patches", n_train=20, n_probe=8)).train
    labels, numbers = train.labels[:, 0], tile_numbers(train.images)
    assert (labels.diff() != 0).sum() > 3  # sorted by class there would be one change
    for k in range(2):
        top, bottom = numbers[labels == k].T
        assert not torch.equal(top.argsort(), bottom.argsort())  # partners do not follow the files' order


def test_pairing_is_shuffled_by_the_seed_alone() -> None:
    state = torch.get_rng_state()
    config = PairConfig(pair="digits_patches", n_train=20, n_probe=8)
    first, again = pair_sets(tiny_source(), config), pair_sets(tiny_source(), config)
    other = pair_sets(tiny_source(), dataclasses.replace(config, seed=1))
    sam = pair_sets(tiny_source(), dataclasses.replace(config, rho=0.1, learning_rate=0.1))
    for i in range(5):
        assert torch.equal(first[i].images, again[i].images)
        assert torch.equal(first[i].images, sam[i].images)
        assert not torch.equal(first[i].images, other[i].images)
    assert torch.equal(torch.get_rng_state(), state)


def test_sets_that_the_tiles_cannot_fill_are_refused() -> None:
    source = tiny_source()
    for n_train in (21, 40, 1):
        with pytest.raises(ValueError, match=rf"n_train: expected a multiple of 2 classes.*got {n_train}; lower"):
            pair_sets(source, PairConfig(pair="digits_patches", n_train=n_train))
    with pytest.raises(ValueError, match=r"n_probe: expected at least 2 examples for each of 4 label pairs"):
        pair_sets(source, PairConfig(pair="digits_patches", n_train=20, n_probe=7))  # a probe holds one out
    with pytest.raises(ValueError, match=r"n_probe: expected at least 3 examples for each of 4 label pairs"):
        pair_sets(source, PairConfig(pair="digits_patches", n_train=20, n_probe=8, probe_folds=3))
    with pytest.raises(ValueError, match=r"probe_folds: expected a whole number in \[2, inf\], got 1; 0 holds one"):
        PairConfig(probe_folds=1)
    with pytest.raises(ValueError, match=r"source: expected the pair 'cifar_mnist'.*got 'digits_patches'"):
        pair_sets(source, PairConfig(pair="cifar_mnist"))


# Real data


@pytest.fixture(scope="module")
def data_root() -> str:
    root = os.environ.get("SAMLIB_DATA")
    if not root:
        pytest.skip("set SAMLIB_DATA to the folder with MNIST, FashionMNIST and CIFAR-10 to run this test")
    return root


def test_real_cifar_mnist_has_the_official_sizes(data_root: str) -> None:
    source = load_pair("cifar_mnist", data_root)
    assert torch.bincount(source.top.train.labels).tolist() == [5923, 6742]
    assert torch.bincount(source.bottom.test.labels).tolist() == [1000, 1000]
    sets = pair_sets(source, PairConfig())
    assert [len(data.labels) for data in sets[:5]] == [9000, 1000, 1960, 1000, 1960]
    assert (sets.train.images[:, :, :2] == 0).all()  # MNIST's padding


def test_real_fmnist_mnist_has_five_classes(data_root: str) -> None:
    sets = pair_sets(load_pair("fmnist_mnist", data_root), PairConfig(pair="fmnist_mnist", n_train=5000))
    assert sets.n_classes == 5
    assert torch.equal(sets.train.labels[:, 0], sets.train.labels[:, 1])
    assert set(Counter(map(tuple, sets.probe_test.labels.tolist())).values()) == {80}
    assert len(sets.probe_test.labels) == 2000
