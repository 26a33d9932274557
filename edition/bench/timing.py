"""Compare how long methods take on a machine that does other things too: in turns, and with the spread."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from samlib.config import check_number
from samlib.streams import stream

Work = Callable[[], object]


def interleave(
    works: Mapping[str, Work], *, rounds: int, seconds: float = 0.0015, device: str = "cpu"
) -> dict[str, list[float]]:
    """Time every piece of work once a round, in an order drawn anew each round.

    What slows the machine for longer than a round (another process, heat) slows all works alike, so ratios of one
    round are fairer than ratios of medians; no work always follows the same other one. A measurement is short, so
    that it seldom meets a change of process. Python's garbage collection waits until the end of a round.

    Args:
        works: name -> what to time.
        rounds: measurements of each.
        seconds: about how long one measurement takes, at least one call. All works' are equally long, because the
            longer one is, the more often something else comes between. As many uncounted calls come first: another
            work has left its own data in the caches.
        device: where the work runs; see `clock`.
    Returns:
        Name -> seconds a call, one number a round, in the rounds' order.

    >>> {name: len(times) for name, times in interleave({"a": int, "b": dict}, rounds=3).items()}
    {'a': 3, 'b': 3}
    """
    check_number("rounds", rounds, low=1, integer=True)
    names, generator, now = list(works), stream(0, "timing order"), clock(device)
    calls = {}
    for name, work in works.items():
        shortest = min(_seconds(work, 1, now) for _ in range(3))  # the first call warms up
        calls[name] = max(1, round(seconds / max(shortest, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for index in torch.randperm(len(names), generator=generator).tolist():
                name = names[index]
                _seconds(works[name], calls[name], now)
                times[name].append(_seconds(works[name], calls[name], now))
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    return times


def ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Divide two works' times round by round.

    >>> ratios([2.0, 6.0], [1.0, 2.0])
    [2.0, 3.0]
    """
    return [time_ / other for time_, other in zip(times, reference, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; half of all values lie between the outer two.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def clock(device: str) -> Callable[[], float]:
    """Return the clock for work on a device, in seconds.

    "cuda": the wall's, read once the GPU is done. On the CPU with one thread: the process's own, which stands still
    while another process has the core, and otherwise agrees with the wall's. With more threads: the wall's.
    """
    if device.startswith("cuda"):
        return _waiting_clock
    precise = time.get_clock_info("process_time").resolution < 1e-6
    return time.process_time if precise and torch.get_num_threads() == 1 else time.perf_counter


def _waiting_clock() -> float:
    """Read the clock once the GPU is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def _seconds(work: Work, calls: int, now: Callable[[], float]) -> float:
    """Seconds a call."""
    begin = now()
    for _ in range(calls):
        work()
    return (now() - begin) / calls
