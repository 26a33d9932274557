"""The toy engines against a plain loop over single networks."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from samlib.toy.config import Intervention, ToyConfig
from samlib.toy.network import DisentangledNetwork, initial_weights
from samlib.toy.reference import lsam_step
from samlib.toy.training import best_engine, make_engine, stack_examples

Rate = Callable[[], float]
GROWTH = (1, 4, 16, 64, 256, 1024)


def measure_growth(
    config: ToyConfig,
    members: Sequence[int] = GROWTH,
    *,
    engines: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    device: str = "cpu",
    rounds: int = 5,
    seconds: float = 0.2,
) -> list[dict[str, Any]]:
    """Measure how the engines' rates grow with the number of members, always beside the sequential loop.

    Args:
        config: width and radius; its seeds are replaced by 0, 1, ..., one a member.
        members: numbers of members.
        engines: some of `samlib.toy.training.ENGINES`; none stands for the batched engine and the device's fastest.
        threads: numbers of CPU cores to measure every engine with.
        device: where the engines run; the loop runs on one CPU core.
        rounds: measurements of each; medians are returned.
        seconds: about how long one measurement takes, one epoch at least.
    Returns:
        For each number of members, engine and number of threads: these, device, width, steps_per_s (model-steps of
        all members together) and ratio (median over the rounds, each against that round's loop).
    """
    names = tuple(engines) or tuple(dict.fromkeys(("batched", best_engine(device))))
    found = []
    for n in members:
        sized = dataclasses.replace(config, seeds=tuple(range(n)))
        kinds = [(name, cores) for name in names for cores in threads]
        works = [_engine(sized, device, name, cores, seconds) for name, cores in kinds]
        works.insert(0, _loop(sized, seconds))
        # Every work once a round, in turn, so that what disturbs the machine disturbs all.
        loop, *rates = zip(*([work() for work in works] for _ in range(rounds)), strict=True)
        for (name, cores), measured in zip(kinds, rates, strict=True):
            row = {"device": device, "engine": name, "threads": cores, "members": n, "width": config.hidden}
            ratio = statistics.median(fast / slow for fast, slow in zip(measured, loop, strict=True))
            found.append(row | {"steps_per_s": statistics.median(measured), "ratio": ratio})
    return found


def _loop(config: ToyConfig, seconds: float) -> Rate:
    """The sequential loop's model-steps a second, on one core."""
    step = _sequential_step(config)

    def measure() -> float:
        with cores(1):
            return rate(step, seconds)

    return measure


def _engine(config: ToyConfig, device: str, engine: str, threads: int, seconds: float) -> Rate:
    """An engine's model-steps a second; it compiles here, untimed."""
    epoch = _engine_epoch(config, device, engine, threads)
    steps = len(config.seeds) * (config.data.n_train // config.batch_size)
    epoch()

    def measure() -> float:
        with cores(threads):
            return steps * rate(epoch, seconds, calls=1, synchronize=device == "cuda")

    return measure


@contextlib.contextmanager
def cores(threads: int) -> Iterator[None]:
    """Let torch use so many threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sequential_step(config: ToyConfig) -> Callable[[], object]:
    """One step of one network after the other, autograd, single precision."""
    seeds = config.seeds[:8]
    networks = [
        DisentangledNetwork(hidden=config.hidden, last_layer_init=config.last_layer_init, seed=seed).float()
        for seed in seeds
    ]
    data = stack_examples([(config, seed) for seed in seeds], "train", like=networks[0].v)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn = (turn + 1) % len(networks)
        inputs, labels = (part[turn, : config.batch_size] for part in data)
        lsam_step(networks[turn], inputs, labels, rho=config.rho, learning_rate=config.learning_rate)

    return step


def _engine_epoch(config: ToyConfig, device: str, engine: str, threads: int) -> Callable[[], object]:
    """One epoch of all networks together."""
    n, batch = len(config.seeds), config.batch_size
    weights = initial_weights(list(config.seeds), hidden=config.hidden, last_layer_init=[2.0] * n)
    settings: dict[str, Any] = {"learning_rate": [config.learning_rate] * n, "rho": [config.rho] * n}
    settings |= {"interventions": [Intervention()] * n, "batch_size": batch}
    settings |= {"threads": threads} if engine == "compiled" else {}
    ensemble = make_engine(engine, weights, device=device, **settings)
    data = stack_examples([(config, seed) for seed in config.seeds], "train", like=ensemble.weights.v)
    per_epoch = config.data.n_train // batch
    used = per_epoch * batch
    x = data.inputs[:, :used].reshape(n, per_epoch, batch, 2, 2).permute(1, 0, 3, 2, 4).contiguous()
    y = data.labels[:, :used].reshape(n, per_epoch, batch).transpose(0, 1).contiguous()
    return lambda: ensemble.run(x, y)


def rate(step: Callable[[], object], seconds: float, *, calls: int = 20, synchronize: bool = False) -> float:
    """Return calls a second, over about the given time, after a warm-up; the clock is read every `calls` calls.

    Args:
        step: what to call.
        seconds: about how long to measure.
        calls: calls between two looks at the clock, so that looking costs nothing.
        synchronize: wait for the GPU before the clock is read.
    """
    step()
    if synchronize:
        torch.cuda.synchronize()
    count, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for _ in range(calls):
            step()
        if synchronize:
            torch.cuda.synchronize()
        count += calls
    return count / elapsed
