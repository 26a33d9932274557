"""Findings: the sentence below a figure, with n and interval, made from the estimates behind the verdicts."""

import math
from collections.abc import Mapping

from edition.claims import Verdict
from samlib.measures.statistics import Estimate, settled, with_interval


def finding(what: str, effects: Mapping[str, Estimate], *, over: str = "seeds") -> str:
    """Say in plain text what was measured, with intervals and n; of more than two effects the lowest and the highest.

    The extremes are named, not chosen, so that a sentence cannot pick the effect it likes.

    Args:
        what: what was computed, such as "probing error, SAM minus SGD".
        effects: where -> the estimate there.
        over: what the n values of an estimate are, in the plural.

    >>> finding("error, SAM minus SGD", {"360°": Estimate(-0.12, -0.15, -0.09, 20)})
    'Error, SAM minus SGD: −0.120 [−0.150, −0.090] (360°); n = 20 seeds, 95 % interval of the mean over seeds.'
    >>> finding("weight", {"here": Estimate(2.3e-6, 1.1e-6, 3.5e-6, 4)}).partition(" (")[0]
    'Weight: 0.0000023 [0.0000011, 0.0000035]'
    """
    told = what[:1].upper() + what[1:]
    if not effects:
        return f"{told}: not tested yet."
    ordered = sorted(effects.items(), key=lambda item: settled(item[1].mean))
    chosen = list(effects.items()) if len(ordered) <= 2 else [ordered[0], ordered[-1]]
    values = " and ".join(f"{with_interval(value, _decimals(value))} ({name})" for name, value in chosen)
    extremes = f", the lowest and the highest of {len(ordered)}" if len(ordered) > 2 else ""
    least, most = (end(value.n for value in effects.values()) for end in (min, max))
    n = f"n = {most if least == most else f'{least} to {most}'} {over}"
    plural = "s" if len(chosen) > 1 else ""
    intervals = f"{n}, 95 % interval{plural} of the mean over {over}"
    if most == 1:
        intervals = f"n = 1 of the {over}, so there is no interval"
    return f"{told}: {values}{extremes}; {intervals}."


def _decimals(value: Estimate) -> int:
    """Three decimals; where all of them would be zero, as many as show two digits of a mean above rounding errors."""
    size = abs(value.mean)
    return 3 if size < 1e-7 or size >= 5e-4 else 1 - math.floor(math.log10(size))


def finding_of(verdict: Verdict, *, over: str = "seeds") -> str:
    """Say a verdict's effects as `finding` does, under the words of its statistic up to the first semicolon."""
    effects = {effect.name: effect.value for effect in verdict.effects}
    return finding(verdict.statistic.partition(";")[0], effects, over=over)
