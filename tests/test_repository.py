"""What the repository promises about itself: documented names, no private paths, pinned requirements, quiet imports."""

import ast
import importlib.metadata
import pydoc
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebooks import cells
from test_recipes import python

from edition.runs import store_for

ROOT = Path(__file__).resolve().parent.parent
CODE = [
    path for folder in ("samlib", "edition", "data_scripts", "tests") for path in sorted((ROOT / folder).rglob("*.py"))
]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
TEXT = {".py", ".html", ".md", ".toml", ".txt", ".yml", ".yaml", ".cff", ".bib", ".css", ".js", ".ipynb", ".json", ""}
# Built, installed or local: no part of the repository.
LEFT_OUT = {".git", ".venv", "_build", "data", "local", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
# Spelled in two halves, so that this file does not hold what it looks for.
PRIVATE = ["/" + "tmp/", "/" + "work/", ".." + "/shared", "/" + "home/", "/" + "root/"]
READS_SHARED_DATA = {".ci/run"}
PICTURE = re.compile("[A-Za-z0-9+/=]{400,}")  # in base64, where chance writes any four letters


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and path.suffix in TEXT and not LEFT_OUT & set(parts) and not parts[0].endswith(".egg-info"):
            yield path


NAMED = re.compile(r"`((?:samlib|edition|data_scripts)(?:\.\w+)+)`")


def exists(dotted: str) -> bool:
    """Whether a module, or something in it, has this name; a field of a data class counts."""
    owner, _, field = dotted.rpartition(".")
    return pydoc.locate(dotted) is not None or field in getattr(pydoc.locate(owner), "__annotations__", {})


def test_every_name_that_a_text_refers_to_exists():
    pages = [*CODE, *NOTEBOOKS, *ROOT.glob("book/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    told = {(name(path), dotted) for path in pages for dotted in NAMED.findall(path.read_text())}
    assert ("README.md", "samlib.optim") in told
    assert [one for one in sorted(told) if not exists(one[1])] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_numbered_equations_break_lines_with_cr(path):
    text = "\n".join(cell["source"] for cell in cells(path))
    numbered = [block for block in text.split("$$")[1::2] if "\\tag{" in block]
    # Sphinx puts a formula with a double backslash into a split environment, in which MathJax allows no tag.
    assert [block for block in numbered if "\\\\\n" in block] == []


def test_no_file_names_a_private_path():
    assert {"Makefile", "edition/runs/schedule.py", ".ci/run"} <= set(map(name, text_files()))
    found = [
        f"{name(path)}: {part}"
        for path in text_files()
        if name(path) not in READS_SHARED_DATA
        for part in PRIVATE
        if part in PICTURE.sub("", path.read_text(errors="replace"))
    ]
    assert found == []


def pins() -> dict[str, str]:
    """Pinned requirements: normalised name -> version."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    found = {}
    for line in filter(None, lines):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", line)
        assert match, f"expected name==version, got {line!r}"
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def imported(path: Path) -> set[str]:
    """Top-level names of the packages a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_every_package_that_is_declared_or_imported_is_pinned_to_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["edition"]]
    assert {re.split(r"[<>=!~]", item)[0].strip() for item in declared} <= set(pins())
    own = {"samlib", "edition", "data_scripts", "tests", *(path.stem for path in CODE)}
    names = set().union(*(imported(path) for path in CODE)) - set(sys.stdlib_module_names) - own
    owners = importlib.metadata.packages_distributions()
    pinned = set(pins())
    missing = {n for n in names if not {re.sub(r"[-_.]+", "-", o).lower() for o in owners.get(n, [])} & pinned}
    assert missing == set()


def test_committed_records_and_their_arrays_can_be_trusted():
    for record in store_for("paper").all():  # raises where one cannot
        assert set(record.arrays() if record.array_names else ()) == set(record.array_names)


NOTEBOOK = {"IPython", "jupyter_client", "jupyterlab", "ipywidgets", "nbformat", "papermill"}
LIGHT = {
    "edition.runs, edition.claims.ledger, edition.__main__": {"matplotlib", *NOTEBOOK},
    "edition.publish.furniture, edition.publish.numbering, edition.publish.code": {"torch", "matplotlib", "pandas"},
}


@pytest.mark.parametrize(("modules", "unwanted"), LIGHT.items())
def test_what_is_imported_often_does_not_import_what_is_slow(modules, unwanted):
    assert python(ROOT, f"import sys, {modules}; print({unwanted} & set(sys.modules))").strip() == "set()"


def test_every_module_of_the_library_is_imported_with_what_pip_installs_for_it_alone():
    told = """
import importlib, pkgutil, sys, samlib
for module in pkgutil.walk_packages(samlib.__path__, "samlib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print({"scipy", "pandas", "sklearn", "torchvision", "numba", "PIL", "matplotlib"} & set(sys.modules))
"""
    assert python(ROOT, told).strip() == "set()"


QUIET = """
import importlib, logging, os, pkgutil, random, warnings
import numpy, torch, edition, samlib
# What these do when they are imported does not count.
import matplotlib, IPython.display, sklearn, torchvision, tqdm.auto, ipywidgets, papermill

torch.set_num_threads(3)

def state():
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "torch generator": torch.random.get_rng_state().tolist(),
        "numpy generator": str(numpy.random.get_state()),
        "generator": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "plots": dict(matplotlib.rcParams),
        "figures": matplotlib.pyplot.get_fignums() if hasattr(matplotlib, "pyplot") else [],
        "log handlers": list(logging.getLogger().handlers),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }

before = state()
names = [
    module.name
    for package in (samlib, edition)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
for name in names:
    importlib.import_module(name)
after = state()
print(len(names) > 30, [key for key in before if before[key] != after[key]])
"""


def test_importing_the_library_changes_nothing():
    assert python(ROOT, QUIET).strip() == "True []"
