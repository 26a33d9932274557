"""Means with 95 % intervals over seeds, paired differences, rank correlations, and how they are written on a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
SETTLED = 12  # decimals: far above the last bit of a double, far below any effect


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval.

    Attributes:
        mean: mean of the values.
        low, high: ends of the two-sided 95 % Student-t interval of the mean.
        n: number of values.
        df: degrees of freedom of the interval; None stands for n - 1.
    """

    mean: float
    low: float
    high: float
    n: int
    df: float | None = None

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the interval."""
        return self.n - 1 if self.df is None else self.df

    @property
    def exact(self) -> bool:
        """Whether all values are the same, up to rounding, so that the interval has no width."""
        return settled(self.high - self.low) == 0

    def __str__(self) -> str:
        mean, low, high = (settled(end) for end in (self.mean, self.low, self.high))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of the values with its 95 % Student-t interval.

    Args:
        values: one number a seed, independent. Values that are NaN (a ratio that could not be read) are left out,
            and n says how many were left in.
    Returns:
        The estimate; infinite ends for a single value.
    Raises:
        ValueError: no value that is a number, an infinite one, or values in rows.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        found = "an infinite one" if numbers.ndim == 1 else f"values of shape {numbers.shape}"
        raise ValueError(f"values: expected one finite number a seed, got {found}; pass one measure of every seed")
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    if n == 0:
        raise ValueError(f"values: expected at least one number, got {values!r}; run more seeds")
    mean = float(numbers.mean())
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = float(half_width(numbers))
    return Estimate(mean, mean - half, mean + half, n)


def critical_t(degrees: ArrayLike) -> Any:
    """Return the value that Student's t exceeds on either side with probability 1 - `CONFIDENCE`.

    >>> round(float(critical_t(19)), 3)
    2.093
    """
    from scipy.stats import t  # takes a second to import, as the others below

    return t.ppf((1 + CONFIDENCE) / 2, degrees)


def half_width(values: np.ndarray) -> np.ndarray:
    """Half-width of the two-sided 95 % Student-t interval of the mean along the first axis, of two seeds or more."""
    n = len(values)
    return np.asarray(critical_t(n - 1) * values.std(0, ddof=1) / math.sqrt(n))


def paired_difference(treated: ArrayLike, control: ArrayLike) -> Estimate:
    """Return the mean of treated - control over seeds, paired seed by seed.

    Args:
        treated, control: one number a seed, same seeds in the same order.
    Raises:
        ValueError: different shapes, and what `estimate` refuses.

    >>> paired_difference([1.0, 3.0], [0.0, 2.0]).mean
    1.0
    """
    first, second = np.asarray(treated, dtype=float), np.asarray(control, dtype=float)
    if first.shape != second.shape:
        raise ValueError(
            f"paired_difference: expected one number a seed of both, got shapes {first.shape} and {second.shape}; "
            f"use equal seeds"
        )
    return estimate(first - second)


def joint_effect(differences: Sequence[ArrayLike]) -> Estimate:
    """Return the mean of several strata's mean differences, each stratum with equal weight, with its 95 % interval.

    Its variance is sum_k (s_k^2 / n_k) / K^2; the degrees of freedom are Satterthwaite's.

    Args:
        differences: one row of paired differences a stratum (a data set), two or more numbers each.
    Returns:
        The estimate; n is the number of all differences but those that are NaN, which are left out. Where no stratum
            has a spread and they differ, its ends are infinite.
    Raises:
        ValueError: no stratum, or one with fewer than two numbers.

    >>> joint_effect([[1.0, 3.0], [2.0, 4.0]]).mean
    2.5
    """
    strata = [row[~np.isnan(row)] for row in (np.asarray(values, dtype=float) for values in differences)]
    if not strata or min(map(len, strata)) < 2:
        raise ValueError(
            f"differences: expected two or more numbers in every stratum, got {[len(values) for values in strata]}; "
            f"run more seeds or leave the stratum out"
        )
    variances = np.array([values.var(ddof=1) / len(values) for values in strata])
    mean = float(np.mean([values.mean() for values in strata]))
    n = sum(map(len, strata))
    if not any(settled(values.max() - values.min()) for values in strata):  # of their own spread nothing is known
        means = [values.mean() for values in strata]
        half = math.inf if settled(max(means) - min(means)) else 0.0
        return Estimate(mean, mean - half, mean + half, n)
    degrees = variances.sum() ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(variances, strata, strict=True))
    half = float(critical_t(degrees) * math.sqrt(variances.sum())) / len(strata)
    return Estimate(mean, mean - half, mean + half, n, df=float(degrees))


def detectable_at(value: Estimate, power: float = 0.8) -> float:
    """Return the smallest mean that a t test with an estimate's standard error finds with this probability.

    Solves power = P(T > t) for a noncentral T with noncentrality delta / (standard error), at the level of
    `CONFIDENCE`. The standard error is the interval's half-width over the critical t.

    Args:
        value: an estimate with Student's interval; of one that was cut off at a bound, the longer side counts.
        power: within (0.05, 1).
    Returns:
        delta, in the estimate's unit; infinite where it has no interval.

    >>> round(detectable_at(estimate([0.0, 1.0] * 10)), 3)
    0.339
    """
    from scipy import optimize, stats

    half, degrees = max(value.high - value.mean, value.mean - value.low), value.degrees
    if value.n < 2 or not math.isfinite(half):
        return math.inf
    critical = critical_t(degrees)

    def excess(shift: float) -> float:
        return float(stats.nct.sf(critical, degrees, shift)) - power  # the other tail adds less than 1e-3

    high = critical
    while excess(high) < 0:
        high *= 1.2  # in small steps: far out scipy's noncentral t is NaN
    return float(optimize.brentq(excess, 0.0, high)) * half / float(critical)


def agreement_p(n: int) -> float:
    """Return the two-sided p-value of n seeds that give one and the same value: the sign test's, 2^(1 - n).

    A metric that moves in whole images can differ by as many in every seed. Student's interval then has no width, which
    is no certainty: there is no spread to judge by, only the number of seeds.

    >>> agreement_p(4), agreement_p(6)
    (0.125, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - n))


