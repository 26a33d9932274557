"""The annotated photographs of chapters 1 and 4: what is run on each set."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from edition.experiments.tuned import EQUAL_BUDGET, Configs, OnRecord, Tuned
from samlib.images.config import FinetuneConfig

# The paper's grids (Appendix B), middle values first.
LEARNING_RATES = (0.005, 0.001, 0.01, 0.0005)
RADII = (0.0, 0.05, 0.02, 0.01, 0.07)
# What two processor cores can do: the last dense block on stored activations, fewer epochs; for CelebA fewer images at
# 64 pixels, drawn anew where the official test split has few blond men, as in a subset.
WATERBIRDS = FinetuneConfig(
    image_set="waterbirds", stored_size=110, image_size=96, trained="last block", weight_decay=1e-3, n_epochs=10
)
CELEBA = FinetuneConfig(
    image_set="celeba",
    stored_size=64,
    image_size=64,
    trained="last block",
    split="drawn",
    n_train=8000,
    per_group=500,
    n_epochs=10,
)
GRID_EPOCHS = 2
# The radius of the equal budget is the default of Foret et al. (2020), fixed before the grids were run.
RADIUS = 0.05
SELECTED = {
    "waterbirds": {"SGD": (0.005, 0.0), "SAM": (0.01, 0.07), EQUAL_BUDGET: (0.01, RADIUS)},
    "celeba": {"SGD": (0.01, 0.0), "SAM": (0.01, 0.01), EQUAL_BUDGET: (0.01, RADIUS)},
}
# Importance weights are kept after these shares of the epochs.
IMPORTANCE_SHARES = (0.1, 0.3, 0.6, 1.0)


def reduced(profile: str) -> list[FinetuneConfig]:
    """SGD and SAM on the embedded set, whichever set they stand for."""
    n_epochs = {"quick": 6, "smoke": 2}[profile]
    base = FinetuneConfig(
        image_set="digits_on_patches",
        stored_size=32,
        image_size=32,
        backbone="smallnet",
        trained="last block" if profile == "smoke" else "all",
        n_train=300 if profile == "smoke" else None,
        batch_size=32,
        n_epochs=n_epochs,
        probe_each_epoch=True,
        importance_epochs=(1, n_epochs),
        n_importance=128,
    )
    return [dataclasses.replace(base, rho=rho, learning_rate=0.01) for rho in (0.0, 0.05)]


def tuned(base: FinetuneConfig) -> Tuned:
    """One set with the paper's grid."""
    return Tuned(base, LEARNING_RATES, RADII, SELECTED[base.image_set], reduced)


def weighed(item: Tuned, methods: Sequence[str] = ("SGD", "SAM"), **options: Any) -> Configs:
    """The chosen settings, probed after each epoch, with importance weights on the way; options of `Tuned.selected`."""
    epochs = tuple(sorted({math.ceil(share * item.base.n_epochs) for share in IMPORTANCE_SHARES}))
    return item.selected(methods, probe_each_epoch=True, importance_epochs=epochs, **options)


# Of book/protocol.md: the paper's network trained whole on random crops and flips. Validation chooses its settings on
# runs of three epochs.
SEEDS, MORE_SEEDS, CONTROL_SEEDS = range(100, 104), range(104, 108), (100, 101)
CONTROL_RATE = 0.001  # of the control, where the chosen rates diverge


def whole(base: FinetuneConfig, n_epochs: int) -> tuple[Configs, Tuned]:
    """The sweep on a set, and the runs of full length at what it chose."""
    base = dataclasses.replace(base, backbone="resnet18", trained="all", probe_folds=5, n_epochs=n_epochs)
    grid = tuned(base).grid(n_epochs=3)
    chosen = OnRecord("finetune", grid, RADIUS)
    return grid, dataclasses.replace(tuned(base), chosen=chosen)


WHOLE = {"waterbirds": whole(WATERBIRDS, 30), "celeba": whole(CELEBA, 20)}


def confirmatory(name: str) -> dict[str, Configs]:
    """What book/protocol.md asks for on a set: by the end of the experiment's name."""
    grid, item = WHOLE[name]

    def runs(seeds: Sequence[int], methods: Sequence[str] = ("SGD", "SAM"), statistics: str = "batch") -> Configs:
        small = {"probe_folds": 2, "phantom_readings": True, "statistics": statistics}
        options = {"statistics": statistics, "phantom_readings": True, "n_importance": 1024}
        return weighed(item, methods, seeds=seeds, small=small, **options)

    frozen = runs(CONTROL_SEEDS, statistics="frozen")

    def slower(profile: str) -> list[FinetuneConfig]:
        found = frozen(profile)
        return [dataclasses.replace(c, learning_rate=CONTROL_RATE) for c in found] if profile == "paper" else found

    return {
        "grid": grid,
        "": runs(SEEDS, ("SGD", "SAM", EQUAL_BUDGET)),
        "more": runs(MORE_SEEDS),
        "frozen": frozen,
        "frozen_slower": slower,
    }
