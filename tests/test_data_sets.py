"""Table 1's data sets: whose records stand for each, what the page says is scaled down, and pictures of the groups."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from edition.claims.data_sets import DATA_SETS, entries, equal_budget_entries, scaled_down
from edition.experiments import EXPERIMENTS
from edition.experiments import finetune as finetune_experiments
from edition.experiments import pairs as pair_experiments
from edition.experiments.tuned import EQUAL_BUDGET, choices
from edition.figures import table_one as figures
from edition.page import chapter, demonstrations
from edition.page.chapter import Results
from edition.records.store import Record
from edition.runs import store_for
from samlib.config import to_dict
from samlib.images.config import FinetuneConfig, PairConfig

mpl.use("agg")


def record(kind: str, config) -> Record:
    return Record(kind, f"{config.learning_rate:g}-{config.rho:g}", to_dict(config), {}, {}, Path("none"))


def settings(entry) -> set[tuple[float, float]]:
    return {(r.config["learning_rate"], r.config["rho"]) for r in entry.records}


def complete(*names: str) -> dict[str, Results]:
    """Results of experiments at the full profile, with records that have no metrics."""
    found = {}
    for name in names:
        item = EXPERIMENTS[name]
        records = tuple(record(item.kind, config) for config in item.configs("paper"))
        found[name] = Results(name, "paper", records, 0)
    return found


def test_entries_are_of_complete_results() -> None:
    results = complete("cifar_mnist", "waterbirds")
    results["fmnist_mnist"] = Results("fmnist_mnist", "paper", results["cifar_mnist"].records, 1)
    found = entries(results)
    assert list(found) == ["CIFAR-MNIST", "Waterbirds"]
    chosen = pair_experiments.SELECTED["cifar_mnist"]
    assert settings(found["CIFAR-MNIST"]) == {chosen["SGD"], chosen["SAM"]}


def test_an_equal_budget_takes_sams_other_runs_where_there_are_some() -> None:
    results = complete("cifar_mnist", "fmnist_mnist", "waterbirds", "pairs_equal_budget")
    found = equal_budget_entries(results)
    assert list(found) == ["CIFAR-MNIST", "FMNIST-MNIST"]  # the photographs' other runs are not there
    for title, name in (("CIFAR-MNIST", "cifar_mnist"), ("FMNIST-MNIST", "fmnist_mnist")):
        chosen = pair_experiments.SELECTED[name]
        assert settings(found[title]) == {chosen["SGD"], chosen[EQUAL_BUDGET]}
        assert sorted(r.config["seed"] for r in found[title].records) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert {r.config["pair"] for r in found[title].records} == {name}


def test_complete_fresh_seeds_stand_for_their_data_set_at_equal_budgets_and_are_named() -> None:
    results = complete("fmnist_mnist", "pairs_equal_budget", "fmnist_mnist_confirmatory")
    found = equal_budget_entries(results)
    assert list(found) == ["FMNIST-MNIST, fresh seeds"]
    fresh = found["FMNIST-MNIST, fresh seeds"]
    assert {r.config["seed"] for r in fresh.records} == set(range(100, 120))
    assert (fresh.roles, fresh.fixed) == (DATA_SETS["FMNIST-MNIST"].roles, False)  # without a verdict


def test_below_the_full_profile_nothing_is_tuned() -> None:
    runs = tuple(record("finetune", FinetuneConfig(rho=rho)) for rho in (0.0, 0.05))
    results = {"waterbirds": Results("waterbirds", "smoke", runs, 0)}
    assert entries(results)["Waterbirds"].records == runs
    stand_in = tuple(record("finetune", config) for config in EXPERIMENTS["waterbirds"].configs("smoke"))
    shown = entries({"waterbirds": Results("waterbirds", "smoke", stand_in, 0)})
    assert list(shown) == ["digits_on_patches in place of Waterbirds"]
    assert equal_budget_entries(results | {"photographs_equal_budget": results["waterbirds"]}) == {}


@pytest.mark.parametrize("name", [names.experiment for names in DATA_SETS.values()])
def test_every_selected_setting_is_run_at_the_same_seeds(name: str) -> None:
    chosen = set((pair_experiments.SELECTED | finetune_experiments.SELECTED)[name].values())
    equal = next(names.equal_budget for names in DATA_SETS.values() if names.experiment == name)
    configs = EXPERIMENTS[name].configs("paper") + EXPERIMENTS[equal].configs("paper")
    own = [c for c in configs if getattr(c, "pair", None) == name or getattr(c, "image_set", None) == name]
    runs = {(c.learning_rate, c.rho, c.seed) for c in own}
    assert len(runs) == len(own)
    assert runs == {(*setting, seed) for setting in chosen for seed in range(4)}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (PairConfig(), ""),
        (PairConfig(n_train=8000), "8,000 of 9,000 training images"),
        (PairConfig(pair="fmnist_mnist", n_epochs=5), "5 of 20 epochs"),
        (PairConfig(pair="digits_patches"), "not one of the paper's data sets"),
        (FinetuneConfig(backbone="resnet18", n_epochs=100), ""),
        (FinetuneConfig(n_epochs=100), "densenet121 in place of ResNet-18"),
        (
            FinetuneConfig(image_set="celeba", backbone="resnet18", split="drawn", trained="last block", n_train=8000),
            "only the last block trained, on stored activations, with mirror images alone; validation and test sets "
            "drawn anew; 8,000 of 162,770 training images",
        ),
    ],
)
def test_what_is_scaled_down_is_said(config, told: str) -> None:
    assert scaled_down(record("pair" if isinstance(config, PairConfig) else "finetune", config)) == told


@pytest.mark.parametrize("name", [names.experiment for names in DATA_SETS.values()])
def test_selected_settings_are_what_the_rule_chooses_on_the_recorded_grid(name: str) -> None:
    grid = next(names.grid for names in DATA_SETS.values() if names.experiment == name)
    store, item = store_for("paper"), EXPERIMENTS[grid]
    records = [store.find(item.kind, config) for config in item.configs("paper")]
    assert all(records), f"{grid}: not all runs are recorded"
    family = pair_experiments if name in pair_experiments.SELECTED else finetune_experiments
    best = choices(records, family.RADIUS)
    chosen = {method: (r.config["learning_rate"], r.config["rho"]) for method, r in best.items()}
    assert chosen == (pair_experiments.SELECTED | finetune_experiments.SELECTED)[name]


@pytest.mark.parametrize(("name", "averaged"), [("celeba", True), ("waterbirds", False)])
def test_images_that_may_not_be_published_are_averaged(name: str, averaged: bool, monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(demonstrations, "photograph_splits", lambda data, config: seen["splits"])
    monkeypatch.setattr(demonstrations, "load_images", lambda config, root: "data")
    monkeypatch.setattr(demonstrations, "show", lambda draw, **options: draw())
    monkeypatch.setattr(demonstrations, "group_samples", lambda *args, averaged: seen.update(averaged=averaged))
    seen["splits"] = SimpleNamespace(train=np.arange(2), test=np.arange(2))
    demonstrations.show_groups(FinetuneConfig(image_set=name), None)
    assert seen["averaged"] is averaged


def test_an_averaged_panel_holds_the_mean_of_its_group() -> None:
    images = np.zeros((4, 2, 2, 3), dtype=np.uint8)
    images[0], images[1], images[2] = 10, 30, 200
    data = type("Data", (), {"images": images, "table": pd.DataFrame({"group": [0, 0, 1, 2]})})()
    figure = figures.group_samples(data, {"all": range(4)}, ("a", "b"), ("w", "x", "y", "z"), averaged=True)
    shown = [np.unique(panel.images[0].get_array()).tolist() for panel in figure.axes]
    assert shown == [[20], [200], [0], [255]]


def test_groups_of_the_embedded_set_are_drawn_and_a_missing_set_is_explained(tmp_path, monkeypatch) -> None:
    shown = []
    for module in (chapter, demonstrations):
        monkeypatch.setattr(module, "display", shown.append)
    base = EXPERIMENTS["waterbirds"].configs("smoke")[0]
    demonstrations.show_groups(base, None)
    demonstrations.show_groups(finetune_experiments.WATERBIRDS, None)
    demonstrations.show_groups(dataclasses.replace(finetune_experiments.CELEBA, n_train=100), tmp_path)
    assert shown[0].data[:3] == b"\xff\xd8\xff"  # JPEG
    assert "No images of waterbirds" in shown[1].data and "SAMLIB_DATA" in shown[1].data
    assert "got None; point SAMLIB_DATA" in shown[1].data and str(tmp_path) not in shown[2].data
    assert "data_scripts.prepare celeba" in shown[2].data
