"""The paper's claims about two-feature images (Section 4), from records to tables and verdicts.

Records of kinds "pair" and "finetune" name their metrics alike, and the tables hold either. Which feature is easy is
decided by SGD's probes, as in Section 4.1, never assumed. Differences are paired: SGD and SAM of one seed share images,
initialization, batch order and probe sets.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from edition.records.store import Record
from edition.runs.results import by_seed
from samlib.images.catalogue import PAIRS
from samlib.measures.statistics import Estimate, paired_difference, settled


def pair_roles(records: Sequence[Record]) -> dict[str, str]:
    """Return {"easy": name, "hard": name}: the feature with the lower mean probing error under SGD is the easy one.

    Args:
        records: of kind "pair" or "finetune", of one data set; at least one of SGD (rho = 0) that did not diverge.
    Raises:
        ValueError: no such record; then easy and hard have no meaning.
    """
    sgd = [r.metrics for r in records if r.config["rho"] == 0 and not r.metrics["diverged"]]
    if not sgd:
        raise ValueError(
            f"records: expected at least one of SGD (rho = 0) that converged, got none among {len(records)}; SGD's "
            "probes decide which feature is easy: run it too"
        )
    names = [name.removesuffix("_head_error") for name in sgd[0] if name.endswith("_head_error")]
    easy, hard = sorted(names, key=lambda name: settled(np.mean([m[f"{name}_probe_error"] for m in sgd])))
    return {"easy": easy, "hard": hard}


def method_of(record: Record) -> str:
    """Name the optimizer of an image run: "SGD" (rho = 0) or "SAM"."""
    return "SGD" if record.config["rho"] == 0 else "SAM"


def pair_table(records: Sequence[Record], roles: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return one row per record: configuration, metrics that are one number, "method", "n_classes", "record" (id).

    A metric of a feature is named after its role, such as easy_probe_error; the columns "easy" and "hard" hold the
    features' names.

    Args:
        records: of kind "pair" or "finetune", of one data set, SGD among them.
        roles: {"easy": name, "hard": name} where they were fixed beforehand; None reads them off SGD's probes.
    Raises:
        ValueError: no record of SGD.
    """
    roles = dict(roles or pair_roles(records))
    rows = []
    for record in records:
        metrics = {_by_role(k, roles): v for k, v in record.metrics.items() if not isinstance(v, list | dict)}
        method = method_of(record)
        n_classes = PAIRS[record.config["pair"]].n_classes if record.config.get("pair") in PAIRS else 2
        rows.append(record.config | metrics | roles | {"method": method, "n_classes": n_classes, "record": record.id})
    table = pd.DataFrame(rows)
    errors = [name for name in table if name.endswith("_error")]
    return table.astype(dict.fromkeys(errors, float))  # None, of a run that diverged, becomes NaN


def difference(table: pd.DataFrame, metric: str) -> Estimate:
    """Return the paired difference of a metric, SAM minus SGD, over seeds.

    >>> difference(pd.DataFrame({"seed": [0, 0], "method": ["SGD", "SAM"], "error": [0.3, 0.1]}), "error").n
    1
    """
    values = by_seed(table, metric, "method")
    return paired_difference(values["SAM"].to_numpy(), values["SGD"].to_numpy())


def _by_role(name: str, roles: dict[str, str]) -> str:
    """Rename cifar_probe_error to hard_probe_error, and so on."""
    for role, feature in roles.items():
        if name.startswith(f"{feature}_"):
            return role + name.removeprefix(feature)
    return name
