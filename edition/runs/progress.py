"""Progress for the reader of a terminal: bars by run and in all where there is tqdm and a terminal, else lines."""

import sys
from typing import Any

from edition.runs.work import Job


class Silent:
    """Shows nothing."""

    def begin(self, total: int) -> None:
        """Work begins: `total` runs."""

    def update(self, job: Job, fraction: float) -> None:
        """A job is done to this share."""

    def finish(self, job: Job, text: str) -> None:
        """A job is over; `text` says how."""

    def close(self) -> None:
        """No more work."""


class Lines(Silent):
    """One line a finished job on the standard error, with a count."""

    def __init__(self) -> None:
        self._total = self._count = 0

    def begin(self, total: int) -> None:
        self._total = total

    def finish(self, job: Job, text: str) -> None:
        self._count += len(job.runs)
        print(f"[{self._count}/{self._total}] {label(job)}: {text}", file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar in all, and one for each job under way."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._overall: Any = None
        self._bars: dict[Job, Any] = {}

    def begin(self, total: int) -> None:
        self._overall = self._tqdm(total=total, unit="run", position=0, desc="runs")

    def update(self, job: Job, fraction: float) -> None:
        if job not in self._bars:
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bars[job] = self._tqdm(total=1.0, desc=label(job), leave=False, bar_format=form)
        self._bars[job].update(fraction - self._bars[job].n)

    def finish(self, job: Job, text: str) -> None:
        if job in self._bars:
            self._bars.pop(job).close()
        self._overall.set_postfix_str(f"{label(job)}: {text}", refresh=False)
        self._overall.update(len(job.runs))

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()
        if self._overall is not None:
            self._overall.close()


def terminal_progress() -> Silent:
    """Return bars on a terminal with tqdm installed, lines elsewhere."""
    try:
        from tqdm import tqdm
    except ImportError:
        return Lines()
    return Bars(tqdm) if sys.stderr.isatty() else Lines()


def label(job: Job) -> str:
    """Return a job's name: its first run's, and how many others there are."""
    others = len(job.runs) - 1
    return job.runs[0].name + (f" and {others} more" if others else "")
