"""Chapters whose lists a reader changed: each runs to its end and draws what is there.

Chapters run in this process, cell by cell, at the profile "smoke", their records in a folder of the test.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from notebooks import cells

from edition.experiments import controls, toy
from edition.page import chapter as page

BOOK = Path(__file__).parents[1] / "book"
OTHER_RADII = {"rhos": (0.0, 0.4), "RATIOS": (0.5, 2.0)}  # in small letters: of constants.toml
OTHER_COMPLEXITIES = {"complexities": (270.0, 400.0), "rhos": (0.0, 0.25, 0.5)}
FEWER_CONSTANTS = {"SENSITIVITY": {name: toy.SENSITIVITY[name][:2] for name in toy.SENSITIVITY}}
OTHER_METHODS = {
    "PERTURBED": {"SAM": {}, "last layer only": {"perturbed": "last layer"}, "SAM from the middle on": {"start": 0.5}},
    "TOY_SEEDS": (3, 5),
    "FULL_RADII": (0.07, 0.3),
}
CASES = [
    pytest.param("02_toy_setup", toy, OTHER_RADII | FEWER_CONSTANTS, marks=pytest.mark.slow),
    pytest.param("02_toy_setup", controls, OTHER_METHODS, marks=pytest.mark.slow),
    ("03_phantom_rebalancing", toy, OTHER_COMPLEXITIES),
    pytest.param("04_two_effects", toy, OTHER_RADII, marks=pytest.mark.slow),
    pytest.param("05_interventions", toy, OTHER_RADII, marks=pytest.mark.slow),
    pytest.param("05_interventions", toy, {"complexities": (270.0, 400.0)}, marks=pytest.mark.slow),
    pytest.param(
        "07_beyond", controls, OTHER_METHODS | {"OTHERS": {"SGD": controls.OTHERS["SGD"]}}, marks=pytest.mark.slow
    ),
    pytest.param("a_data_and_noise", toy, {"NOISES": {"flip": (0.3,)}, "rhos": (0.0, 0.4)}, marks=pytest.mark.slow),
    pytest.param("b_batch_size", toy, {"batch_sizes": (10, 60), "rhos": (0.0, 0.4)}, marks=pytest.mark.slow),
]


@pytest.fixture
def shown(monkeypatch, tmp_path) -> list[Any]:
    """What chapters displayed; records and images of the test's own, and no settings of the reader's."""
    monkeypatch.setenv("SAMLIB_RESULTS", str(tmp_path))
    monkeypatch.delenv("SAMLIB_DATA", raising=False)
    items: list[Any] = []
    monkeypatch.setattr(page, "display", items.append)
    mpl.use("agg")
    return items


def change(monkeypatch, module: Any, lists: dict[str, Any]) -> None:
    """Change lists as an edit of the file would: wherever they were imported, too."""
    for name, value in lists.items():
        if name.islower():
            assert name in toy.GRIDS
            monkeypatch.setitem(toy.GRIDS, name, value)
            continue
        old = getattr(module, name)
        for other in list(sys.modules.values()):
            if other.__name__.startswith("edition") and getattr(other, name, None) is old:
                monkeypatch.setattr(other, name, value)
    for cached in (
        f for m in list(sys.modules.values()) if m.__name__.startswith("edition.claims") for f in vars(m).values()
    ):
        getattr(cached, "cache_clear", lambda: None)()


def execute(name: str, profile: str) -> None:
    """Run a chapter's code cells in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(BOOK / f"{name}.ipynb")):
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], f"{name}, cell {number}", "exec"), namespace)
            if "parameters" in cell["tags"]:
                namespace["profile"] = profile


@pytest.mark.parametrize(("name", "module", "lists"), CASES)
def test_a_chapter_whose_lists_were_changed_runs_to_its_end(name, module, lists, shown, monkeypatch):
    change(monkeypatch, module, lists)
    execute(name, "smoke")
    assert any(type(item).__name__ == "Drawing" for item in shown)
