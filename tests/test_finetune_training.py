"""Finetuning on annotated images: equal to a plain loop, reproducible, resumable, and measured by group."""

import dataclasses
import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from interruption import Interrupted, Memory
from plain_training import train_plainly
from torch import nn

from samlib.experiments.finetune import CELEBA, WATERBIRDS, waterbirds_grid
from samlib.finetune.backbones import build_backbone
from samlib.finetune.config import FinetuneConfig
from samlib.finetune.embedded import digits_on_patches
from samlib.finetune.measure import Part, evaluate, labels_of, places_of, weighted_error
from samlib.finetune.prepared import PreparedSet
from samlib.finetune.splits import attribute_splits
from samlib.finetune.train import load_images, train_finetune
from samlib.finetune.views import make_views
from samlib.records import Store
from samlib.runs import Run, do
from samlib.streams import stream

TINY = FinetuneConfig(
    image_set="digits_on_patches",
    stored_size=32,
    image_size=32,
    backbone="smallnet",
    n_train=100,
    per_group=20,
    batch_size=32,
    n_epochs=2,
    learning_rate=0.01,
    weight_decay=0.01,
)


@pytest.fixture(scope="module")
def data() -> PreparedSet:
    return digits_on_patches()


def change(**values: object) -> FinetuneConfig:
    return dataclasses.replace(TINY, **values)


def plain_training(config: FinetuneConfig, data: PreparedSet) -> nn.Module:
    """The run written out, its batches drawn one after another."""
    splits = attribute_splits(data, config)
    network = build_backbone("smallnet", n_classes=2, trained=config.trained, seed=config.seed)
    views = make_views(data, splits.train, network, config, mirrored=True, folder=None, device="cpu")
    labels = labels_of(data, splits.train)[:, 0]
    order, augmentation = stream(config.seed, "batch order"), stream(config.seed, "augmentation")
    n_batches = len(labels) // config.batch_size

    def batches():
        for _ in range(config.n_epochs):
            permutation = torch.randperm(len(labels), generator=order)
            for start in range(0, n_batches * config.batch_size, config.batch_size):
                rows = permutation[start : start + config.batch_size]
                yield views.augmented(rows, augmentation), labels[rows]

    train_plainly(network.train(), batches(), config, n_steps=config.n_epochs * n_batches)
    return network


@pytest.mark.parametrize("trained", ["all", "last block"])
@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_training_matches_a_plain_loop(data: PreparedSet, rho: float, trained: str) -> None:
    config = change(rho=rho, trained=trained)
    expected = plain_training(config, data)
    found = train_finetune(config, data).network
    start = build_backbone("smallnet", n_classes=2, trained=trained, seed=config.seed)
    for name, value in found.state_dict().items():
        reference, initial = expected.state_dict()[name], start.state_dict()[name]
        assert torch.allclose(value.double(), reference.double(), atol=2e-5), name
        if name.startswith(("trunk", "head")) and "num_batches" not in name:
            assert not torch.equal(value, initial), name
        if name.startswith("lower"):
            assert torch.equal(value, initial), name


def test_the_last_smaller_batch_is_left_out_and_a_small_set_makes_one_batch(data: PreparedSet) -> None:
    tracked = "trunk.1.num_batches_tracked"
    for n_train, expected in ((100, 6), (20, 2)):
        network = train_finetune(change(n_train=n_train), data).network
        counts = {int(v) for name, v in network.state_dict().items() if name.endswith("num_batches_tracked")}
        assert counts == {expected}, tracked


def test_metrics_name_everything_and_errors_are_shares(data: PreparedSet) -> None:
    result = train_finetune(change(probe_each_epoch=True, importance_epochs=(1, 2), n_importance=40), data)
    metrics = result.metrics
    assert metrics["n_train"] == 100 and metrics["n_test"] == 80 and metrics["n_probe_train"] == 80
    assert metrics["test_group_counts"] == metrics["digit_probe_group_counts"] == [20, 20, 20, 20]
    weighted = sum(e * f for e, f in zip(metrics["test_group_errors"], metrics["train_frequencies"], strict=True))
    assert metrics["test_error"] == pytest.approx(weighted)
    assert metrics["test_worst_group_error"] == max(metrics["test_group_errors"])
    assert metrics["digit_head_error"] == pytest.approx(sum(metrics["test_group_errors"]) / 4)
    assert {len(curve) for curve in metrics["curves"].values()} == {2}
    assert set(metrics["curves"]) == {
        "train_loss",
        "validation_error",
        "digit_probe_error",
        "patch_probe_error",
    }
    shapes = {name: array.shape for name, array in result.arrays.items()}
    assert shapes["importance_real"] == shapes["importance_phantom"] == (2, 40)
    assert shapes["contributions"] == (2, 2, 40) and shapes["labels"] == shapes["attributes"] == (40,)
    assert (result.arrays["importance_real"] != result.arrays["importance_phantom"]).any()
    json.dumps(metrics, allow_nan=False)


