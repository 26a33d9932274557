"""The annotated photographs of chapters 1 and 4: what is run on each set."""

import dataclasses
import math
from typing import Any

from edition.experiments.tuned import EQUAL_BUDGET, Configs, Tuned
from samlib.config import check_choice
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
# Of book/protocol.md: the paper's network, ResNet-18, trained whole on random crops and flips.
CONFIRMATORY_GRID: dict[str, Any] = {"backbone": "resnet18", "trained": "all", "probe_folds": 5, "n_epochs": 3}
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
    check_choice("profile", profile, ("paper", "quick", "smoke"))
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


def tuned(base: FinetuneConfig, **changes: Any) -> Tuned:
    """One set with the paper's grid; with `changes` made, the settings are still those chosen for the base."""
    return Tuned(dataclasses.replace(base, **changes), LEARNING_RATES, RADII, SELECTED[base.image_set], reduced)


def weighed(item: Tuned) -> Configs:
    """The chosen settings, probed after each epoch, with importance weights on the way."""
    epochs = tuple(sorted({math.ceil(share * item.base.n_epochs) for share in IMPORTANCE_SHARES}))
    return item.selected(probe_each_epoch=True, importance_epochs=epochs)


# Everything trained on random crops: minutes a run on a GPU, days on a processor. In single precision: rounding this
# network's weights to bfloat16 moves them farther than SAM's ascent does.
WATERBIRDS_FULL = tuned(WATERBIRDS, trained="all", n_epochs=100)
CELEBA_FULL = tuned(CELEBA, trained="all", n_epochs=20, n_train=20_000)
