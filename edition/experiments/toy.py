"""Which toy runs each figure needs, at each profile.

Constants come from `constants.toml`: most are calibrations of ours, not the paper's values (its copy at hand lost
them); the page "Decisions" shows the file. Every experiment compares LSAM with SGD (rho = 0) at equal settings and
equal seeds: nothing is selected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edition.experiments.constants import values
from samlib.config import check_choice
from samlib.search import FRACTIONS, REFERENCE, SearchConfig, initial_norm, settings
from samlib.toy.config import VECTORS, ToyConfig

PROFILES = ("paper", "quick", "smoke")
BASE, GRIDS = values("base"), values("grids")
REFERENCE_RHO: float = GRIDS["reference_rho"]
REFERENCE_COMPLEXITY: float = GRIDS["reference_complexity"]
RATIOS: tuple[float, ...] = GRIDS["ratios"]
SENSITIVITY = {
    "learning_rate": (0.003, 0.01, 0.03, 0.1),
    "last_layer_init": (0.3, 0.5, 1.0, 2.0, 4.0),
    "hidden": (10, 25, 50, 100),
    "easy_scale": (0.125, 0.25, 0.5, 1.0, 2.0),
    "hard_scale": (1.0, 2.0, 4.0, 8.0),
}
NOISES: dict[str, tuple[float, ...]] = {name: GRIDS[name] for name in ("flip", "gaussian_noise", "dropout")}


@dataclass(frozen=True)
class Scale:
    """How large one profile's toy runs are.

    Attributes:
        n_epochs: passes over the training set.
        n_seeds: networks a configuration.
        n_snapshots: measurements along the way.
    """

    n_epochs: int
    n_seeds: int
    n_snapshots: int


def scale(profile: str) -> Scale:
    """Return a profile's scale; at "paper" it is that of the constants.

    Raises:
        ValueError: no such profile.
    """
    check_choice("profile", profile, PROFILES)
    paper = Scale(GRIDS["n_epochs"], GRIDS["n_seeds"], 5)
    return {"paper": paper, "quick": Scale(75, 4, 5), "smoke": Scale(2, 2, 1)}[profile]


def base(profile: str) -> ToyConfig:
    """Return the configuration that all experiments vary.

    Args:
        profile: "paper", "quick" or "smoke".
    Raises:
        ValueError: another profile.
    """
    size = scale(profile)
    # Whatever the length, snapshots are fewer than steps; the fields of the file are set together, then checked.
    n_steps = size.n_epochs * (BASE["n_train"] // BASE["batch_size"])
    seeds = tuple(range(size.n_seeds))
    return ToyConfig().vary(
        **BASE, complexity=REFERENCE_COMPLEXITY, seeds=seeds, n_snapshots=size.n_snapshots, n_steps=n_steps
    )


def complexity(profile: str) -> list[ToyConfig]:
    """Figure 2 and Figure 4: every complexity with every radius."""
    return [
        base(profile).vary(complexity=degrees, rho=rho) for degrees in GRIDS["complexities"] for rho in GRIDS["rhos"]
    ]


def checkpoints(profile: str) -> list[ToyConfig]:
    """Figures 1, 3, 5, 7 and 8: SGD and LSAM with all weights kept along the way, at most ten seeds."""
    start = base(profile)
    epoch = start.data.n_train // start.batch_size
    steps = sorted(
        {step for step in (epoch * n for n in GRIDS["checkpoint_epochs"]) if step < start.n_steps} | {start.n_steps}
    )
    kept = start.vary(checkpoints=tuple(steps), seeds=start.seeds[:10], n_snapshots=5 * start.n_snapshots)
    return [kept.vary(rho=rho) for rho in (0.0, REFERENCE_RHO)]


def sensitivity(profile: str) -> list[ToyConfig]:
    """One constant at a time away from the base, SGD against LSAM: where the effect holds, vanishes, reverses."""
    return [
        base(profile).vary(**{name: value}, rho=rho)
        for name, values in SENSITIVITY.items()
        for value in values
        for rho in (0.0, 0.3, REFERENCE_RHO)
    ]


def interventions(profile: str) -> list[ToyConfig]:
    """Figure 6: each term of Eq 6 alone and both, over the fixed ratio c, with two controls."""
    variants: tuple[dict[str, str], ...] = ({}, {"last_layer": "weighted"}, {"norm": "matched"})
    return [
        base(profile).vary(term=term, ratio=ratio, **variant)
        for variant in variants
        for term in ("importance", "rate", "both")
        for ratio in RATIOS
        # v's own gradient can only be re-weighted where importance weights are replaced.
        if not (term == "rate" and "last_layer" in variant)
    ]


def phantom_terms(profile: str) -> list[ToyConfig]:
    """Beyond Figure 6: LSAM's own phantom, batch by batch, in one term of Eq 6 or both (which is LSAM), over rho."""
    return [
        base(profile).vary(term=term, vector="phantom", last_layer="weighted", rho=rho)
        for term in ("importance", "rate", "both")
        for rho in GRIDS["rhos"]
        if rho > 0
    ]


