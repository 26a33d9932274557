"""The ledger: its rules on made-up effects and records, and what it says of the claims and records that are there."""

import json
import math
import re
from pathlib import Path

import pytest

from edition import runs
from edition.claims import Effect, Verdict
from edition.claims.ledger import Row, counts, ledger, split, strength, text
from edition.claims.registry import CLAIMS, LATER, LEDGER, ORIGINS, OURS, PAPER, Claim
from edition.claims.rules import STATUSES
from edition.experiments import EXPERIMENTS, Experiment
from edition.page.finding import finding_of
from edition.page.lists import claims_table
from edition.records.store import RecordError, Store
from samlib.measures.statistics import Estimate
from samlib.toy.config import ToyConfig

ROOT = Path(__file__).resolve().parent.parent
INF = math.inf
CONFIGS = [ToyConfig(seeds=(0, 1)), ToyConfig(seeds=(0, 1)).vary(rho=0.5)]


def effect(
    mean: float, low: float, high: float, predicted: str = "above", threshold: float = 0.0, n: int = 4
) -> Effect:
    return Effect(f"at {mean:g}", Estimate(mean, low, high, n), predicted, threshold)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (effect(2, 1, 3), 2.0),  # the mean is two half-widths above zero
        (effect(2, 1, 3, "below"), -2.0),
        (effect(2, 1, 3, "above", 1.5), 0.5),
        (effect(2, 1, 4, "below", 3), 0.5),  # an interval that is not symmetric: the end towards the threshold counts
        (effect(1, 0, 2, "within", 4), 3.0),
        (effect(-1, -2, 0, "within", 4), 3.0),
        (effect(5, 4, 6, "within", 4), -1.0),
        (effect(2, -INF, INF, n=1), 0.0),
        (effect(2, 2, 2), INF),
        (effect(-2, -2, -2), -INF),
        (effect(0, 0, 0), 0.0),
    ],
)
def test_strength_counts_half_widths_between_the_mean_and_the_threshold(measured, expected):
    assert strength(measured) == expected


@pytest.mark.parametrize("predicted", ["above", "below", "within"])
def test_an_effect_holds_exactly_where_its_strength_exceeds_one(predicted):
    grid = [x / 4 for x in range(-8, 9)]
    for mean in grid:
        for below, above in ((0, 0), (0.25, 0.25), (0.5, 1), (INF, INF)):
            measured = effect(mean, mean - below, mean + above, predicted, 1.0)
            assert measured.holds == (strength(measured) > 1), measured


def verdict(*effects: Effect) -> Verdict:
    return Verdict("some-id", "Section 5", "Some claim.", "some statistic", effects)


def row(judged: Verdict, origin: str = PAPER, why: str = "") -> Row:
    claim = Claim(judged.id, "Section 5; a question", "short", "short", "02_toy_setup", origin=origin)
    return Row(claim, "Section 5: the toy", judged, why, "02_toy_setup.html#some-id")


STRONG, WEAK, WRONG = effect(9, 8, 10), effect(0.02, 0.01, 0.03), effect(-3, -4, -2)
SINGLE = effect(7, -INF, INF, n=1)


@pytest.mark.parametrize(
    ("effects", "deciding"),
    [
        ([STRONG, WEAK], WEAK),  # the weakest of those that hold, in units of its interval
        ([WEAK, WRONG, STRONG], WRONG),
        ([STRONG, SINGLE], SINGLE),
        ([SINGLE, WRONG], WRONG),
        ([WEAK, effect(0.02, 0.01, 0.03)], WEAK),  # the first of equals
    ],
)
def test_the_deciding_effect_is_the_one_farthest_from_holding(effects, deciding):
    assert row(verdict(*effects)).deciding is deciding


