"""Runs on a data set on which SGD and SAM are tuned: the sweep, and what validation chose from it at several seeds."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edition.records.provenance import ROOT
from edition.records.selection import at_radius, select
from edition.records.store import Record, Store

# What SAM's setting is called where it is chosen among as many as SGD's.
EQUAL_BUDGET = "SAM, equal budget"
Configs = Callable[[str], list[Any]]
"""Profile ("paper", "quick" or "smoke") -> configurations; `edition.runs.plan.needed` refuses another."""


@dataclass(frozen=True)
class Tuned:
    """One data set. Its methods make what an `Experiment` holds: profile -> configurations.

    Attributes:
        base: configuration that all runs at profile "paper" vary.
        learning_rates, radii: the sweep; SGD is the radius 0.
        chosen: method -> (learning rate, radius) that validation chose on the sweep's records, by the rule of
            `edition.records.selection`: written down, which a test holds against the rule, or `OnRecord`. Empty before
            the sweep is on record.
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
            settings = [self.chosen[method] for method in methods] if self.chosen else []
            found = itertools.product(range(self.n_seeds) if seeds is None else seeds, settings)
            base = dataclasses.replace(self.base, **changes)
            return [dataclasses.replace(base, learning_rate=rate, rho=rho, seed=seed) for seed, (rate, rho) in found]

        return configs


@dataclass(frozen=True)
class OnRecord(Mapping[str, tuple[float, float]]):
    """The settings that validation chooses for SGD, SAM and `EQUAL_BUDGET`; none until the whole sweep is on record.

    Attributes:
        kind: of the runs.
        grid: the sweep, one data set and seed.
        radius: of the equal budget.
        root: folder of the records.
    """

    kind: str
    grid: Configs
    radius: float
    root: Path = ROOT / "results"

    def __getitem__(self, method: str) -> tuple[float, float]:
        return self._found()[method]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def _found(self) -> dict[str, tuple[float, float]]:
        found = [Store(self.root).find(self.kind, config) for config in self.grid("paper")]
        records = [record for record in found if record]
        if len(records) < len(found):
            return {}
        best = choices(records, self.radius)
        return {method: (r.config["learning_rate"], r.config["rho"]) for method, r in best.items()}


def choices(grid: Sequence[Record], radius: float) -> dict[str, Record]:
    """Return what validation chooses on a whole sweep: for SGD, for SAM, and for SAM at one radius fixed beforehand."""
    sam = select([record for record in grid if record.config["rho"] > 0])
    return {"SGD": at_radius(grid, 0.0), "SAM": sam, EQUAL_BUDGET: at_radius(grid, radius)}


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
