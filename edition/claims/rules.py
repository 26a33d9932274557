"""Verdicts computed from effects: which state a claim is in, and by which rule.

An effect is one measured case of a claim. It *holds* where its whole interval lies where the claim predicts it, is
*reversed* where the whole interval lies on the other side, and is *undecided* otherwise, with the p-value corrected for
all cases of its family (Holm, 1979): of many cases some would look decided by chance. Where all seeds give the same
value there is no interval, and their number decides (`samlib.measures.statistics.agreement_p`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy

from samlib.config import check_choice
from samlib.measures.statistics import CONFIDENCE, Estimate, agreement_p, critical_t, detectable_at, settled

STATES = ("confirmed", "contradicted", "mixed", "undecided", "not tested")
QUANTIFIERS = ("in general", "every", "some", "alike")


@dataclass(frozen=True)
class Effect:
    """One measured effect and what the claim predicts of it.

    Attributes:
        name: where it was measured, such as "360 degrees".
        value: mean over seeds with its 95 % interval, settled: a rounding error is no effect.
        predicted: "above" or "below" the threshold, or "within" it on both sides of zero (a match).
        threshold: value of no effect, or half-width of a match; where a claim asks for a least effect, that.
        none: where the threshold is a least effect, the value of none: an effect is reversed only beyond it; between
            the two it is too small.
        p: two-sided p-value of the side of the threshold that the mean is on (of a match: of the nearer of its two
            thresholds), from the interval by Student's t; None computes it.
        corrected: the same, corrected for the effect's family; None where it is no member of one yet.
        beyond: the p-value of the mean's distance from `none`, corrected likewise; None computes it, uncorrected.
        decides: False of runs that suggest and decide nothing: those made before their analysis was fixed.
    """

    name: str
    value: Estimate
    predicted: str
    threshold: float = 0.0
    none: float | None = None
    p: float | None = None
    corrected: float | None = None
    beyond: float | None = None
    decides: bool = True

    def __post_init__(self) -> None:
        check_choice("predicted", self.predicted, ("above", "below", "within"))
        mean, low, high = (settled(end) for end in (self.value.mean, self.value.low, self.value.high))
        object.__setattr__(self, "value", replace(self.value, mean=mean, low=low, high=high))
        object.__setattr__(self, "threshold", settled(self.threshold))
        if self.p is None:
            object.__setattr__(self, "p", _p_value(self.value, self._distance))
        if self.none is not None and self.beyond is None:
            object.__setattr__(self, "beyond", _p_value(self.value, self.value.mean - self.none))

    @property
    def prediction(self) -> str:
        """What is predicted, in words: "below −0.0217"."""
        return f"{self.predicted} {self.threshold:.3g}".replace("-", "−")

    @property
    def _distance(self) -> float:
        """How far the mean is from the threshold, positive on the predicted side."""
        if self.predicted == "within":
            return self.threshold - abs(self.value.mean)
        return self.value.mean - self.threshold if self.predicted == "above" else self.threshold - self.value.mean

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies strictly on the predicted side, or strictly within the margin."""
        if not self.enough:
            return False
        above, below = self.value.low > self.threshold, self.value.high < self.threshold
        if self.predicted == "within":
            return self.value.low > -self.threshold and below
        return above if self.predicted == "above" else below

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough: an interval, or so many that agree exactly that it is no chance."""
        return not self.value.exact or agreement_p(self.value.n) < 1 - CONFIDENCE

    @property
    def outcome(self) -> str:
        """The effect's own state, after correction: "holds", "reversed", "too small" or "undecided"."""
        p = self.p if self.corrected is None else self.corrected
        if p is None or not p < 1 - CONFIDENCE or self._distance == 0 or not self.decides:
            return "undecided"
        if self._distance > 0:
            return "holds"
        if self.none is None or self.beyond is None:
            return "reversed"
        other_side = self.value.mean > self.none if self.predicted == "below" else self.value.mean < self.none
        return "reversed" if other_side and self.beyond < 1 - CONFIDENCE else "too small"

    @property
    def detectable(self) -> float:
        """The smallest difference from the threshold that such runs find with 80 % power, before correction.

        NaN where all seeds agree exactly: without a spread it is not known.
        """
        return math.nan if self.value.n > 1 and self.value.exact else detectable_at(self.value)