@pytest.mark.parametrize("nudge", [1e-16, -1e-16, 3e-15])
def test_effects_that_are_rounding_errors_read_the_same_on_every_processor(nudge):
    names, noise = ("linear", "ReLU", "fitted"), (2e-15, 1e-16, 7e-16)

    def judged(by: float) -> Verdict:
        values = [Estimate(size + by * n, -size, 3 * size + by, 4) for n, size in enumerate(noise)]
        small = [Effect(name, value, "below", 1e-10) for name, value in zip(names, values, strict=True)]
        return verdict(*small, Effect("of nothing", Estimate(abs(by), 1e-17, 2e-15, 4), "below", 1.0))

    seen, nudged = (row(judged(by)) for by in (0.0, nudge))
    assert seen.values() == nudged.values() and claims_table([seen]) == claims_table([nudged])
    assert seen.deciding.name == "linear"  # the first of equals
    assert finding_of(seen.verdict) == finding_of(nudged.verdict)


def test_a_rounding_error_on_the_predicted_side_is_no_effect():
    assert not effect(2e-16, 1e-16, 3e-16).holds and strength(effect(2e-16, 1e-16, 3e-16)) == 0


def test_without_effects_nothing_decides():
    assert row(verdict()).deciding is None


KEYS = ("id", "place", "claim", "statistic", "value", "low", "high", "n", "verdict")


def test_values_hold_the_deciding_effect_and_all_others():
    values = row(verdict(STRONG, WRONG)).values()
    assert tuple(values)[: len(KEYS)] == KEYS
    assert [values[key] for key in KEYS] == [
        "some-id", "Section 5; a question", "Some claim.", "some statistic", -3, -4, -2, 4, "partly",
    ]  # fmt: skip
    assert values["effect"] == "at -3"
    assert [(item["name"], item["value"], item["holds"]) for item in values["effects"]] == [
        ("at 9", 9, True),
        ("at -3", -3, False),
    ]


def test_what_is_not_finite_becomes_null():
    values = json.loads(json.dumps(row(verdict(SINGLE)).values(), allow_nan=False))
    assert (values["value"], values["low"], values["high"], values["n"]) == (7, None, None, 1)
    empty = row(verdict(), why="nothing was run").values()
    assert [empty[key] for key in ("value", "low", "high", "n", "effect", "effects", "why")] == [
        None, None, None, 0, None, [], "nothing was run",
    ]  # fmt: skip


ROWS = [row(verdict(STRONG)), row(verdict(STRONG, WRONG)), row(verdict(WRONG), OURS), row(verdict(), LATER, "no runs")]


def test_the_papers_claims_are_counted_apart_from_the_others():
    assert counts(ROWS) == {"confirmed": 1, "partly": 1, "not confirmed": 1, "not tested": 1}
    paper, others = split(ROWS)
    assert counts(paper) == {"confirmed": 1, "partly": 1, "not confirmed": 0, "not tested": 0}
    assert counts(others) == {"confirmed": 0, "partly": 0, "not confirmed": 1, "not tested": 1}


def test_text_has_three_lines_a_claim_and_the_counts():
    lines = text(ROWS).splitlines()
    assert len(lines) == 3 * len(ROWS) + 2
    assert lines[3] == "partly         some-id  (Section 5; a question)"
    assert lines[4] == "    Some claim."
    assert lines[5] == "    -3.000 [-4.000, -2.000], n = 4 (at -3; predicted above 0); some statistic"
    assert lines[11] == "    no runs"
    assert lines[-2] == "the paper's claims: 2, of these 1 confirmed, 1 partly, 0 not confirmed, 0 not tested"
    assert lines[-1] == "others: 2, of these 0 confirmed, 0 partly, 1 not confirmed, 1 not tested"


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """Empty stores, and two more experiments: one of two runs, and one that has none at any profile."""
    found = Store(tmp_path / "results")
    monkeypatch.setattr(runs, "store_for", lambda profile: found)
    monkeypatch.setitem(EXPERIMENTS, "tiny", Experiment("tiny", "toy", "Tiny", lambda profile: list(CONFIGS)))
    monkeypatch.setitem(EXPERIMENTS, "none", Experiment("none", "toy", "None", lambda profile: []))
    return found


