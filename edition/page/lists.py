"""Pages that list: the ledger of claims, the records with their provenance, the benchmarks' sources."""

import html
import math
from collections.abc import Sequence
from typing import Any

from IPython.display import HTML

from edition.claims.claim import LEDGER
from edition.claims.ledger import Row, counts, split
from edition.experiments import EXPERIMENTS, Experiment
from edition.figures.tables import Html, table
from edition.page.verdicts import MARKS, all_effects_html, found, judged_by, short, told_p, verdict_class, written
from edition.records.kinds import KINDS
from edition.records.store import Record
from edition.runs import Run
from edition.runs.results import Results, box, read
from samlib.config import from_dict


def verdict_squares(rows: Sequence[Row]) -> str:
    """Return the ledger as HTML squares: a line for each part of the paper, a square with a mark for each claim.

    A square leads to its claim on the claims page, and says verdict, claim and place in words where a pointer rests on
    it and to a screen reader; it is hatched where the runs are scaled down. A legend above counts the states, those of
    scaled-down runs apart.
    """
    whole, scaled = (counts([r for r in rows if bool(r.verdict.scaled_down) is given]) for given in (False, True))
    legend = f"<li>{len(rows)} claims:</li>"
    for state in whole:
        squares = ((whole[state], ""), (scaled[state], " scaled-down"))
        told = " ".join(f"{_square(state, style)} {count}" for count, style in squares if count)
        legend += f"<li>{told} {state}</li>" if told else ""
    legend += "<li>(hatched: scaled down)</li>" if any(scaled.values()) else ""
    parts = dict.fromkeys(row.part for row in rows)
    lines = "".join(
        f"<dt>{html.escape(part)}</dt><dd>{' '.join(_linked_square(row) for row in rows if row.part == part)}</dd>"
        for part in parts
    )
    return f'<div class="squares"><ul>{legend}</ul><dl>{lines}</dl></div>'


def _square(state: str, style: str) -> str:
    """Return one square of the legend; its word stands beside it."""
    return f'<span class="square verdict-{state.replace(" ", "-")}{style}" aria-hidden="true">{MARKS[state]}</span>'


def _linked_square(row: Row) -> str:
    """Return one claim's square: a link to the claim, with its words."""
    verdict = row.verdict
    counted = f" ({verdict.counts})" if verdict.effects else ""
    told = f"{verdict.state}{counted}: {verdict.claim.rstrip('.')} ({verdict.place})"
    told = html.escape(told + ("; scaled down" if verdict.scaled_down else ""))
    return (
        f'<a class="square {verdict_class(verdict)}" href="{LEDGER}.html#{row.claim.id}" '
        f'aria-label="{told}" title="{told}">{MARKS[verdict.state]}</a>'
    )


def claims_table(rows: Sequence[Row]) -> str:
    """Return the ledger as an HTML table: verdict; claim, place, statistic, deciding value, all effects, records.

    Args:
        rows: those to show, in order; a line opens each part of the paper.
    """
    told, part = [], ""
    for row in rows:
        if row.part != part:
            part = row.part
            told.append(f'<tr><th colspan="2" scope="rowgroup">{html.escape(part)}</th></tr>')
        told.append(_claim_row(row))
    return (
        '<table class="summary"><thead><tr><th>verdict</th><th>claim, statistic, deciding value [95 % interval]</th>'
        f"</tr></thead><tbody>{''.join(told)}</tbody></table>"
    )


def _claim_row(row: Row) -> str:
    """Return one claim's row, with its anchor and a link to the verdict on the page that shows it."""
    verdict, words = row.verdict, html.escape(row.verdict.claim)
    if row.claim.chapter != LEDGER:
        words = f'<a href="{row.page}">{words}</a>'
    told = f"{words} <em>({html.escape(row.claim.place)})</em><br>"
    if verdict.effects:
        told += f"{html.escape(found(verdict))}<br>"
    told += f"Statistic: {html.escape(verdict.statistic)}.<br>{_deciding(row)}"
    if row.space:
        told += f'<br><a href="08_lost_constants.html">Over the space</a>: {html.escape(row.space)}.'
    if verdict.experiments:
        links = ", ".join(f'<a href="records.html#{name}">{name}</a>' for name in verdict.experiments)
        told += f"<br>Records: {links}."
    if row.claim.figure and verdict.effects:
        told += f' <a href="{row.claim.figure}">Figure or table</a>.'
    if len(verdict.effects) > 1 or verdict.shown:
        n = len(verdict.effects)
        heading = f"all {n} effects" if n > 1 else "other statistics"
        told += f"<details><summary>{heading}</summary>{all_effects_html(verdict)}</details>"
    told += judged_by(row.claim.id)
    return (
        f'<tr id="{row.claim.id}"><td><span class="{verdict_class(verdict)}"><strong class="status">{verdict.state}'
        f"</strong></span></td><td>{told}</td></tr>"
    )


