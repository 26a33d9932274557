"""Figures and tables of the performance page, drawn from benchmark records."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.figures import style
from edition.records.store import Record
from samlib.search import FRACTIONS, RUNS

Rows = list[dict[str, Any]]

WORKLOADS = {
    "mlp": "small MLP, batch 5",
    "convnet": "the paper's conv net, batch 100",
    "resnet18": "ResNet-18, 64 x 64, batch 32",
}
METHODS = {
    "sgd": "SGD",
    "lsam": "LSAM (samlib)",
    "floor": "two passes, one update",
    "sam": "SAM (samlib)",
    "two_step_sam": "SAM, common two-step code",
    "pytorch_optimizer_sam": "SAM (pytorch-optimizer)",
}
# What a part of a step that its floor has not is spent on; by method and part of the profile.
PROMISES = {
    ("sam", "norm"): "the perturbation's length is rho whatever the gradient's; one that is not finite is refused",
    ("sam", "w saved"): "w comes back to the bit, in the same storage, whatever happens",
    ("sam", "ascent"): "none: it is SAM",
    ("sam", "w put back"): "as for w saved",
    ("sam", "finite check"): "no NaN reaches the weights; check_finite=False leaves it out",
    ("sam", "rest"): "errors put the weights back, dropped gradients are told, autocast's casts are dropped, hooks run",
    ("lsam", "head and loss, twice"): "loss and logits at w are returned, and the phantom head is never in the weights",
    ("lsam", "finite check"): "no NaN reaches the weights; check_finite=False leaves it out",
}
COLOURS = {"sgd": style.SGD, "lsam": style.SAM, "sam": style.SAM, "floor": "black"}
ENGINES = {"batched": style.NEUTRAL, "compiled": style.DARK}


def step_ratios(rows: Rows) -> Figure:
    """Cost of a step over SGD's, one panel a workload: median and quartiles over the rounds."""
    names = list(dict.fromkeys(row["workload"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(9.8, 2.9), sharey=True, squeeze=False)
    shown = [method for method in METHODS if any(row["method"] == method for row in rows)]
    for panel, name in zip(axes[0], names, strict=True):
        for row in (row for row in rows if row["workload"] == name):
            y = -shown.index(row["method"])
            colour = COLOURS.get(row["method"], style.NEUTRAL)
            panel.plot([row["ratio_low"], row["ratio_high"]], [y, y], color=colour, linewidth=3, alpha=0.4)
            panel.plot(row["ratio_to_sgd"], y, "o", color=colour)
            panel.annotate(
                f"{row['ratio_to_sgd']:.2f}", (row["ratio_to_sgd"], y), (0, 6), textcoords="offset points", ha="center"
            )
        largest = max(row["ratio_to_sgd"] for row in rows if row["workload"] == name)
        sgd = next(row["median_ms"] for row in rows if (row["workload"], row["method"]) == (name, "sgd"))
        panel.set_title(f"{WORKLOADS[name]}\nSGD {sgd:.3g} ms", fontsize=9.5)
        panel.set(xlabel="time of a step / SGD's", xlim=(0.8, 1.2 * largest), ylim=(-len(shown) + 0.5, 0.8))
    axes[0, 0].set_yticks([-i for i in range(len(shown))], [METHODS[method] for method in shown])
    return figure


def engine_rates(measured: dict[str, Any]) -> Figure:
    """The toy engines: rate against the number of members, with the machine's limits, and ratios to the plain loop."""
    figure, (growth, ratios) = plt.subplots(1, 2, figsize=(9.8, 3.8), width_ratios=(1.4, 1))
    table = pd.DataFrame(measured["toy_growth"])
    for engine, rows in table.groupby("engine"):
        colour = ENGINES[str(engine)]
        growth.plot(rows.members, rows.steps_per_s, "o-", color=colour, label=f"{engine} engine")
    loop = (table.steps_per_s / table.ratio).median()
    growth.axhline(loop, color=style.NEUTRAL, linewidth=1.2)
    growth.annotate("sequential loop", (1, loop), (2, 4), textcoords="offset points")
    for name, offset in (("arithmetic", (2, -12)), ("cache", (2, 4))):  # below its line and above: they may be close
        if limit := measured.get("limit_share", {}).get(f"{name}_steps_per_s"):
            growth.axhline(limit, color=style.NEUTRAL, linewidth=1, linestyle="--")
            growth.annotate(f"limit: {name}", (1, limit), offset, textcoords="offset points")
    growth.set(xscale="log", yscale="log", xlabel="members trained together", ylabel="model-steps a second")
    growth.set_title("width 100, batch 5, one core" if "limits" in measured else "width 100, batch 5")
    growth.legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    two_cores = [row for row in measured.get("toy_cores", ()) if row["threads"] > 1]
    bars = pd.DataFrame(measured["toy"] + two_cores + measured["toy_width_50"])
    labels = [
        f"{row.engine}, width {row.width}" + (f", {row.threads} cores" if row.threads > 1 else "")
        for row in bars.itertuples()
    ]
    places = range(len(bars), 0, -1)
    ratios.barh(list(places), bars.ratio, color=[ENGINES[engine] for engine in bars.engine])
    ratios.set_yticks(list(places), labels)
    for place, ratio in zip(places, bars.ratio, strict=True):
        ratios.annotate(f"{ratio:.0f}", (ratio, place), (3, -3), textcoords="offset points")
    ratios.set(xlabel="times the sequential loop, 64 members")
    ratios.margins(x=0.12)
    ratios.grid(visible=False, axis="y")
    return figure


def profile_table(rows: Rows) -> pd.DataFrame:
    """Where the time of a step goes: percent of an SGD step, one row a method and part, one column a workload."""
    table = pd.DataFrame(rows)
    wide = table.pivot_table(index=["method", "part"], columns="workload", values="percent_of_sgd", sort=False)
    order = [part for part in dict.fromkeys(table.part) if part not in ("rest", "step")] + ["rest", "step"]
    wide = wide.sort_index(level="part", key=lambda parts: parts.map(order.index), sort_remaining=False)
    wide = wide.sort_index(level="method", key=lambda names: names.map(list(METHODS).index), sort_remaining=False)
    wide = wide.rename(index={name: METHODS.get(name, name) for name in METHODS}, columns=WORKLOADS)
    return wide.round(1)


def promises_table(rows: Rows) -> pd.DataFrame:
    """Which promise costs what: percent of an SGD step of each part that the floor has not, a column a network.

    Of the part that SGD has, too (head and loss), what it takes there is subtracted.
    """
    percent = {(row["workload"], row["method"], row["part"]): row["percent_of_sgd"] for row in rows}
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    told = []
    for (method, part), promise in PROMISES.items():
        own = [
            percent[name, method, part] - (percent[name, "sgd", "head and loss"] if part.startswith("head") else 0.0)
            for name in workloads
        ]
        told.append((METHODS[method], part, *(f"{value:.1f}" for value in own), promise))
    columns = ["step", "part", *(f"{WORKLOADS[name]}, %" for name in workloads), "promise that it keeps"]
    return pd.DataFrame(told, columns=columns)


def cluster_table(rows: Rows) -> pd.DataFrame:
    """Settings a minute of a short search on a Dask cluster, one row a number of workers."""
    told = [
        (row["workers"], row["settings"], f"{row['seconds']:.1f} s", f"{60 * row['settings_per_s']:.0f}", row["ratio"])
        for row in rows
    ]
    heads = ["workers", "settings", "took", "settings a minute", "times one worker's rate"]
    return pd.DataFrame(told, columns=heads).round(2)


def memory_table(rows: Rows) -> pd.DataFrame:
    """Peak memory of three steps from the first on, beside the least: one row a workload and method.

    SAM must keep one copy of the parameters to come back to; LSAM, which never writes its phantom into the weights,
    none.
    """
    least = {"sgd": 0.0, "floor": 0.0, "lsam": 0.0}
    told = [
        (
            WORKLOADS[row["workload"]],
            METHODS[row["method"]],
            f"{row['peak_bytes'] / 1e6:.2f} MB",
            f"{row['copies_over_sgd']:.2f}",
            f"{least.get(row['method'], 1.0):.0f}",
        )
        for row in rows
    ]
    heads = ("network", "step", "peak", "over SGD's, in copies of the parameters", "least possible")
    return pd.DataFrame(told, columns=heads)


def limits_table(measured: dict[str, Any]) -> pd.DataFrame:
    """What one core reaches, and which rate of model-steps each limit would allow."""
    limits, share = measured["limits"], measured["limit_share"]
    rows = [
        ("large matrix product", limits["peak_flop_per_s"], "GFLOP/s", share["arithmetic_steps_per_s"]),
        ("products of the engine's shape", limits["shape_flop_per_s"], "GFLOP/s", None),
        ("copies within the core's cache", limits["cache_bytes_per_s"], "GB/s", share["cache_steps_per_s"]),
        ("copies out of every cache", limits["memory_bytes_per_s"], "GB/s", share["memory_steps_per_s"]),
    ]
    return pd.DataFrame(
        [(name, f"{rate / 1e9:.1f} {unit}", f"{steps:,.0f}" if steps else "–") for name, rate, unit, steps in rows],
        columns=["what", "one core reaches", "model-steps/s it would allow"],
    )


def targets_table(measured: dict[str, Any]) -> pd.DataFrame:
    """What was asked of steps and engines, what was measured, and whether it is met; computed from the record."""
    ratio = {(row["workload"], row["method"]): row["ratio_to_sgd"] for row in measured["step"]}
    rows = []
    for name, most in (("mlp", 1.30), ("convnet", 1.05), ("resnet18", 1.05)):
        value = ratio[name, "lsam"]
        rows.append((f"LSAM's step, {WORKLOADS[name]}", f"at most {most:.2f} x SGD", value, value <= most))
    for name, most in (("mlp", 1.10), ("convnet", 1.03), ("resnet18", 1.03)):
        value = ratio[name, "sam"]
        over = value / ratio[name, "floor"]
        asked = f"at most {most:.2f} x two passes, one update"
        rows.append((f"SAM's step, {WORKLOADS[name]}", asked, over, over <= most))
        for peer in ("two_step_sam", "pytorch_optimizer_sam"):
            if (name, peer) in ratio:
                other = next(row for row in measured["step"] if (row["workload"], row["method"]) == (name, peer))
                text = f"the same, against {METHODS[peer]}"
                asked = f"no slower: {other['ratio_to_sgd']:.2f} (quartiles to {other['ratio_high']:.2f})"
                rows.append((text, asked, value, value <= other["ratio_high"]))
    for row in measured.get("photographs", ()):  # records from before it was measured have none
        if row["loop"] == "samlib":
            told = f"{METHODS[row['method']]} on photographs, whole ResNet-18, {row['images_per_s']:.0f} images/s"
            rows.append((told, "at least 0.97 x a bare loop", row["ratio"], row["ratio"] >= 0.97))
    engines = {row["engine"]: row for row in measured["toy"]}
    if "compiled" in engines:
        one = engines["compiled"]["ratio"]
        rows.append(("toy engine, 64 members of width 100, one core", "at least 80 x the loop", one, one >= 80))
        by_cores = {row["threads"]: row["steps_per_s"] for row in measured["toy_cores"]}
        two = by_cores[2] / by_cores[1]
        rows.append(("toy engine, two cores against one", "near 2", two, two >= 1.8))
    table = pd.DataFrame(rows, columns=["what", "asked", "measured", "met"])
    table["measured"] = [f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" for value in table.measured]
    table["met"] = ["yes" if met else "no" for met in table.met]
    return table


def search_cost(records: Sequence[Record]) -> str:
    """Say in Markdown what the search of the lost constants cost, and what a larger one would, on paper.

    Args:
        records: of kind "search", one or more. Chunks are independent of each other, so cores divide the time until
            each does one chunk; another machine's core counts as these.
    """
    seconds = sum(record.provenance["wall_seconds"] for record in records)
    n = sum(len(record.metrics["settings"]) for record in records)
    steps = sum(
        (
            len(FRACTIONS) * len(record.metrics["premise"])
            + (len(RUNS) - len(FRACTIONS)) * sum(record.metrics["premise"])
        )
        * len(record.config["seeds"])
        * record.config["n_steps"]
        for record in records
    )
    million = 1e6 * seconds / n / 3600
    return (
        f"{len(records)} chunks, {n} settings, {steps / 1e6:,.0f} million model-steps took **{seconds / 3600:.2f} hours"
        f" of one core**: {seconds / n:.1f} s a setting, {steps / seconds:,.0f} model-steps a second. At that rate a "
        f"million settings are {million:,.0f} hours of one core: {million / 1000:,.1f} hours on a thousand."
    )
