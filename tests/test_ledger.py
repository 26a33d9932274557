"""The ledger: its rules on made-up effects and records, and what it says of the claims and records that are there."""

import ast
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judging import first_of, verdict
from notebooks import cells

from edition import runs
from edition.claims import Effect, Verdict
from edition.claims.claim import LATER, LEDGER, ORIGINS, OURS, PAPER, Claim, cannot_be_judged
from edition.claims.ledger import CLAIMS, PARTS, Row, ledger, strength, text
from edition.claims.rules import QUANTIFIERS
from edition.experiments import EXPERIMENTS, Experiment
from edition.page.finding import finding_of
from edition.page.lists import claims_table
from edition.records.store import RecordError, Store
from edition.runs.results import Results
from samlib.measures.statistics import Estimate, detectable_at
from samlib.toy.config import ToyConfig

BOOK = Path(__file__).resolve().parent.parent / "book"
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
        (effect(2, 2, 2, n=6), INF),
        (effect(-2, -2, -2, n=6), -INF),
        (effect(2, 2, 2, n=5), 0.0),  # five seeds that agree exactly are too few
        (effect(0, 0, 0, n=6), 0.0),
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


def claim_of(effects: Sequence[Effect] | None = (), needs: Sequence[str] = (), **changes: Any) -> Claim:
    """A claim that comes out with the given effects; None is one that nobody can judge."""
    words = {"id": "some-id", "place": "Section 5", "says": "Some claim.", "statistic": "some statistic"}
    usual = {"chapter": "02_toy", "figure": "", "needs": needs, "also": (), "origin": PAPER, "quantifier": "in general"}
    judge = None if effects is None else (lambda *results: list(effects))
    return Claim(**words | usual | {"why": "", "judge": judge} | changes)


def row(judged: Verdict, origin: str = PAPER, why: str = "") -> Row:
    return Row(claim_of(origin=origin), "Section 5: the toy", judged, why, "02_toy.html#some-id")


STRONG, WEAK, WRONG = effect(9, 8, 10), effect(0.02, 0.01, 0.03), effect(-3, -4, -2)
SINGLE = effect(7, -INF, INF, n=1)


@pytest.mark.parametrize(
    ("effects", "deciding", "of_some"),
    [
        ([STRONG, WEAK], WEAK, STRONG),  # the weakest of those that hold, in units of its interval
        ([WEAK, WRONG, STRONG], WRONG, STRONG),
        ([STRONG, SINGLE], SINGLE, STRONG),
        ([SINGLE, WRONG], WRONG, SINGLE),
        ([WEAK, dataclasses.replace(WEAK, name="later")], WEAK, WEAK),  # the first of equals
        ([dataclasses.replace(WRONG, decides=False), WEAK], WEAK, WEAK),  # exploratory runs come last
    ],
)
def test_the_effect_farthest_from_holding_decides_and_of_a_claim_about_some_case_the_nearest(
    effects, deciding, of_some
):
    names = [row(verdict(*effects, quantifier=each)).deciding.name for each in QUANTIFIERS]
    assert names == [deciding.name, deciding.name, of_some.name, deciding.name]
    assert row(verdict()).deciding is None


@pytest.mark.parametrize("nudge", [-1e-16, 3e-15])
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


def test_values_hold_the_deciding_effect_and_all_others():
    judged = verdict(STRONG, WRONG, quantifier="every", scaled_down="5 of 20 epochs", shown=[WEAK])
    values = row(judged).values()
    effects, shown = values.pop("effects"), values.pop("shown")
    assert values == {
        "id": "some-id", "place": "Section 5", "claim": "Some claim.", "statistic": "some statistic",
        "value": -3, "low": -4, "high": -2, "n": 4, "effect": "at -3",
        "why": "", "page": "02_toy.html#some-id", "figure": "", "origin": PAPER, "space": "",
        "state": "contradicted", "held": 1, "reversed": 1, "quantifier": "every", "scaled_down": "5 of 20 epochs",
        "detectable": pytest.approx(detectable_at(WRONG.value)),
    }  # fmt: skip
    told = [(item["name"], item["value"], item["decides"], item["outcome"], item["corrected_p"]) for item in effects]
    corrected = [effect.corrected for effect in judged.effects]
    assert told == [("at 9", 9, True, "holds", corrected[0]), ("at -3", -3, True, "reversed", corrected[1])]
    assert effects[0]["p"] == STRONG.p and [item["name"] for item in shown] == ["at 0.02"]


