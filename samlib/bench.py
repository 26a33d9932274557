"""Benchmarks: `python -m samlib.bench toy` measures the toy engine against a plain loop, in one run.

Nothing here is a test: a rate belongs to one machine and one moment, and only ratios from one run are quoted.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from samlib.config import check_choice
from samlib.provenance import device_name
from samlib.toy.compiled import CompiledEnsemble, available
from samlib.toy.config import Intervention, ToyConfig
from samlib.toy.engine import Ensemble
from samlib.toy.network import DisentangledNetwork, Weights, initial_weights
from samlib.toy.reference import lsam_step
from samlib.toy.training import stack_examples

app = typer.Typer(no_args_is_help=True, help="Measure rates on this machine; compare only numbers of one run.")


@app.callback()
def _group() -> None:
    """Measure rates on this machine; compare only numbers of one run."""


@app.command()
def toy(
    members: Annotated[int, typer.Option(help="Networks trained together.", min=1)] = 64,
    width: Annotated[int, typer.Option(help="Hidden units a layer.", min=1)] = 100,
    rounds: Annotated[int, typer.Option(help="Interleaved measurements; medians are reported.", min=1)] = 7,
    device: Annotated[str, typer.Option(help="Where the engine runs: cpu or cuda.")] = "cpu",
    engine: Annotated[str, typer.Option(help="batched, compiled (cpu, needs numba), or auto: the faster.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the engine with a sequential autograd loop of two passes a step, one thread, batch size 5, LSAM."""
    torch.set_num_threads(1)
    config = ToyConfig(hidden=width, rho=0.5, seeds=tuple(range(members)))
    if engine == "auto":
        engine = "compiled" if device == "cpu" and available() else "batched"
    result = measure_toy(config, rounds=rounds, device=device, engine=engine)
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(f"{members} members of width {width}, batch 5, LSAM; {device_name(device)}")
    typer.echo(f"sequential loop {result['sequential_steps_per_s']:12,.0f} model-steps/s")
    typer.echo(f"{engine + ' engine':15} {result['engine_steps_per_s']:12,.0f} model-steps/s")
    typer.echo(f"ratio           {result['ratio']:12.1f}")


def measure_toy(
    config: ToyConfig, *, rounds: int, device: str = "cpu", engine: str = "batched", seconds: float = 0.5
) -> dict[str, float]:
    """Measure model-steps a second of the sequential loop and of the engine, alternating between them.

    Args:
        config: width, radius and seeds (one member each).
        rounds: measurements of each; medians are returned.
        device: where the engine runs; the loop runs on the CPU.
        engine: "batched" (`Ensemble`) or "compiled" (`CompiledEnsemble`, on the CPU).
        seconds: about how long one measurement takes.
    Returns:
        `sequential_steps_per_s`, `engine_steps_per_s` and `ratio`, the second over the first.
    """
    members = [(config, seed) for seed in config.seeds]
    loop, batched = _sequential_step(members), _engine_step(members, device, engine)
    slow, fast = [], []
    for _ in range(rounds):
        slow.append(_rate(loop, seconds))
        epochs = _rate(batched, seconds, calls=1, synchronize=device == "cuda")
        fast.append(epochs * len(members) * config.data.n_train // config.batch_size)
    sequential, together = statistics.median(slow), statistics.median(fast)
    return {"sequential_steps_per_s": sequential, "engine_steps_per_s": together, "ratio": together / sequential}


def _sequential_step(members: list[tuple[ToyConfig, int]]) -> Callable[[], object]:
    """One step of one network after the other, autograd, single precision."""
    config, _ = members[0]
    networks = [
        DisentangledNetwork(hidden=config.hidden, last_layer_init=config.last_layer_init, seed=seed).float()
        for _, seed in members[:8]
    ]
    data = stack_examples(members[:8], "train", like=networks[0].v)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn = (turn + 1) % len(networks)
        inputs, labels = (part[turn, : config.batch_size] for part in data)
        lsam_step(networks[turn], inputs, labels, rho=config.rho, learning_rate=config.learning_rate)

    return step


def _engine_step(members: list[tuple[ToyConfig, int]], device: str, engine: str) -> Callable[[], object]:
    """One epoch of all networks together."""
    check_choice("engine", engine, ("batched", "compiled"))
    if engine == "compiled" and device != "cpu":
        raise ValueError(f"device: expected 'cpu' with the compiled engine, got {device!r}; use the batched engine")
    config, _ = members[0]
    n = len(members)
    weights = initial_weights([seed for _, seed in members], hidden=config.hidden, last_layer_init=[2.0] * n)
    kind = functools.partial(Ensemble, device=device) if engine == "batched" else CompiledEnsemble
    ensemble = kind(
        Weights(*(part.float() for part in weights)),
        learning_rate=[config.learning_rate] * n,
        rho=[config.rho] * n,
        interventions=[Intervention()] * n,
        batch_size=config.batch_size,
    )
    data = stack_examples(members, "train", like=ensemble.weights.v)
    per_epoch = config.data.n_train // config.batch_size
    x = data.inputs.view(n, per_epoch, config.batch_size, 2, 2).permute(1, 0, 3, 2, 4).contiguous()
    y = data.labels.view(n, per_epoch, config.batch_size).transpose(0, 1).contiguous()
    return lambda: ensemble.run(x, y)


def _rate(step: Callable[[], object], seconds: float, *, calls: int = 20, synchronize: bool = False) -> float:
    """Calls a second, over about the given time, after a warm-up; the clock is read every `calls` calls."""
    step()
    count, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for _ in range(calls):
            step()
        if synchronize:
            torch.cuda.synchronize()
        count += calls
    return count / elapsed


if __name__ == "__main__":
    app()
