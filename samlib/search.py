"""A random search of the toy's lost constants: settings drawn from their space, each trained as every claim wants it.

The first setting is the base; the others are a scrambled Sobol sequence (Owen, 1998) over `AXES`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from samlib.config import check_number, check_seeds
from samlib.measures.importance import gini, importance_weights, only_easy, worst
from samlib.toy.config import ToyConfig
from samlib.toy.data import batch_order
from samlib.toy.network import Weights
from samlib.toy.training import ToyResult, stack_examples, train_toy

FRACTIONS = (0.0, 0.1, 0.3, 0.6, 1.0)  # radii, in units of the norm that v has at the start (root mean square)
REFERENCE = 2  # place of the radius that claims use where they use one
TERMS = ("importance", "rate", "both")
# What is trained in a setting: LSAM at each radius; at the reference, its phantom in one factor, and its ratio fixed.
RUNS = (*(f"radius {f:g}" for f in FRACTIONS), *(f"phantom {t}" for t in TERMS[:2]), *(f"fixed {t}" for t in TERMS))
STATISTICS = (
    *("final_easy_error", "final_hard_error", "final_test_error"),
    *("real_ratio", "phantom_ratio", "phantom_log_ratio", "easy_rate", "hard_rate"),
    *("agreement_share", "raised_share", "readable_steps", "flipped_steps"),
)
CURVES = ("easy_error", "hard_error", "test_error")
# Of training examples at the end, of SGD's networks and of LSAM's: Gini coefficients of the importance weights, and the
# median weight, phantom minus real, of three groups.
WEIGHTS = ("gini_real", "gini_phantom", "easy_worst", "hard_worst", "only_easy")
# The premise: SGD's mean errors on label and line are below the one, on the spiral above the other; our choice.
LEARNED, ROOM = 0.01, 0.05
SEQUENCE_SEED = 20


class Axis(NamedTuple):
    """One constant of the toy: from `low` to `high`, evenly in its logarithm where `log`; or one of `choices`."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def at(self, place: float) -> Any:
        """Return the value at a place from 0 to 1; three digits, so that no last bit is ever decisive.

        >>> Axis(0.1, 10.0, log=True).at(0.5), Axis(choices=("a", "b")).at(0.99)
        (1.0, 'b')
        """
        if self.choices:
            return self.choices[min(int(place * len(self.choices)), len(self.choices) - 1)]
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = ends[0] + place * (ends[1] - ends[0])
        return float(f"{math.exp(value) if self.log else value:.3g}")


AXES = {
    "learning_rate": Axis(0.002, 0.1, log=True),
    "last_layer_init": Axis(0.1, 4.0, log=True),
    "easy_scale": Axis(0.1, 4.0, log=True),
    "hard_scale": Axis(0.25, 8.0, log=True),
    "complexity": Axis(180.0, 540.0),
    "hidden": Axis(choices=(20, 50, 100)),
    "batch_size": Axis(choices=(2, 5, 10)),
    "uniform_noise": Axis(choices=(0.0, 0.05, 0.2)),
    "easy_gap": Axis(choices=(0.0, 0.1, 0.3)),
    "radius_profile": Axis(choices=("fixed", "angle")),
    "last_layer_draw": Axis(choices=("equal", "uniform")),
}


@dataclass(frozen=True)
class SearchConfig:
    """One chunk of the search.

    Attributes:
        first: place of its first setting in the sequence; 0 is the base.
        n_settings: how many settings.
        n_steps: descent steps; errors are measured after each fifth of them.
        n_test: examples that errors are measured on.
        seeds: root seeds, the same for every setting.
    """

    first: int = 0
    n_settings: int = 10
    n_steps: int = 15_000
    n_test: int = 2000
    seeds: tuple[int, ...] = tuple(range(16))

    def __post_init__(self) -> None:
        check_number("first", self.first, low=0, integer=True)
        check_number("n_settings", self.n_settings, low=1, integer=True)
        check_number("n_test", self.n_test, low=1, high=65_535, integer=True)  # errors are counted in 16 bits
        check_number("n_steps", self.n_steps, low=5, integer=True)
        check_seeds(self, least=2)

    @property
    def shape(self) -> tuple[int, ...]:
        """What chunks would share to be trained together; each is alone."""
        return (self.first, self.n_settings)


@functools.cache
def settings(count: int) -> tuple[dict[str, Any], ...]:
    """Return the first settings of the sequence: constant -> value.

    The numbers are those of scipy's generator; records keep the settings, so that no page depends on it.
    """
    from scipy.stats import qmc

    first = setting_of(ToyConfig())
    # Sobol points come in powers of two; the sequence of a longer one begins with a shorter one.
    points = qmc.Sobol(len(AXES), scramble=True, rng=SEQUENCE_SEED).random_base2(max(count - 1, 1).bit_length())
    drawn = [{name: axis.at(x) for (name, axis), x in zip(AXES.items(), row, strict=True)} for row in points]
    return (first, *drawn[: count - 1])


def setting_of(config: ToyConfig) -> dict[str, Any]:
    """Return what a configuration has along `AXES`: constant -> value."""
    return {name: getattr(config if hasattr(config, name) else config.data, name) for name in AXES}