def test_what_is_not_finite_becomes_null():
    values = json.loads(json.dumps(row(verdict(SINGLE)).values(), allow_nan=False))
    assert [values[key] for key in ("value", "low", "high", "n", "detectable")] == [7, None, None, 1, None]
    empty = row(verdict(), why="nothing was run").values()
    assert [empty[key] for key in ("value", "low", "high", "n", "effect", "effects", "why", "detectable", "state")] == [
        None, None, None, 0, None, [], "nothing was run", None, "not tested",
    ]  # fmt: skip


ROWS = [row(verdict(STRONG)), row(verdict(STRONG, WRONG)), row(verdict(WRONG, scaled_down="x"), OURS),
        row(verdict(), LATER, "no runs"), row(verdict(SINGLE))]  # fmt: skip


def test_text_says_state_counts_scale_and_number_of_every_claim_and_counts_them():
    lines = text(ROWS).splitlines()
    assert lines[3] == "mixed          some-id  (1 of 2 holds, 1 reversed; Section 5)"
    assert "-3.000 [-4.000, -2.000], n = 4 (at -3; predicted above 0; p = 0.002, corrected); some" in lines[5]
    assert "scaled down; Section 5" in lines[6]
    assert (lines[9], lines[11]) == ("not tested     some-id  (Section 5)", "    no runs")
    told = "the paper's claims: 3, of these 1 confirmed, 0 contradicted, 1 mixed, 1 undecided, 0 not tested"
    assert lines[-2:] == [told, "others: 2, of these 0 confirmed, 1 contradicted, 0 mixed, 0 undecided, 1 not tested"]


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


def judged(effects: Sequence[Effect] | None, needs: Sequence[str] = ("tiny",), **changes: Any) -> Row:
    """The ledger's row of one claim."""
    (found,) = ledger("paper", {"part": [claim_of(effects, needs, **changes)]})
    return found


def test_claims_are_judged_from_complete_records_of_what_they_need_and_also_from_what_they_may_use(store):
    def judge(tiny: Results, more: Results) -> list[Effect]:
        assert (tiny.name, more.name, bool(more)) == ("tiny", "none", False)
        errors = tiny.table.final_hard_error
        return [effect(errors.mean(), errors.min(), errors.max(), "below", 0.5)]

    write(store, CONFIGS[0], [0.1, 0.2])
    assert judged(None, judge=judge, also=("none",)).verdict.state == "not tested"
    write(store, CONFIGS[1], [0.3, 0.4])
    found = judged(None, judge=judge, also=("none",))
    assert (found.verdict.state, found.page, found.why) == ("confirmed", "02_toy.html#some-id", "")
    assert found.values()["low"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("effects", "needs", "why"),
    [
        ([STRONG], ("tiny",), ["1 of 2 runs of tiny have no record", "start --experiment tiny --profile paper"]),
        ([STRONG], ("none", "tiny"), ["none has no runs at profile paper; ", "runs of tiny have no record"]),
        ([], (), ["two seeds or more"]),
        (None, (), ["It is a belief."]),
    ],
)
def test_a_claim_that_is_not_tested_says_why_and_which_command_makes_the_runs(store, effects, needs, why):
    write(store, CONFIGS[1], [0.1, 0.2])
    found = judged(effects, needs, why="It is a belief.")
    assert (found.verdict.state, found.verdict.claim) == ("not tested", "Some claim.")
    assert all(words in found.why for words in why)


def test_a_claim_computed_on_the_spot_needs_no_records(store):
    assert (judged([STRONG], ()).verdict.state, judged([STRONG], ()).why) == ("confirmed", "")
    assert not store.root.exists()


def test_without_any_record_every_claim_that_needs_some_is_listed_with_a_reason(store):
    for item in ledger("paper", {part: [c for c in claims if c.needs] for part, claims in PARTS.items()}):
        assert item.verdict.state == "not tested"
        assert all(f"--experiment {name} --profile paper" in item.why for name in map(first_of, item.claim.needs))


