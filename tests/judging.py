"""Results made up by hand, for tests of what claims conclude from them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edition.claims import Verdict
from edition.claims.ledger import CLAIMS
from edition.experiments import EXPERIMENTS
from edition.records.store import Record
from edition.runs.results import Results

SEEDS = 12  # enough for values that agree exactly to decide, after correction
# What follows from the outcomes of a claim's cases, for a claim about every case, one in general, and cases alike.
FOLLOWS = {
    ("holds", "holds"): ("confirmed", "confirmed", "confirmed"),
    ("holds", "undecided"): ("mixed", "mixed", "undecided"),
    ("holds", "reversed"): ("contradicted", "mixed", "mixed"),
    ("reversed", "reversed"): ("contradicted", "contradicted", "contradicted"),
    ("reversed", "undecided"): ("contradicted", "contradicted", "undecided"),
    ("undecided", "undecided"): ("undecided", "undecided", "undecided"),
}


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


def judge(id: str, *found: Results | pd.DataFrame, **also: Results) -> Verdict:
    """A claim's verdict from what it needs, in that order."""
    given = [item if isinstance(item, Results) else results(item) for item in found]
    return CLAIMS[id].verdict(dict(zip(CLAIMS[id].needs, given, strict=True)) | also)


def follows(id: str, outcomes: Iterable[str]) -> str:
    """The state that these outcomes of a claim's cases give."""
    quantifiers = ("every", "in general", "alike")
    return FOLLOWS[tuple(sorted(outcomes))][quantifiers.index(CLAIMS[id].quantifier)]


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
