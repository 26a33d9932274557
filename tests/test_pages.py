"""The claims page and the records page: computed from what is on record, and honest where nothing is."""

import re

import pytest
from judging import first_of

from edition import runs
from edition.claims import Effect, Verdict
from edition.claims.claim import LEDGER, OURS, PAPER, Claim
from edition.claims.ledger import PARTS, Row, ledger
from edition.claims.rules import STATES
from edition.experiments import EXPERIMENTS
from edition.page.lists import MARKS, claims_table, counted, not_tested, record_tables, verdict_squares
from edition.page.verdicts import short
from edition.records.store import Store
from samlib.measures.statistics import Estimate


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    store = Store(tmp_path / "results")
    monkeypatch.setattr(runs, "store_for", lambda profile: store)
    return store


def statuses(page: str) -> list[str]:
    return re.findall(r'<strong class="status">([^<]+)</strong>', page)


def test_claims_without_records_are_not_tested_and_their_commands_are_listed(empty_store):
    rows = ledger("paper", {part: [claim for claim in claims if claim.needs] for part, claims in PARTS.items()})
    assert statuses(claims_table(rows)) == ["not tested"] * len(rows)
    page = not_tested(rows)
    assert page.count("<li>") == len(rows)
    needed = {name for row in rows for name in row.claim.needs}
    for name in map(first_of, needed):
        assert f"python -m edition runs start --experiment {name} --profile paper" in page


HOLDS = Effect("first & best", Estimate(0.25, 0.2, 0.3, 4), "above")
WRONG = Effect("second", Estimate(-0.5, -0.6, -0.4, 4), "above", 0.5)
ALONE = Effect("third", Estimate(-0.5, float("-inf"), float("inf"), 1), "above", 0.5)
SCALED = {"scaled_down": "5 <of> 20 epochs"}


def row(*effects: Effect, chapter="02_toy", why="", origin=PAPER, part="Part <1>", **of_verdict) -> Row:
    words = ("some-id", "Section <5>", "a < b & c", "mean <difference>")
    claim = Claim(*words, chapter, "02_toy.html#fig", ("tiny", "other"), (), origin, "in general", "", None)
    verdict = Verdict(*words, effects, experiments=claim.needs, **of_verdict)
    return Row(claim, part, verdict, why, f"{chapter}.html#some-id")


ONE_EACH = [row(HOLDS), row(WRONG), row(HOLDS, WRONG), row(ALONE), row(why="no <runs>")]  # of the states, in order


def test_the_claims_table_shows_everything_escaped_with_its_links():
    page = claims_table([row(HOLDS, WRONG, shown=[ALONE], **SCALED)])
    assert statuses(page) == ["mixed"] and 'class="verdict-mixed scaled-down"' in page
    for part in (
        '<tr id="some-id">',
        "Part &lt;1&gt;",
        '<a href="02_toy.html#some-id">a &lt; b &amp; c</a>',
        "Section &lt;5&gt;",
        "mean &lt;difference&gt;",
        "1 of 2 holds, 1 reversed. Scaled down: 5 &lt;of&gt; 20 epochs.",
        "<strong>−0.500 [−0.600, −0.400]</strong>, n = 4: second, predicted above 0.5; p &lt; .001 after correction",
        f"would have found {short(WRONG.detectable)} from there with 80 % power, before correction",
        "all 2 effects",
        "first &amp; best",
        "decide nothing",
        '<a href="records.html#tiny">tiny</a>, <a href="records.html#other">other</a>',
        '<a href="02_toy.html#fig">',
    ):
        assert part in page, part
    assert "<details>" not in claims_table([row(HOLDS)])  # a single effect is not listed again
    assert "decide nothing" in claims_table([row(HOLDS, shown=[ALONE])])


def test_an_untested_claim_shows_its_reason_and_no_figure():
    page = claims_table([row(why="no <runs>")])
    assert statuses(page) == ["not tested"] and "no &lt;runs&gt;" in page and "#fig" not in page
    assert "no &lt;runs&gt;" in not_tested([row(HOLDS), row(why="no <runs>")])
    assert not_tested([row(HOLDS)]) == "<p>None: all claims were tested.</p>"


def test_a_line_opens_each_part_and_a_claim_that_no_chapter_shows_has_no_link_to_itself():
    page = claims_table([row(HOLDS), row(HOLDS), row(HOLDS, part="Part 2", chapter=LEDGER)])
    assert re.findall(r"<th colspan[^>]*>([^<]+)</th>", page) == ["Part &lt;1&gt;", "Part 2"]
    assert "claims.html" not in page


def test_the_papers_claims_are_counted_apart_from_other_questions():
    rows = [row(HOLDS), *ONE_EACH[:2], row(ALONE, origin=OURS), row(ALONE, origin=OURS), row(WRONG, origin=OURS)]
    assert counted(rows) == (
        "Of the paper's **3** claims, **2** are confirmed and **1** is contradicted. Counted apart: of **3** questions "
        "of this book or of later work, **1** is contradicted and **2** are undecided."
    )


def test_every_claim_has_a_square_that_says_its_state_and_leads_to_it_and_is_hatched_where_scaled_down():
    page = verdict_squares([*ONE_EACH, row(HOLDS, HOLDS, part="Part 2", **SCALED)])
    squares = re.findall(
        r'<a class="square verdict-([\w -]+)" href="([^"]+)" aria-label="([^"]+)" title="\3">(.)</a>', page
    )
    told = "a &lt; b &amp; c (Section &lt;5&gt;)"
    assert squares == [
        (style, "claims.html#some-id", f"{words}: {told}{end}", mark)
        for style, words, end, mark in (
            ("confirmed", "confirmed (1 of 1 holds)", "", "✓"),
            ("contradicted", "contradicted (0 of 1 hold, 1 reversed)", "", "✗"),
            ("mixed", "mixed (1 of 2 holds, 1 reversed)", "", "±"),
            ("undecided", "undecided (0 of 1 hold)", "", "?"),
            ("not-tested", "not tested", "", "–"),
            ("confirmed scaled-down", "confirmed (2 of 2 hold)", "; scaled down", "✓"),
        )
    ]
    assert re.findall(r"<dt>([^<]+)</dt>", page) == ["Part &lt;1&gt;", "Part 2"]
    legend = re.findall(r'<span class="square verdict-([\w -]+)"[^>]*>.</span> (\d+)', page)
    assert sorted(legend) == sorted((square[0], "1") for square in squares)
    assert all(f" {state}</li>" in page for state in STATES) and "(hatched: scaled down)" in page
    assert "<li>6 claims:</li>" in page


def test_every_state_has_a_mark_of_its_own_and_scaled_down_squares_a_pattern():
    assert list(MARKS) == list(STATES) and len(set(MARKS.values())) == len(MARKS)
    sheets = "".join(path.read_text() for path in runs.REPOSITORY.glob("book/_static/*.css"))
    assert all(f".verdict-{state.replace(' ', '-')}" in sheets for state in STATES) and ".scaled-down" in sheets


def test_the_records_page_has_a_section_for_every_experiment(empty_store):
    assert re.findall(r'<section id="([^"]*)"', record_tables("smoke")) == list(EXPERIMENTS)
