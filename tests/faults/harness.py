"""What the fault tests share: real processes that are always ended, waits with a limit, and what is in a store."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edition.records.store import Store

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
LIMIT = 300  # seconds that any wait may take, on a busy machine too


class Process(subprocess.Popen):
    """A process in a group of its own, whose output goes to files."""

    def __init__(self, arguments: list[str], folder: Path, name: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            super().__init__(
                arguments, stdout=out, stderr=err, env={**os.environ, **settings}, cwd=ROOT, start_new_session=True
            )

    def told(self) -> str:
        """Everything it has written."""
        return self.out.read_text() + self.err.read_text()


@contextlib.contextmanager
def running(*arguments: str, folder: Path, name: str = "process", **environment: str) -> Iterator[Process]:
    """Start a process; at the end kill it and all processes that it started."""
    process = Process(list(arguments), folder, name, **environment)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sweep(*arguments: str) -> list[str]:
    """The command line of the small sweep."""
    return [sys.executable, str(FOLDER / "sweep.py"), *arguments]


def start(store: Path, *options: str) -> list[str]:
    """The command that does the sweep."""
    return sweep("runs", "start", "--store", str(store), "--device", "cpu", *options)


def finish(process: Process, status: int = 0) -> str:
    """Wait for the end of a process and return what it has written."""
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"expected an end within {LIMIT} s; so far it says:\n{process.told()}") from error
    assert process.returncode == status, process.told()
    return process.told()


def wait_for(condition: Callable[[], Any], what: str, process: Process | None = None) -> Any:
    """Wait until a condition holds, and return its value; a process that ends before is an error."""
    end = time.monotonic() + LIMIT
    while not (value := condition()):
        ended = process is not None and process.poll() is not None and not (value := condition())
        if ended or time.monotonic() > end:
            told = process.told() if process else ""
            raise AssertionError(f"waited for {what}: {'the process ended' if ended else f'{LIMIT} s'}\n{told}")
        if value:
            break
        time.sleep(0.02)
    return value


def events(log: Path, kind: str | None = None) -> list[list[str]]:
    """The lines of a log as words: process, event, run, and the share done of a save."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [words for words in lines if kind in (None, words[1])]


def contents(root: Path) -> dict[str, Any]:
    """All that a store's records say of their runs, arrays as bytes; every checksum is looked at."""
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
