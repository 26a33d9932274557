"""Kill a sweep of two tiny runs before each of its operations on files in turn, and resume it: for test_kills.py.

Processes are forked from this one, since importing takes seconds and there are dozens of moments. Prints what is
wrong after a resumed sweep, by the operation before which it was killed.
"""

import functools
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import sweep

from edition.records import kinds
from edition.records.store import Store
from edition.runs import start
from samlib.toy.training import best_engine

OPERATIONS = ("mkdir", "open", "fsync", "chmod", "replace", "link", "unlink")
RUNS = [sweep.RUNS[1], sweep.RUNS[-1]]  # one that keeps arrays, one that saves its state


def forked(work: Callable[[], object]) -> int:
    """Do something in a child process; return what `os.waitpid` says of its end."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


class Torn(io.BufferedWriter):
    """A file whose first write may be the last thing that its process does, and is then half done."""

    fatal: Callable[[], bool] | None = None

    def write(self, data: Any) -> int:
        if self.fatal and self.fatal():
            super().write(data[: len(data) // 2])
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.fatal = None
        return super().write(data)


def three_epochs(configs: Any, work: kinds.Work, report: kinds.Report) -> kinds.Trained:
    """Train nothing, quickly, but save the state after each epoch as a long run does."""
    checkpoint = kinds.Checkpoint(work.checkpoint, device=work.device, report=report)
    state = checkpoint.load() or {"epochs": []}
    for epoch in range(len(state["epochs"]), 3):
        state["epochs"].append(epoch)
        checkpoint.save(state, (epoch + 1) / 3)
    return kinds.Trained("none", [(state, {})], checkpoint.seconds)


def sweep_until(store: Path, fatal: int | None) -> None:
    """Do the runs; die before operation number `fatal`."""
    count = itertools.count()

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def call(*arguments: Any, **options: Any) -> Any:
            if next(count) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    plain_open = io.open

    def opened(*arguments: Any, **options: Any) -> Any:
        file = plain_open(*arguments, **options)
        if isinstance(file, io.BufferedWriter):
            file = Torn(file.detach())
            file.fatal = lambda: next(count) == fatal
        return file

    io.open = opened
    start(RUNS, Store(store))


def main(root: Path) -> None:
    """Kill before operation 0, 1, ... until a sweep comes to its end; tell what was wrong after resuming each."""
    kinds.KINDS["pair"] = kinds.KINDS["pair"]._replace(train=three_epochs)
    best_engine("cpu")  # imports what it chooses from
    assert forked(lambda: sweep_until(root / "reference", None)) == 0, "the sweep fails without a kill"
    expected, expected_files = harness.contents(root / "reference"), harness.files(root / "reference")
    problems = []
    for fatal in itertools.count():
        store = root / str(fatal)
        status = forked(functools.partial(sweep_until, store, fatal))
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or forked(functools.partial(sweep_until, store, None)) != 0:
            problems.append(f"{fatal}: it failed")
        elif harness.contents(store) != expected:
            problems.append(f"{fatal}: other records")
        elif harness.files(store) != expected_files:
            problems.append(f"{fatal}: {sorted(set(harness.files(store)) ^ set(expected_files))}")
    print(f"{fatal} moments; problems: {problems or 'none'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
