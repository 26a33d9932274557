"""Which runs on annotated photographs chapters 1 and 4 need, at each profile."""

import dataclasses
import math
from typing import Any

from edition.experiments.tuned import EQUAL_BUDGET, at_seeds, grid, in_turn
from samlib.config import check_choice
from samlib.images.photograph_config import FinetuneConfig

# The paper's grids (Appendix B), middle values first.
LEARNING_RATES = (0.005, 0.001, 0.01, 0.0005)
RADII = (0.0, 0.05, 0.02, 0.01, 0.07)
N_SEEDS = 4
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
# Of book/protocol.md.
CONFIRMATORY_GRID_EPOCHS = 3
N_FOLDS = 5
# (learning rate, radius) that validation chose on the grids' records; see `edition.experiments.pairs.SELECTED`. The
# radius of the equal budget is the default of Foret et al. (2020), fixed before the grids were run.
RADIUS = 0.05
SELECTED = {
    "waterbirds": {"SGD": (0.005, 0.0), "SAM": (0.01, 0.07), EQUAL_BUDGET: (0.01, 0.05)},
    "celeba": {"SGD": (0.01, 0.0), "SAM": (0.01, 0.01), EQUAL_BUDGET: (0.01, 0.05)},
}
# Importance weights are kept after these shares of the epochs.
IMPORTANCE_SHARES = (0.1, 0.3, 0.6, 1.0)


def waterbirds(profile: str) -> list[FinetuneConfig]:
    """Waterbirds, the last block trained, at the settings that validation chose; probed and weighed on the way.

    Args:
        profile: "paper"; "quick" and "smoke" are two radii on the embedded set.
    Raises:
        ValueError: another profile.
    """
    return _selected(WATERBIRDS, profile)


def celeba(profile: str) -> list[FinetuneConfig]:
    """CelebA, the last block trained, at the settings that validation chose; profiles as in `waterbirds`."""
    return _selected(CELEBA, profile)


def waterbirds_full(profile: str) -> list[FinetuneConfig]:
    """Waterbirds, everything trained, 100 epochs: for a GPU. Profiles as in `waterbirds`.

    The settings are those selected for the last block until `waterbirds_full_grid` has been run.
    """
    return _selected(_full(WATERBIRDS, n_epochs=100), profile)


def celeba_full(profile: str) -> list[FinetuneConfig]:
    """CelebA, everything trained, 20 epochs: for a GPU. Profiles and settings as in `waterbirds_full`."""
    return _selected(_full(CELEBA, n_epochs=20, n_train=20_000), profile)


def waterbirds_full_grid(profile: str) -> list[FinetuneConfig]:
    """Waterbirds, everything trained, at every setting of the paper's sweep: for a GPU."""
    return _grid(_full(WATERBIRDS, n_epochs=100), profile)


def celeba_full_grid(profile: str) -> list[FinetuneConfig]:
    """CelebA, everything trained, at every setting of the paper's sweep: for a GPU."""
    return _grid(_full(CELEBA, n_epochs=20, n_train=20_000), profile)


def _full(base: FinetuneConfig, **lengths: Any) -> FinetuneConfig:
    """The same set with all parameters trained on random crops; minutes a run on a GPU, days on a processor.

    In single precision: rounding this network's weights to bfloat16 moves them farther than SAM's ascent does.
    """
    return dataclasses.replace(base, trained="all", **lengths)


def waterbirds_grid(profile: str) -> list[FinetuneConfig]:
    """Waterbirds, the last block trained, at every setting of the paper's sweep, two epochs, one seed.

    Args:
        profile: "paper"; "quick" and "smoke" are two radii on the embedded set.
    Raises:
        ValueError: another profile.
    """
    return _grid(dataclasses.replace(WATERBIRDS, n_epochs=GRID_EPOCHS), profile)


def celeba_grid(profile: str) -> list[FinetuneConfig]:
    """CelebA, the last block trained, at every setting of the paper's sweep; profiles as in `waterbirds_grid`."""
    return _grid(dataclasses.replace(CELEBA, n_epochs=GRID_EPOCHS), profile)


def _grid(base: FinetuneConfig, profile: str) -> list[FinetuneConfig]:
    """Every learning rate and radius, one seed."""
    if profile != "paper":
        return _reduced(profile)
    return grid(base, LEARNING_RATES, RADII)


def waterbirds_confirmatory_grid(profile: str) -> list[FinetuneConfig]:
    """Waterbirds, the paper's network trained whole, at every setting of its sweep, as book/protocol.md fixes it."""
    return _grid(dataclasses.replace(_whole(WATERBIRDS), n_epochs=CONFIRMATORY_GRID_EPOCHS), profile)


def celeba_confirmatory_grid(profile: str) -> list[FinetuneConfig]:
    """CelebA, likewise."""
    return _grid(dataclasses.replace(_whole(CELEBA), n_epochs=CONFIRMATORY_GRID_EPOCHS), profile)


def _whole(base: FinetuneConfig) -> FinetuneConfig:
    """The same set for ResNet-18 with all parameters trained on random crops and flips."""
    return dataclasses.replace(base, backbone="resnet18", trained="all", probe_folds=N_FOLDS)


def equal_budget(profile: str) -> list[FinetuneConfig]:
    """SAM at the radius `RADIUS` on both sets, the last block trained; no importance weights; profiles as above."""
    if profile != "paper":
        return _reduced(profile)
    return [config for base in (WATERBIRDS, CELEBA) for config in _seeds(base, EQUAL_BUDGET)]


def _selected(base: FinetuneConfig, profile: str) -> list[FinetuneConfig]:
    """The selected settings of SGD and SAM, seed by seed, with importance weights."""
    if profile != "paper":
        return _reduced(profile)
    epochs = tuple(sorted({math.ceil(share * base.n_epochs) for share in IMPORTANCE_SHARES}))
    base = dataclasses.replace(base, importance_epochs=epochs)
    return in_turn(*(_seeds(base, method) for method in ("SGD", "SAM")))


def _seeds(base: FinetuneConfig, method: str) -> list[FinetuneConfig]:
    """One selected setting at all seeds."""
    return at_seeds(dataclasses.replace(base, probe_each_epoch=True), SELECTED[base.image_set][method], range(N_SEEDS))


def _reduced(profile: str) -> list[FinetuneConfig]:
    """SGD and SAM on the embedded set, short enough to be trained while a page is executed."""
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
