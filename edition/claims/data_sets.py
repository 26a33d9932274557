"""The data sets of Table 1: whose records stand for each, and what of the paper's setting they scale down.

Here `results` are by experiment; data sets whose experiments are not among them are left out.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from edition.claims.table_one import Entry, has_curves, in_points, sensitivity_table, table_one
from edition.experiments import finetune, pairs
from edition.experiments.tuned import EQUAL_BUDGET
from edition.records.kinds import KINDS
from edition.records.store import Record
from edition.runs.results import Results
from samlib.config import from_dict
from samlib.images.config import FinetuneConfig
from samlib.measures.statistics import settled


class DataSet(NamedTuple):
    """One data set of Table 1.

    Attributes:
        experiment: the exploratory runs of the selected settings, over seeds.
        grid: the runs from which validation selected them.
        equal_budget: the runs of SAM at one radius fixed beforehand, with as many settings as SGD, where SAM's
            selected setting is another.
        confirmatory: the runs of fresh seeds whose analysis was fixed beforehand.
        n_seeds: how many of these there are.
        roles: the features' roles in them.
        more: further seeds, which count where all of them are there; "" where there are none.
    """

    experiment: str
    grid: str
    equal_budget: str
    confirmatory: str
    n_seeds: int
    roles: Mapping[str, str]
    more: str = ""

    def chosen(self, *, fixed: bool) -> Mapping[str, tuple[float, float]]:
        """Return the settings of the exploratory runs, or of those whose analysis was fixed, by method."""
        if fixed and self.experiment in finetune.WHOLE:
            return finetune.WHOLE[self.experiment][1].chosen
        return (pairs.SELECTED | finetune.SELECTED)[self.experiment]


class Progress(NamedTuple):
    """How far the confirmatory runs of a data set are.

    Attributes:
        records: of SGD and SAM, those that are there.
        n: how many there have to be.
        command: what makes the others.
    """

    records: Sequence[Record]
    n: int
    command: str


def _data_set(name: str, easy: str, hard: str, *, pair: bool) -> DataSet:
    """Name a data set's experiments as `edition.experiments` does."""
    fixed, roles = f"{name}_confirmatory", {"easy": easy, "hard": hard}
    if pair:
        return DataSet(name, f"{name}_grid", "pairs_equal_budget", fixed, len(pairs.CONFIRMATORY["seeds"]), roles)
    more, n_seeds = f"{fixed}_more", len(finetune.SEEDS)
    return DataSet(name, f"{name}_grid", "photographs_equal_budget", fixed, n_seeds, roles, more)


DATA_SETS = {
    "CIFAR-MNIST": _data_set("cifar_mnist", "mnist", "cifar", pair=True),
    "FMNIST-MNIST": _data_set("fmnist_mnist", "mnist", "fmnist", pair=True),
    "Waterbirds": _data_set("waterbirds", "background", "bird", pair=False),
    "CelebA": _data_set("celeba", "gender", "hair", pair=False),
}
EXPLORATORY = tuple(names.experiment for names in DATA_SETS.values())
CONFIRMATORY = tuple(name for names in DATA_SETS.values() for name in (names.confirmatory, names.more) if name)
# What a claim's statistic says of `judged_entries`.
DECIDING = "exploratory runs, which stand in until the confirmatory ones are complete, decide nothing"
PHOTOGRAPH_EXPERIMENTS = {"Waterbirds": "waterbirds", "CelebA": "celeba"}
# Epochs of the paper (Section 4.1; those of FMNIST-MNIST are not stated, we take CIFAR-MNIST's).
PAPER_EPOCHS = {"cifar_mnist": 20, "fmnist_mnist": 20, "waterbirds": 100, "celeba": 20}


def by_name(results: Sequence[Results | None]) -> dict[str, Results]:
    """Return by experiment the results that are given, of what a claim `needs` and may have `also`."""
    return {result.name: result for result in results if result is not None}


def entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return Table 1's entries of the data sets whose exploratory runs are complete.

    Below the profile "paper" one embedded set stands for all, and the titles say so.
    """
    found = {}
    for title, names in DATA_SETS.items():
        own = results.get(names.experiment)
        if own is not None and own.complete:
            there = _set(own.records[0])
            found[title if there == names.experiment else f"{there} in place of {title}"] = _entry(own.records)
    return found


def progress(results: Mapping[str, Results], method: str = "SAM") -> dict[str, Progress]:
    """Return how far each data set's confirmatory runs of SGD and of one method are; none below the profile "paper".

    Args:
        method: "SAM", or `EQUAL_BUDGET` for SAM chosen among as many settings as SGD.
    """
    found = {}
    for title, names in DATA_SETS.items():
        own = results.get(names.confirmatory)
        if own is None or own.profile != "paper":
            continue
        chosen = names.chosen(fixed=True)
        wanted = [chosen["SGD"], chosen[method]] if chosen else []
        records, more = (
            [record for record in result.records if _setting(record) in wanted] if result is not None else []
            for result in (own, results.get(names.more))
        )
        together = more if len(more) == len(wanted) * len(finetune.MORE_SEEDS) else []
        found[title] = Progress([*records, *together], 2 * names.n_seeds + len(together), own.command)
    return found


def confirmatory_entries(results: Mapping[str, Results], method: str = "SAM") -> dict[str, Entry]:
    """Return the entries of the data sets whose confirmatory runs are complete; arguments as `progress` has them."""
    return {
        title: _entry(found.records)._replace(roles=DATA_SETS[title].roles, fixed=True)
        for title, found in progress(results, method).items()
        if len(found.records) == found.n
    }


def frozen_controls(title: str) -> tuple[str, str]:
    """Name the experiments of a set of photographs with frozen batch statistics: at the chosen settings, and slower."""
    return f"{DATA_SETS[title].confirmatory}_frozen", f"{DATA_SETS[title].confirmatory}_frozen_slower"


def trained_control(results: Iterable[Results | None]) -> Results | None:
    """Return the first control that is complete and in which not every run of SGD diverged."""
    for found in results:
        if found and found.complete and not all(r.metrics["diverged"] for r in found.records if r.config["rho"] == 0):
            return found
    return None


def waiting(results: Mapping[str, Results]) -> dict[str, str]:
    """Say of the data sets whose confirmatory runs are not complete how many there are, and what makes the others."""
    return {
        title: f"{len(found.records)} of {found.n} runs, no verdict yet: {found.command}"
        for title, found in progress(results).items()
        if len(found.records) < found.n
    }


def judged_entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return what claims rest on: a data set's confirmatory runs where they are complete, else the others.

    The note of the latter says that they are exploratory.
    """
    found = {
        title: entry._replace(note="; ".join(filter(None, ["exploratory", entry.note])))
        for title, entry in entries(results).items()
    }
    return found | confirmatory_entries(results)


