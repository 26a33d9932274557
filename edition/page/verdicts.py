"""How a verdict appears on a page: a word, a sentence that follows from it, and a table of effects, closed at first."""

import html
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from edition.claims import Effect, Verdict
from edition.claims.claim import CLAIMS
from edition.figures.tables import p_value
from samlib.measures.statistics import Estimate, number

# State -> the mark of its square: it says what the square's colour repeats.
MARKS = {"confirmed": "✓", "contradicted": "✗", "mixed": "±", "undecided": "?", "not tested": "–"}


def verdict_html(verdict: Verdict) -> str:
    """Return a verdict as a small HTML table: state, claim, what was found, statistic, effects with intervals and n."""
    effects = all_effects_html(verdict)
    return (
        f'<div class="verdict {verdict_class(verdict)}" id="{verdict.id}">'
        f'<p><strong class="status">{verdict.state}</strong> '
        f"{html.escape(verdict.claim)} <em>({html.escape(verdict.place)})</em></p>"
        f"<p>{html.escape(found(verdict))}</p><p>Statistic: {html.escape(verdict.statistic)}.</p>"
        f"{f'<details><summary>effects</summary>{effects}{judged_by(verdict.id)}</details>' if effects else ''}</div>"
    )


def judged_by(id: str) -> str:
    """Return a line with a link to the function that judges a claim; "" where there is none."""
    judge = CLAIMS[id].judge if id in CLAIMS else None
    return f'<p class="source">Judged by {source_link(inspect.unwrap(judge))}.</p>' if judge else ""


def source_link(code: Callable[..., Any], text: str = "") -> str:
    """Return a link to where a function stands on its module's page, which `edition.publish.code` makes.

    Args:
        text: what is shown; "" for the function's full name.
    """
    name = code.__qualname__.partition(".<locals>")[0]  # the page has no place within a function
    return f'<a href="../code/{code.__module__}.html#{name}"><code>{text or f"{code.__module__}.{name}"}</code></a>'


def all_effects_html(verdict: Verdict) -> str:
    """Return a verdict's effects as an HTML table, and below it those that decide nothing, where there are any."""
    shown = effects_html(verdict.shown)
    return effects_html(verdict.effects) + (
        f"<p>In other statistics, which decide nothing:</p>{shown}" if shown else ""
    )


def found(verdict: Verdict) -> str:
    """Say in one sentence what the records show; its verb follows from the state.

    >>> found(Verdict("x", "here", "It falls.", "slope", []))
    'The records do not test this.'
    """
    verbs = {
        "confirmed": "The records show this",
        "contradicted": "The records show the contrary",
        "mixed": "The records show this in part",
        "undecided": "The records do not decide this",
        "not tested": "The records do not test this",
    }
    if not verdict.effects:
        return f"{verbs[verdict.state]}."
    scaled = f" Scaled down: {verdict.scaled_down}." if verdict.scaled_down else ""
    return f"{verbs[verdict.state]}: {verdict.counts}.{scaled}"


def verdict_class(verdict: Verdict) -> str:
    """Return the style classes of a verdict's colours: its state, and whether its runs are scaled down."""
    scaled = " scaled-down" if verdict.scaled_down else ""
    return f"verdict-{verdict.state.replace(' ', '-')}{scaled}"


def effects_html(effects: Sequence[Effect]) -> str:
    """Return measured effects as an HTML table, with what the claim predicts of each; nothing where none was."""
    if not effects:
        return ""
    p = "p, corrected" if all(effect.corrected is not None for effect in effects) else "p"
    heads = ("where", "mean", "95 % interval", "n", "predicted", p, "found", "would have seen")
    rows = "".join(
        f"<tr><td>{html.escape(effect.name)}</td><td>{'</td><td>'.join(written(effect.value))}</td>"
        f"<td>{effect.value.n}</td><td>{effect.prediction}</td>"
        f"<td>{told_p(effect)}</td><td>{effect.outcome if effect.decides else 'exploratory'}</td>"
        f"<td>{short(effect.detectable)}</td></tr>"
        for effect in effects
    )
    return (
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{rows}</tbody></table>"
    )


def told_p(effect: Effect) -> str:
    """Write an effect's p-value, corrected where it is of a family; a dash where it decides nothing."""
    if not effect.decides:
        return "–"
    return html.escape(p_value(effect.p if effect.corrected is None else effect.corrected))


def short(value: float, digits: int = 3) -> str:
    """Write a number with some decimals, and one that these would hide in powers of ten.

    >>> short(-0.25), short(0.00021), short(0.0)
    ('−0.250', '2.1e−04', '0.000')
    """
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:.1e}".replace("-", "−")
    return number(value, digits)


def written(value: Estimate) -> tuple[str, str]:
    """Write a mean and its interval, with decimals enough for its width; one of no width says what it is.

    >>> written(Estimate(0.09, -4e-4, 0.1804, 20)), written(Estimate(0.0011, 0.0009, 0.0013, 20))
    (('0.090', '[−4.0e−04, 0.180]'), ('0.00110', '[0.00090, 0.00130]'))
    """
    if value.n < 2:
        return short(value.mean), f"[{short(value.low)}, {short(value.high)}]"
    if value.exact:
        return short(value.mean), "[in every seed]"
    digits = min(max(3, 1 - math.floor(math.log10((value.high - value.low) / 2))), 5)
    return short(value.mean, digits), f"[{short(value.low, digits)}, {short(value.high, digits)}]"
