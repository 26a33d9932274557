"""Locks on runs, so that two processes never do the same one; the system drops them when a process dies."""

import contextlib
import re
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from edition.records.kinds import KINDS
from edition.records.store import RecordError, Store
from edition.runs.plan import Run
from samlib.files import NOT_OFFERED, remove_leftovers

_NAME = re.compile(f"({'|'.join(KINDS)})-[0-9a-f]{{12}}")


class Locks:
    """The runs that this process may do, by one lock file each in the store's work folder.

    Args:
        store: whose runs are locked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[Run, BaseFileLock] = {}

    def take(self, run: Run) -> bool:
        """Lock a run; False if another process has it, or has made its record meanwhile.

        Side effects:
            Removes what a killed writer of the run's record left.
        Raises:
            RecordError: the store is not writable, or the disk is full.
        """
        folder = self._store.work
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _acquire(folder / f"{run.name}.lock")
        except Timeout:
            return False
        except OSError as error:
            raise RecordError(
                f"{folder}: expected to claim a run there, got {error}; make the folder writable, free some "
                f"space, or name another folder (--store; SAMLIB_RESULTS for reduced profiles). Every record is intact"
            ) from error
        self._held[run] = lock
        path = self._store.path(run.kind, run.config)
        if path.exists():
            self.drop(run)
            return False
        remove_leftovers(path)
        remove_leftovers(path.with_suffix(".npz"))
        return True

    def drop(self, run: Run) -> None:
        """Give a lock up; with the record there, nobody needs the lock file any more."""
        lock = self._held.pop(run)
        if self._store.path(run.kind, run.config).exists():
            (self._store.work / f"{run.name}.lock").unlink(missing_ok=True)  # who waits for it looks again
        lock.release()

    def drop_all(self) -> None:
        for run in list(self._held):
            self.drop(run)

    def tidy(self) -> None:
        """Remove what processes left that were killed between writing a record and giving its lock up.

        Everything in the work folder has the name of a run in it; a group's checkpoint that of its first.
        """
        work = self._store.work
        names = {match[0] for path in work.glob("*") if (match := _NAME.search(path.name))}
        for name in names:
            record = self._store.root / name.replace("-", "/", 1)
            if record.with_suffix(".json").exists():
                with contextlib.suppress(OSError), _acquire(work / f"{name}.lock"):
                    for suffix in (".json", ".npz"):
                        remove_leftovers(record.with_suffix(suffix))
                    for path in work.glob(f"*{name}*"):
                        path.unlink(missing_ok=True)


def _acquire(path: Path) -> BaseFileLock:
    """Take a lock at once; where the file system has none, a file that only one process can create stands for it.

    That file names its process, so that the next one on the same machine can tell and take over from one that died.

    Raises:
        Timeout: another process has it.
        OSError: the folder is not writable, or the disk is full.
    """
    lock: BaseFileLock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        lock = SoftFileLock(path.with_suffix(".held"), timeout=0, thread_local=False)
        lock.acquire()
    return lock
