"""What a run is expected to cost, learnt from records of such runs."""

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable

from edition.records.kinds import KINDS
from edition.records.provenance import device_name
from edition.records.store import Record
from edition.runs.plan import Run
from samlib.config import from_dict


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
        here, name = defaultdict(list), device_name(device)
        anywhere = defaultdict(list)
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
        """Return how long a run is expected to take."""
        return work(run) * self._rates.get(_alike(run), KINDS[run.kind].seconds)

    def learn(self, run: Run, seconds: float) -> None:
        """Take a run into account that was just measured: from then on, only such runs count for those like it."""
        self._seen[_alike(run)].append(seconds / work(run))
        self._rates[_alike(run)] = statistics.median(self._seen[_alike(run)])


def _alike(run: Run) -> Hashable:
    """What runs share whose seconds per unit of work are alike."""
    return run.kind, KINDS[run.kind].rate(run.config)
