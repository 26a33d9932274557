"""Pages that list: the summary of verdicts on the landing page, and the records with their provenance."""

import html
import json
from collections.abc import Iterator
from typing import Any

from samlib import runs
from samlib.chapter import Chapter
from samlib.claims.registry import CLAIMS, Claim
from samlib.config import differences, from_dict
from samlib.experiments import EXPERIMENTS, Experiment
from samlib.records import CONFIGS, Record, Store


def summary(chapter: Chapter) -> str:
    """Return HTML with every claim, its computed status, and a link to the page that shows it.

    Args:
        chapter: whose profile decides which records are judged; claims without complete records are "not tested".
    """
    rows = "".join(
        f'<tr><td><span class="verdict-{status.replace(" ", "-")}"><strong class="status">{status}</strong></span></td>'
        f'<td><a href="{claim.chapter}.html">{html.escape(told)}</a></td><td>{html.escape(place)}</td></tr>'
        for claim, status, told, place in _judged(chapter)
    )
    return (
        '<table class="summary"><thead><tr><th>verdict</th><th>claim</th><th>where the paper makes it</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _judged(chapter: Chapter) -> Iterator[tuple[Claim, str, str, str]]:
    """Yield every claim with its status, its words and its place; titles stand in where nothing could be judged."""
    needed = {name for claim in CLAIMS for name in claim.needs}
    results = {name: chapter.recorded(name) for name in sorted(needed)}
    for claim in CLAIMS:
        if all(results[name] for name in claim.needs):
            verdict = claim.judge(results)
            yield claim, verdict.status, verdict.claim, verdict.place
        else:
            yield claim, "not tested", claim.title, ""


def benchmark_source(record: dict[str, Any]) -> str:
    """Return the line that says which benchmark record is shown, with a link to it.

    Args:
        record: what `samlib.bench.record.load` returned for one machine.
    """
    origin = record["provenance"]
    told = (
        f"{origin['device']}, revision {origin['revision']}, torch {origin['versions'].get('torch')}, {origin['utc']}"
    )
    link = f'<a href="../results/bench/{record["path"].name}">{record["path"].stem}</a>'
    return f'<p class="source">Source: benchmark record {link}: {html.escape(told)}.</p>'


def benchmark_box(device: str) -> str:
    """Return the box that stands where a kind of machine has not been measured, with the command that does it."""
    return (
        '<div class="missing-record"><p><strong>Not measured yet.</strong> No benchmark record was made on '
        f"<em>{html.escape(device)}</em>. This makes one:</p>"
        f"<pre>python -m samlib.bench all --device {html.escape(device)} --record</pre></div>"
    )


def record_tables(profile: str) -> str:
    """Return HTML with one section an experiment: title, the command that makes its runs, and a table of its records.

    Args:
        profile: whose runs to list; those without a record are counted.
    """
    store = runs.store_for(profile)
    return "".join(_record_section(item, profile, store) for item in EXPERIMENTS.values())


def _record_section(item: Experiment, profile: str, store: Store) -> str:
    """Return one experiment's section of the records page."""
    needed = runs.needed([item], profile)
    records = [record for record in (store.find(run.kind, run.config) for run in needed) if record]
    rows = "".join(_record_row(record) for record in records)
    command = f"python -m samlib runs start --experiment {item.name} --profile {profile}"
    return (
        f'<section id="{item.name}"><h2>{html.escape(item.title)}</h2>'
        f"<p>Experiment <em>{item.name}</em>: {len(records)} of {len(needed)} runs recorded. To make them: "
        f"<code>{command}</code></p><details><summary>All records</summary><table><thead><tr><th>record</th>"
        "<th>configuration (what differs from the defaults)</th><th>revision</th><th>machine</th><th>torch</th>"
        f"<th>seconds</th><th>UTC</th></tr></thead><tbody>{rows}</tbody></table></details></section>"
    )


def _record_row(record: Record) -> str:
    """Return one record's row: a link to the file and its provenance."""
    origin = record.provenance
    changed = differences(from_dict(CONFIGS[record.kind], record.config))
    seeds = changed.pop("seeds", None)
    told = json.dumps(changed).strip("{}").replace('"', "") + (f", {len(seeds)} seeds" if seeds else "")
    revision = f"{origin['revision']}{' (modified)' if origin['dirty'] else ''}"
    cells = (told, revision, origin["device"], origin["versions"].get("torch"), origin["wall_seconds"], origin["utc"])
    link = f'<a href="../results/{record.kind}/{record.id}.json">{record.id}</a>'
    return f"<tr><td>{link}</td>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
