"""What a run is expected to cost, learnt from records of such runs."""

import statistics
from collections import defaultdict
from collections.abc import Iterable

from samlib.config import from_dict
from samlib.provenance import device_name
from samlib.records import CONFIGS, Record
from samlib.runs.plan import Run

# Seconds a unit of work where no record tells: one core of an ordinary processor, on the safe side.
SECONDS_PER_UNIT = {"toy": 2e-9, "pair": 5e-4}
# A pair's probes and error measurements, in images trained on.
MEASUREMENT = 20_000


def work(run: Run) -> float:
    """Return a run's amount of work: multiplications of a toy run (about), images passed through a pair's network."""
    config = run.config
    if run.kind == "toy":
        return len(config.seeds) * config.n_steps * (config.batch_size + 2) * (config.hidden + 20) ** 2
    return config.n_images * config.n_epochs * (1 if config.rho == 0 else 2) + MEASUREMENT


class Estimate:
    """Expected seconds by run: its work times the median rate of recorded runs, of this machine's kind if it has any.

    Args:
        records: what was measured before.
        device: "cpu" or "cuda".
    """

    def __init__(self, records: Iterable[Record], device: str) -> None:
        here, name = defaultdict(list), device_name(device)
        anywhere = defaultdict(list)
        for record in records:
            run = Run(record.kind, from_dict(CONFIGS[record.kind], record.config))
            if "wall_seconds" not in record.provenance:
                continue
            rate = record.provenance["wall_seconds"] / work(run)
            anywhere[run.kind].append(rate)
            if record.provenance.get("device") == name:
                here[run.kind].append(rate)
        rates = {kind: statistics.median(found) for kind, found in {**anywhere, **here}.items()}
        self._rates = SECONDS_PER_UNIT | rates
        self._seen: dict[str, list[float]] = defaultdict(list)

    def seconds(self, run: Run) -> float:
        """Return how long a run is expected to take."""
        return work(run) * self._rates[run.kind]

    def learn(self, run: Run, seconds: float) -> None:
        """Take a run into account that was just measured: from then on, only such runs count for its kind."""
        self._seen[run.kind].append(seconds / work(run))
        self._rates[run.kind] = statistics.median(self._seen[run.kind])