def entries_by_epoch(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return the same of the runs that were probed after each epoch: some confirmatory ones were not."""
    fixed = {title: entry for title, entry in confirmatory_entries(results).items() if has_curves(entry.records)}
    return {title: entry for title, entry in (entries(results) | fixed).items() if has_curves(entry.records)}


def equal_budget_entries(results: Mapping[str, Results]) -> dict[str, Entry]:
    """Return the same as `entries` with SAM tuned at one radius fixed beforehand, among as many settings as SGD.

    Where the confirmatory runs of it are complete, they stand for their data set, and the title says so. Below the
    profile "paper" nothing is tuned, and there are no entries.
    """
    found = {}
    for title, names in DATA_SETS.items():
        own, more = results.get(names.experiment), results.get(names.equal_budget)
        if not own or not more or not own.complete or not more.complete or own.profile != "paper":
            continue
        chosen = names.chosen(fixed=False)
        wanted = (chosen["SGD"], chosen[EQUAL_BUDGET])
        records = [r for r in (*own.records, *more.records) if _set(r) == names.experiment and _setting(r) in wanted]
        found[title] = _entry(records)
    fresh = confirmatory_entries(results, EQUAL_BUDGET)
    found |= {title: entry._replace(fixed=False) for title, entry in fresh.items()}
    return {f"{title}, fresh seeds" if title in fresh else title: entry for title, entry in found.items()}


def _entry(records: Sequence[Record]) -> Entry:
    """Records of one data set with what they scale down."""
    return Entry(records, scaled_down(records[0]))


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


def sensitivity(results: Mapping[str, Results]) -> pd.DataFrame:
    """Return `sensitivity_table` of the confirmatory runs at hand, complete or not, and last a row of an ablation.

    That row has the exploratory runs on photographs, in which only the last block of a DenseNet-121 was trained.
    """
    there = {title: found.records for title, found in progress(results).items()}
    seeds = {
        title: [
            {r.config["seed"] for r in records if (r.config["rho"] > 0) is sam and not r.metrics["diverged"]}
            for sam in (False, True)
        ]
        for title, records in there.items()
    }
    whole = {title: there[title] for title, (sgd, sam) in seeds.items() if sgd & sam}
    last = {title: entry.records for title, entry in entries(results).items() if title in PHOTOGRAPH_EXPERIMENTS}
    tables = [
        sensitivity_table({title: Entry(found, roles=DATA_SETS[title].roles) for title, found in records.items()}, way)
        for records, way in ((whole, ""), (last, "only the last block trained, exploratory"))
    ]
    return pd.concat(tables)


def in_short(results: Mapping[str, Results]) -> str:
    """Say in Markdown what is decided about the hard feature, and what the exploratory runs suggest."""
    decided = "By the protocol, that SAM's probing error on the hard feature is below SGD's is"
    explored = "In the exploratory runs that error is, against SGD's,"
    told = []
    for words, found in ((decided, confirmatory_entries(results)), (explored, entries(results))):
        said: dict[str, list[str]] = {}
        rows = [row for row in table_one(found).itertuples() if row.metric in ("hard_probe_error", "easy_probe_error")]
        for row in rows:
            if row.metric == "hard_probe_error":
                what = f"{row.data_set} ({in_points(row.difference)} points on {row.feature}, n = {row.n})"
                said.setdefault(row.verdict, []).append(what)
        if said:
            parts = "; ".join(f"**{word}** on {', '.join(sets)}" for word, sets in said.items())
            below = sum(settled(row.difference) < 0 for row in rows)
            told.append(f"{words} {parts}. Of {len(rows)} mean differences, on either feature, {below} are below zero.")
    done = progress(results)
    late = [f"{title} ({len(done[title].records)} of {done[title].n})" for title in waiting(results)]
    if late:
        told.append(f"Runs of the protocol that are not complete: {', '.join(late)}.")
    return f"**In short.** {' '.join(told) or 'Nothing has been run at this profile yet.'}"


def tuned_on(records: Sequence[Record]) -> str:
    """Say on which runs a grid was tuned, such as "20 epochs, seed 0"."""
    config = records[0].config
    return f"runs of {config['n_epochs']} epochs, seed {config['seed']}"
