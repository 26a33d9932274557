"""The command line: `python -m edition runs list|start|status|verify` and `python -m edition claims`.

argparse, since runs are also done on machines that have torch and little else.
"""

import argparse
import json
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from edition import runs
from edition.arguments import whole_number
from edition.claims.rules import STATES
from edition.console import run_piped
from edition.experiments import EXPERIMENTS, PROFILES
from edition.records.provenance import usable_device
from edition.records.store import RecordError, Store
from edition.runs.backends import Backend, InProcess, Pool
from edition.runs.cost import Costs, expectation
from edition.runs.plan import Run, needed, soonest_first, states, unique
from edition.runs.progress import terminal_progress
from edition.runs.schedule import Summary, start
from edition.runs.verify import choose, difference_table, verify
from samlib.data_root import data_root

RUN_STATES = ("recorded", "pending", "stale")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 something failed, with a message on the standard error).

    Args:
        arguments: as on the command line; None takes the process's own.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # as runs have it, so that estimates rest on this machine's records
    try:
        status: int = options.command(options)
        return status
    except BrokenPipeError:
        raise
    except (RecordError, ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what is recorded stays, long runs go on from their last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edition", description="The runs behind the book, and its claims.")
    areas = parser.add_subparsers(required=True, metavar="AREA")
    area = areas.add_parser("runs", help="which runs have records, and doing those that have none")
    commands = area.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "list", _list, "show every run: experiment, state, record, expected seconds, configuration", None)
    status = _add(commands, "status", _status, "count recorded, pending and stale runs", None)
    status.add_argument("--json", action="store_true", help="print one JSON object")
    begin = _add(commands, "start", _start, "do every pending run and record it", "paper")
    _add_machine(begin)
    begin.add_argument(
        "--budget", type=_seconds, metavar="SECONDS", help="begin nothing that would not end in time; long runs resume"
    )
    check = _add(commands, "verify", _verify, "do recorded runs again and compare them", "paper")
    _add_machine(check)
    check.add_argument("--sample", type=whole_number, metavar="N", help="this many runs, drawn at random (all)")
    check.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    _add_claims(areas)
    return parser


