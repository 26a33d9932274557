"""What every chapter's page has: question and answer first, findings below figures, an exercise with its solution."""

import ast
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb") if re.match(r"(0[1-8]|[a-d])_", path.stem))
# Live or drawn from a definition, or images: nothing was measured, or the lines above the figure measured it.
WITHOUT_FINDING = {
    "fig-sam-step",
    "fig-from-scratch",
    "fig-own-sweep",
    "fig-ascent-steps",
    "fig-ratio-by-hand",
    "fig-leave-one-out",
    "fig-four-gradients",
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


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_its_question_and_answer_and_ends_with_a_solution_of_each_exercise(name):
    opening, *others = cells(name)
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
    found = cells(name)
    for cell, after in itertools.pairwise(found):
        figure = caption(cell).get("name")
        if figure and figure not in WITHOUT_FINDING and caption(cell).get("classes") != "table":
            assert re.search(r"\b(show_finding|chapter\.finding)\(", after["source"]), f"{figure} has no finding"
            assert "remove-input" in after["tags"]


FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell", "parameters"}


def computes(source: str) -> bool:
    """Whether code defines or calculates something: it holds a function, a class, an operator, or an assertion."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.BinOp, ast.Compare, ast.Assert)
    return any(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize("name", [name for name in CHAPTERS if re.match("0[1-7]", name)])
def test_half_of_the_code_in_view_computes_and_a_plain_version_is_held_against_the_library(name):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    visible = [cell["source"] for cell in code if not FOLDED & set(cell["tags"])]
    assert sum(map(computes, visible)) >= len(visible) / 2
    assert any("### From scratch" in cell["source"] for cell in cells(name))
    assert any("assert " in source for source in visible)


def test_a_cell_that_only_calls_figures_or_verdicts_computes_nothing():
    assert not computes("show(figures.contours, kept.table)") and not computes('toy = chapter.results("toy")')
    assert computes("w = w - rate * gradient") and computes("def f(x):\n    return x")


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
