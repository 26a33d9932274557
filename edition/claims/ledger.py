"""The ledger: every claim with its verdict, computed from the records of one profile, as text and as plain values.

Reading it takes what `samlib` needs to do runs, and no more: no notebook, no figure, no data set.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edition.claims.registry import LEDGER, PAPER, PARTS, Claim
from edition.claims.rules import STATUSES, Effect, Verdict
from edition.runs.results import Results, read
from samlib.measures.statistics import settled


@dataclass(frozen=True)
class Row:
    """One line of the ledger.

    Attributes:
        claim: as registered.
        part: of the paper; a key of `edition.claims.registry.PARTS`.
        verdict: computed from records; without effects where nothing was measured.
        why: the reason where nothing was measured, "" elsewhere.
        page: file of the book that shows the verdict, with its anchor where it has one.
    """

    claim: Claim
    part: str
    verdict: Verdict
    why: str
    page: str

    @property
    def deciding(self) -> Effect | None:
        """The effect that is farthest from holding (see `strength`), the first of equals; None without effects."""
        return min(self.verdict.effects, key=lambda effect: settled(strength(effect)), default=None)

    def values(self) -> dict[str, Any]:
        """Return the row as plain values that JSON can hold; what is not finite becomes None.

        Returns:
            "id", "place", "claim", "statistic"; "value", "low", "high", "n" and "effect" (name) of the deciding
            effect; "verdict"; "effects", all; "why"; "page"; "figure", its page; "origin", who makes the claim.
        """
        deciding, verdict = self.deciding, self.verdict
        numbers = _numbers(deciding) if deciding else {"value": None, "low": None, "high": None, "n": 0}
        shown = {"id": self.claim.id, "place": self.claim.place, "claim": verdict.claim, "statistic": verdict.statistic}
        return shown | numbers | {
            "verdict": verdict.status,
            "effect": deciding.name if deciding else None,
            "effects": [_effect(effect) for effect in verdict.effects],
            "why": self.why,
            "page": self.page,
            "figure": self.claim.figure,
            "origin": self.claim.origin,
        }  # fmt: skip


def ledger(profile: str = "paper", parts: Mapping[str, Sequence[Claim]] | None = None) -> list[Row]:
    """Judge every claim from what is on record; train nothing.

    Args:
        profile: whose records.
        parts: claims by part of the paper; None means all.
    Returns:
        One row a claim, in their order.
    Raises:
        RecordError: a record cannot be read or trusted.
        ValueError: records that cannot be compared, or an unknown profile.
    """
    parts = PARTS if parts is None else parts
    needed = {name for claims in parts.values() for claim in claims for name in claim.needs}
    results = {name: read(name, profile) for name in sorted(needed)}
    return [_row(claim, part, results) for part, claims in parts.items() for claim in claims]


def strength(effect: Effect) -> float:
    """Return how clearly an effect holds, without units: it holds exactly where this exceeds 1.

    The distance of the mean from the threshold, positive on the predicted side, over the distance of the mean from
    the interval's end that is nearer to the threshold: of the mean's margin, how many half-widths of its interval it
    is. Zero where there is no interval (one seed) or no distance; infinite where all seeds agree exactly.

    >>> from samlib.measures.statistics import Estimate
    >>> strength(Effect("x", Estimate(0.5, 0.25, 0.75, 4), "above"))
    2.0
    >>> strength(Effect("x", Estimate(0.5, 0.25, 0.75, 4), "within", 0.625))
    0.5
    """
    value, threshold = effect.value, effect.threshold
    below = _ratio(threshold - value.mean, value.high - value.mean)
    if effect.predicted == "within":
        return min(_ratio(value.mean + threshold, value.mean - value.low), below)
    return below if effect.predicted == "below" else _ratio(value.mean - threshold, value.mean - value.low)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Count rows by verdict, all verdicts named."""
    found = [row.verdict.status for row in rows]
    return {status: found.count(status) for status in STATUSES}


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split into the paper's claims and the others, which are ours or later work's."""
    paper = [row for row in rows if row.claim.origin == PAPER]
    return paper, [row for row in rows if row.claim.origin != PAPER]


def text(rows: Sequence[Row]) -> str:
    """Write the ledger for a terminal: three lines a claim, then the counts.

    Args:
        rows: those to print.
    """
    lines = []
    for row in rows:
        verdict = row.verdict
        lines.append(f"{verdict.status:13}  {row.claim.id}  ({row.claim.place})")
        lines.append(f"    {verdict.claim}")
        lines.append(f"    {_measured(row.deciding)}; {verdict.statistic}" if row.deciding else f"    {row.why}")
    for name, part in zip(("the paper's claims", "others"), split(rows), strict=True):
        told = ", ".join(f"{count} {status}" for status, count in counts(part).items())
        lines.append(f"{name}: {len(part)}, of these {told}")
    return "\n".join(lines)


def _row(claim: Claim, part: str, results: Mapping[str, Results]) -> Row:
    """Judge one claim, or say why it cannot be judged."""
    lacking = [results[name] for name in claim.needs if not results[name]]
    if lacking or claim.judge is None:
        page = f"{LEDGER}.html#{claim.id}" if claim.judge is None else f"{claim.chapter}.html"
        return Row(claim, part, claim.untested(), claim.why or _missing(lacking), page)
    verdict = claim.judge(results)
    why = (
        ""
        if verdict.effects
        else "Too little is on record for the statistic: it wants two seeds or more, and cases to which it applies."
    )
    anchor = claim.id if claim.chapter == LEDGER else verdict.id  # below "paper" a stand-in's verdict has its own id
    return Row(claim, part, verdict, why, f"{claim.chapter}.html#{anchor}")


def _missing(lacking: Sequence[Results]) -> str:
    """Say which runs have no record, and the command that makes them."""
    told = []
    for result in lacking:
        n = result.n_missing + len(result.records)
        if n:
            told.append(
                f"{result.n_missing} of {n} runs of {result.name} have no record; this makes them: {result.command}"
            )
        else:
            told.append(f"{result.name} has no runs at profile {result.profile}")
    return "; ".join(told)


def _ratio(distance: float, width: float) -> float:
    """Divide; a width of zero leaves only the sign, an infinite one nothing."""
    if width == 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / width


def _measured(effect: Effect) -> str:
    """Write an effect in one line."""
    return f"{effect.value}, n = {effect.value.n} ({effect.name}; predicted {effect.predicted} {effect.threshold:g})"


def _effect(effect: Effect) -> dict[str, Any]:
    """One effect as plain values."""
    told = {"predicted": effect.predicted, "threshold": effect.threshold, "holds": effect.holds}
    return {"name": effect.name} | _numbers(effect) | told


def _numbers(effect: Effect) -> dict[str, float | int | None]:
    """Mean, ends and n; what is not finite becomes None."""
    value = effect.value
    numbers = {"value": value.mean, "low": value.low, "high": value.high}
    return {name: float(x) if math.isfinite(x) else None for name, x in numbers.items()} | {"n": int(value.n)}
