"""Which control runs chapter 7 needs, at each profile: every method with as many settings as every other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from samlib.methods.config import ControlConfig

TOY_SEEDS = tuple(range(10))
IMAGE_SEEDS = 4
# Three settings a method on the toys, the middle one first; on images, where a run takes minutes, one.
RADII = (0.3, 0.1, 1.0)
FULL_RADII = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
RATES = (0.01, 0.003, 0.03)
ADAM_RATES = (0.001, 0.0003, 0.003)
L2 = (0.01, 0.001, 0.1)
UPWEIGHTS = (5.0, 2.0, 20.0)
GROUP_STEPS = (0.1, 0.01, 1.0)
Changes = Mapping[str, Any]
# Name -> what differs from SGD with SAM's radius; the settings are added by `settings`.
PERTURBED: dict[str, Changes] = {
    "SAM": {},
    "last layer only": {"perturbed": "last layer"},
    "all but last layer": {"perturbed": "all but last layer"},
    "biases only": {"perturbed": "biases"},
    "unnormalized": {"scale": "none"},
    "ASAM": {"scale": "adaptive"},
    "small perturbation batches": {"per_perturbation": 1},
    "importance weights only": {"part": "logit"},
    "Jacobian only": {"part": "jacobian"},
    "SAM early only": {"end": 0.25},
    "SAM late only": {"start": 0.75},
    "Adam with SAM": {"base": "adam", "learning_rate": 0.001},
}
OTHERS: dict[str, tuple[str, tuple[float, ...], Changes]] = {  # name -> (what is varied, its values, fixed changes)
    "SGD": ("learning_rate", RATES, {}),
    "SGD with l2": ("feature_l2", L2, {"last_layer_l2": 0.01}),
    "Adam": ("learning_rate", ADAM_RATES, {"base": "adam"}),
    "group DRO": ("group_step", GROUP_STEPS, {"reweighting": "group dro"}),
    "just train twice": ("upweight", UPWEIGHTS, {"reweighting": "just train twice"}),
}
# On CIFAR-MNIST: chapter 1's setting that was fixed beforehand, at half its length.
IMAGES = ControlConfig(task="cifar_mnist", learning_rate=0.05, momentum=0.9, batch_size=100, n_epochs=10, n_train=8000)
IMAGE_RADIUS = 0.1
# What another size of network and loss asks for; all fixed beforehand.
IMAGE_CHANGES: dict[str, Changes] = {
    "unnormalized": {"rho": 1.0},
    "ASAM": {"rho": 1.0},
    "small perturbation batches": {"per_perturbation": 10},
    "SGD": {"learning_rate": 0.05},
    "SGD with l2": {"feature_l2": 0.001},
}


def settings(name: str, base: ControlConfig) -> list[ControlConfig]:
    """Return a method's three settings on a task, the middle one first.

    Args:
        name: a key of `PERTURBED` or `OTHERS`.
        base: task, length and seeds.
    """
    if name in PERTURBED:
        return [dataclasses.replace(base, **{"rho": rho, **PERTURBED[name]}) for rho in RADII]
    varied, values, fixed = OTHERS[name]
    return [dataclasses.replace(base, **{**fixed, varied: value}) for value in values]


def methods() -> dict[str, list[ControlConfig]]:
    """Return every method's settings on the toy, at ten seeds."""
    base = ControlConfig(seeds=TOY_SEEDS)
    return {name: settings(name, base) for name in ("SGD", *PERTURBED, *list(OTHERS)[1:])}


def image_methods(seed: int, base: ControlConfig = IMAGES) -> dict[str, ControlConfig]:
    """Return every method's one setting on images at a seed."""
    base = dataclasses.replace(base, seeds=(seed,))
    found = {}
    for name in ("SGD", *PERTURBED, *list(OTHERS)[1:]):
        first = settings(name, base)[0]
        radius = {"rho": IMAGE_RADIUS} if first.rho else {}
        found[name] = dataclasses.replace(first, **{**radius, **IMAGE_CHANGES.get(name, {})})
    return found


def controls_toy(profile: str) -> list[ControlConfig]:
    """Every method at three settings on the toy; shorter and fewer seeds at the other profiles.

    Args:
        profile: "paper", "quick" or "smoke".
    """
    found = [config for configs in methods().values() for config in configs]
    if profile == "paper":
        return found
    n_epochs, n_seeds = (40, 3) if profile == "quick" else (2, 2)
    return [dataclasses.replace(config, n_epochs=n_epochs, seeds=TOY_SEEDS[:n_seeds]) for config in found]


def controls_images(profile: str) -> list[ControlConfig]:
    """Every method on CIFAR-MNIST, four seeds; on the embedded pair and at one seed at the other profiles."""
    if profile == "paper":
        return [config for seed in range(IMAGE_SEEDS) for config in image_methods(seed).values()]
    small = dataclasses.replace(IMAGES, task="digits_patches", n_train=200, n_epochs=3 if profile == "quick" else 1)
    return list(image_methods(0, small).values())


def full_sam_toy(profile: str) -> list[ControlConfig]:
    """SGD and SAM on all parameters of the toy at ten radii, seeds that no other run of it uses; profiles as above."""
    n_epochs, n_seeds = {"paper": (250, 20), "quick": (40, 3), "smoke": (2, 2)}[profile]
    base = ControlConfig(n_epochs=n_epochs, seeds=tuple(range(20, 20 + n_seeds)))
    return [dataclasses.replace(base, rho=rho) for rho in (0.0, *FULL_RADII)]


def three_features(profile: str) -> list[ControlConfig]:
    """SGD, SAM and SAM on the last layer alone on three mixed features, three settings each; profiles as above."""
    n_epochs, seeds = {"paper": (250, TOY_SEEDS), "quick": (40, TOY_SEEDS[:3]), "smoke": (2, TOY_SEEDS[:2])}[profile]
    base = ControlConfig(task="three_features", n_epochs=n_epochs, seeds=seeds)
    return [config for name in ("SGD", "SAM", "last layer only") for config in settings(name, base)]