def settled(value: float) -> float:
    """Round off what differs from processor to processor: what is compared, ordered or written goes through this.

    >>> settled(3e-16), settled(0.1 + 0.2)
    (0.0, 0.3)
    """
    return round(float(value), SETTLED) + 0.0  # no negative zero


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Write a settled number with a true minus sign; zero has no sign, the infinite its symbol, and NaN is nothing.

    Args:
        value: any.
        digits: decimals.
        signed: whether a plus stands before what is above zero.

    >>> number(-0.25), number(-0.0001), number(0.5, 1, signed=True)
    ('−0.250', '0.000', '+0.5')
    """
    if math.isnan(value):
        return ""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    text = f"{settled(value):{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def with_interval(value: Estimate, digits: int = 3, *, scale: float = 1, signed: bool = False, alone: str = "") -> str:
    """Write a mean with its interval; a single value has none, and neither has what is the same in every seed.

    Args:
        value: the estimate.
        digits, signed: as `number` takes them.
        scale: factor of all three numbers; 100 writes shares as points.
        alone: what stands behind a single value.

    >>> with_interval(Estimate(-0.12, -0.15, -0.09, 20)), with_interval(Estimate(0.5, -math.inf, math.inf, 1), 1)
    ('−0.120 [−0.150, −0.090]', '0.5')
    >>> with_interval(Estimate(0.5, 0.5, 0.5, 4), 1)
    '0.5 [in every seed]'
    """
    mean, low, high = (number(scale * end, digits, signed=signed) for end in (value.mean, value.low, value.high))
    if value.n > 1 and value.exact:
        return f"{mean} [in every seed]"
    return f"{mean} [{low}, {high}]" if value.n > 1 else mean + alone


def rank_correlations(x: Sequence[float], curves: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each curve with x: +1 rises throughout, -1 falls throughout.

    Args:
        x: the points, shape (point,).
        curves: one curve a seed, shape (seed, point). Values that agree to 12 decimals are tied; a curve that never
            changes gives 0: it neither rises nor falls.
    Returns:
        One number a seed.
    """
    from scipy.stats import spearmanr

    results = [
        0.0 if np.ptp(curve) == 0 else float(spearmanr(x, curve).statistic)
        for curve in np.round(np.asarray(curves, dtype=float), SETTLED)
    ]
    return np.array(results)
