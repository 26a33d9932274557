"""The ledger: every claim with its verdict, computed from the records of one profile, as text and as plain values.

Reading it takes what doing runs takes, and no more: no notebook, no figure, no data set.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edition.claims import (
    appendix_d,
    appendix_f,
    appendix_g,
    appendix_h,
    beyond,
    section_4,
    section_5,
    section_6_1,
    section_6_2_interventions,
    section_6_2_rates,
    section_6_2_weights,
    space,
)
from edition.claims.claim import CLAIMS, PAPER, Claim
from edition.claims.rules import STATES, Effect, Verdict
from edition.records.store import finite
from edition.runs.results import Results, read
from samlib.measures.statistics import settled

# Parts of the paper and the files that hold their claims, in the paper's order.
FILES = {
    section_4: "Section 4: images",
    section_5: "Section 5: the toy",
    section_6_1: "Section 6.1: the phantom ratio",
    section_6_2_weights: "Section 6.2: importance weights",
    section_6_2_rates: "Section 6.2: learning rates",
    section_6_2_interventions: "Section 6.2: interventions",
    appendix_d: "Appendix D: theory",
    appendix_f: "Appendix F: new domains",
    appendix_g: "Appendix G: along the training",
    appendix_h: "Appendix H: noise and batch size",
    beyond: "Beyond the paper: controls",
    space: "Beyond the paper: the lost constants",
}
PARTS: dict[str, list[Claim]] = {
    part: [entry for entry in CLAIMS.values() if entry.file == file.__name__] for file, part in FILES.items()
}


@dataclass(frozen=True)
class Row:
    """One line of the ledger.

    Attributes:
        claim: as entered.
        part: of the paper; a key of `PARTS`.
        verdict: computed from records; without effects where nothing was measured.
        why: the reason where nothing was measured, "" elsewhere.
        page: file of the book that shows the verdict, with its anchor where it has one.
        space: in how many settings of the lost constants the claim holds; "" where that was not searched.
    """

    claim: Claim
    part: str
    verdict: Verdict
    why: str
    page: str
    space: str = ""

    @property
    def deciding(self) -> Effect | None:
        """The effect that is farthest from holding (see `strength`), the first of equals; None without effects.

        Of a claim about some case, which one case confirms, it is the one that is nearest to holding. Effects of
        exploratory runs come last.
        """
        sign = -1 if self.verdict.quantifier == "some" else 1

        def key(effect: Effect) -> tuple[bool, float]:
            return not effect.decides, sign * settled(strength(effect))

        return min(self.verdict.effects, key=key, default=None)

    def values(self) -> dict[str, Any]:
        """Return the row as plain values that JSON can hold; what is not finite becomes None.

        Returns:
            "id", "place", "claim", "statistic"; "value", "low", "high", "n" and "effect" (name) of the deciding
            effect; "effects", all; "why"; "page"; "figure", its page; "origin", who makes the claim; "state" (one of
            `STATES`); "held" and "reversed", numbers of effects;
            "quantifier"; "scaled_down", what of the paper's setting the runs scale down; "detectable", the smallest
            difference from the deciding effect's threshold that these runs find with 80 % power; "shown", effects in
            other statistics, which decide nothing; "space", as above.
        """
        deciding, verdict = self.deciding, self.verdict
        numbers = _numbers(deciding) if deciding else {"value": None, "low": None, "high": None, "n": 0}
        shown = {"id": self.claim.id, "place": self.claim.place, "claim": verdict.claim, "statistic": verdict.statistic}
        return shown | numbers | {
            "effect": deciding.name if deciding else None,
            "effects": [_effect(effect) for effect in verdict.effects],
            "why": self.why,
            "page": self.page,
            "figure": self.claim.figure,
            "origin": self.claim.origin,
            "state": verdict.state,
            "held": verdict.held,
            "reversed": verdict.reversed,
            "quantifier": verdict.quantifier,
            "scaled_down": verdict.scaled_down,
            "detectable": finite(deciding.detectable) if deciding else None,
            "shown": [_effect(effect) for effect in verdict.shown],
            "space": self.space,
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
    needed = {name for claims in parts.values() for claim in claims for name in (*claim.needs, *claim.also)}
    results = {name: read(name, profile) for name in sorted(needed)}
    ids = {claim.id for claims in parts.values() for claim in claims}
    searched = read("search", profile).records if ids & set(space.JUDGED) else ()
    shares = space.space(searched).shares if searched else None
    rows = [_row(claim, part, results) for part, claims in parts.items() for claim in claims]
    return [replace(row, space=space.share_told(shares, row.claim.id)) for row in rows]


def strength(effect: Effect) -> float:
    """Return how clearly an effect holds, without units: it holds exactly where this exceeds 1.

    The distance of the mean from the threshold, positive on the predicted side, over the distance of the mean from
    the interval's end that is nearer to the threshold: of the mean's margin, how many half-widths of its interval it
    is. Zero where there is no interval (one seed, or too few that agree exactly) or no distance; infinite where seeds
    enough agree exactly.

    >>> from samlib.measures.statistics import Estimate
    >>> strength(Effect("x", Estimate(0.5, 0.25, 0.75, 4), "above"))
    2.0
    >>> strength(Effect("x", Estimate(0.5, 0.25, 0.75, 4), "within", 0.625))
    0.5
    """
    value, threshold = effect.value, effect.threshold
    if not effect.enough:
        return 0.0
    below = _ratio(threshold - value.mean, value.high - value.mean)
    if effect.predicted == "within":
        return min(_ratio(value.mean + threshold, value.mean - value.low), below)
    return below if effect.predicted == "below" else _ratio(value.mean - threshold, value.mean - value.low)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Count rows by state, all states named."""
    found = [row.verdict.state for row in rows]
    return {state: found.count(state) for state in STATES}


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split into the paper's claims and the others, which are ours or later work's."""
    paper = [row for row in rows if row.claim.origin == PAPER]
    return paper, [row for row in rows if row.claim.origin != PAPER]


def text(rows: Sequence[Row]) -> str:
    """Write the ledger for a terminal: three lines a claim, then the counts."""
    lines = []
    for row in rows:
        verdict = row.verdict
        scaled = ", scaled down" if verdict.scaled_down else ""
        told = f"{verdict.counts}{scaled}; " if verdict.effects else ""
        lines.append(f"{verdict.state:13}  {row.claim.id}  ({told}{row.claim.place})")
        lines.append(f"    {verdict.claim}")
        lines.append(f"    {_measured(row.deciding)}; {verdict.statistic}" if row.deciding else f"    {row.why}")
        lines += [f"    {row.space}"] if row.space else []
    for name, part in zip(("the paper's claims", "others"), split(rows), strict=True):
        told = ", ".join(f"{count} {state}" for state, count in counts(part).items())
        lines.append(f"{name}: {len(part)}, of these {told}")
    return "\n".join(lines)


def _row(claim: Claim, part: str, results: Mapping[str, Results]) -> Row:
    """Judge one claim, or say why it cannot be judged."""
    lacking = [results[name] for name in claim.needs if not results[name].complete]
    verdict = claim.verdict(results)
    why = ""
    if claim.judge is None:
        why = claim.why
    elif lacking:
        why = _missing(lacking)
    elif not verdict.effects:
        why = "No case decides: the statistic wants two seeds or more, and cases to which it applies."
    return Row(claim, part, verdict, why, f"{claim.chapter}.html#{claim.id}")


def _missing(lacking: Sequence[Results]) -> str:
    """Say which runs have no record, and the command that makes them."""
    told = []
    for result in lacking:
        n = result.n_missing + len(result.records)
        if n:
            told.append(
                f"{result.n_missing} of {n} runs of {result.name} have no record; this makes them: {result.command}"
            )
        elif result.waits_for:
            told.append(f"{result.name} waits for other runs, which choose its settings: {result.command}")
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
    p = "" if effect.corrected is None else f"{effect.corrected:.3f}"
    p = f"; p {'< 0.001' if p == '0.000' else f'= {p}'}, corrected" if p and effect.decides else ""
    return f"{effect.value}, n = {effect.value.n} ({effect.name}; predicted {effect.prediction}{p})"


def _effect(effect: Effect) -> dict[str, Any]:
    """One effect as plain values."""
    told = {"predicted": effect.predicted, "threshold": effect.threshold, "decides": effect.decides}
    p = {"p": effect.p, "corrected_p": effect.corrected, "outcome": effect.outcome}
    return {"name": effect.name} | _numbers(effect) | told | p


def _numbers(effect: Effect) -> dict[str, float | int | None]:
    """Mean, ends and n; what is not finite becomes None."""
    value = effect.value
    numbers = {"value": value.mean, "low": value.low, "high": value.high}
    return finite(numbers) | {"n": int(value.n)}
