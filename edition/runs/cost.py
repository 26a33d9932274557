"""What a run is expected to cost, learnt from records of such runs."""

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable

import torch

from edition.records.kinds import KINDS
from edition.records.provenance import device_name
from edition.records.store import Record
from edition.runs.plan import Run
from samlib.config import from_dict

GPU_SPEEDUP = 20  # of a GPU over one core, on networks on images: assumed where no run on one is on record


def work(run: Run) -> float:
    """Return a run's amount of work, in the unit of its kind."""
    return KINDS[run.kind].work(run.config)


class Costs:
    """Expected seconds by run: its work times the median rate of such runs, of this machine's kind if it has any.

    Args:
        records: what was measured before.
        device: "cpu" or "cuda".
    """

    def __init__(self, records: Iterable[Record], device: str) -> None:
        here: dict[Hashable, list[float]] = defaultdict(list)
        here_too = device == "cpu" or torch.cuda.is_available()  # a cluster's GPU may not be here
        name = device_name(device) if here_too else ""
        anywhere: dict[Hashable, list[float]] = defaultdict(list)
        for record in records:
            run = Run(record.kind, from_dict(KINDS[record.kind].config, record.config))
            if "wall_seconds" not in record.provenance:
                continue
            rate = record.provenance["wall_seconds"] / work(run)
            anywhere[_alike(run)].append(rate)
            if record.provenance.get("device") == name:
                here[_alike(run)].append(rate)
        self._rates = {alike: statistics.median(found) for alike, found in {**anywhere, **here}.items()}
        self._seen: dict[Hashable, list[float]] = defaultdict(list)

    def seconds(self, run: Run) -> float:
        return work(run) * self._rates.get(_alike(run), KINDS[run.kind].seconds)

    def knows(self, run: Run) -> bool:
        return _alike(run) in self._rates

    def learn(self, run: Run, seconds: float) -> None:
        """Take a run into account that was just measured: from then on, only such runs count for those like it."""
        self._seen[_alike(run)].append(seconds / work(run))
        self._rates[_alike(run)] = statistics.median(self._seen[_alike(run)])


def expectation(runs: Iterable[Run], records: Iterable[Record]) -> str:
    """Say what the long runs among these are expected to take, on one core and on a GPU; "" where there is none.

    Args:
        runs: to be done.
        records: what was measured before, anywhere.
    """
    long = [run for run in runs if KINDS[run.kind].checkpointed]
    if not long:
        return ""
    by_device: dict[bool, list[Record]] = {False: [], True: []}
    for record in records:
        by_device["core" not in record.provenance.get("device", "core")].append(record)
    core, gpu = Costs(by_device[False], "cpu"), Costs(by_device[True], "cpu")
    seconds = sum(map(core.seconds, long))
    measured = all(map(gpu.knows, long))
    on_gpu = sum(map(gpu.seconds, long)) if measured else seconds / GPU_SPEEDUP
    assumed = "" if measured else f" (assumed {GPU_SPEEDUP} times as fast; no such run on a GPU is on record)"
    count = f"{len(long)} long run{'' if len(long) == 1 else 's'}"
    return f"{count}: about {duration(seconds)} on one core, about {duration(on_gpu)} on a GPU{assumed}"


def duration(seconds: float) -> str:
    """Write a length of time in its largest unit.

    >>> duration(40), duration(600), duration(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _alike(run: Run) -> Hashable:
    """What runs share whose seconds per unit of work are alike."""
    return run.kind, KINDS[run.kind].rate(run.config)
