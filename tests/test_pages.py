"""The claims page and the records page: computed from what is on record, and honest where nothing is."""

import dataclasses
import re

import pytest

from edition import runs
from edition.claims import Effect, Verdict
from edition.claims.ledger import Row, ledger
from edition.claims.registry import CLAIMS, LEDGER, OURS, PAPER, Claim
from edition.claims.rules import STATUSES
from edition.experiments import EXPERIMENTS
from edition.page.lists import MARKS, claims_table, counted, not_tested, record_tables, verdict_squares
from edition.records.store import Store
from samlib.measures.statistics import Estimate


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    store = Store(tmp_path / "results")
    monkeypatch.setattr(runs, "store_for", lambda profile: store)
    return store


def statuses(page: str) -> list[str]:
    return re.findall(r'<strong class="status">([^<]+)</strong>', page)


def test_every_claim_names_existing_experiments_and_a_page_of_the_book():
    for claim in CLAIMS:
        assert set(claim.needs) <= set(EXPERIMENTS), claim.id
        assert (runs.REPOSITORY / "book" / f"{claim.chapter}.ipynb").exists(), claim.id


def test_claims_without_records_are_not_tested_and_their_commands_are_listed(empty_store):
    rows = [row for row in ledger("paper") if row.claim.needs]
    assert statuses(claims_table(rows)) == ["not tested"] * len(rows)
    page = not_tested(rows)
    assert page.count("<li>") == len(rows)
    for name in {name for row in rows for name in row.claim.needs}:
        assert f"python -m edition runs start --experiment {name} --profile paper" in page


HOLDS = Effect("first & best", Estimate(0.25, 0.2, 0.3, 4), "above")
FAILS = Effect("second", Estimate(-0.5, float("-inf"), float("inf"), 1), "above", 0.5)


def row(*effects: Effect, chapter="02_toy", figure="02_toy.html#fig", why="", origin=PAPER, part="Part <1>") -> Row:
    claim = Claim("some-id", "Section <5>", "short", "short", chapter, figure, ("tiny", "other"), origin=origin)
    verdict = Verdict("some-id", "Section <5>", "a < b & c", "mean <difference>", effects)
    return Row(claim, part, verdict, why, f"{chapter}.html#some-id")


def test_the_claims_table_shows_everything_escaped_with_its_links():
    page = claims_table([row(HOLDS, FAILS)])
    assert statuses(page) == ["partly"] and 'class="verdict-partly"' in page
    for part in (
        '<tr id="some-id">',
        "Part &lt;1&gt;",
        '<a href="02_toy.html#some-id">a &lt; b &amp; c</a>',
        "Section &lt;5&gt;",
        "mean &lt;difference&gt;",
        "<strong>−0.500 [−∞, ∞]</strong>, n = 1: second, predicted above 0.5",
        "all 2 effects",
        "first &amp; best",
        '<a href="records.html#tiny">tiny</a>, <a href="records.html#other">other</a>',
        '<a href="02_toy.html#fig">',
    ):
        assert part in page, part


def test_a_single_effect_is_not_listed_again():
    assert "<details>" not in claims_table([row(HOLDS)])


def test_an_untested_claim_shows_its_reason_and_no_figure():
    page = claims_table([row(why="no <runs>")])
    assert statuses(page) == ["not tested"] and "no &lt;runs&gt;" in page and "#fig" not in page
    assert "no &lt;runs&gt;" in not_tested([row(HOLDS), row(why="no <runs>")])
    assert not_tested([row(HOLDS)]) == "<p>None: all claims were tested.</p>"


def test_a_claim_that_no_chapter_shows_has_its_anchor_here_and_no_link_to_itself():
    page = claims_table([row(HOLDS, chapter=LEDGER)])
    assert 'id="some-id"' in page and "claims.html" not in page


def test_a_line_opens_each_part():
    page = claims_table([row(HOLDS), row(HOLDS), row(HOLDS, part="Part 2")])
    assert re.findall(r"<th colspan[^>]*>([^<]+)</th>", page) == ["Part &lt;1&gt;", "Part 2"]


def test_the_papers_claims_are_counted_apart_from_other_questions():
    rows = [row(HOLDS), row(HOLDS), row(HOLDS, FAILS), row(FAILS, origin=OURS), row(FAILS, origin=OURS)]
    rows.append(row(why="none"))
    assert counted(rows) == (
        "Of the paper's **4** claims, **2** are confirmed, **1** is partly so and **1** is not tested. Counted apart: "
        "of **2** questions of this book or of later work, **2** are not confirmed."
    )


def test_every_claim_has_a_square_that_says_its_verdict_and_leads_to_it():
    page = verdict_squares([row(HOLDS), row(HOLDS, FAILS), row(why="none", part="Part 2")])
    squares = re.findall(
        r'<a class="square verdict-([\w-]+)" href="([^"]+)" aria-label="([^"]+)" title="[^"]+">(.)</a>', page
    )
    told = "a &lt; b &amp; c (Section &lt;5&gt;)"
    assert squares == [
        ("confirmed", "claims.html#some-id", f"confirmed: {told}", "✓"),
        ("partly", "claims.html#some-id", f"partly: {told}", "±"),
        ("not-tested", "claims.html#some-id", f"not tested: {told}", "?"),
    ]
    assert re.findall(r"<dt>([^<]+)</dt>", page) == ["Part &lt;1&gt;", "Part 2"]
    assert re.findall(r"</span> (\d [\w ]+)</li>", page) == [
        "1 confirmed",
        "1 partly",
        "0 not confirmed",
        "1 not tested",
    ]
    assert "<li>3 claims:</li>" in page


def test_every_verdict_has_a_mark_of_its_own():
    assert list(MARKS) == list(STATUSES) and len(set(MARKS.values())) == len(MARKS)


def test_records_page_counts_what_is_missing_and_links_what_is_there(empty_store, monkeypatch):
    page = record_tables("smoke")
    assert len(re.findall(r'<section id="', page)) == len(EXPERIMENTS)
    assert "0 of 2 runs recorded" in page
    run = runs.needed([EXPERIMENTS["checkpoints"]], "smoke")[0]
    origin = {"revision": "abc", "dirty": True, "device": "<cpu>", "versions": {}, "wall_seconds": 1, "utc": "now"}
    record = empty_store.write(run.kind, run.config, metrics={}, arrays={}, provenance=origin)
    page = record_tables("smoke")
    assert "1 of 2 runs recorded" in page
    assert f'href="../results/toy/{record.id}.json"' in page
    assert "abc (modified)" in page
    assert "&lt;cpu&gt;" in page


def test_claims_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLAIMS[0].place = "another"
