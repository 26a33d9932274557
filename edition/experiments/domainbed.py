"""Which transfer runs chapter 6 needs, at each profile."""

import dataclasses
import itertools

from edition.experiments.tuned import grid
from samlib.config import check_choice
from samlib.images.domain_config import DOMAINS, DomainConfig

RADII = (0.0, 0.05, 0.1, 0.03)  # Appendix F's, which we know second-hand: they are lost in our copy
# Those of Appendix F are lost in our copy. Ours lie around the rate of SGD's lowest validation error in five short runs
# on one target, at a seed of which nothing else was looked at and that is not among the runs below.
LEARNING_RATES = (0.02, 0.01, 0.05)
N_SEEDS = 3
# What two processor cores can do: the last dense block on stored activations, three epochs.
SCALED = DomainConfig(trained="last block", n_epochs=3)
FULL = DomainConfig(trained="all", n_epochs=20)
# The embedded digits, seconds a run: the chapter's live run, and the profile "quick".
DEMO = DomainConfig(
    image_set="digit_domains",
    target="plain",
    stored_size=32,
    image_size=32,
    backbone="smallnet",
    learning_rate=0.1,
    batch_per_domain=8,
    n_epochs=10,
)


def pacs(profile: str) -> list[DomainConfig]:
    """PACS: every target, learning rate and radius at each seed, the last block trained; and the features untrained.

    Every seed has its own splits and chooses its own setting, as DomainBed does, so that intervals over seeds contain
    the choice too.

    Args:
        profile: "paper"; "quick" and "smoke" are one learning rate and two radii on the embedded set.
    Raises:
        ValueError: another profile.
    """
    return _all(SCALED, profile)


def officehome(profile: str) -> list[DomainConfig]:
    """OfficeHome, for readers who have it; profiles as in `pacs`."""
    return _all(dataclasses.replace(SCALED, image_set="officehome", target="Art"), profile)


def vlcs(profile: str) -> list[DomainConfig]:
    """VLCS, for readers who have it; profiles as in `pacs`."""
    return _all(dataclasses.replace(SCALED, image_set="vlcs", target="Caltech101"), profile)


def pacs_full(profile: str) -> list[DomainConfig]:
    """PACS, everything trained on random crops: for a GPU, minutes a run; profiles as in `pacs`."""
    return _all(FULL, profile)


def _all(base: DomainConfig, profile: str) -> list[DomainConfig]:
    """Untrained, then every radius and learning rate, target by target and seed by seed."""
    if profile != "paper":
        return _reduced(profile)
    return [
        config
        for seed, target in itertools.product(range(N_SEEDS), DOMAINS[base.image_set])
        for config in _trial(dataclasses.replace(base, target=target, seed=seed), LEARNING_RATES, RADII)
    ]


def _trial(base: DomainConfig, learning_rates: tuple[float, ...], radii: tuple[float, ...]) -> list[DomainConfig]:
    """One seed's runs on one target."""
    return [dataclasses.replace(base, n_epochs=0), *grid(base, learning_rates, radii)]


def _reduced(profile: str) -> list[DomainConfig]:
    """SGD and SAM on the embedded set, short enough to be trained while a page is executed."""
    check_choice("profile", profile, ("paper", "quick", "smoke"))
    base = dataclasses.replace(DEMO, trained="last block", n_epochs=1) if profile == "smoke" else DEMO
    return [
        config
        for target in DOMAINS["digit_domains"]
        for config in _trial(dataclasses.replace(base, target=target), (base.learning_rate,), (0.0, 0.05))
    ]
