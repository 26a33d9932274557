"""Results made up by hand, for tests of what claims conclude from them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edition.claims import Effect, Verdict
from edition.claims.ledger import CLAIMS
from edition.experiments import EXPERIMENTS
from edition.records.store import Record
from edition.runs.results import Results
from samlib.config import to_dict
from samlib.images.config import FinetuneConfig, PairConfig

SEEDS = 12  # enough for values that agree exactly to decide, after correction


def rows(**columns: Any) -> pd.DataFrame:
    """One row a seed; a number is the same for every seed, a list has one a seed."""
    return pd.DataFrame({"seed": range(SEEDS)}).assign(**columns)


def results(found: pd.DataFrame | Iterable[Record], profile: str = "paper", name: str = "runs") -> Results:
    """Complete results with this seed table, or with these records."""
    if not isinstance(found, pd.DataFrame):
        return Results(name, profile, tuple(found), 0)
    made = Results(name, profile, (Record("toy", "none", {}, {}, {}, Path("none")),), 0)
    vars(made)["table"] = found  # in place of what is read off the records
    return made


def image_record(rho, seed, hard, *, easy=0.02, curve=(), head=(0.0, 0.5), test=0.1, features=("background", "bird"),
                 weights="a1", learning_rate=0.01, **config):  # fmt: skip
    """A record with these probing errors, easy feature first; hard = None means that the run diverged."""
    lost = hard is None
    metrics = {"test_error": None if lost else test, "diverged": lost, "curves": {"train_loss": [1.0]}}
    metrics |= {"n_train": 8000, "n_probe_train": 532, "n_test": 5794, "weights_sha256": weights}
    for feature, probe, own in zip(features, (easy, hard), head, strict=True):
        metrics[f"{feature}_probe_error"] = None if lost else probe
        metrics[f"{feature}_probe_worst_group_error"] = None if lost else 2 * probe
        metrics[f"{feature}_head_error"] = None if lost else own
        if curve:
            metrics["curves"][f"{feature}_probe_error"] = [probe + shift for shift in curve]
    kind, make = ("pair", PairConfig) if "pair" in config else ("finetune", FinetuneConfig)
    given = to_dict(make(**({"trained": "last block"} if kind == "finetune" else {}) | config))
    given |= {"learning_rate": learning_rate, "rho": rho, "seed": seed}
    return Record(kind, f"{rho}-{seed}", given, metrics, {"device": "one core"}, Path("none"))


def changed(item: Record, config: Mapping[str, object] | None = None, **metrics: object) -> Record:
    """The same record with other metrics, and another configuration."""
    return replace(item, config=item.config | dict(config or {}), metrics=item.metrics | metrics)


def judge(id: str, *found: Results | pd.DataFrame | Iterable[Record], **also: Results) -> Verdict:
    """A claim's verdict from what it needs, in that order: results, or what makes them."""
    needed = zip(CLAIMS[id].needs, found, strict=True)
    given = {name: item if isinstance(item, Results) else results(item, name=name) for name, item in needed}
    return CLAIMS[id].verdict(given | also)


def verdict(*effects: Effect, quantifier: str = "in general", **more: Any) -> Verdict:
    """The verdict of a claim that comes out with these effects."""
    return Verdict("some-id", "Section 5", "Some claim.", "some statistic", effects, quantifier, **more)


def numbers(verdict: Verdict) -> Mapping[str, float]:
    """Mean of every effect, by name."""
    return {effect.name: effect.value.mean for effect in verdict.effects}


def holm(values: list[float]) -> list[float]:
    """Holm's correction as he wrote it: the k-th smallest of n times n - k, none below the one before it."""
    found, least = [0.0] * len(values), 0.0
    for k, index in enumerate(np.argsort(values)):
        least = max(least, min(1.0, values[index] * (len(values) - k)))
        found[index] = least
    return found


def first_of(name: str) -> str:
    """The experiment that comes first: another one, as long as its validation has not chosen the settings."""
    return EXPERIMENTS[name].waits_for if EXPERIMENTS[name].waiting else name


def cells(page: str) -> list[list[str]]:
    """Rows of an HTML table as text, with plain spaces."""
    found = (re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page))
    return [[re.sub(r"<.*?>", "", cell).replace("\u00a0", " ") for cell in row] for row in found]