def test_a_damaged_record_and_an_unknown_profile_stop_the_ledger_by_name(store):
    path = store.write("toy", CONFIGS[0], metrics={}, arrays={}, provenance={}).path
    path.write_text("{")
    with pytest.raises(RecordError, match=path.name):
        judged([STRONG])
    with pytest.raises(ValueError, match="profile: expected one of 'paper', 'quick', 'smoke', got 'full'"):
        ledger("full")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The ledger of the committed records."""
    return ledger("paper")


def test_each_figure_and_table_of_the_paper_has_a_claim():
    places = " ".join(claim.place for claim in CLAIMS.values() if claim.origin == PAPER)
    named = re.findall(r"(Figure|Table)s? (\d+)(?:\(\w\))?(?: and (\d+))?", places)
    found = {(kind, int(number)) for kind, *numbers in named for number in numbers if number}
    assert found >= {("Figure", n) for n in range(1, 11)} | {("Table", 1), ("Table", 2)}


def test_every_claim_is_in_one_part_and_needs_what_exists():
    assert sorted(claim.id for claims in PARTS.values() for claim in claims) == sorted(CLAIMS)
    for id, claim in CLAIMS.items():
        assert claim.id == id and {*claim.needs, *claim.also} <= set(EXPERIMENTS)
        assert (BOOK / f"{claim.chapter}.ipynb").exists()
        told = re.search(r"\bours\b|later work|not in the paper", claim.place)
        assert bool(told) == (claim.origin != PAPER) and claim.origin in ORIGINS, id  # its place says whose it is
    with pytest.raises(ValueError, match="id: expected one that no other claim has, got 'toy-noise' again"):
        cannot_be_judged("toy-noise", place="", says="", statistic="", why="", file="")


def test_every_row_has_a_verdict_and_a_reason_exactly_where_nothing_was_measured(rows):
    assert any(item.verdict.effects for item in rows)
    for item in rows:
        assert item.verdict.id == item.claim.id
        assert bool(item.why) == (item.verdict.state == "not tested") == (item.deciding is None)


def anchors(page: str) -> set[str]:
    """What a page's frozen outputs, figures and headings offer to link to."""
    offered = set()
    for cell in cells(BOOK / f"{page}.ipynb"):
        offered.add(cell["metadata"].get("mystnb", {}).get("figure", {}).get("name"))
        offered |= set(re.findall(r"^\(([\w-]+)\)=$", cell["source"], re.MULTILINE))
        for output in cell.get("outputs", ()):
            offered |= set(re.findall(r'id="([\w-]+)"', "".join(output.get("data", {}).get("text/html", ""))))
    return offered


def test_every_verdict_and_figure_that_the_ledger_links_to_is_on_its_page(rows):
    offered = {LEDGER: set(re.findall(r'id="([\w-]+)"', claims_table(rows)))}
    for item in rows:
        links = [item.page] + ([item.claim.figure] if item.claim.figure and item.verdict.effects else [])
        for link in links:
            page, _, anchor = link.partition(".html")
            if page not in offered:
                offered[page] = anchors(page)
            assert not anchor or anchor.removeprefix("#") in offered[page], link


PAGES = sorted(BOOK.glob("*.ipynb"))
of_chapters = pytest.mark.parametrize(
    "chapter", [path for path in PAGES if re.match(r"(0[1-8]|[a-d])_", path.stem)], ids=lambda path: path.stem
)


@of_chapters
def test_a_chapter_shows_claims_of_the_ledger_and_each_claim_is_on_the_page_that_it_names(rows, chapter):
    calls = [
        call
        for cell in cells(chapter)
        if cell["cell_type"] == "code"
        for call in ast.walk(ast.parse(cell["source"]))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("verdicts", "judge", "finding")
    ]  # fmt: skip
    told = [(call.func.attr, id) for call in calls for part in call.args for id in possible(part)]
    assert told
    effects = {item.claim.id: item.verdict.effects for item in rows}
    for call in calls:
        for only in (word.value.value for word in call.keywords if word.arg == "only"):
            found = effects[call.args[1].value]
            assert any(only in effect.name for effect in found) or not found, f"no effect is called {only!r}"
    for _, id in told:
        assert any(re.fullmatch(id, name) for name in CLAIMS), id
    shown = [id for how, id in told if how == "verdicts"]
    named = [id for id, claim in CLAIMS.items() if claim.chapter == chapter.stem]
    assert [id for id in named if not any(re.fullmatch(pattern, id) for pattern in shown)] == []


def possible(part: ast.expr) -> list[str]:
    """A pattern of the ids that an argument can be; nothing for what is no text."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return [re.escape(part.value)]
    if isinstance(part, ast.JoinedStr):
        texts = [re.escape(value.value) if isinstance(value, ast.Constant) else r"[\w-]+" for value in part.values]
        return ["".join(texts)]
    return []


@of_chapters
def test_an_answer_and_a_summary_written_by_hand_name_the_claims_that_they_rest_on(chapter):
    texts = [(cell["source"], cell["metadata"].get("rests_on")) for cell in cells(chapter)]
    stating = [rests_on for told, rests_on in texts if "**The answer.**" in told or told.startswith("## Summary")]
    assert len(stating) == 2 and all(stating)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_words_rest_on_states_that_are_still_the_ledgers(rows, page):
    found = {item.claim.id: item.verdict.state for item in rows}
    for cell in cells(page):
        rests_on = cell["metadata"].get("rests_on", {})
        now = {name: found.get(name) for name in rests_on}
        assert rests_on == now, f"the states changed; read again what stands on them: {cell['source'][:300]}"