def _deciding(row: Row) -> str:
    """Return the deciding effect, or the reason why there is none."""
    effect = row.deciding
    if effect is None:
        return html.escape(row.why)
    value, seen = effect.value, effect.detectable
    told = told_p(effect)
    p = f"; p {'' if told.startswith('&lt;') else '= '}{told} after correction" if effect.decides else ""
    known = f"; these runs would have found {short(seen)} from there with 80 % power, before correction"
    return (
        f"<strong>{' '.join(written(value))}</strong>, n = {value.n}: "
        f"{html.escape(effect.name)}, predicted {effect.prediction}{p}{'' if math.isnan(seen) else known}."
    )


def not_tested(rows: Sequence[Row]) -> str:
    """Return HTML that lists every claim that was not tested, with the reason."""
    items = "".join(
        f'<li><a href="#{row.claim.id}">{html.escape(row.verdict.claim.rstrip("."))}</a> '
        f"({html.escape(row.claim.place)}). {html.escape(row.why)}</li>"
        for row in rows
        if row.why
    )
    return f"<ul>{items}</ul>" if items else "<p>None: all claims were tested.</p>"


def counted(rows: Sequence[Row]) -> str:
    """Say in two sentences (Markdown) how many claims are in which state, the paper's and the others apart."""
    paper, others = split(rows)
    return (
        f"Of the paper's **{len(paper)}** claims, {_counts(paper)}. Counted apart: of **{len(others)}** questions of "
        f"this book or of later work, {_counts(others)}."
    )


def _counts(rows: Sequence[Row]) -> str:
    """Count every verdict that occurs, in words."""
    told = [f"**{n}** {'is' if n == 1 else 'are'} {state}" for state, n in counts(rows).items() if n]
    return " and ".join(filter(None, (", ".join(told[:-1]), told[-1]))) if told else "none"


def benchmark_source(record: dict[str, Any]) -> str:
    """Return the line that says which benchmark record is shown, with a link to it.

    Args:
        record: what `edition.bench.record.load` returned for one machine.
    """
    origin = record["provenance"]
    told = (
        f"{origin['device']}, revision {origin['revision']}, torch {origin['versions'].get('torch')}, {origin['utc']}"
    )
    link = f'<a href="../results/bench/{record["path"].name}">{record["path"].stem}</a>'
    return f'<p class="source">Source: benchmark record {link}: {html.escape(told)}.</p>'


def benchmark_box(device: str, what: str = "all") -> HTML:
    """Return the box that stands where a kind of machine has not been measured, with the command that does it."""
    told = f"No benchmark record was made on <em>{html.escape(device)}</em>. This makes one:"
    return box("Not measured yet.", told, f"python -m edition.bench {what} --device {device} --record")


IMPLEMENTATIONS = {"sam": "ours", "two_step_sam": "two-step", "pytorch_optimizer_sam": "pytorch-optimizer"}


