"""What was fixed before the runs: it precedes them in history, and nothing in it was changed afterwards."""

import subprocess
from pathlib import Path

import pytest

from edition.experiments import experiment
from edition.records.store import Store

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


@pytest.mark.parametrize("name", [*CONFIRMATORY, *ADDED])
def test_runs_were_made_by_revisions_that_hold_the_page_as_it_is(name: str) -> None:
    page = fixed_part((ROOT / PAGE).read_text())
    assert ADDED.get(name, "") in page
    for revision in revisions(name):
        then = fixed_part(at_revision(revision))
        assert page.startswith(then) and ADDED.get(name, "") in then


@pytest.mark.parametrize("name", CONFIRMATORY)
def test_confirmatory_seeds_are_used_by_no_earlier_run(name: str) -> None:
    seeds = {config.seed for config in experiment(name).configs("paper")}
    assert seeds == set(range(100, 120))
    earlier = (
        config
        for other in ("cifar_mnist", "fmnist_mnist", "cifar_mnist_fixed", "cifar_mnist_grid")
        for config in experiment(other).configs("paper")
    )
    assert not seeds & {config.seed for config in earlier}


@pytest.mark.parametrize("name", CONFIRMATORY)
def test_settings_are_those_of_the_exploratory_runs(name: str) -> None:
    settings = {(c.learning_rate, c.rho) for c in experiment(name).configs("paper")}
    explored = experiment(name.removesuffix("_confirmatory")).configs("paper")
    assert {(c.learning_rate, c.rho) for c in explored} <= settings
