"""What was fixed before the runs: it precedes them in history, and nothing in it was changed afterwards."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from edition.experiments import EXPERIMENTS, experiment, finetune
from edition.experiments.tuned import EQUAL_BUDGET, OnRecord, sweep
from edition.records.store import Store
from samlib.images.config import FinetuneConfig

ROOT = Path(__file__).parents[1]
PAGE = "book/protocol.md"
DEVIATIONS = "\n## Deviations\n"
CONFIRMATORY = ("cifar_mnist_confirmatory", "fmnist_mnist_confirmatory")
# Experiments whose page must hold this, too: it was added later.
ADDED = dict.fromkeys(("pacs_whole_rates", "pacs_whole", "pacs_whole_radii", "pacs_whole_sizes"), "\n## Table 2: ")


def fixed_part(page: str) -> str:
    """Everything above the list of deviations, the one part that may grow in its middle."""
    return page.split(DEVIATIONS)[0].rstrip()


def at_revision(revision: str) -> str:
    found = subprocess.run(["git", "show", f"{revision}:{PAGE}"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"this checkout's history lacks {revision}, or the page at it: {found.stderr.strip()}")
    return found.stdout


def revisions(name: str) -> list[str]:
    store = Store(ROOT / "results")
    found = set()
    for config in experiment(name).configs("paper"):
        record = store.find(experiment(name).kind, config)
        if record:
            assert not record.provenance["dirty"], f"{record.path}: trained by code that was not committed"
            found.add(record.provenance["revision"])
    return sorted(found)


@pytest.mark.parametrize("name", [*(name for name in EXPERIMENTS if "confirmatory" in name), *ADDED])
def test_runs_were_made_by_revisions_that_hold_the_page_as_it_is(name: str) -> None:
    page = fixed_part((ROOT / PAGE).read_text())
    assert ADDED.get(name, "") in page
    for revision in revisions(name):
        then = fixed_part(at_revision(revision))
        assert page.startswith(then) and ADDED.get(name, "") in then


@pytest.mark.parametrize("name", CONFIRMATORY)
def test_confirmatory_runs_have_seeds_that_no_earlier_run_used_and_the_settings_of_the_exploratory_ones(name) -> None:
    configs, explored = (experiment(n).configs("paper") for n in (name, name.removesuffix("_confirmatory")))
    seeds = {config.seed for config in configs}
    assert seeds == set(range(100, 120))
    others = [other for other in EXPERIMENTS.values() if other.kind == "pair" and "confirmatory" not in other.name]
    assert not seeds & {config.seed for other in others for config in other.configs("paper")} and len(others) > 3
    assert {(c.learning_rate, c.rho) for c in explored} <= {(c.learning_rate, c.rho) for c in configs}


@pytest.mark.parametrize(
    ("name", "length", "epochs"), [("waterbirds", 30, (3, 9, 18, 30)), ("celeba", 20, (2, 6, 12, 20))]
)
def test_photographs_wait_for_their_grid_and_are_then_what_the_page_says(monkeypatch, name, length, epochs) -> None:
    parts = finetune.confirmatory(name)
    grid = parts.pop("grid")("paper")
    assert len(grid) == 20 and {(c.n_epochs, c.seed, c.backbone, c.trained) for c in grid} == {
        (3, 0, "resnet18", "all")
    }
    monkeypatch.setattr(OnRecord, "_found", lambda self: {})
    assert all(configs("paper") == [] and len(configs("smoke")) == 2 for configs in parts.values())
    assert experiment(f"{name}_confirmatory").waiting and not experiment(f"{name}_confirmatory_grid").waiting
    chosen = {"SGD": (0.005, 0.0), "SAM": (0.01, 0.07), EQUAL_BUDGET: (0.01, 0.05)}
    monkeypatch.setattr(OnRecord, "_found", lambda self: chosen)
    found = {part: configs("paper") for part, configs in parts.items()}
    own = [(*setting, seed) for seed in range(100, 104) for setting in chosen.values()]
    assert [(c.learning_rate, c.rho, c.seed) for c in found[""]] == own
    assert {c.seed for c in found["more"]} == set(range(104, 108)) and len(found["more"]) == 8
    for part, rates in (("frozen", {0.005, 0.01}), ("frozen_slower", {0.001})):
        assert {(c.seed, c.statistics) for c in found[part]} == {(100, "frozen"), (101, "frozen")}
        assert {c.learning_rate for c in found[part]} == rates and {c.rho for c in found[part]} == {0.0, 0.07}
    for config in (config for configs in found.values() for config in configs):
        assert (config.n_epochs, config.importance_epochs, config.n_importance) == (length, epochs, 1024)
        assert config.phantom_readings and config.probe_each_epoch and config.probe_folds == 5


def test_settings_are_read_off_a_grid_once_all_of_it_is_on_record(tmp_path) -> None:
    configs = sweep(FinetuneConfig(), (0.1, 0.01), (0.0, 0.05, 0.07))
    chosen, store = OnRecord("finetune", lambda profile: configs, 0.05, tmp_path), Store(tmp_path)
    for i, config in enumerate(configs):  # errors of .6, .5, .4 at the first learning rate, .3, .2, .1 at the second
        assert not chosen
        error = 0.1 * (6 - i)
        metrics = {"validation_error": error, "diverged": False, "curves": {"validation_error": [error]}}
        store.write("finetune", config, metrics=metrics, arrays={}, provenance={})
    assert dict(chosen) == {"SGD": (0.01, 0.0), "SAM": (0.01, 0.07), EQUAL_BUDGET: (0.01, 0.05)}
    assert dataclasses.replace(finetune.WHOLE["celeba"][1], chosen=chosen).selected(seeds=[7])("paper")[0].seed == 7