def uses_table(record: dict[str, Any] | None) -> str:
    """Return HTML with one row a use and one column an implementation, and the source; a box where nothing is recorded.

    Args:
        record: what `edition.bench.record.load_untimed` returned.
    """
    if record is None:
        return str(box("Not measured yet.", "This tries them all:", "python -m edition.bench uses --record").data)
    rows, origin = record["measured"], record["provenance"]
    columns = [name for name in IMPLEMENTATIONS if name in rows[0]]
    head = "".join(f"<th>{IMPLEMENTATIONS[name]}</th>" for name in columns)
    lines = [
        f"<tr><td>{html.escape(row['what'])}</td>" + "".join(f"<td>{row[name]}</td>" for name in columns) + "</tr>"
        for row in rows
    ]
    told = ", ".join(
        f"{IMPLEMENTATIONS[name]} {sum(row[name] == outcome for row in rows)} {outcome}"
        for name in columns
        for outcome in ("right", "wrong", "refused")
    )
    versions = f"torch {origin['versions'].get('torch')}, pytorch-optimizer {origin['pytorch_optimizer']}"
    link = f'<a href="../results/uses/{record["path"].name}">uses</a>'
    return (
        f"<table><thead><tr><th>use</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        f'<p class="source">Of {len(rows)}: {told}. Source: record {link}: revision {origin["revision"]}, '
        f"{html.escape(versions)}, {origin['utc']}.</p>"
    )


def record_tables(profile: str) -> str:
    """Return HTML with one section an experiment: title, command that makes its runs, and a table of its records."""
    return "".join(_record_section(item, read(item.name, profile)) for item in EXPERIMENTS.values())


def _record_section(item: Experiment, results: Results) -> str:
    n_needed = len(results.records) + results.n_missing
    changes = "configuration (what differs from the defaults)"
    heads = ("record", changes, "revision", "machine", "torch", "seconds", "UTC")
    listed = table(heads, [_record_row(record, results.profile == "paper") for record in results.records], wrap=True)
    options = (f"--experiment {item.name}", f"--profile {results.profile}")  # a line does not break inside one
    command = " ".join(["python -m edition runs start", *(f'<span class="option">{told}</span>' for told in options)])
    return (
        f'<section id="{item.name}"><h2>{html.escape(item.title)}</h2>'
        f"<p>Experiment <em>{item.name}</em>: {len(results.records)} of {n_needed} runs recorded"
        f"{f', waiting for <em>{results.waits_for}</em>' if results.waits_for else ''}. To make them: "
        f"<code>{command}</code></p><details><summary>All records</summary>{listed}</details></section>"
    )


def _record_row(record: Record, committed: bool) -> tuple[object, ...]:
    """Return one record's row: a link to the file, which pages hold of committed records alone, and its provenance."""
    origin = record.provenance
    told = Run(record.kind, from_dict(KINDS[record.kind].config, record.config)).changes
    revision = f"{origin['revision']}{' (modified)' if origin['dirty'] else ''}"
    link = Html(f'<a href="../results/{record.kind}/{record.id}.json">{record.id}</a>') if committed else record.id
    torch = origin["versions"].get("torch")
    return link, told, revision, origin["device"], torch, origin["wall_seconds"], origin["utc"]


def summary(rows: Sequence[Row]) -> str:
    """Return the summary's core as Markdown: the paper's claims by state, each with its deciding effect in a line."""
    paper, others = split(rows)
    told = [counted(rows)]
    for state, words in (
        ("confirmed", "What held"),
        ("contradicted", "What came out the other way"),
        ("mixed", "What held in part"),
        ("undecided", "What our runs do not decide"),
    ):
        lines = [_line(row) for row in _of(paper, state)]
        told.append(f"## {words}\n\n" + ("\n".join(lines) or "Nothing."))
    for words, chosen in (
        ("What was not tested", _of(paper, "not tested")),
        ("Beyond the paper: what held of our own questions", _of(others, "confirmed")),
        ("Beyond the paper: what came out the other way", _of(others, "contradicted")),
    ):
        told.append(f"## {words}\n\n" + ("; ".join(map(_named, chosen)) or "Nothing") + ".")
    return "\n\n".join(told)


def _of(rows: Sequence[Row], state: str) -> list[Row]:
    return [row for row in rows if row.verdict.state == state]


def _named(row: Row) -> str:
    return f'<a href="claims.html#{row.claim.id}">{html.escape(row.verdict.claim.rstrip("."))}</a>'


def _line(row: Row) -> str:
    """One claim as an item of a list."""
    verdict, effect = row.verdict, row.deciding
    value = f"; {' '.join(written(effect.value))}" if effect else ""
    n = f", n = {effect.value.n}" if effect else ""
    scaled = ", scaled down" if verdict.scaled_down else ""
    found = f"{verdict.counts}{scaled}{value}{n}" if effect else row.why
    return f"- {_named(row)} ({verdict.place}): {found}."
