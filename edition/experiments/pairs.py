"""Which two-feature image runs chapter 1 needs, at each profile."""

import dataclasses
from typing import Any

from edition.experiments.tuned import EQUAL_BUDGET, at_seeds, grid, in_turn
from samlib.config import check_choice
from samlib.images.pair_config import PairConfig

# From the paper's two grids, and the same as in the live demonstration: fixed before these runs, not selected by them.
LEARNING_RATE = 0.05
RADIUS = 0.1
N_SEEDS = 10
# CIFAR-MNIST has 10,000: validation takes 888 of the rest, and the probes are trained on all of it. FMNIST-MNIST has
# more; as many are used.
N_TRAIN = 8000
# The paper's grids (Appendix B).
LEARNING_RATES = (0.05, 0.1, 0.01)
RADII = (0.0, 0.1, 0.05, 0.01, 0.2, 0.03, 0.07)
# (learning rate, radius) that validation chose on the grids' records, by the rule of `edition.records.selection`;
# a test applies it again: SGD's, SAM's on the whole grid, and SAM's at RADIUS, with as many settings as SGD had.
SELECTED = {
    "cifar_mnist": {"SGD": (0.1, 0.0), "SAM": (0.1, 0.1), EQUAL_BUDGET: (0.1, 0.1)},
    "fmnist_mnist": {"SGD": (0.05, 0.0), "SAM": (0.1, 0.07), EQUAL_BUDGET: (0.1, 0.1)},
}
N_SELECTED_SEEDS = 4  # the paper repeats each experiment four times
# Of the runs whose analysis book/protocol.md fixes: used by nothing else.
CONFIRMATORY_SEEDS = range(100, 120)
N_FOLDS = 5


def cifar_mnist(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST with the settings that validation chose, probed after each epoch; shorter at the other profiles.

    Args:
        profile: "paper"; "quick" (3 epochs of 2,000 images, one seed); "smoke" (the embedded pair, 1 epoch of 200).
    Raises:
        ValueError: another profile.
    """
    return _selected("cifar_mnist", profile)


def fmnist_mnist(profile: str) -> list[PairConfig]:
    """FMNIST-MNIST with the settings that validation chose; profiles as in `cifar_mnist`."""
    return _selected("fmnist_mnist", profile)


def cifar_mnist_fixed(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST for SGD and SAM at one setting that was fixed beforehand, ten seeds; profiles as in `cifar_mnist`."""
    if profile != "paper":
        return _reduced("cifar_mnist", profile)
    return [
        PairConfig(pair="cifar_mnist", n_train=N_TRAIN, seed=seed, rho=rho, learning_rate=LEARNING_RATE)
        for seed in range(N_SEEDS)
        for rho in (0.0, RADIUS)
    ]


def cifar_mnist_grid(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST at every learning rate and radius of the paper's sweep, one seed: what to choose them from.

    Args:
        profile: "paper"; "quick" and "smoke" have two radii at one learning rate, scaled as in `cifar_mnist`.
    Raises:
        ValueError: another profile.
    """
    return _grid("cifar_mnist", profile)


def fmnist_mnist_grid(profile: str) -> list[PairConfig]:
    """FMNIST-MNIST at the same settings as `cifar_mnist_grid`, and with as many training images."""
    return _grid("fmnist_mnist", profile)


def cifar_mnist_confirmatory(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST as book/protocol.md fixes it: twenty fresh seeds, cross-validated probes; profiles as above."""
    return _confirmatory("cifar_mnist", ("SGD", "SAM"), profile)


def fmnist_mnist_confirmatory(profile: str) -> list[PairConfig]:
    """FMNIST-MNIST as book/protocol.md fixes it, with SAM at an equal budget too; profiles as above."""
    return _confirmatory("fmnist_mnist", ("SGD", "SAM", EQUAL_BUDGET), profile)


def _confirmatory(pair: str, methods: tuple[str, ...], profile: str) -> list[PairConfig]:
    """The selected settings at the confirmatory seeds, seed by seed."""
    if profile != "paper":
        return [dataclasses.replace(config, probe_folds=2) for config in _reduced(pair, profile)]
    base = PairConfig(pair=pair, n_train=N_TRAIN, probe_folds=N_FOLDS)
    return in_turn(*(at_seeds(base, SELECTED[pair][method], CONFIRMATORY_SEEDS) for method in methods))


def _grid(pair: str, profile: str) -> list[PairConfig]:
    """Every learning rate and radius of the paper's sweep."""
    if profile != "paper":
        return _reduced(pair, profile)
    return grid(PairConfig(pair=pair, n_train=N_TRAIN), LEARNING_RATES, RADII)


def equal_budget(profile: str) -> list[PairConfig]:
    """SAM at the radius `RADIUS` on both pairs, where the whole grid selected another; profiles as in `cifar_mnist`."""
    if profile != "paper":
        return _reduced("cifar_mnist", profile)
    return [
        config
        for pair, chosen in SELECTED.items()
        if chosen[EQUAL_BUDGET] != chosen["SAM"]
        for config in _seeds(pair, EQUAL_BUDGET)
    ]


def _selected(pair: str, profile: str) -> list[PairConfig]:
    """The selected settings of SGD and SAM, seed by seed."""
    if profile != "paper":
        return [dataclasses.replace(config, probe_each_epoch=True) for config in _reduced(pair, profile)]
    return in_turn(*(_seeds(pair, method) for method in ("SGD", "SAM")))


def _seeds(pair: str, method: str) -> list[PairConfig]:
    """One selected setting at all seeds."""
    base = PairConfig(pair=pair, n_train=N_TRAIN, probe_each_epoch=True)
    return at_seeds(base, SELECTED[pair][method], range(N_SELECTED_SEEDS))


def _reduced(pair: str, profile: str) -> list[PairConfig]:
    """SGD and SAM at one setting and seed, short enough to be trained while a page is executed."""
    check_choice("profile", profile, ("paper", "quick", "smoke"))
    scale: dict[str, Any] = {"pair": pair, "n_train": 2000, "n_epochs": 3, "n_probe": 1000}
    if profile == "smoke":
        scale = {"pair": "digits_patches", "n_train": 200, "n_epochs": 1, "n_probe": 200}
    return [PairConfig(rho=rho, learning_rate=LEARNING_RATE, **scale) for rho in (0.0, RADIUS)]
