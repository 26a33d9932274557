"""The command line: `python -m edition.bench step|toy|limits|memory|photographs|cluster|uses|all`.

Nothing here is a test: a rate belongs to one machine and one moment. Methods are measured in turn, in one run; quote
their ratios. Leave the machine alone meanwhile.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from edition.arguments import whole_number
from edition.bench.cluster import measure_cluster
from edition.bench.limits import measure_limits, share_of_limit
from edition.bench.memory import measure_memory
from edition.bench.photographs import measure_photographs
from edition.bench.record import require_writable, save, save_untimed
from edition.bench.step import measure_steps, step_profile, step_table, table
from edition.bench.toy import GROWTH, measure_growth
from edition.bench.uses import measure_uses
from edition.console import run_piped
from edition.records.provenance import usable_device
from edition.runs import store_for
from samlib.toy.config import ToyConfig
from samlib.toy.training import best_engine

Command = Callable[[argparse.Namespace], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark and print it; return the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        usable_device(options.device)
        found = options.measure(options)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found) if options.json else options.told(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe all commands."""
    parser = argparse.ArgumentParser(prog="python -m edition.bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    told = "one training step of SGD, SAM, LSAM and other libraries' SAM"
    _add(commands, "step", lambda asked: measure_steps(rounds=asked.rounds, device=asked.device), step_table, told)
    toy = _add(commands, "toy", _toy, table, "the toy engines against a sequential loop of two autograd passes a step")
    toy.add_argument("--threads", type=whole_number, default=1, help="cores that the engines use (1)")
    _add(commands, "limits", lambda asked: measure_limits(), _lines, "what one core reaches with library calls")
    told = "peak memory of a training step of each method"
    memory = _add(commands, "memory", lambda asked: _untimed("memory", measure_memory, asked.record), table, told)
    memory.add_argument("--record", action="store_true", help="write results/uses/memory.json for the page")
    told = "training on photographs, images a second, against a bare PyTorch loop"
    _add(
        commands,
        "photographs",
        lambda asked: measure_photographs(rounds=asked.rounds, device=asked.device),
        table,
        told,
    )
    told = "a search of the lost constants on a Dask cluster of this machine, one worker against two"
    _add(commands, "cluster", lambda asked: measure_cluster(rounds=asked.rounds), table, told)
    told = "which uses of SAM come out right, in ours and other libraries"
    uses = _add(commands, "uses", lambda asked: _untimed("uses", measure_uses, asked.record), table, told)
    uses.add_argument("--record", action="store_true", help="write results/uses/uses.json for the page")
    everything = _add(commands, "all", _all, _lines, "everything that the performance page shows")
    everything.add_argument("--record", action="store_true", help="write results/bench/MACHINE.json for the page")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    measure: Command,
    told: Callable[[Any], str],
    text: str,
) -> argparse.ArgumentParser:
    """Add a command with the options that all share."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(measure=measure, told=told)
    parser.add_argument(
        "--rounds", type=whole_number, default=7, help="interleaved measurements; medians are reported (7)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what is measured (cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _toy(options: argparse.Namespace) -> list[dict[str, Any]]:
    config = ToyConfig(hidden=100, rho=0.5)
    return measure_growth(config, (64,), threads=(options.threads,), device=options.device, rounds=options.rounds)


def _untimed(name: str, measure: Callable[[], list[dict[str, Any]]], record: bool) -> list[dict[str, Any]]:
    """Measure what does not depend on the machine's speed, and record it on demand."""
    begin = time.perf_counter()
    rows = measure()
    if record:
        path = save_untimed(name, rows, store_for("paper"), wall_seconds=time.perf_counter() - begin)
        print(f"written: {path}", file=sys.stderr)
    return rows


def _all(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, and record it on demand."""
    if options.record:
        require_writable(store_for("paper"))
    begin, device, rounds = time.perf_counter(), options.device, options.rounds
    config, fastest = ToyConfig(hidden=100, rho=0.5), best_engine(device)
    measured: dict[str, Any] = {
        "step": measure_steps(rounds=rounds, device=device),
        "step_profile": step_profile(rounds=rounds, device=device),
        "toy": measure_growth(config, (64,), device=device, rounds=rounds),
        "toy_width_50": measure_growth(ToyConfig(hidden=50, rho=0.5), (64,), device=device, rounds=rounds),
        "photographs": measure_photographs(rounds=max(3, rounds // 2), device=device),
        "toy_growth": measure_growth(config, GROWTH, device=device, rounds=max(3, rounds // 2)),
    }
    if device == "cpu":
        limits = measure_limits()
        rate = max(row["steps_per_s"] for row in measured["toy"])
        measured |= {"limits": limits, "limit_share": share_of_limit(rate, limits)}
        measured["toy_cores"] = measure_growth(config, (64,), engines=(fastest,), threads=(1, 2), rounds=rounds)
        measured["cluster"] = measure_cluster()
    if options.record:
        _untimed("uses", measure_uses, record=True)
        _untimed("memory", measure_memory, record=True)
        path = save(measured, store_for("paper"), device=device, wall_seconds=time.perf_counter() - begin)
        print(f"written: {path}", file=sys.stderr)
    return measured


def _lines(found: dict[str, Any]) -> str:
    """One line a number, or a table a benchmark."""
    parts = []
    for name, value in found.items():
        if name == "step":
            parts.append(step_table(value))
        elif isinstance(value, list):
            parts.append(f"{name}\n{table(value)}")
        elif isinstance(value, dict):
            parts.append(f"{name}\n{_lines(value)}")
        else:
            parts.append(f"{name:24} {value:.4g}")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(run_piped(main))
