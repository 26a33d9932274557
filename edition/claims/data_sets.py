"""The data sets of Table 1: whose records stand for each, and what of the paper's setting they scale down."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edition.claims.table_one import Entry, direction, in_points, table_one
from edition.experiments import finetune, pairs
from edition.experiments.tuned import EQUAL_BUDGET
from edition.records.kinds import KINDS
from edition.records.store import Record
from edition.runs.results import Results
from samlib.config import from_dict
from samlib.images.config import FinetuneConfig


class DataSet(NamedTuple):
    """One data set of Table 1.

    Attributes:
        experiment: the runs of the selected settings, over seeds.
        grid: the runs from which validation selected them.
        equal_budget: the runs of SAM at one radius fixed beforehand, with as many settings as SGD, where SAM's
            selected setting is another.
        confirmatory: the runs of fresh seeds whose analysis was fixed beforehand; "" where there are none.
    """

    experiment: str
    grid: str
    equal_budget: str
    confirmatory: str = ""


DATA_SETS = {
    "CIFAR-MNIST": DataSet("cifar_mnist", "cifar_mnist_grid", "pairs_equal_budget", "cifar_mnist_confirmatory"),
    "FMNIST-MNIST": DataSet("fmnist_mnist", "fmnist_mnist_grid", "pairs_equal_budget", "fmnist_mnist_confirmatory"),
    "Waterbirds": DataSet("waterbirds", "waterbirds_grid", "photographs_equal_budget"),
    "CelebA": DataSet("celeba", "celeba_grid", "photographs_equal_budget"),
}
PHOTOGRAPHS = {"Waterbirds": "waterbirds", "CelebA": "celeba"}
# Epochs of the paper (Section 4.1; those of FMNIST-MNIST are not stated, we take CIFAR-MNIST's).
PAPER_EPOCHS = {"cifar_mnist": 20, "fmnist_mnist": 20, "waterbirds": 100, "celeba": 20}


def entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return Table 1's entries of the data sets whose exploratory runs are complete.

    Args:
        results: by experiment; those that are not given or not complete are left out.
    """
    return {
        _title(title, names, results[names.experiment].records): _entry(results[names.experiment].records)
        for title, names in DATA_SETS.items()
        if _complete(results, names.experiment)
    }


def confirmatory_entries(results: Mapping[str, Results], method: str = "SAM") -> dict[str, Entry]:
    """Return the entries of the data sets whose confirmatory runs are complete, SGD and SAM at their selected settings.

    Args:
        results: by experiment, at the profile "paper": below it no confirmatory run has a meaning.
        method: "SAM", or `EQUAL_BUDGET` for SAM chosen among as many settings as SGD.
    """
    found = {}
    for title, names in DATA_SETS.items():
        own = results.get(names.confirmatory)
        if own and own.complete and own.profile == "paper":
            chosen = (pairs.SELECTED | finetune.SELECTED)[names.experiment]
            wanted = (chosen["SGD"], chosen[method])
            found[title] = _entry([record for record in own.records if _setting(record) in wanted])
    return found


def judged_entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return what Table 1's claims rest on: a data set's confirmatory runs where they are complete, else the others.

    The note of the latter says that they are exploratory.
    """
    found = {
        title: entry._replace(note="; ".join(filter(None, ["exploratory", entry.note])))
        for title, entry in entries(results).items()
    }
    return found | confirmatory_entries(results)


def equal_budget_entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return the same with SAM tuned at one radius fixed beforehand, among as many settings as SGD.

    Args:
        results: by experiment, at the profile "paper"; below it nothing is tuned, and there are no entries.
    """
    found = {}
    for title, names in DATA_SETS.items():
        own, more = results.get(names.experiment), results.get(names.equal_budget)
        if not own or not more or not own.complete or not more.complete or own.profile != "paper":
            continue
        chosen = (pairs.SELECTED | finetune.SELECTED)[names.experiment]
        wanted = (chosen["SGD"], chosen[EQUAL_BUDGET])
        records = [r for r in (*own.records, *more.records) if _set(r) == names.experiment and _setting(r) in wanted]
        found[title] = _entry(records)
    return found


def _entry(records: Sequence[Record]) -> Entry:
    """Records of one data set with what they scale down."""
    return Entry(records, scaled_down(records[0]))


def _complete(results: Mapping[str, Results], name: str) -> bool:
    """Whether all runs of an experiment are among the results."""
    return name in results and results[name].complete


def _title(title: str, names: DataSet, records: Sequence[Record]) -> str:
    """The data set's title, or that of its stand-in at a reduced profile."""
    return title if _set(records[0]) == names.experiment else f"{_set(records[0])} in place of {title}"


def _set(record: Record) -> str:
    """Name of a record's pair or image set."""
    return str(record.config.get("pair") or record.config["image_set"])


def _setting(record: Record) -> tuple[float, float]:
    """Learning rate and radius."""
    return record.config["learning_rate"], record.config["rho"]


def scaled_down(record: Record) -> str:
    """Say what of the paper's setting a run scales down, from its configuration; "" if nothing.

    Image sizes are lost in our copy of the paper and cannot be compared.
    """
    config: Any = from_dict(KINDS[record.kind].config, record.config)
    finetuned = isinstance(config, FinetuneConfig)
    told = _of_network(config) if finetuned else []
    name = _set(record)
    if name not in PAPER_EPOCHS:
        return "not one of the paper's data sets"
    available = dataclasses.replace(config, n_train=None).n_images
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
        f"**In short.** Against SGD's, SAM's probing error on the hard feature is {'; '.join(parts)}. A 95 % interval "
        f"over seeds that includes no change is called undecided.{scaled}"
    )


def tuned_on(records: Sequence[Record]) -> str:
    """Say on which runs a grid was tuned, such as "20 epochs, seed 0"."""
    config = records[0].config
    return f"runs of {config['n_epochs']} epochs, seed {config['seed']}"