def test_measuring_on_the_way_changes_no_number_of_the_training(data: PreparedSet) -> None:
    plain = train_finetune(TINY, data).metrics
    measured = train_finetune(change(probe_each_epoch=True, importance_epochs=(1,), n_importance=40), data).metrics
    curves = {name: measured["curves"][name] for name in plain["curves"]}
    assert measured | {"curves": curves} == plain


def test_a_cross_validated_run_trains_the_same_network_and_records_other_choices_of_c(data: PreparedSet) -> None:
    plain, folded = (train_finetune(change(probe_folds=n), data).metrics for n in (0, 3))
    for feature in ("digit", "patch"):
        ways = folded[f"{feature}_probe_sensitivity"]
        assert list(ways) == ["held-out quarter", "C = 0.001", "C = 0.003", "C = 0.01"]
        assert ways["held-out quarter"] == plain[f"{feature}_probe_error"]
    assert folded["test_error"] == plain["test_error"]
    assert len(set(folded) - set(plain)) == 2


def test_readings_of_the_phantom_are_recorded_small_and_change_no_number_of_the_training(data: PreparedSet) -> None:
    plain = train_finetune(TINY, data).metrics
    read = train_finetune(change(phantom_readings=True, importance_epochs=(1, 2), n_importance=40), data)
    assert read.metrics == plain
    shapes = {name: (array.shape, array.dtype.name) for name, array in read.arrays.items()}
    assert shapes["readings_real"] == ((2, 6, 40), "float16")
    assert shapes["readings_phantom"] == ((2, 6, 4, 40), "float16")
    assert shapes["contributions"] == ((2, 2, 40), "float16")


def test_frozen_statistics_stay_the_pretrained_ones_and_make_both_modes_agree(data: PreparedSet) -> None:
    result = train_finetune(change(statistics="frozen", trained="all", rho=0.05), data)
    norms = [layer for layer in result.network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert norms and all((layer.running_mean == 0).all() and (layer.running_var == 1).all() for layer in norms)
    assert not all((layer.weight == 1).all() for layer in norms)  # they were trained
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(result.network.train()(images), result.network.eval()(images))


def test_errors_are_weighted_by_training_frequencies() -> None:
    labels = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]])
    answers = torch.tensor([0, 1, 1, 1, 1, 1])  # group errors 1/2, 1, 0, 0
    error, errors, counts = weighted_error(answers, Part(None, labels), [0.7, 0.1, 0.1, 0.1])
    assert (errors, counts) == ([0.5, 1.0, 0.0, 0.0], [2, 1, 1, 2])
    assert error == pytest.approx(0.7 * 0.5 + 0.1 * 1.0)


def test_probe_training_images_are_found_among_the_validation_images(data: PreparedSet) -> None:
    splits = attribute_splits(data, TINY)
    assert torch.equal(splits.validation[places_of(splits)], splits.probe_train)


