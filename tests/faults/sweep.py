"""The command line on a small sweep of its own, for the fault tests; it notes what is trained.

    python tests/faults/sweep.py runs start --store DIR --workers 2

Environment:
    SWEEP_LOG: file that gets one line an event, "PROCESS begin RUN" or "PROCESS save RUN SHARE"; empty notes nothing.
    SWEEP_DIGEST: what this process says its version of samlib is.
    SWEEP_WAIT: how many seconds a cluster is waited for.
"""

import os
import sys
from typing import Any

from edition import experiments
from edition.experiments import Experiment
from edition.records import checkpoint, kinds, provenance
from edition.runs import Run
from samlib.images.config import PairConfig
from samlib.toy.config import ToyConfig

N_EPOCHS = 12
TOY = [
    ToyConfig(hidden=10, n_steps=300, checkpoints=(0, 300), seeds=(0, 1)).vary(rho=rho, n_train=100, n_test=200)
    for rho in (0.0, 0.5, 1.0)
]
PAIR = [
    PairConfig(
        pair="digits_patches", n_train=80, batch_size=20, n_epochs=N_EPOCHS, n_probe=40, learning_rate=0.02, **own
    )
    for own in ({}, {"rho": 0.05}, {"rho": 0.1, "seed": 1})
]
EXPERIMENTS = {
    "sweep_toy": Experiment("sweep_toy", "toy", "Short trainings", lambda profile: TOY),
    "sweep_pair": Experiment("sweep_pair", "pair", "Trainings with many epochs", lambda profile: PAIR),
}
RUNS = [Run("toy", config) for config in TOY] + [Run("pair", config) for config in PAIR]


def note(*words: object) -> None:
    """Append a line to the log in one system call, so that lines of several processes stay whole."""
    if path := os.environ.get("SWEEP_LOG"):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())
        os.close(handle)


class NotedCheckpoint(checkpoint.Checkpoint):
    """A checkpoint that notes when it is about to save."""

    def __init__(self, path: Any = None, **options: Any) -> None:
        super().__init__(path, **options)
        self._name = path.stem if path else "nothing"

    def save(self, state: dict[str, Any], fraction: float) -> None:
        note("save", self._name, fraction)
        super().save(state, fraction)


def install() -> None:
    """Register the sweep in place of the book's experiments, and have all trainings noted."""
    experiments.EXPERIMENTS.clear()
    experiments.EXPERIMENTS.update(EXPERIMENTS)
    for name, row in kinds.KINDS.items():

        def noted(configs: Any, *rest: Any, name: str = name, train: Any = row.train) -> Any:
            for config in configs:
                note("begin", Run(name, config).name)
            return train(configs, *rest)

        kinds.KINDS[name] = row._replace(train=noted)
    kinds.Checkpoint = NotedCheckpoint
    if digest := os.environ.get("SWEEP_DIGEST"):
        provenance.source_digest = lambda: digest
    if seconds := os.environ.get("SWEEP_WAIT"):
        from edition.runs import cluster

        cluster.CONNECT_SECONDS = cluster.WORKER_WAIT_SECONDS = float(seconds)


def dask_setup(worker: Any) -> None:
    """Prepare a worker of a Dask cluster; `dask worker --preload` calls this."""
    install()


if __name__ in ("__main__", "__mp_main__"):  # the second is what a worker process of the pool calls this file
    install()
if __name__ == "__main__":
    from edition.__main__ import main

    sys.exit(main(sys.argv[1:]))