def _add_claims(areas: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "print every claim with its statistic, value, interval and verdict, computed from records"
    parser = areas.add_parser("claims", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(command=_claims)
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")
    profiles = f"whose records: one of {', '.join(PROFILES)} (paper)"
    parser.add_argument("--profile", choices=PROFILES, default="paper", metavar="P", help=profiles)
    told = f"only these: one of {', '.join(STATES)}; a hyphen may stand for the blank (all)"
    parser.add_argument("--state", type=lambda text: text.replace("-", " "), choices=STATES, metavar="S", help=told)


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
    profile: str | None,
) -> argparse.ArgumentParser:
    """Add a command with the options that all share."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(command=command)
    names = f"one of {', '.join(EXPERIMENTS)}; may be repeated (all)"
    parser.add_argument("--experiment", choices=EXPERIMENTS, action="append", metavar="E", help=names)
    profiles = f"one of {', '.join(PROFILES)} ({profile or 'all'})"
    parser.add_argument("--profile", choices=PROFILES, default=profile, metavar="P", help=profiles)
    store = "folder of the records (results/, results/local/); settings that runs choose are read from results/"
    parser.add_argument("--store", type=_folder, metavar="DIR", help=store)
    device = "where runs are done and costs estimated: auto, cpu or cuda (auto: cuda where there is one)"
    parser.add_argument("--device", type=_device, default="auto", metavar="D", help=device)
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who does the work."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=whole_number, default=1, metavar="N", help="processes, one thread each (1)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do it: tcp://HOST:PORT")
    parser.add_argument(
        "--data-root", type=data_root, default=data_root(), metavar="DIR", help="real data ($SAMLIB_DATA)"
    )


def _list(options: argparse.Namespace) -> int:
    for profile in [options.profile] if options.profile else PROFILES:
        store = _store(options, profile)
        costs = Costs(store.all(), options.device)
        for name, items in _needed(options, profile).items():
            for run, state in states(items, store).items():
                seconds = f"{costs.seconds(run):8.1f} s"
                print(f"{profile:6} {name:30} {state:9} {run.name:18} {seconds}  {run.changes}")
    return 0


def _status(options: argparse.Namespace) -> int:
    found: dict[str, Any] = {}
    for profile in [options.profile] if options.profile else PROFILES:
        store, parts = _store(options, profile), _needed(options, profile)
        by_run = states(unique(run for items in parts.values() for run in items), store)
        experiments: dict[str, dict[str, Any]] = {}
        for name, items in parts.items():
            waits = {"waits_for": EXPERIMENTS[name].waits_for} if EXPERIMENTS[name].waits_for and not items else {}
            experiments[name] = _counts(by_run[run] for run in items) | waits
        found[profile] = _counts(by_run.values()) | {"experiments": experiments}
    total = {state: sum(profile[state] for profile in found.values()) for state in RUN_STATES}
    if options.json:
        print(json.dumps(total | {"profiles": found}))
        return 0
    for profile, counts in found.items():
        for name, count in (*counts["experiments"].items(), ("in all", counts)):
            told = f"  waits for {count['waits_for']}" if "waits_for" in count else ""
            print(f"{profile:6} {name:30} " + " ".join(f"{count[state]:5} {state}" for state in RUN_STATES) + told)
    return 0


def _start(options: argparse.Namespace) -> int:
    for chosen in (EXPERIMENTS[name] for name in options.experiment or ()):
        if options.profile == "paper" and chosen.waiting:
            raise ValueError(
                f"{chosen.name}: expected every run of {chosen.waits_for} on record in results/, whose validation "
                "errors choose the settings, got less; do those first: "
                f"`python -m edition runs start --experiment {chosen.waits_for}`"
            )
    store = _store(options, options.profile)
    records = list(store.all())
    costs = Costs(records, options.device)
    parts = [runs.pending(items, store) for items in _needed(options, options.profile).values()]
    if told := expectation(unique(run for part in parts for run in part), records):
        print(told, flush=True)
    summary = start(
        soonest_first(parts, costs.seconds),
        store,
        device=options.device,
        data_root=options.data_root,
        backend=_backend(options),
        budget=options.budget,
        progress=terminal_progress(),
        costs=costs,
    )
    return _tell(summary)


def _tell(summary: Summary) -> int:
    """Print what was done and what was not; return the exit status."""
    words = {
        "recorded": "recorded",
        "stopped": "stopped at the time limit, to be resumed",
        "over_budget": "left for a larger budget",
        "elsewhere": "done by another process",
    }
    counts = {text: len(getattr(summary, name)) for name, text in words.items()}
    print(", ".join(f"{count} {text}" for text, count in counts.items() if count) or "nothing to do")
    for name, error in summary.failed.items():
        print(f"error: {name}: {error}", file=sys.stderr)
    return 1 if summary.failed else 0


def _verify(options: argparse.Namespace) -> int:
    store = _store(options, options.profile)
    items = unique(run for part in _needed(options, options.profile).values() for run in part)
    recorded = [run for run, state in states(items, store).items() if state == "recorded"]
    if not recorded:
        named = "".join(f" --experiment {name}" for name in options.experiment or ())
        where = shlex.quote(str(store.root))
        command = f"python -m edition runs start --profile {options.profile}{named} --store {where}"
        raise ValueError(f"{store.root}: expected records to verify, found none; do the runs first: `{command}`")
    chosen = choose(recorded, options.sample, options.seed)
    found, failed = verify(
        chosen,
        store,
        device=options.device,
        data_root=options.data_root,
        backend=_backend(options),
        progress=terminal_progress(),
    )
    for name, error in failed.items():
        print(f"error: {name}: {error}", file=sys.stderr)
    if found:
        print(difference_table(found))
    n_equal = len(chosen) - len(failed) - len({difference.run for difference in found})
    print(f"{n_equal} of {len(chosen)} runs as recorded")
    return 1 if found or failed else 0


def _claims(options: argparse.Namespace) -> int:
    from edition.claims import ledger  # reads arrays and tables, which doing runs does not need

    rows = ledger.ledger(options.profile)
    chosen = [row for row in rows if options.state in (None, row.verdict.state)]
    print(
        json.dumps([row.values() for row in chosen], indent=1, allow_nan=False) if options.json else ledger.text(chosen)
    )
    return 0


def _needed(options: argparse.Namespace, profile: str) -> dict[str, list[Run]]:
    chosen = [EXPERIMENTS[name] for name in options.experiment] if options.experiment else EXPERIMENTS.values()
    return {item.name: needed([item], profile) for item in chosen}


def _store(options: argparse.Namespace, profile: str) -> Store:
    """Where the records of a profile are; only `start` makes a folder that is not there."""
    if options.store and options.command is not _start and not options.store.is_dir():
        raise ValueError(f"--store: expected a folder of records, found none at {options.store}; correct the path")
    return Store(options.store) if options.store else runs.store_for(profile)


def _backend(options: argparse.Namespace) -> Backend:
    if options.scheduler:
        from edition.runs.cluster import Cluster

        return Cluster(options.scheduler)
    usable_device(options.device)
    return Pool(options.workers) if options.workers > 1 else InProcess()


def _counts(found: Iterable[str]) -> dict[str, int]:
    counted = Counter(found)
    return {state: counted[state] for state in RUN_STATES}


def _device(text: str) -> str:
    """Read a device, which may be on the machines of a cluster."""
    if text == "auto":
        return usable_device(text)
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected auto, cpu or cuda, got {text!r}")
    return text


def _folder(text: str) -> Path:
    """Read a folder; a leading ~ is the reader's home, which shells do not put behind an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got nothing; name one, or leave the option out")
    return Path(text).expanduser()


def _seconds(text: str) -> float:
    """Read a positive number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(run_piped(main))
