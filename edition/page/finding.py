"""Findings: the sentence below a figure, with n and interval, made from the estimates behind the verdicts."""

from collections.abc import Mapping
from typing import Any

from edition.claims import Verdict
from edition.page.verdicts import written
from samlib.measures.statistics import Estimate, settled, with_interval


def finding(what: str, effects: Mapping[str, Estimate], *, over: str = "seeds", points: bool = False) -> str:
    """Say in plain text what was measured, with intervals and n; of more than two effects the lowest and the highest.

    The extremes are named, not chosen, so that a sentence cannot pick the effect it likes.

    Args:
        what: what was computed, such as "probing error, SAM minus SGD".
        effects: where -> the estimate there.
        over: what the n values of an estimate are, in the plural.
        points: write shares as percentage points, as the figure above does.

    >>> finding("error, SAM minus SGD", {"360°": Estimate(-0.12, -0.15, -0.09, 20)})
    'Error, SAM minus SGD: −0.120 [−0.150, −0.090] (360°); n = 20 seeds, 95 % interval of the mean over seeds.'
    >>> finding("error", {"here": Estimate(-0.12, -0.15, -0.09, 20)}, points=True).partition(" (")[0]
    'Error, in points: −12.00 [−15.00, −9.00]'
    """
    told = what[:1].upper() + what[1:] + (", in points" if points else "")
    if not effects:
        return f"{told}: not tested yet."
    ordered = sorted(effects.items(), key=lambda item: settled(item[1].mean))
    chosen = list(effects.items()) if len(ordered) <= 2 else [ordered[0], ordered[-1]]
    values = " and ".join(f"{_written(value, points)} ({name})" for name, value in chosen)
    extremes = f", the lowest and the highest of {len(ordered)}" if len(ordered) > 2 else ""
    least, most = (end(value.n for value in effects.values()) for end in (min, max))
    n = f"n = {most if least == most else f'{least} to {most}'} {over}"
    plural = "s" if len(chosen) > 1 else ""
    intervals = f"{n}, 95 % interval{plural} of the mean over {over}"
    if most == 1:
        intervals = f"n = 1 of the {over}, so there is no interval"
    return f"{told}: {values}{extremes}; {intervals}."


def _written(value: Estimate, points: bool) -> str:
    if points:
        return with_interval(value, 2, scale=100, signed=True)
    return " ".join(written(value)) if value.n > 1 else written(value)[0]


def finding_of(verdict: Verdict, **options: Any) -> str:
    """Say a verdict's effects as `finding` does, under the words of its statistic up to the first semicolon."""
    effects = {effect.name: effect.value for effect in verdict.effects}
    return finding(verdict.statistic.partition(";")[0], effects, **options)
