"""What the fault tests share: real processes that are always ended, waits with a limit, and what is in a store."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sweep

from edition.records.store import Store

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
LIMIT = 300  # seconds that any wait may take, on a busy machine too


class Process(subprocess.Popen):
    """A process in a group of its own, whose output goes to files."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, name: str, **environment: str) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
        with self.out.open("wb") as out, self.err.open("wb") as err:
            super().__init__(arguments, stdout=out, stderr=err, env=settings, cwd=ROOT, start_new_session=True)

    def told(self) -> str:
        """Everything it has written."""
        return self.out.read_text() + self.err.read_text()


@contextlib.contextmanager
def running(*arguments: str, folder: Path, name: str = "process", **environment: str) -> Iterator[Process]:
    """Start a process; at the end kill it and all processes that it started."""
    process = Process(arguments, folder, name, **environment)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start(store: Path, *options: str) -> list[str]:
    """The command that does the small sweep."""
    command = [sys.executable, str(FOLDER / "sweep.py"), "runs", "start"]
    return [*command, "--store", str(store), "--device", "cpu", *options]


def wait_for(condition: Callable[[], Any], what: str, process: Process | None = None) -> Any:
    """Wait until a condition holds, and return its value; a process that ends before is an error."""
    end = time.monotonic() + LIMIT
    while True:
        over = time.monotonic() > end or (process is not None and process.poll() is not None)
        if value := condition():
            return value
        assert not over, f"waited for {what}, until the process or {LIMIT} s were over\n{process and process.told()}"
        time.sleep(0.02)


def finish(process: Process, status: int = 0) -> str:
    """Wait for the end of a process and return what it has written."""
    wait_for(lambda: process.poll() is not None, "the end", process)
    assert process.returncode == status, process.told()
    return process.told()


def events(log: Path, kind: str | None = None) -> list[list[str]]:
    """The lines of a log as words: process, event, run, and the share done of a save."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [words for words in lines if kind in (None, words[1])]


def repeated(log: Path) -> int:
    """How many epochs were trained more than once, counting each repetition; every epoch was trained."""
    epochs = Counter((run, share) for _, _, run, share in events(log, "save"))
    assert len(epochs) == len(sweep.PAIR) * sweep.N_EPOCHS
    return epochs.total() - len(epochs)


def kill_one_at_work(log: Path, n: int, process: Process) -> int:
    """Wait for n more epochs, then kill the process that trained the last one; return its number."""
    before = len(events(log, "save"))
    wait_for(lambda: len(events(log, "save")) >= before + n, f"{n} more epochs", process)
    worker = int(events(log, "save")[-1][0])
    os.kill(worker, signal.SIGKILL)
    return worker


def contents(root: Path) -> dict[str, Any]:
    """All that a store's records say of their runs, arrays as bytes."""
    found = {}
    for record in Store(root).all():
        arrays = record.arrays() if record.array_names else {}
        plain = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
        found[f"{record.kind}-{record.id}"] = (record.config, record.metrics, plain)
    return found


def files(root: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def assert_complete(root: Path, reference: Path) -> None:
    """Every record is there and equal to the reference's, and nothing else is."""
    assert contents(root) == contents(reference)
    assert files(root) == files(reference)


def survivors(group: int) -> list[str]:
    """The processes of a group that are not dead, from the system's table of processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            # NUMBER (NAME) STATE PARENT GROUP ..., where the name may hold anything.
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(path.parent.name)
    return found
