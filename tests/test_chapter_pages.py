"""What every chapter's page has: question and answer first, findings below figures, an exercise with its solution."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb") if re.match(r"(0[1-6]|[abc])_", path.stem))
# Live or drawn from a definition, or images: nothing was measured.
WITHOUT_FINDING = {
    "fig-pair-images",
    "fig-waterbirds-groups",
    "fig-celeba-groups",
    "fig-domain-sizes",
    "fig-digit-domains",
}


def cells(name: str) -> list[dict[str, Any]]:
    """A chapter's cells, each with its source as one text and its tags."""
    found = json.loads((BOOK / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])} for cell in found]


def test_the_book_has_six_chapters_and_three_appendices_here():
    assert [name[:2] for name in CHAPTERS] == ["01", "02", "03", "04", "05", "06", "a_", "b_", "c_"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_its_question_and_an_answer_of_at_most_three_sentences(name):
    opening = cells(name)[0]["source"]
    question, answer = re.search(
        r"\*\*The question\.\*\*(.*?)\*\*The answer\*?\*?\.?(.*?)(?:\n\n|$)", opening, re.S
    ).groups()
    assert question.rstrip().endswith("?")
    assert 1 <= len(re.findall(r"[.?!](?=\s|$)", answer.strip().removeprefix("**"))) <= 3


@pytest.mark.parametrize("name", CHAPTERS)
def test_below_every_figure_of_measured_results_stands_its_finding(name):
    found = cells(name)
    for cell, after in itertools.pairwise(found):
        figure = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if figure and figure not in WITHOUT_FINDING:
            assert "show_finding(" in after["source"], f"{figure} has no finding below it"
            assert "remove-input" in after["tags"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_exercises_are_followed_by_a_collapsed_solution_that_is_executed(name):
    *_, exercises, solution = cells(name)
    assert "## Exercises" in exercises["source"] and "in the next cell" in exercises["source"]
    assert solution["cell_type"] == "code" and "hide-cell" in solution["tags"]
    assert solution["source"].startswith("# Solution of exercise ")
    assert solution["metadata"]["mystnb"]["code_prompt_show"] == "Show the solution"


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name[0] == "0"])
def test_every_chapter_has_a_panel_with_sliders(name):
    assert any("_explorer(" in cell["source"] for cell in cells(name) if cell["cell_type"] == "code")