def write(store: Store, config: ToyConfig, errors: list[float]) -> None:
    store.write("toy", config, metrics={"final_hard_error": errors}, arrays={}, provenance={})


def judged(effects: list[Effect], needs: tuple[str, ...] = ("tiny",), **more) -> list[Row]:
    """The ledger of one claim that comes out with the given effects."""
    claim = Claim("x", "Section 5", "short", "short", "02_toy", "", needs, lambda results: verdict(*effects), **more)
    return ledger("paper", {"part": [claim]})


def test_claims_are_judged_from_complete_records_only(store):
    judges = {"below": "confirmed", "above": "not confirmed"}

    def judge(predicted):
        def found(results):
            assert set(results) == {"tiny"}
            errors = results["tiny"].table.final_hard_error
            return verdict(effect(errors.mean(), errors.min(), errors.max(), predicted, 0.5))

        return found

    claims = [Claim("some-id", "Section 5", "short", "s", "02_toy", "", ("tiny",), judge(side)) for side in judges]
    write(store, CONFIGS[0], [0.1, 0.2])
    assert [item.verdict.status for item in ledger("paper", {"part": claims})] == ["not tested"] * 2
    write(store, CONFIGS[1], [0.3, 0.4])
    rows = ledger("paper", {"part": claims})
    assert [item.verdict.status for item in rows] == list(judges.values())
    assert [item.page for item in rows] == ["02_toy.html#some-id"] * 2
    assert rows[0].values()["low"] == pytest.approx(0.1)


def test_a_claim_without_its_runs_says_how_many_are_missing_and_the_command(store):
    write(store, CONFIGS[1], [0.1, 0.2])
    found = judged([STRONG])[0]
    assert (found.verdict.status, found.verdict.claim, found.page) == ("not tested", "short", "02_toy.html")
    assert found.why == (
        "1 of 2 runs of tiny have no record; this makes them: "
        "python -m edition runs start --experiment tiny --profile paper"
    )
    assert judged([STRONG], ("none",))[0].why == "none has no runs at profile paper"
    assert "tiny" in judged([STRONG], ("none", "tiny"))[0].why


def test_a_claim_computed_on_the_spot_needs_no_records(store):
    found = judged([STRONG], ())[0]
    assert (found.verdict.status, found.why) == ("confirmed", "")
    assert not store.root.exists()


def test_a_claim_that_nobody_can_judge_tells_its_reason(store):
    claim = Claim("x", "Section 5", "short", "none", LEDGER, why="It is a belief.")
    found = ledger("paper", {"part": [claim]})[0]
    assert (found.verdict.status, found.why, found.page) == ("not tested", "It is a belief.", "claims.html#x")


def test_records_that_hold_nothing_to_judge_are_not_tested_and_say_so(store):
    found = judged([], ())[0]
    assert found.verdict.status == "not tested" and "two seeds or more" in found.why


def test_without_any_record_every_claim_that_needs_some_is_listed_with_words_and_a_reason(store):
    rows = ledger("paper")
    assert [item.claim.id for item in rows] == [claim.id for claim in CLAIMS]
    for item in rows:
        values = item.values()
        assert all(values[key] for key in ("id", "place", "claim", "statistic"))
        if item.claim.needs:
            assert item.verdict.status == "not tested"
            assert all(f"--experiment {name} --profile paper" in item.why for name in item.claim.needs)


