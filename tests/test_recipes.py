"""The recipes of the page on the architecture, carried out in a copy of the repository: one place each."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edition.page.architecture import architecture_map, layers, walk

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def copy(tmp_path) -> Path:
    """The code alone, with the records of one short experiment."""
    for folder in ("samlib", "edition", "data_scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "results").mkdir()
    return tmp_path


def python(root: Path, code: str) -> str:
    """Run code with the packages of a folder, such as the copy's, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "SAMLIB_RESULTS": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(path: Path, text: str, *, after: str | None = None) -> None:
    """Add lines to a file of the copy: at its end, or after a line."""
    old = path.read_text()
    assert after is None or old.count(after) == 1
    path.write_text(old + text if after is None else old.replace(after, after + text))


@pytest.mark.slow
def test_a_claim_is_one_function(copy):
    add(
        copy / "edition/claims/section_5.py",
        """

@claim("toy-tiny", place="Section 5.2", says="Two is above one.", statistic="two", needs="complexity")
def tiny(complexity: Results) -> list[Effect]:
    return [Effect("here", estimate([2.0, 2.1]), "above", float(len(complexity.records) > 0))]
""",
    )
    told = """
import json
from edition.claims.ledger import ledger, PARTS
from edition import runs
from edition.experiments import EXPERIMENTS
store = runs.store_for("smoke")
runs.start(runs.needed([EXPERIMENTS["complexity"]], "smoke"), store)
part = "Section 5: the toy"
rows = ledger("smoke", {part: [claim for claim in PARTS[part] if claim.id == "toy-tiny"]})
print(json.dumps([row.values() for row in rows]))
"""
    (row,) = json.loads(python(copy, told))
    assert (row["id"], row["state"], row["held"]) == ("toy-tiny", "confirmed", 1)
    assert row["page"] == "claims.html#toy-tiny" and row["scaled_down"] == "profile smoke"


@pytest.mark.slow
def test_a_method_is_one_row(copy):
    add(
        copy / "edition/experiments/controls.py",
        '    "unnormalized last layer": {"perturbed": "last layer", "scale": "none"},\n',
        after='    "last layer only": {"perturbed": "last layer"},\n',
    )
    told = """
from edition import runs
from edition.claims.controls import control_table
from edition.experiments import EXPERIMENTS
from edition.runs.results import read
store = runs.store_for("smoke")
all_of_it = runs.needed([EXPERIMENTS["controls_toy"]], "smoke")
runs.start([run for run in all_of_it if run.config.scale == "none" or run.config.rho == 0], store)
table = control_table(read("controls_toy", "smoke", store).records)
print(len(table[table.method == "unnormalized last layer"]), len(table[table.method == "SGD"]))
"""
    assert python(copy, told).split() == ["6", "6"]  # three settings, two seeds


def test_a_data_set_is_one_row_and_a_file_that_lists_it(copy, tmp_path):
    row = '    "my_birds": PhotographSet(("bird", "background"), 100, ("a", "b", "c", "d")),\n'
    add(copy / "samlib/images/catalogue.py", row, after="PHOTOGRAPHS = {\n")
    told = """
import sys
import numpy as np
from pathlib import Path
from PIL import Image
from data_scripts import DataError
from data_scripts.prepare import prepare
from samlib.images.config import FinetuneConfig
from samlib.images.image_sets import load_images
root = Path(sys.path[-1])
(root / "my_birds").mkdir(parents=True)
for i in range(4):
    Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(root / f"my_birds/{i}.png")
try:
    prepare("my_birds", root)
except DataError as error:
    print(error)
Path("data_scripts/my_birds.py").write_text(LISTING)
prepare("my_birds", root)
config = FinetuneConfig(image_set="my_birds", stored_size=8, image_size=8)
print(*config.features, config.n_images, load_images(config, root).table.label.tolist())
"""
    listing = """
import pandas as pd
from data_scripts.listing import Listing, require_folder

def list_my_birds(root):
    folder = require_folder([root / "my_birds"], "my_birds", root)
    columns = {"split": ["train", "train", "val", "test"], "label": [0, 1, 0, 1], "attribute": 0}
    table = pd.DataFrame(columns | {"group": [0, 2, 0, 2], "file": [f"{i}.png" for i in range(4)]})
    return Listing(folder, table, ("split",), {"train": 2, "val": 1, "test": 1}, "squash", 8)
"""
    lines = python(copy, f"import sys; sys.path.append({str(tmp_path / 'data')!r}); LISTING = {listing!r}\n{told}")
    lines = lines.splitlines()
    assert lines[0] == "data_scripts/my_birds.py: expected a file with list_my_birds(root), found none"
    assert lines[-1] == "bird background 100 [0, 1, 0, 1]"


