"""Runs on a data set on which SGD and SAM are tuned: the sweep, and what validation chose from it at several seeds."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What SAM's setting is called where it is chosen among as many as SGD's.
EQUAL_BUDGET = "SAM, equal budget"
Configs = Callable[[str], list[Any]]
"""Profile ("paper", "quick" or "smoke") -> configurations; another profile raises ValueError."""


@dataclass(frozen=True)
class Tuned:
    """One data set. Its methods make what an `Experiment` holds: profile -> configurations.

    Attributes:
        base: configuration that all runs at profile "paper" vary.
        learning_rates, radii: the sweep; SGD is the radius 0.
        chosen: method -> (learning rate, radius) that validation chose on the sweep's records, by the rule of
            `edition.records.selection`; a test applies it again.
        reduced: the runs at the other profiles, short enough to be trained while a page is executed.
        n_seeds: how many seeds the chosen settings are run at.
    """

    base: Any
    learning_rates: Sequence[float]
    radii: Sequence[float]
    chosen: Mapping[str, tuple[float, float]]
    reduced: Configs
    n_seeds: int = 4  # the paper repeats each experiment four times

    def grid(self, **changes: Any) -> Configs:
        """Every learning rate and radius of the sweep, one seed; `changes` of the base are made at "paper" alone."""
        base = dataclasses.replace(self.base, **changes)
        return lambda profile: (
            sweep(base, self.learning_rates, self.radii) if profile == "paper" else self.reduced(profile)
        )

    def selected(
        self,
        methods: Sequence[str] = ("SGD", "SAM"),
        *,
        seeds: Sequence[int] | None = None,
        small: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Configs:
        """The chosen settings, seed by seed, so that all methods are there from the first seeds on.

        Args:
            methods: keys of `chosen`.
            seeds: None for the first `n_seeds`.
            small: what is changed in the reduced runs.
            changes: what is changed in the base.
        """

        def configs(profile: str) -> list[Any]:
            if profile != "paper":
                return [dataclasses.replace(config, **(small or {})) for config in self.reduced(profile)]
            settings = [self.chosen[method] for method in methods]
            found = itertools.product(range(self.n_seeds) if seeds is None else seeds, settings)
            base = dataclasses.replace(self.base, **changes)
            return [dataclasses.replace(base, learning_rate=rate, rho=rho, seed=seed) for seed, (rate, rho) in found]

        return configs


def equal_budget(*sets: Tuned, **changes: Any) -> Configs:
    """SAM at the setting chosen among as many as SGD had, on each set where the whole sweep chose another."""
    own = [
        item.selected((EQUAL_BUDGET,), **changes) for item in sets if item.chosen[EQUAL_BUDGET] != item.chosen["SAM"]
    ]
    return lambda profile: (
        [config for configs in own for config in configs(profile)] if profile == "paper" else sets[0].reduced(profile)
    )


def sweep(base: Any, learning_rates: Iterable[float], radii: Iterable[float]) -> list[Any]:
    """Return the configuration at every learning rate and radius."""
    settings = itertools.product(learning_rates, radii)
    return [dataclasses.replace(base, learning_rate=rate, rho=rho) for rate, rho in settings]
