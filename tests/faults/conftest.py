"""Fixtures of the fault tests: the store of a sweep that nothing disturbed, made once however many processes test."""

import sys
from pathlib import Path

import filelock
import harness
import pytest
import sweep


def pytest_collection_modifyitems(items):
    """Every test of this folder is slow, and needs Linux's table of processes."""
    for item in items:
        if harness.FOLDER in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc"))


@pytest.fixture(scope="session")
def reference(tmp_path_factory, request) -> Path:
    """The store of an uninterrupted sweep in one process."""
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # under xdist each process has a folder in a common one
        shared = shared.parent
    store, log = shared / "reference", shared / "reference.log"
    with filelock.FileLock(shared / "reference.lock"):
        if not (shared / "reference.done").exists():
            with harness.running(*harness.start(store), folder=shared, name="reference", SWEEP_LOG=str(log)) as process:
                harness.finish(process)
            (shared / "reference.done").touch()
    assert sorted(harness.contents(store)) == sorted(run.name for run in sweep.RUNS)
    assert len(harness.events(log, "save")) == len(sweep.PAIR) * sweep.N_EPOCHS
    return store
