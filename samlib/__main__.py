"""The command line: `python -m samlib runs list|start|status`."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from samlib import runs
from samlib.config import check_choice
from samlib.experiments import EXPERIMENTS, PROFILES, experiment
from samlib.records import RecordError

app = typer.Typer(no_args_is_help=True, help="The runs behind the book.", pretty_exceptions_enable=False)
runs_app = typer.Typer(no_args_is_help=True, help="Which runs have records, and doing those that have none.")
app.add_typer(runs_app, name="runs")

ExperimentOption = Annotated[str | None, typer.Option(help="One experiment; all where it is left out.")]
ProfileOption = Annotated[str, typer.Option(help="paper, quick or smoke.")]


def _needed(name: str | None, profile: str) -> dict[str, list[runs.Run]]:
    """Runs by experiment; the options are checked here."""
    try:
        check_choice("profile", profile, PROFILES)
        chosen = [experiment(name)] if name else list(EXPERIMENTS.values())
        return {item.name: runs.needed([item], profile) for item in chosen}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@runs_app.command("list")
def list_runs(experiment: ExperimentOption = None, profile: ProfileOption = "paper") -> None:
    """Show every run: experiment, state, record file, configuration."""
    store = runs.store_for(profile)
    for name, items in _needed(experiment, profile).items():
        for run in items:
            path = store.path(run.kind, run.config)
            typer.echo(f"{name:24} {'recorded' if path.exists() else 'pending':9} {path.name} {run.config}")


@runs_app.command("status")
def status(
    experiment: ExperimentOption = None,
    profile: ProfileOption = "paper",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count recorded and pending runs, in all and by experiment."""
    store = runs.store_for(profile)
    counts = {}
    for name, items in _needed(experiment, profile).items():
        try:
            waiting = len(runs.pending(items, store))
        except RecordError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        counts[name] = {"recorded": len(items) - waiting, "pending": waiting}
    total = dict(sum((Counter(count) for count in counts.values()), Counter({"recorded": 0, "pending": 0})))
    total = {key: total.get(key, 0) for key in ("recorded", "pending")}
    if as_json:
        typer.echo(json.dumps(total | {"experiments": counts}))
        return
    for name, count in (*counts.items(), ("in all", total)):
        typer.echo(f"{name:24} {count['recorded']:5} recorded {count['pending']:5} pending")


@runs_app.command("start")
def start(
    experiment: ExperimentOption = None,
    profile: ProfileOption = "paper",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes, one thread each.", min=1)] = 1,
    data_root: Annotated[Path | None, typer.Option(envvar="SAMLIB_DATA", help="Folder of the real data.")] = None,
) -> None:
    """Do every pending run and write its record."""
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise typer.BadParameter(f"device: expected auto, cpu, or cuda where there is one, got {device}; use auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    store = runs.store_for(profile)
    items = runs.unique(run for part in _needed(experiment, profile).values() for run in part)
    try:
        waiting = runs.pending(items, store)
        with tqdm(total=len(waiting), unit="run") as bar:
            for finished in runs.start(waiting, store, device=device, data_root=data_root, workers=workers):
                bar.update(finished)
    except (RecordError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
