"""What every chapter's page has: question and answer first, findings below figures, an exercise with its solution."""

import itertools
import re
from pathlib import Path

import pytest
from notebooks import cells

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb") if re.match(r"(0[1-8]|[a-d])_", path.stem))
# Live or drawn from a definition, or images: nothing was measured, or the lines above the figure measured it.
WITHOUT_FINDING = re.compile(
    "fig-(sam-step|from-scratch|own-sweep|ascent-steps|ratio-by-hand|leave-one-out|four-gradients|toy-data|noisy-data|"
    "pair-images|waterbirds-groups|celeba-groups|domain-sizes|digit-domains)"
)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_its_question_and_answer_and_ends_with_a_solution_of_each_exercise(name):
    opening, *others = cells(BOOK / f"{name}.ipynb")
    assert "**The question.**" in opening["source"] and "**The answer" in opening["source"]
    place = max(index for index, cell in enumerate(others) if "## Exercises" in cell["source"])
    asked = re.findall(r"^(\d)\. ", others[place]["source"].partition("## Exercises")[2], re.M)
    solutions = others[place + 1 :]
    assert all(cell["cell_type"] == "code" and "hide-cell" in cell["tags"] for cell in solutions)
    solved = [match[1] for cell in solutions if (match := re.match(r"# Solution of exercise (\d)", cell["source"]))]
    written = re.findall(r"Solution of exercise (\d)", others[place]["source"])  # a derivation, which nothing computes
    assert len(solved) == len(solutions) and sorted(solved + written) == asked


@pytest.mark.parametrize("name", CHAPTERS)
def test_below_every_figure_of_measured_results_stands_its_finding(name):
    found = cells(BOOK / f"{name}.ipynb")
    for cell, after in itertools.pairwise(found):
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})  # how the page shows the cell's output
        name = figure.get("name")
        if name and not WITHOUT_FINDING.fullmatch(name) and figure.get("classes") != "table":
            assert re.search(r"\b(show_finding|chapter\.finding)\(", after["source"]), f"{name} has no finding"
            assert "remove-input" in after["tags"]
