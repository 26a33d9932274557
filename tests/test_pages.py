"""The landing page's summary and the records page: computed from what is on record, and honest where nothing is."""

import dataclasses
import re

import pytest

from samlib import runs
from samlib.chapter import Chapter
from samlib.claims.registry import CLAIMS
from samlib.experiments import EXPERIMENTS
from samlib.pages import record_tables, summary
from samlib.records import Store


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    store = Store(tmp_path / "results")
    monkeypatch.setattr(runs, "store_for", lambda profile: store)
    return store


def statuses(page: str) -> list[str]:
    return re.findall(r'<strong class="status">([^<]+)</strong>', page)


def test_every_claim_names_existing_experiments_and_a_chapter_of_the_book():
    toc = (runs.REPOSITORY / "_toc.yml").read_text()
    for claim in CLAIMS:
        assert set(claim.needs) <= set(EXPERIMENTS), claim.title
        assert f"book/{claim.chapter}" in toc, claim.title


def test_claims_without_records_are_not_tested(empty_store):
    assert statuses(summary(Chapter())) == ["not tested"] * len(CLAIMS)


def test_every_claim_on_record_gets_a_computed_status_and_its_own_id():
    chapter = Chapter()
    needed = {name for claim in CLAIMS for name in claim.needs}
    results = {name: chapter.recorded(name) for name in needed}
    verdicts = [claim.judge(results) for claim in CLAIMS if all(results[name] for name in claim.needs)]
    assert verdicts, "the repository holds records of at least one claim"
    assert len({verdict.id for verdict in verdicts}) == len(verdicts)
    shown = statuses(summary(chapter))
    judged = [all(results[name] for name in claim.needs) for claim in CLAIMS]
    assert [status for status, done in zip(shown, judged, strict=True) if done] == [item.status for item in verdicts]


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
        CLAIMS[0].title = "another"