def test_evaluation_in_chunks_matches_one_pass(data: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = attribute_splits(data, TINY)
    network = build_backbone("smallnet", n_classes=2, trained="all", seed=0)
    views = make_views(data, splits.test, network, TINY, mirrored=False, folder=None, device="cpu")
    part = Part(views, labels_of(data, splits.test))
    monkeypatch.setattr("samlib.finetune.loop.CHUNK", 7)
    features, answers = evaluate(network, part, TINY)
    network.eval()
    with torch.no_grad():
        expected = network.trunk(views.plain(torch.arange(len(splits.test))))
        assert torch.allclose(features, expected, atol=1e-5)
        assert torch.equal(answers, network.head(expected).argmax(1))


def test_same_configuration_same_metrics_and_global_generators_untouched(data: PreparedSet) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    config = change(rho=0.05, n_epochs=1)
    first, again = train_finetune(config, data).metrics, train_finetune(config, data).metrics
    assert first == again
    assert first != train_finetune(dataclasses.replace(config, seed=1), data).metrics
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("trained", ["all", "last block"])
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(data: PreparedSet, trained: str) -> None:
    config = change(
        n_epochs=3, rho=0.05, trained=trained, probe_each_epoch=True, importance_epochs=(1, 3), n_importance=40
    )
    memory = Memory()
    with pytest.raises(Interrupted):
        train_finetune(config, data, checkpoint=memory)
    resumed, whole = train_finetune(config, data, checkpoint=memory), train_finetune(config, data)
    assert resumed.metrics == whole.metrics
    for name, array in whole.arrays.items():
        assert np.array_equal(array, resumed.arrays[name]), name


@pytest.mark.parametrize("rate", [1e8, 1e38])
def test_a_diverged_run_reports_no_errors(data: PreparedSet, rate: float) -> None:
    config = change(learning_rate=rate, probe_each_epoch=True, importance_epochs=(2,))
    metrics = train_finetune(config, data).metrics
    assert metrics["diverged"]
    assert metrics["test_error"] is metrics["digit_probe_error"] is metrics["validation_error"] is None
    assert metrics.keys() == train_finetune(TINY, data).metrics.keys()


def test_bfloat16_trains_nearly_the_same_network(data: PreparedSet) -> None:
    rough = train_finetune(change(precision="bfloat16", rho=0.05), data).metrics
    exact = train_finetune(change(rho=0.05), data).metrics
    losses = [metrics["curves"]["train_loss"] for metrics in (rough, exact)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.03)


def test_a_run_is_recorded_with_its_arrays(tmp_path) -> None:
    configs = waterbirds_grid("smoke")
    records = [do([Run("finetune", config)], Store(tmp_path))[0] for config in configs]
    assert [record.config["rho"] for record in records] == [0.0, 0.05]
    assert all(record.arrays()["importance_real"].shape == (2, 128) for record in records)
    assert records[0].metrics != records[1].metrics


def prepare(root: Path, name: str, size: int) -> None:
    """Write a prepared set: bright images for label 1, a bright left half for attribute 1; 12 of each group a split."""
    table = pd.DataFrame(
        [
            (split, g // 2, g % 2, g, f"{i}.jpg")
            for split in ("train", "val", "test")
            for g in range(4)
            for i in range(12)
        ],
        columns=["split", "label", "attribute", "group", "file"],
    )
    images = np.random.default_rng(0).integers(0, 60, (len(table), size, size, 3), dtype=np.uint8)
    images += (90 * table.label.to_numpy(np.uint8))[:, None, None, None]
    images[:, :, : size // 2] += (90 * table.attribute.to_numpy(np.uint8))[:, None, None, None]
    folder = root / "prepared" / f"{name}-{size}"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    table.to_csv(folder / "table.csv", index=False)
    sums = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in ("images.npy", "table.csv")}
    manifest = {"schema": 1, "name": name, "size": size, "images": len(table), "coverage": "subset", "sha256": sums}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("base", [WATERBIRDS, CELEBA], ids=lambda base: base.image_set)
@pytest.mark.parametrize("trained", ["all", "last block"])
def test_both_sets_of_photographs_are_trained_from_prepared_images(
    tmp_path, base: FinetuneConfig, trained: str
) -> None:
    prepare(tmp_path, base.image_set, 40)
    small = {"stored_size": 40, "image_size": 32, "backbone": "smallnet", "batch_size": 16, "n_epochs": 4}
    config = dataclasses.replace(base, **small, n_train=32, trained=trained, learning_rate=0.05, rho=0.05)
    (record,) = do([Run("finetune", config)], Store(tmp_path / "records"), data_root=tmp_path)
    metrics = record.metrics
    assert metrics["curves"]["train_loss"][-1] < metrics["curves"]["train_loss"][0]
    assert metrics[f"{config.features[0]}_probe_error"] < 0.2
    assert (tmp_path / "activations").exists() == (trained == "last block")


def test_a_missing_set_is_named_with_a_command_that_can_be_pasted(tmp_path) -> None:
    root = tmp_path / "my data #1 für Vögel's"
    with pytest.raises(FileNotFoundError) as caught:
        load_images(FinetuneConfig(), root)
    command = str(caught.value).rpartition("run `")[2].partition("`")[0]
    expected = ["-m", "data_scripts.prepare", "waterbirds", "--size", "110", "--root", str(root)]
    assert shlex.split(command, comments=True)[1:] == expected
