"""Which real-image pair runs chapter 1 needs, at each profile."""

import dataclasses
from typing import Any

from samlib.config import check_choice
from samlib.vision.config import PairConfig

# From the paper's two grids, and the same as in the live demonstration: fixed before these runs, not selected by them.
LEARNING_RATE = 0.05
RADIUS = 0.1
N_SEEDS = 10
# The rest of the training split is for validation (1,000 images) and for probes on images never trained on (1,000).
N_TRAIN = 8000
# The paper's grids (Appendix B).
LEARNING_RATES = (0.05, 0.1, 0.01)
RADII = (0.0, 0.1, 0.05, 0.01, 0.2, 0.03, 0.07)


def cifar_mnist(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST at the paper's length (20 epochs) for SGD and SAM, ten seeds; shorter at the other profiles.

    Args:
        profile: "paper"; "quick" (3 epochs of 2,000 images, one seed); "smoke" (the embedded pair, 1 epoch of 200).
    Raises:
        ValueError: another profile.
    """
    check_choice("profile", profile, ("paper", "quick", "smoke"))
    scales: list[dict[str, Any]]
    if profile == "paper":
        scales = [{"pair": "cifar_mnist", "n_train": N_TRAIN, "seed": seed} for seed in range(N_SEEDS)]
    elif profile == "quick":
        scales = [{"pair": "cifar_mnist", "n_train": 2000, "n_epochs": 3, "n_probe": 1000}]
    else:
        scales = [{"pair": "digits_patches", "n_train": 200, "n_epochs": 1, "n_probe": 200}]
    return [PairConfig(rho=rho, learning_rate=LEARNING_RATE, **scale) for scale in scales for rho in (0.0, RADIUS)]


def cifar_mnist_grid(profile: str) -> list[PairConfig]:
    """CIFAR-MNIST at every learning rate and radius of the paper's sweep, one seed: what to choose them from.

    Args:
        profile: "paper"; "quick" and "smoke" have two radii at one learning rate, scaled as in `cifar_mnist`.
    Raises:
        ValueError: another profile.
    """
    return _grid("cifar_mnist") if profile == "paper" else cifar_mnist(profile)


def fmnist_mnist_grid(profile: str) -> list[PairConfig]:
    """FMNIST-MNIST at the same settings as `cifar_mnist_grid`, and with as many training images.

    Args:
        profile: "paper"; "quick" has two radii at one learning rate; "smoke" is that of `cifar_mnist`.
    Raises:
        ValueError: another profile.
    """
    if profile == "paper":
        return _grid("fmnist_mnist")
    return [
        config if profile == "smoke" else dataclasses.replace(config, pair="fmnist_mnist")
        for config in cifar_mnist(profile)
    ]


def _grid(pair: str) -> list[PairConfig]:
    """Every learning rate and radius of the paper's sweep, one seed."""
    return [
        PairConfig(pair=pair, n_train=N_TRAIN, learning_rate=rate, rho=rho) for rate in LEARNING_RATES for rho in RADII
    ]