def test_a_kind_of_run_is_a_class_a_function_and_a_row(copy):
    add(
        copy / "edition/records/kinds.py",
        """

@dataclass(frozen=True)
class Tosses:
    n: int = 10
    seed: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


def _toss(configs, work, report):
    heads = [np.random.default_rng(config.seed).random(config.n) < 0.5 for config in configs]
    return Trained("numpy", [({"heads": float(row.mean())}, {"tosses": row}) for row in heads], 0.1)


KINDS["tosses"] = Kind(Tosses, 1, _toss, lambda config: config.n, 1e-6, {"heads": 0.0}, checkpointed=False)
""",
    )
    add(copy / "edition/records/kinds.py", "from dataclasses import dataclass\n", after="import time\n")
    told = """
from edition import runs
from edition.records.kinds import Tosses
from edition.runs.verify import verify
store = runs.store_for("smoke")
wanted = [runs.Run("tosses", Tosses(seed=seed)) for seed in range(3)]
first = runs.start(wanted, store)
print(len(first.recorded), len(runs.pending(wanted, store)), verify(wanted, store))
print(store.find("tosses", Tosses(seed=2)).arrays()["tosses"].shape)
"""
    assert python(copy, told).splitlines() == ["3 0 ([], {})", "(10,)"]


def test_an_optimiser_is_a_class_with_a_rule_of_its_own(copy):
    rule = """

class HalfSAM(SAM):
    def _ascent_rule(self, parameters, gradients):
        return gradients, [gradient / 2 for gradient in gradients]
"""
    add(copy / "samlib/optim/variants.py", rule)
    add(copy / "samlib/optim/__init__.py", "from samlib.optim.variants import HalfSAM\n")
    told = """
import torch
from samlib.optim import HalfSAM
w = torch.nn.Parameter(torch.zeros(2))
sam = HalfSAM([w], rho=0.5, lr=1.0)
(w @ torch.tensor([3.0, 4.0])).backward()  # |g| = 5: half of 0.5 g / 5
sam.ascent_step()
print([round(value, 6) for value in w.tolist()])
"""
    assert python(copy, told).strip() == "[0.15, 0.2]"


def test_a_figure_is_one_function(copy):
    add(
        copy / "edition/figures/variants.py",
        """

def tiny(table):
    figure, axes = plt.subplots()
    axes.plot(table)
    return figure
""",
    )
    told = """
from edition.figures import variants
from edition.widgets.frames import picture
print(picture(lambda: variants.tiny([1, 2]), "figure").png[:8])
"""
    assert "PNG" in python(copy, told)


def test_the_map_shows_every_package_and_only_what_the_contract_names():
    found = layers()
    assert set(found) == {"samlib", "edition"}
    drawn = architecture_map()
    for package, rows in found.items():
        named = {name for row in rows for name in row}
        modules = {
            path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        left = modules - {name.partition(".")[2] for name in named} - {"__init__", "__main__"}
        assert left == set(), f"{package}: no layer of the contract holds these"
        assert all(f"<code>{name.partition('.')[2]}</code>" in drawn for name in named)


def test_a_walk_through_a_file_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"found none at no/such\.py"):
        walk([("no/such.py", "nothing")])
