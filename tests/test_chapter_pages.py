"""What every chapter's page has: question and answer first, findings below figures, an exercise with its solution."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb") if re.match(r"(0[1-7]|[abc])_", path.stem))
# Live or drawn from a definition, or images: nothing was measured.
WITHOUT_FINDING = {
    "fig-toy-data",
    "fig-noisy-data",
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


def caption(cell: dict[str, Any]) -> dict[str, Any]:
    """How a cell's output becomes a figure or a table of the page: caption, name, classes; empty for other cells."""
    return cell["metadata"].get("mystnb", {}).get("figure", {})


def test_the_book_has_seven_chapters_and_three_appendices_here():
    assert [name[:2] for name in CHAPTERS] == ["01", "02", "03", "04", "05", "06", "07", "a_", "b_", "c_"]


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
        figure = caption(cell).get("name")
        if figure and figure not in WITHOUT_FINDING and caption(cell).get("classes") != "table":
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


NOTEBOOKS = sorted(path.stem for path in BOOK.glob("*.ipynb") if path.stem != "index")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_parameters_are_in_view_and_imports_folded_away(name):
    parameters, imports = [cell for cell in cells(name) if cell["cell_type"] == "code"][:2]
    assert parameters["source"].startswith("# Parameters\n") and parameters["tags"] == ["parameters"]
    assert "import" in imports["source"] and "hide-input" in imports["tags"]


def numbers(tag: str) -> list[str]:
    """The equations that a tag numbers, as targets write them: "8-10" numbers three."""
    first, _, last = tag.partition("-")
    return [str(number) for number in range(int(first), int(last) + 1)] if last else [first.lower()]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_numbered_equation_can_be_linked_to(name):
    text = "\n\n".join(cell["source"] for cell in cells(name))
    found = re.findall(r"((?:^\(eq-\w+\)=\n)*)^\$\$\n[^$]*?\\tag\{([^}]+)\}", text, re.M)
    assert len(found) == text.count("\\tag{")
    for before, tag in found:
        assert re.findall(r"\(eq-(\w+)\)=", before) == numbers(tag)


UNLINKED_EQUATION = r"(?<!\[)\b(?:Eqs?\.?|[Ee]quations?) \(?[\dA-Z]\d*\b[^)]{0,20}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_prose_and_captions_name_an_equation_by_a_link(name):
    told = [cell["source"] for cell in cells(name) if cell["cell_type"] == "markdown"]
    told += [caption(cell).get("caption", "") for cell in cells(name)]
    assert [found for text in told for found in re.findall(UNLINKED_EQUATION, text)] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_numbered_table_is_one_output_below_its_caption_and_the_text_refers_to_it(name):
    text = "".join(cell["source"] for cell in cells(name) if cell["cell_type"] == "markdown")
    tables = [cell for cell in cells(name) if caption(cell).get("classes") == "table"]
    for cell in tables:
        assert caption(cell)["name"].startswith("tab-") and caption(cell)["caption_before"]
        assert f"{{numref}}`{caption(cell)['name']}`" in text
        assert len(cell["outputs"]) == 1


def test_tables_are_numbered_in_every_chapter_that_discusses_some():
    numbered = {name for name in NOTEBOOKS for cell in cells(name) if caption(cell).get("classes") == "table"}
    assert {"01_feature_diversity", "06_domainbed", "07_beyond", "c_theory", "performance"} <= numbered
