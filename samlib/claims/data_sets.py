"""The data sets of Table 1: whose records stand for each, and what of the paper's setting they scale down."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from samlib.claims.table_one import Entry, direction, in_points, table_one
from samlib.config import from_dict
from samlib.experiments import finetune, pairs
from samlib.finetune.config import AVAILABLE as PHOTOGRAPHS
from samlib.finetune.config import FinetuneConfig
from samlib.records import CONFIGS, Record

if TYPE_CHECKING:
    from samlib.chapter import Results


class DataSet(NamedTuple):
    """One data set of Table 1.

    Attributes:
        experiment: the runs of the selected settings, over seeds.
        grid: the runs from which validation selected them.
    """

    experiment: str
    grid: str


DATA_SETS = {
    "CIFAR-MNIST": DataSet("cifar_mnist", "cifar_mnist_grid"),
    "FMNIST-MNIST": DataSet("fmnist_mnist", "fmnist_mnist_grid"),
    "Waterbirds": DataSet("waterbirds", "waterbirds_grid"),
    "CelebA": DataSet("celeba", "celeba_grid"),
}
# Epochs of the paper (Section 4.1; those of FMNIST-MNIST are not stated, we take CIFAR-MNIST's).
PAPER_EPOCHS = {"cifar_mnist": 20, "fmnist_mnist": 20, "waterbirds": 100, "celeba": 20}


def entries(results: Mapping[str, "Results"], method: str = "SAM") -> dict[str, Entry]:
    """Return Table 1's entries of the data sets whose runs are complete.

    Args:
        results: by experiment; those that are not given or not complete are left out.
        method: "SAM", tuned on the paper's whole grid, or `samlib.experiments.pairs.EQUAL_BUDGET`, tuned at one radius
            fixed beforehand, with as many settings as SGD.
    """
    found = {}
    for title, names in DATA_SETS.items():
        result = results.get(names.experiment)
        if not result:
            continue
        records = _of_method(names.experiment, result, method)
        if records:
            config = records[0].config
            name = config.get("pair") or config["image_set"]
            shown = title if name == names.experiment else f"{name} in place of {title}"
            found[shown] = Entry(records, scaled_down(records[0]))
    return found


def scaled_down(record: Record) -> str:
    """Say what of the paper's setting a run scales down, from its configuration; "" if nothing.

    Image sizes are lost in our copy of the paper and cannot be compared.
    """
    config: Any = from_dict(CONFIGS[record.kind], record.config)
    finetuned = isinstance(config, FinetuneConfig)
    told = _of_network(config) if finetuned else []
    name = config.image_set if finetuned else config.pair
    if name not in PAPER_EPOCHS:
        return "not one of the paper's data sets"
    available = PHOTOGRAPHS[name] if finetuned else dataclasses.replace(config, n_train=None).n_images
    if config.n_train is not None and config.n_train < available:
        told.append(f"{config.n_train:,} of {available:,} training images")
    if config.n_epochs < PAPER_EPOCHS[name]:
        told.append(f"{config.n_epochs} of {PAPER_EPOCHS[name]} epochs")
    return "; ".join(told)


def _of_network(config: FinetuneConfig) -> list[str]:
    """What differs from a whole ResNet-18 on the official split."""
    told = [] if config.backbone == "resnet18" else [f"{config.backbone} in place of ResNet-18"]
    if config.trained != "all":
        told.append(f"only the {config.trained} trained, on stored activations, with mirror images alone")
    if config.split != "official":
        told.append("validation and test sets drawn anew")
    return told


def _of_method(experiment: str, result: "Results", method: str) -> list[Record]:
    """SGD's records and those of one way of tuning SAM; below the profile "paper" nothing is tuned."""
    if result.profile != "paper":
        return list(result.records) if method == "SAM" else []
    chosen = (pairs.SELECTED | finetune.SELECTED)[experiment]
    wanted = (chosen["SGD"], chosen[method])
    return [r for r in result.records if (r.config["learning_rate"], r.config["rho"]) in wanted]


def in_short(entries: Mapping[str, Entry]) -> str:
    """Say in a sentence (Markdown) on which data sets SAM's error on the hard feature is lower, higher, or undecided.

    Args:
        entries: title of the data set -> its records.
    """
    if not entries:
        return "**In short.** Nothing has been run at this profile yet."
    said: dict[str, list[str]] = {"lower": [], "higher": [], "undecided": [], "not tested": []}
    table = table_one(entries)
    for row in table[table.metric == "hard_probe_error"].itertuples():
        told = f"{row.data_set} ({in_points(row.difference)} points on {row.feature}, n = {row.n})"
        said[direction(row)].append(told)
    parts = [f"**{word}** on {', '.join(sets)}" for word, sets in said.items() if sets]
    scaled = " Settings are scaled down where the table says so." if any(e.note for e in entries.values()) else ""
    return (
        f"**In short.** Against SGD's, SAM's probing error on the hard feature is {'; '.join(parts)}. "
        f"A 95 % interval over seeds that includes no change is called undecided.{scaled}"
    )


def tuned_on(records: Sequence[Record]) -> str:
    """Say on which runs a grid was tuned, such as "20 epochs, seed 0"."""
    config = records[0].config
    return f"runs of {config['n_epochs']} epochs, seed {config['seed']}"
