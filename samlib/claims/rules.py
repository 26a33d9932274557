"""Verdicts computed from effects: which words a claim earns, and by which rule."""

from collections.abc import Sequence
from dataclasses import dataclass

from samlib.statistics import Estimate

STATUSES = ("confirmed", "partly", "not confirmed", "not tested")


@dataclass(frozen=True)
class Effect:
    """One measured effect and the side of its threshold that the claim predicts.

    Attributes:
        name: where it was measured, such as "360 degrees".
        value: mean over seeds with its 95 % interval.
        predicted: "above" or "below" the threshold.
        threshold: value of no effect.
    """

    name: str
    value: Estimate
    predicted: str
    threshold: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies strictly on the predicted side."""
        if self.predicted == "above":
            return self.value.low > self.threshold
        return self.value.high < self.threshold


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

        An effect holds if its whole 95 % interval over seeds lies strictly on the predicted side of the threshold.
        """
        if not self.effects:
            return "not tested"
        held = sum(effect.holds for effect in self.effects)
        if held == len(self.effects):
            return "confirmed"
        return "partly" if held else "not confirmed"
