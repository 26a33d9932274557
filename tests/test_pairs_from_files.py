"""Both of the paper's pairs, trained for a few steps from files as their official releases lay them out."""

from pathlib import Path

import numpy as np
import pytest
from idx import write_idx

import samlib
from edition.records.store import Store
from edition.runs import Run, do
from samlib.images.config import PairConfig


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
            write_idx(tmp_path / name / "raw" / f"{split}-images-idx3-ubyte", tiles(labels, strength, 28))
            write_idx(tmp_path / name / "raw" / f"{split}-labels-idx1-ubyte", labels)
    colours = {f"y_{split}": np.repeat(np.arange(2), count) for split, count in (("train", 40), ("test", 20))}
    for split in ("train", "test"):
        grey = tiles(colours[f"y_{split}"], 60, 32).astype(np.uint8)
        colours[f"x_{split}"] = np.repeat(grey[..., None], 3, axis=3)
    np.savez(tmp_path / "cifar10_airplane_automobile.npz", **colours)
    return tmp_path


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
