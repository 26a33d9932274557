"""A claim is one decorated function: the decorator says who makes it, where and in which words, the function judges it.

@claim(
    "toy-hard-error-lower",
    place="Section 5.2, Figures 1 and 2(A)",
    says="LSAM represents the hard feature better than SGD does.",
    statistic="hard-feature probing error, LSAM minus SGD, paired by seed",
    chapter="02_toy_setup",
    figure="fig-2a",
    needs="complexity",
)
def hard_error_lower(complexity: Results) -> list[Effect]: ...
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edition.claims.rules import Effect, Verdict
from edition.records.store import Record
from edition.runs.results import NotOnRecord, Results

LEDGER = "claims"  # the page that shows a claim which no chapter shows
PAPER, OURS, LATER = ORIGINS = ("the paper", "ours", "later work")


class Judged(NamedTuple):
    """What a judge may return in place of a list of effects.

    Attributes:
        effects: what was measured; empty where the records hold too little.
        note: what belongs to the statistic and is known from the records alone.
        scaled_down: what of the paper's setting the runs scale down.
        shown: other statistics of the same, which decide nothing.
        records: what all of this was measured on, where that is not every record of the claim's `needs`.
    """

    effects: Sequence[Effect]
    note: str = ""
    scaled_down: str = ""
    shown: Sequence[Effect] = ()
    records: Sequence[Record] = ()


@dataclass(frozen=True)
class Claim:
    """One claim and how it is judged; see `claim` for the fields."""

    id: str
    place: str
    says: str
    statistic: str
    chapter: str
    figure: str
    needs: Sequence[str]
    also: Sequence[str]
    origin: str
    quantifier: str
    why: str
    judge: Callable[..., Judged | list[Effect]] | None = field(compare=False)
    file: str = ""

    def verdict(self, results: Mapping[str, Results]) -> Verdict:
        """Judge the claim.

        Args:
            results: by experiment; those of `needs` count. A claim whose results are not complete is not tested, nor
                is one of which a run is not among an experiment's configurations (other radii, say).
        """
        loaded = [results.get(name) for name in self.needs]
        complete = all(result and result.complete for result in loaded)
        given = [results.get(name) for name in (*self.needs, *self.also)]
        found: Any = []
        if self.judge and complete:
            with contextlib.suppress(NotOnRecord):
                found = self.judge(*given)
        judged = found if isinstance(found, Judged) else Judged(found)
        reduced = [results[name].profile for name in self.needs if complete and results[name].profile != "paper"]
        scaled = "; ".join(filter(None, [judged.scaled_down, f"profile {reduced[0]}" if reduced else ""]))
        used = set(map(id, judged.records))
        holding = (result.name for result in given if result and used & set(map(id, result.records)))
        return Verdict(
            self.id,
            self.place,
            self.says,
            self.statistic + judged.note,
            judged.effects,
            self.quantifier,
            scaled,
            judged.shown,
            tuple(holding) or tuple(self.needs),
        )


CLAIMS: dict[str, Claim] = {}


def claim(
    id: str,
    *,
    place: str,
    says: str,
    statistic: str,
    chapter: str = LEDGER,
    figure: str = "",
    needs: str | Sequence[str] = (),
    also: str | Sequence[str] = (),
    origin: str = PAPER,
    quantifier: str = "in general",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a claim into the ledger, in the order in which they are entered.

    The function below it takes the `Results` of the experiments in `needs`, in their order, and returns a list of
    `Effect`, or `Judged`; it is left as it is.

    Args:
        id: short name, unique in the book.
        place: where the claim is made, and by whom where it is not the paper's.
        says: the claim in one sentence.
        statistic: what tests it, over what.
        chapter: the page that shows its verdict, without ending; `LEDGER` where no chapter does.
        figure: anchor of its figure or table in the chapter, or "page#anchor" where it is in another; "" for none.
        needs: experiments whose results it is judged from; none for what is computed on the spot.
        also: experiments whose results count too where they are complete; the function takes them after `needs`.
        origin: one of `ORIGINS`.
        quantifier: what it speaks of: "every" case, "some" case, or what happens "in general", or "alike".
    Raises:
        ValueError: the id is taken.
    """

    def enter(judge: Callable[..., Any]) -> Callable[..., Any]:
        page, _, anchor = figure.rpartition("#")
        link = f"{page or chapter}.html#{anchor}" if anchor else ""
        words = (id, place, says, statistic, chapter, link, _tuple(needs), _tuple(also), origin, quantifier, "")
        _enter(Claim(*words, judge, judge.__module__))
        return judge

    return enter


def cannot_be_judged(id: str, *, place: str, says: str, statistic: str, why: str, file: str) -> None:
    """Enter a claim that nobody can judge, with the reason; `file` is the `__name__` of the file that enters it."""
    _enter(Claim(id, place, says, statistic, LEDGER, "", (), (), PAPER, "in general", why, None, file))


def _enter(entry: Claim) -> None:
    """Add one claim."""
    if entry.id in CLAIMS:
        raise ValueError(f"id: expected one that no other claim has, got {entry.id!r} again; rename one of them")
    CLAIMS[entry.id] = entry


def _tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several."""
    return (names,) if isinstance(names, str) else tuple(names)
