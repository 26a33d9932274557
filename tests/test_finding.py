"""The sentence below a figure: values, intervals and n from estimates, its records and the function that drew it."""

from math import inf
from pathlib import Path

import pytest
from IPython.display import HTML

from edition.claims import Effect, Verdict
from edition.figures.toy_setup import contours
from edition.page import chapter
from edition.page.chapter import Results, show_finding
from edition.page.finding import finding, finding_of
from edition.records.store import Record
from samlib.measures.statistics import Estimate

LOW, MIDDLE, HIGH = (Estimate(mean, mean - 0.1, mean + 0.1, 20) for mean in (-0.5, 0.0, 0.25))
RECORD = Record("toy", "abc", {}, {}, {}, Path("none"))
COMPLETE, MISSING = (Results("some_runs", "paper", records, 1 - len(records)) for records in ((RECORD,), ()))


@pytest.fixture
def shown(monkeypatch) -> list[HTML]:
    """What chapter code displayed, in order."""
    items: list[HTML] = []
    monkeypatch.setattr(chapter, "display", items.append)
    return items


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        (
            {"hard": HIGH, "easy": LOW},
            "Error: 0.250 [0.150, 0.350] (hard) and −0.500 [−0.600, −0.400] (easy); "
            "n = 20 seeds, 95 % intervals of the mean over seeds.",
        ),
        (
            {"a": MIDDLE, "b": HIGH, "c": LOW},
            "Error: −0.500 [−0.600, −0.400] (c) and 0.250 [0.150, 0.350] (b), the lowest and the highest of 3; "
            "n = 20 seeds, 95 % intervals of the mean over seeds.",
        ),
        ({"one": Estimate(0.5, -inf, inf, 1)}, "Error: 0.500 (one); n = 1 of the seeds, so there is no interval."),
        (
            {"few": Estimate(0.5, 0.4, 0.6, 3), "many": LOW},
            "Error: 0.500 [0.400, 0.600] (few) and −0.500 [−0.600, −0.400] (many); "
            "n = 3 to 20 seeds, 95 % intervals of the mean over seeds.",
        ),
        ({}, "Error: not tested yet."),
    ],
)
def test_of_more_than_two_effects_the_lowest_and_the_highest_are_said_with_n(effects, said):
    assert finding("error", effects) == said
    assert finding("error", effects, over="networks") == said.replace("seeds", "networks")


def test_a_verdicts_finding_says_what_was_computed_without_the_rule():
    effects = [Effect("step 1, easy", LOW, "below"), Effect("step 1, hard", HIGH, "above")]
    verdict = Verdict("id", "place", "claim", "share of weight; two seeds or more", effects)
    assert finding_of(verdict).startswith("Share of weight: −0.500 [−0.600, −0.400] (step 1, easy) and 0.250")


def test_below_a_figure_stand_the_finding_its_records_and_the_function_that_drew_it(shown):
    show_finding(contours, lambda: "a < b", COMPLETE)
    assert [item.data for item in shown] == [
        '<p class="finding">a &lt; b</p><p class="source">Records: <a href="records.html#some_runs">some_runs</a>; '
        'drawn by <a href="../code/edition.figures.toy_setup.html#contours">'
        "<code>edition.figures.toy_setup.contours</code></a>.</p>"
    ]


def test_a_figure_without_records_was_computed_on_the_page(shown):
    show_finding(contours, lambda: "a")
    assert "Computed on this page; drawn by <a" in shown[0].data and "records.html" not in shown[0].data


def test_a_figure_that_is_not_drawn_has_no_finding(shown):
    show_finding(contours, lambda: pytest.fail("told although results are missing"), COMPLETE, MISSING)
    assert shown == []
