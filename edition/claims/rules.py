"""Verdicts computed from effects: which words a claim earns, and by which rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from samlib.config import check_choice
from samlib.measures.statistics import Estimate, settled

STATUSES = ("confirmed", "partly", "not confirmed", "not tested")


@dataclass(frozen=True)
class Effect:
    """One measured effect and what the claim predicts of it.

    Attributes:
        name: where it was measured, such as "360 degrees".
        value: mean over seeds with its 95 % interval, settled: a rounding error is no effect.
        predicted: "above" or "below" the threshold, or "within" it on both sides of zero (a match).
        threshold: value of no effect, or half-width of a match.
    """

    name: str
    value: Estimate
    predicted: str
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_choice("predicted", self.predicted, ("above", "below", "within"))
        mean, low, high = (settled(end) for end in (self.value.mean, self.value.low, self.value.high))
        object.__setattr__(self, "value", replace(self.value, mean=mean, low=low, high=high))

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies strictly on the predicted side, or strictly within the margin."""
        above, below = self.value.low > self.threshold, self.value.high < self.threshold
        if self.predicted == "within":
            return self.value.low > -self.threshold and below
        return above if self.predicted == "above" else below


@dataclass(frozen=True)
class Verdict:
    """A claim with its effects; the status is computed.

    Attributes:
        id: short name, unique in the book.
        place: where the paper makes the claim.
        claim: the claim in our words.
        statistic: what was computed, over what.
        effects: measurements; none means that nothing was run.
    """

    id: str
    place: str
    claim: str
    statistic: str
    effects: Sequence[Effect]

    @property
    def status(self) -> str:
        """Apply the rule: all effects hold, some do, none does, or none was measured.

        An effect holds if its whole 95 % interval over seeds lies strictly where the claim predicts it.
        """
        if not self.effects:
            return "not tested"
        held = sum(effect.holds for effect in self.effects)
        if held == len(self.effects):
            return "confirmed"
        return "partly" if held else "not confirmed"