def test_a_damaged_record_stops_the_ledger_by_name(store):
    path = store.write("toy", CONFIGS[0], metrics={}, arrays={}, provenance={}).path
    path.write_text("{")
    with pytest.raises(RecordError, match=path.name):
        judged([STRONG])


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="profile: expected one of 'paper', 'quick', 'smoke', got 'full'"):
        ledger("full")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The ledger of the committed records."""
    return ledger("paper")


def test_the_paper_makes_most_claims_and_each_figure_and_table_has_one():
    paper = [claim.place for claim in CLAIMS if claim.origin == PAPER]
    assert len(paper) >= 25
    named = {
        (kind, int(number))
        for place in paper
        for kind, numbers in re.findall(r"(Figure|Table)s? (\d+(?:\(\w\))?(?: and \d+)?)", place)
        for number in re.findall(r"\d+", numbers)
    }
    assert named >= {("Figure", n) for n in range(1, 11)} | {("Table", 1), ("Table", 2)}


def test_ids_are_unique_and_origins_known():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.origin for claim in CLAIMS} <= set(ORIGINS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_said_to_be_the_papers_where_its_place_says_nothing_else(claim):
    told = re.search(r"\bours\b|later work|not in the paper", claim.place)
    assert bool(told) == (claim.origin != PAPER)


def test_verdicts_have_the_id_and_the_place_of_their_claim(rows):
    assert any(item.verdict.effects for item in rows)
    for item in rows:
        assert item.verdict.id == item.claim.id
        assert item.claim.place.startswith(item.verdict.place)


def test_every_row_has_a_verdict_and_a_reason_exactly_where_nothing_was_measured(rows):
    for item in rows:
        assert item.verdict.status in STATUSES
        assert bool(item.why) == (item.verdict.status == "not tested") == (item.deciding is None)


def anchors(page: str) -> set[str]:
    """What a page's frozen outputs, figures and headings offer to link to."""
    found = set()
    for cell in json.loads((ROOT / "book" / f"{page}.ipynb").read_text())["cells"]:
        found.add(cell["metadata"].get("mystnb", {}).get("figure", {}).get("name"))
        found |= set(re.findall(r"^\(([\w-]+)\)=$", "".join(cell["source"]), re.MULTILINE))
        for output in cell.get("outputs", ()):
            found |= set(re.findall(r'id="([\w-]+)"', "".join(output.get("data", {}).get("text/html", ""))))
    return found


def test_every_verdict_and_figure_that_the_ledger_links_to_is_on_its_page(rows):
    offered = {LEDGER: set(re.findall(r'id="([\w-]+)"', claims_table(rows)))}
    for item in rows:
        links = [item.page] + ([item.claim.figure] if item.claim.figure and item.verdict.effects else [])
        for link in links:
            page, _, anchor = link.partition(".html")
            if page not in offered:
                offered[page] = anchors(page)
            assert not anchor or anchor.removeprefix("#") in offered[page], link


def test_every_verdict_that_a_chapter_shows_is_in_the_ledger():
    shown = set()
    for path in (ROOT / "book").glob("*.ipynb"):
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", ())]
        told = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
        shown |= set(re.findall(r'class="verdict verdict-[\w-]+" id="([\w-]+)"', told))
    assert shown and shown <= {claim.id for claim in CLAIMS}


# Chapters whose answer and summary are written by hand; those of the others are computed.
WRITTEN = ["02_toy_setup", "03_phantom_rebalancing", "04_two_effects", "05_interventions"]
WRITTEN += ["a_data_and_noise", "b_batch_size", "c_theory"]


@pytest.mark.parametrize("chapter", WRITTEN)
def test_an_answer_written_by_hand_rests_on_verdicts_that_are_still_the_ledgers(rows, chapter):
    found = {item.claim.id: item.verdict.status for item in rows}
    cells = json.loads((ROOT / f"book/{chapter}.ipynb").read_text())["cells"]
    texts = {"".join(cell["source"]): cell["metadata"].get("rests_on", {}) for cell in cells}
    stating = [told for told in texts if "**The answer.**" in told or told.startswith("## Summary")]
    assert len(stating) == 2 and all(texts[told] for told in stating)
    for told, rests_on in texts.items():
        now = {name: found.get(name) for name in rests_on}
        assert rests_on == now, f"{chapter}: the verdicts changed; read again what stands on them: {told[:300]}"