def initial_norm(setting: dict[str, Any]) -> float:
    """Root mean square of the norm of v at the start.

    >>> initial_norm({"last_layer_init": 3.0, "last_layer_draw": "uniform"})  # each v_k^2 is 3 on average
    2.449489742783178
    """
    return float(setting["last_layer_init"]) * math.sqrt(2 if setting["last_layer_draw"] == "equal" else 2 / 3)


def search(
    config: SearchConfig,
    *,
    device: torch.device | str = "cpu",
    engine: str = "batched",
    report: Callable[[float], None] = lambda share: None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train everything that one chunk of settings wants.

    Where the premise fails (`premise`), only the radii are trained; the rest is NaN.

    Args:
        config: which settings, how long, which seeds.
        device, engine: as `samlib.toy.training.train_toy` takes them.
        report: called after every setting with the share that is done.
    Returns:
        Metrics: "settings", constant -> value each; "premise", whether it holds. Arrays: "runs", (setting, run, seed,
        statistic) along `RUNS` and `STATISTICS`; "curves", (setting, radius, snapshot, seed, error), examples of
        `n_test` that are wrong; "weights", (setting, method, seed, statistic), SGD's networks and LSAM's at the
        reference radius, along `WEIGHTS`.
    """
    chosen = [dict(one) for one in settings(config.first + config.n_settings)[config.first :]]
    parts = []
    for index, setting in enumerate(chosen):
        parts.append(_one(config, setting, device=device, engine=engine))
        report((index + 1) / len(chosen))
    arrays = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    holds = [premise(values) for values in arrays["runs"]]
    return {"settings": list(chosen), "premise": holds}, arrays


def premise(runs: np.ndarray) -> bool:
    """Whether the paper's premise holds in a setting: SGD learns label and line and errs on the spiral, on average.

    Args:
        runs: (run, seed, statistic).
    """
    easy, hard, label = (runs[0, :, STATISTICS.index(f"final_{name}")].mean() for name in CURVES)
    return bool(label < LEARNED and easy < LEARNED and hard > ROOM)


def _one(config: SearchConfig, setting: dict[str, Any], **how: Any) -> dict[str, np.ndarray]:
    norm = initial_norm(setting)
    base = ToyConfig(n_steps=config.n_steps, n_snapshots=5, seeds=config.seeds).vary(**setting, n_test=config.n_test)
    radii = [base.vary(rho=norm * fraction) for fraction in FRACTIONS]
    kept = {0, REFERENCE}
    radii = [one.vary(checkpoints=(config.n_steps,)) if i in kept else one for i, one in enumerate(radii)]
    by_radius = train_toy(radii, **how)
    runs = np.full((len(RUNS), len(config.seeds), len(STATISTICS)), np.nan, dtype=np.float32)
    runs[: len(FRACTIONS)] = [_statistics(result) for result in by_radius]
    if premise(runs):
        at = base.vary(rho=radii[REFERENCE].rho, last_layer="weighted", vector="phantom")
        logarithms = runs[REFERENCE, :, STATISTICS.index("phantom_log_ratio")]
        ratio = float(np.exp(np.nan_to_num(np.nanmean(logarithms)))) if np.isfinite(logarithms).any() else 1.0
        others = [at.vary(term=term) for term in TERMS[:2]] + [base.vary(term=term, ratio=ratio) for term in TERMS]
        runs[len(FRACTIONS) :] = [_statistics(result) for result in train_toy(others, **how)]
    curves = [[np.array(result.metrics["curves"][name]).T for name in CURVES] for result in by_radius]
    wrong = np.rint(np.moveaxis(np.array(curves), 1, -1) * config.n_test).astype(np.uint16)
    weights = [_weights(radii[i], by_radius[i], radii[REFERENCE].rho) for i in sorted(kept)]
    return {"runs": runs, "curves": wrong, "weights": np.array(weights, dtype=np.float32)}


def _statistics(result: ToyResult) -> np.ndarray:
    """A run's statistics, (seed, statistic)."""
    return np.array([result.metrics[name] for name in STATISTICS], dtype=np.float32).T


def _weights(config: ToyConfig, result: ToyResult, rho: float) -> list[list[float]]:
    """What importance weights say at the end of training, a row a seed."""
    last = Weights(*(torch.from_numpy(result.arrays[name][-1]) for name in Weights._fields))
    order = torch.cat([batch_order(config.data.n_train, 1, seed=seed) for seed in config.seeds])
    examples = stack_examples([(config, seed) for seed in config.seeds], "train", like=last.v)
    found = importance_weights(last, examples, order, rho=rho, batch_size=config.batch_size)
    return [_row(*member) for member in zip(*found, strict=True)]


def _row(real: np.ndarray, phantom: np.ndarray, parts: np.ndarray) -> list[float]:
    """One member's `WEIGHTS`; NaN where weights are not finite, or no example is of the group."""
    if not (np.isfinite(real).all() and np.isfinite(phantom).all() and real.any() and phantom.any()):
        return [math.nan] * len(WEIGHTS)
    groups: Sequence[np.ndarray] = (worst(parts, 0), worst(parts, 1), only_easy(parts))
    gains = [float(np.median(phantom[g]) - np.median(real[g])) if g.any() else math.nan for g in groups]
    return [gini(real), gini(phantom), *gains]