def _p_value(value: Estimate, distance: float) -> float:
    """Two-sided p-value of a mean at a distance from its threshold, from the interval's half-width."""
    half = settled(max(value.high - value.mean, value.mean - value.low))
    if value.n < 2 or not math.isfinite(half):
        return 1.0
    if half == 0:
        return agreement_p(value.n) if distance else 1.0
    degrees = value.degrees
    error = half / critical_t(degrees)
    return float(2 * scipy.stats.t.sf(abs(distance) / error, degrees))


def corrected(effects: Sequence[Effect]) -> list[Effect]:
    """Return effects with their p-values corrected as one family by Holm's method."""
    own, beyond = holm(np.array([[getattr(e, name) for e in effects] for name in ("p", "beyond")], dtype=float))
    return [
        replace(e, corrected=float(p), beyond=None if e.beyond is None else float(other))
        for e, p, other in zip(effects, own, beyond, strict=True)
    ]


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values by Holm's method, (family, p); NaN is no member of its family.

    Libraries correct one family a call: the search has thousands.

    >>> holm(np.array([[0.04, 0.01, np.nan, 0.03]])).round(3).tolist()
    [[0.06, 0.03, nan, 0.06]]
    """
    order = np.argsort(p, axis=1)  # NaN last
    ordered = np.take_along_axis(p, order, 1)
    left = (~np.isnan(p)).sum(1, keepdims=True) - np.arange(p.shape[1])
    raised = np.minimum(np.maximum.accumulate(ordered * left, axis=1), 1.0)
    found = np.empty_like(p)
    np.put_along_axis(found, order, raised, 1)
    return found


@dataclass(frozen=True)
class Verdict:
    """A claim with its effects; the state is computed.

    Attributes:
        id: short name, unique in the book.
        place: where the paper makes the claim.
        claim: the claim in our words.
        statistic: what was computed, over what.
        effects: measurements; none means that nothing was run. Those that are no family's yet become one.
        quantifier: what the claim speaks of: "every" case, "some" case, or what happens "in general"; "alike" asks all
            cases to be decided one way, as book/protocol.md does for importance weights.
        scaled_down: what of the paper's setting the runs scale down; "" where nothing.
        shown: other statistics of the same, by name; they decide nothing.
        experiments: whose records all of this was measured on.
    """

    id: str
    place: str
    claim: str
    statistic: str
    effects: Sequence[Effect]
    quantifier: str = "in general"
    scaled_down: str = ""
    shown: Sequence[Effect] = field(default=())
    experiments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("quantifier", self.quantifier, QUANTIFIERS)
        own = iter(corrected([effect for effect in self.effects if effect.corrected is None]))
        object.__setattr__(self, "effects", [next(own) if e.corrected is None else e for e in self.effects])

    @cached_property
    def outcomes(self) -> list[str]:
        """Every effect's own state."""
        return [effect.outcome for effect in self.effects]

    @property
    def held(self) -> int:
        """How many effects hold."""
        return self.outcomes.count("holds")

    @property
    def reversed(self) -> int:
        """How many effects lie on the other side."""
        return self.outcomes.count("reversed")

    @property
    def state(self) -> str:
        """Apply the rule.

        confirmed: all effects hold; of a claim about some case, one does.
        contradicted: some are reversed and none holds; of a claim about every case, one is reversed, about some case,
            all are.
        mixed: some hold, and others do not.
        undecided: no effect is decided.
        Of a claim about cases that go "alike": contradicted where all are reversed, mixed where some hold and others
        are reversed, undecided elsewhere.
        not tested: there is no effect.
        """
        if not self.effects:
            return "not tested"
        if self.held == len(self.effects) or (self.quantifier == "some" and self.held):
            return "confirmed"
        if self.quantifier in ("alike", "some"):
            if self.reversed == len(self.effects):
                return "contradicted"
            return "mixed" if self.held and self.reversed else "undecided"
        if self.reversed and (self.quantifier == "every" or not self.held):
            return "contradicted"
        return "mixed" if self.held else "undecided"

    @property
    def counts(self) -> str:
        """Say how many effects there are of each outcome, such as "3 of 5 hold, 1 reversed"."""
        told = f"{self.held} of {len(self.effects)} {'holds' if self.held == 1 else 'hold'}"
        explored = sum(not effect.decides for effect in self.effects)
        others = (self.reversed, "reversed"), (self.outcomes.count("too small"), "too small"), (explored, "exploratory")
        return told + "".join(f", {n} {word}" for n, word in others if n)
