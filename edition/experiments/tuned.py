"""What the tuned experiments share: a grid of settings, one setting at several seeds, methods in turn."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

# What SAM's setting is called where it is chosen among as many as SGD's.
EQUAL_BUDGET = "SAM, equal budget"
Config = TypeVar("Config", bound=Any)


def grid(base: Config, learning_rates: Sequence[float], radii: Sequence[float]) -> list[Config]:
    """Return the configuration at every learning rate and radius."""
    settings = itertools.product(learning_rates, radii)
    return [dataclasses.replace(base, learning_rate=rate, rho=rho) for rate, rho in settings]


def at_seeds(base: Config, setting: tuple[float, float], seeds: Iterable[int]) -> list[Config]:
    """Return the configuration at one setting (learning rate and radius) and every seed."""
    rate, rho = setting
    return [dataclasses.replace(base, learning_rate=rate, rho=rho, seed=seed) for seed in seeds]


def in_turn(*methods: Iterable[Config]) -> list[Config]:
    """Return the first configuration of each method, then the second of each: both are there from the first seeds on.

    >>> in_turn("ac", "bd")
    ['a', 'b', 'c', 'd']
    """
    return [config for one in zip(*methods, strict=True) for config in one]