def mechanism(profile: str) -> list[ToyConfig]:
    """Why LSAM's phantom works and its mean does not: the phantom itself and its stand-ins, at the reference radius."""
    return _stand_ins(base(profile), REFERENCE_RHO)


# The first ten settings of the search in which its premise holds, which regards SGD alone.
ELSEWHERE = (2, 3, 4, 5, 7, 9, 11, 13, 14, 16)


def mechanism_elsewhere(profile: str) -> list[ToyConfig]:
    """The same, and SGD, in ten settings of the search, with its length and its radius."""
    found = []
    for start, rho in _searched(profile, ELSEWHERE, n_seeds=20):
        found += [start, *_stand_ins(start, rho)]
    return found


# The five settings of the search in which most claims are confirmed, by `edition.claims.space.best`: a test holds them
# against it. Chosen by their results, they are there to be looked at.
BEST = (313, 443, 68, 87, 107)


def best_settings(profile: str) -> list[ToyConfig]:
    """Figures 1, 3 and 5 in the settings that satisfy most claims: SGD and LSAM, with their last networks kept."""
    found = []
    for start, rho in _searched(profile, BEST, n_seeds=4):
        found += [kept := start.vary(checkpoints=(start.n_steps,)), kept.vary(rho=rho)]
    return found


def _searched(profile: str, places: Sequence[int], *, n_seeds: int) -> list[tuple[ToyConfig, float]]:
    """SGD in settings of the search, with its length, and the radius that its claims use; fewer below "paper"."""
    count, n_steps, seeds = {"paper": (None, 15_000, n_seeds), "quick": (2, 3000, 4), "smoke": (1, 60, 2)}[profile]
    size = ToyConfig(n_steps=n_steps, n_snapshots=1, seeds=tuple(range(seeds)))
    drawn = settings(max(places) + 1)
    return [(size.vary(**drawn[n]), FRACTIONS[REFERENCE] * initial_norm(drawn[n])) for n in places[:count]]


def _stand_ins(start: ToyConfig, rho: float) -> list[ToyConfig]:
    """LSAM's phantom and each stand-in for it, in the importance weights, the learning rates, or both."""
    return [
        start.vary(term=term, vector=vector, last_layer="weighted", rho=rho)
        for vector in VECTORS[1:]
        for term in ("importance", "rate", "both")
    ]


def search(profile: str) -> list[SearchConfig]:
    """The lost constants: the base and 639 settings from their space, ten a record (chapter 8)."""
    if profile == "paper":
        return [SearchConfig(first=first) for first in range(0, 640, 10)]
    if profile == "quick":
        return [SearchConfig(first, 5, n_steps=3000, n_test=500, seeds=tuple(range(4))) for first in range(0, 20, 5)]
    return [SearchConfig(n_settings=2, n_steps=60, n_test=100, seeds=(0, 1))]


def noise(profile: str) -> list[ToyConfig]:
    """Figure 9: three noises at three levels, on both features or the hard one, over the radius."""
    clean = [base(profile).vary(rho=rho) for rho in GRIDS["rhos"]]
    return clean + [
        base(profile).vary(**{name: level}, noisy_features=features, rho=rho)
        for features in ("both", "hard")
        for name, levels in NOISES.items()
        for level in levels
        for rho in GRIDS["rhos"]
    ]


def batch_size(profile: str) -> list[ToyConfig]:
    """Figure 10 at equal epochs: every batch size with every radius."""
    return [
        base(profile).vary(batch_size=size, n_steps=max(scale(profile).n_epochs * BASE["n_train"] // size, 10), rho=rho)
        for size in GRIDS["batch_sizes"]
        for rho in GRIDS["rhos"]
    ]


def batch_size_equal_steps(profile: str) -> list[ToyConfig]:
    """Figure 10 at equal steps: the control that separates batch size from the number of updates."""
    return [base(profile).vary(batch_size=size, rho=rho) for size in GRIDS["batch_sizes"] for rho in GRIDS["rhos"]]
