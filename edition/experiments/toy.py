"""Which toy runs each figure needs, at each profile.

Constants are calibrations of ours, not the paper's values (its copy at hand lost them); the page "Decisions" lists
them. Every experiment compares LSAM with SGD (rho = 0) at equal settings and equal seeds: nothing is selected.
"""

from dataclasses import dataclass

from samlib.config import check_choice
from samlib.toy.config import VECTORS, ToyConfig

PROFILES = ("paper", "quick", "smoke")
RHOS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
COMPLEXITIES = (180.0, 225.0, 270.0, 315.0, 360.0, 405.0, 450.0, 540.0)
REFERENCE_RHO = 1.0
REFERENCE_COMPLEXITY = 360.0
RATIOS = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
SENSITIVITY = {
    "learning_rate": (0.003, 0.01, 0.03, 0.1),
    "last_layer_init": (0.3, 0.5, 1.0, 2.0, 4.0),
    "hidden": (10, 25, 50, 100),
    "easy_scale": (0.125, 0.25, 0.5, 1.0, 2.0),
    "hard_scale": (1.0, 2.0, 4.0, 8.0),
}
NOISES = {
    "flip": (0.025, 0.05, 0.1),
    "gaussian_noise": (0.25, 0.5, 1.0),
    "dropout": (0.1, 0.2, 0.4),
}
BATCH_SIZES = (1, 2, 5, 10, 20, 60, 100, 300)


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


SCALES = {"paper": Scale(250, 20, 5), "quick": Scale(75, 4, 5), "smoke": Scale(2, 2, 1)}


def base(profile: str) -> ToyConfig:
    """Return the configuration that all experiments vary.

    Args:
        profile: "paper", "quick" or "smoke".
    Raises:
        ValueError: another profile.
    """
    check_choice("profile", profile, PROFILES)
    scale = SCALES[profile]
    config = ToyConfig(seeds=tuple(range(scale.n_seeds)), n_snapshots=scale.n_snapshots)
    return config.vary(n_steps=scale.n_epochs * (config.data.n_train // config.batch_size))


def complexity(profile: str) -> list[ToyConfig]:
    """Figure 2 and Figure 4: every complexity with every radius."""
    return [base(profile).vary(complexity=degrees, rho=rho) for degrees in COMPLEXITIES for rho in RHOS]


def checkpoints(profile: str) -> list[ToyConfig]:
    """Figures 1, 3, 5, 7 and 8: SGD and LSAM with all weights kept along the way, at most ten seeds."""
    start = base(profile)
    epoch = start.data.n_train // start.batch_size
    steps = sorted({step for step in (epoch, 10 * epoch, 50 * epoch) if step < start.n_steps} | {start.n_steps})
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
        for rho in RHOS
        if rho > 0
    ]


def mechanism(profile: str) -> list[ToyConfig]:
    """Why LSAM's phantom works and its mean does not: the phantom itself and its stand-ins, at the reference radius."""
    return [
        base(profile).vary(term=term, vector=vector, last_layer="weighted", rho=REFERENCE_RHO)
        for vector in VECTORS[1:]
        for term in ("importance", "rate", "both")
    ]


def noise(profile: str) -> list[ToyConfig]:
    """Figure 9: three noises at three levels, on both features or the hard one, over the radius."""
    clean = [base(profile).vary(rho=rho) for rho in RHOS]
    return clean + [
        base(profile).vary(**{name: level}, noisy_features=features, rho=rho)
        for features in ("both", "hard")
        for name, levels in NOISES.items()
        for level in levels
        for rho in RHOS
    ]


def batch_size(profile: str) -> list[ToyConfig]:
    """Figure 10 at equal epochs: every batch size with every radius."""
    return [
        base(profile).vary(batch_size=size, n_steps=max(SCALES[profile].n_epochs * 300 // size, 10), rho=rho)
        for size in BATCH_SIZES
        for rho in RHOS
    ]


def batch_size_equal_steps(profile: str) -> list[ToyConfig]:
    """Figure 10 at equal steps: the control that separates batch size from the number of updates."""
    return [base(profile).vary(batch_size=size, rho=rho) for size in BATCH_SIZES for rho in RHOS]
