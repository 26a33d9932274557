"""Table 1 (Section 4.2): test and probing errors of SGD and SAM on all data sets, from records to table and verdicts.

All numbers of one data set come from the same seeds: those at which SGD and SAM both converged. The table has verdicts
on probing errors alone; that SAM succeeds in training is a claim of its own (`edition.claims.section_4`).

Here `entries` are by the data set's title, and a `role` is "hard" or "easy".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from edition.claims.pairs import difference, method_of, pair_roles, pair_table
from edition.claims.rules import Effect, corrected
from edition.records.selection import TUNED, differing
from edition.records.store import Record
from edition.runs.results import by_seed
from samlib.measures.statistics import Estimate, estimate, joint_effect, number, paired_difference

CROSS_VALIDATED = "cross-validated"
METRICS = (
    "easy_probe_error",
    "hard_probe_error",
    "test_error",
    "easy_probe_worst_group_error",
    "hard_probe_worst_group_error",
)
ROLES = ("hard", "easy")
N_SETS = 4  # of Table 1: so many p-values of one feature are corrected together, those that are missing counted as 1
# An effect's outcome -> the verdict where the analysis was fixed beforehand, and what an exploratory table says.
FIXED = {"holds": "confirmed", "reversed": "contradicted", "undecided": "undecided"}
EXPLORED = {"holds": "lower", "reversed": "higher", "undecided": "undecided"}
BY_SGD = "roles by SGD's probes"  # the paper's rule (Section 4.1), beside roles that were fixed beforehand
TURNED = "; SGD's probes give easy and hard the other way round, which is the paper's rule: so in other statistics"
EARLY_SHARE = 0.25  # "early" is after this share of the epochs: our choice


class Entry(NamedTuple):
    """What Table 1 knows of one data set.

    Attributes:
        records: of kind "pair" or "finetune": SGD and SAM over seeds, one setting (learning rate and rho) each.
        note: what is scaled down; "" where it is the paper's setting.
        roles: {"easy": name, "hard": name} where they were fixed beforehand; None where SGD's probes decide.
        fixed: whether the analysis was fixed before the runs: those of other entries decide nothing.
    """

    records: Sequence[Record]
    note: str = ""
    roles: Mapping[str, str] | None = None
    fixed: bool = False


def table_one(entries: Mapping[str, Entry]) -> pd.DataFrame:
    """Tabulate every error of every data set.

    Returns:
        One row per (data set, metric of `METRICS`). Columns: "data_set"; "metric"; "feature" (the easy or hard one's
        name, "" for the test error); "sgd_mean", "sgd_sd", "sam_mean", "sam_sd" (errors as shares of 1; the standard
        deviation over seeds is NaN for one seed); "difference", "low", "high" (SAM minus SGD, paired by seed, with
        its 95 % interval); "n" (seeds at which both converged, from which all of these come); "left_out" (other
        seeds, and why); of the probing errors "p" (corrected by Holm's method over the data sets' hard, or easy,
        features), "detectable" (difference found with 80 % power, before correction) and "verdict" (of `FIXED`,
        `EXPLORED`, or "not tested"), else NaN, NaN and ""; "fixed" (whether the analysis was, beforehand);
        "backbone"; "trained" ("all" parameters or the "last block"); "image_size" (pixels); "n_train",
        "n_probe_train", "n_probe_test" (images); "n_groups"; "coverage" of the release by the images at hand;
        "machine"; "sgd_learning_rate", "sam_learning_rate", "rho" (SAM's); "note".
    Raises:
        ValueError: an entry mixes settings or data sets, lacks a method, or has no seed at which both converged.
    """
    rows = []
    tested = {f"{role}_probe_error": comparisons(entries, role) for role in ROLES}
    for title, entry in entries.items():
        table = seed_table(title, entry)
        setting = _setting(table, entry)
        for metric in METRICS:
            role = metric.partition("_")[0]
            feature = table[role].iloc[0] if role in ROLES else ""
            named = {"data_set": title, "metric": metric, "feature": feature}
            verdict = _verdict(tested.get(metric, {}).get(title), FIXED if entry.fixed else EXPLORED)
            rows.append(named | _numbers(table, metric) | verdict | setting)
    return pd.DataFrame(rows)


def comparisons(entries: Mapping[str, Entry], role: str) -> dict[str, Effect]:
    """Return each data set's effect: probing error of a feature, SAM minus SGD, predicted below zero.

    The p-values are corrected by Holm's method as `N_SETS` of one family; data sets that are not here count with
    p = 1, so that whatever they bring, what is decided stays decided.
    """
    effects = []
    for title, entry in entries.items():
        table = seed_table(title, entry)
        value = difference(table, f"{role}_probe_error")
        effects.append(Effect(f"{title}: {table[role].iloc[0]}", value, "below"))
    missing = [Effect("", Estimate(0, -math.inf, math.inf, 1), "below")] * (N_SETS - len(effects))
    return dict(zip(entries, corrected([*effects, *missing]), strict=False))


def joint_effects(entries: Mapping[str, Entry], role: str) -> dict[str, Effect]:
    """Return the effect over the data sets together: "stratified", which decides, and others beside it.

    Stratified: the mean of the data sets' means (`samlib.measures.statistics.joint_effect`). "seed by seed": the mean
    over the data sets at each seed that all of them have; left out where these are fewer than two. "stratified, roles
    by SGD's probes": left out where these are the roles that were fixed.

    Returns:
        The effects, not corrected; none where a data set has fewer than two seeds.
    """
    gaps = _gaps(entries, role)
    if min(map(len, gaps), default=0) < 2:
        return {}
    named = f"{len(gaps)} data sets"
    found = {"stratified": Effect(named, joint_effect(gaps), "below")}
    common = pd.concat(gaps, axis=1, join="inner").mean(axis=1)
    if len(common) > 1:
        found["seed by seed"] = Effect(f"{named}, seed by seed", estimate(common.to_numpy()), "below")
    if turned := turned_by_sgd(entries):
        value = joint_effect(_gaps({**entries, **turned}, role))
        found[f"stratified, {BY_SGD}"] = Effect(f"{named}, {BY_SGD}", value, "below")
    return found


def turned_by_sgd(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries on which SGD's probes contradict the roles fixed beforehand, with those that they give."""
    return {
        title: entry._replace(roles=found)
        for title, entry in entries.items()
        if entry.roles and (found := pair_roles(entry.records)) != entry.roles
    }


def _gaps(entries: Mapping[str, Entry], role: str) -> list[pd.Series]:
    """Each data set's probing error of one feature, SAM minus SGD, by seed."""
    tables = [by_seed(seed_table(*item), f"{role}_probe_error", "method").dropna() for item in entries.items()]
    return [values["SAM"] - values["SGD"] for values in tables]


def sensitivity_table(entries: Mapping[str, Entry], alone: str = "") -> pd.DataFrame:
    """Tabulate the paired difference of both probing errors under other ways to the probe's penalty.

    Args:
        alone: what the one row of these records is called; "" gives a row for `CROSS_VALIDATED`, which decides, and
            one for each other way that the records hold.
    Returns:
        One row per (way, data set, role): "way", "data_set", "role", "feature", "value" (an `Estimate`, SAM minus
        SGD).
    """
    rows = []
    for title, entry in entries.items():
        table = seed_table(title, entry)
        for role in ROLES:
            feature = table[role].iloc[0]
            found = {r.id: r.metrics.get(f"{feature}_probe_sensitivity") or {} for r in entry.records}
            ways = dict.fromkeys(way for of_run in found.values() for way in of_run)
            rows.append((alone or CROSS_VALIDATED, title, role, feature, difference(table, f"{role}_probe_error")))
            for way in () if alone else ways:
                errors = [found[id].get(way, math.nan) for id in table.record]
                rows.append((way, title, role, feature, difference(table.assign(error=errors), "error")))
    return pd.DataFrame(rows, columns=["way", "data_set", "role", "feature", "value"])


def early_epoch(n_epochs: int) -> int:
    """Return the epoch, counted from 1, that stands for "early".

    >>> early_epoch(20), early_epoch(10)
    (5, 3)
    """
    return math.ceil(EARLY_SHARE * n_epochs)


def curve_table(records: Sequence[Record], roles: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return probing errors by epoch: one row per (seed, method, epoch, role).

    Args:
        records: of kind "pair" or "finetune", of one data set, with probes after each epoch, SGD among them. Runs
            that diverged are left out.
        roles: as `Entry` has them.
    Returns:
        Columns "seed", "method" ("SGD", "SAM"), "epoch" (from 1), "role" ("easy", "hard"), "error" (share of 1).
    Raises:
        ValueError: no record of SGD, or a record without these curves.
    """
    roles = roles or pair_roles(records)
    rows = []
    for record in records:
        if record.metrics["diverged"]:
            continue
        if not has_curves([record]):
            raise ValueError(
                f"records: expected probing errors after each epoch, got none in {record.id}; run it with "
                "probe_each_epoch = True"
            )
        method = method_of(record)
        for role, feature in roles.items():
            curve = record.metrics["curves"][f"{feature}_probe_error"]
            rows += [(record.config["seed"], method, i + 1, role, error) for i, error in enumerate(curve)]
    return pd.DataFrame(rows, columns=["seed", "method", "epoch", "role", "error"])


def in_points(share: float) -> str:
    """Write a difference in percentage points, with a sign and a true minus; no sign where it rounds to zero.

    >>> in_points(-0.0067), in_points(0.00001)
    ('−0.67', '0.00')
    """
    return number(100 * share, 2, signed=True)


def seed_table(title: str, entry: Entry) -> pd.DataFrame:
    """Tabulate one data set's records by `pair_table`; refuse those that are no entry of Table 1."""
    table = pair_table(entry.records, entry.roles)
    others = sorted(differing(entry.records) - TUNED - {"seed"})
    if others:
        raise ValueError(
            f"{title}: expected one data set and one setting a method, got records that differ in {', '.join(others)}; "
            "make an entry of each"
        )
    for name in ("weights_sha256", "images_sha256"):
        found = sorted({str(record.metrics.get(name)) for record in entry.records})
        if len(found) > 1:
            raise ValueError(
                f"{title}: expected one {name} for all records, got {', '.join(found)}; run them again from the same "
                "weights and images"
            )
    settings = table[["method", "learning_rate", "rho"]].drop_duplicates()
    if sorted(settings.method) != ["SAM", "SGD"]:
        told = "; ".join(f"{row.method}: {row.learning_rate:g}, {row.rho:g}" for row in settings.itertuples())
        raise ValueError(
            f"{title}: expected SGD and SAM at one setting each, got (learning rate, rho) {told}; select them first, "
            "see edition.records.selection"
        )
    if by_seed(table, "test_error", "method").dropna().empty:
        raise ValueError(f"{title}: expected a seed at which SGD and SAM both converged, got none; run more seeds")
    return table


def _verdict(effect: Effect | None, words: Mapping[str, str]) -> dict[str, Any]:
    """What a comparison says; nothing of a metric that is not compared."""
    if effect is None:
        return {"p": math.nan, "detectable": math.nan, "verdict": ""}
    word = words[effect.outcome] if effect.value.n > 1 else "not tested"
    return {"p": effect.corrected, "detectable": effect.detectable, "verdict": word}


def _numbers(table: pd.DataFrame, metric: str) -> dict[str, float]:
    """Means, deviations and paired difference over the seeds at which both converged."""
    values = by_seed(table, metric, "method")
    both = values.dropna()
    gap = paired_difference(both["SAM"].to_numpy(), both["SGD"].to_numpy())
    spread = {
        f"{method.lower()}_{name}": getattr(both[method], how)()
        for method in ("SGD", "SAM")
        for name, how in (("mean", "mean"), ("sd", "std"))
    }
    interval = {"difference": gap.mean, "low": gap.low, "high": gap.high}
    return spread | interval | {"n": gap.n, "left_out": left_out(table)}


def left_out(table: pd.DataFrame) -> str:
    """Name the seeds at which SGD and SAM did not both converge, and why; "" where there are none."""
    values = by_seed(table, "test_error", "method")
    lost = table[table.diverged].groupby("seed").method.agg(" and ".join)
    found: dict[str, list[str]] = {}
    for seed in values.index.difference(values.dropna().index):
        why = f"{lost[seed]} diverged" if seed in lost else "a run is missing"
        found.setdefault(why, []).append(str(seed))
    return ", ".join(f"{', '.join(seeds)} ({why})" for why, seeds in found.items())


def _setting(table: pd.DataFrame, entry: Entry) -> dict[str, Any]:
    """What was trained, how and where."""
    config = entry.records[0].config
    sgd, sam = (table[table.method == method].iloc[0] for method in ("SGD", "SAM"))
    side = config.get("image_size")
    metrics = entry.records[0].metrics
    return {
        "backbone": config["backbone"],
        "trained": config.get("trained", "all"),
        "image_size": f"{side} × {side}" if side else "64 × 32",
        "n_train": metrics["n_train"],
        "n_probe_train": metrics["n_probe_train"],
        "n_probe_test": metrics.get("n_probe_test", metrics.get("n_test")),
        "n_groups": int(table.n_classes.iloc[0]) ** 2,
        "coverage": metrics.get("coverage", "full"),
        "machine": "; ".join(sorted({record.provenance["device"] for record in entry.records})),
        "sgd_learning_rate": sgd.learning_rate,
        "sam_learning_rate": sam.learning_rate,
        "rho": sam.rho,
        "fixed": entry.fixed,
        "note": entry.note,
    }


def gap_at(curves: pd.DataFrame, epoch: int) -> Estimate:
    """Paired difference of the hard feature's probing error at one epoch."""
    return difference(curves[(curves.role == "hard") & (curves.epoch == epoch)], "error")


def has_curves(records: Sequence[Record]) -> bool:
    """Whether any of the records holds probing errors by epoch."""
    return any(name.endswith("_probe_error") for record in records for name in record.metrics["curves"])
