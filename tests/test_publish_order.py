"""Pages that sum up what the others record are executed after them, and stay where they stand in the book."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from edition.publish.execute import execute_book
from edition.publish.layout import Layout

TOC = "format: jb-book\nroot: book/summary\nchapters:\n  - file: book/trained\n"
BOOK = Path(__file__).parents[1] / "book"


def write(path: Path, code: str, *, sums_up: bool) -> None:
    cells = [new_code_cell('profile = "paper"', metadata={"tags": ["parameters"]}), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells, metadata={"sums_up": True} if sums_up else {}), path)


def test_a_page_that_sums_up_finds_what_a_later_chapter_recorded(tmp_path: Path) -> None:
    record = tmp_path / "record.txt"
    for folder in ("book", "samlib", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_toc.yml").write_text(TOC)
    write(tmp_path / "book/summary.ipynb", f"print(open({str(record)!r}).read())", sums_up=True)
    write(tmp_path / "book/trained.ipynb", f"open({str(record)!r}, 'w').write('trained')", sums_up=False)
    layout = Layout(root=tmp_path, work=tmp_path / "_build")
    entries = execute_book(layout)
    assert [entry["chapter"] for entry in entries] == ["book/summary.ipynb", "book/trained.ipynb"]
    summary = nbformat.read(layout.stage / "book/summary.ipynb", as_version=4)
    assert "".join(output.text for output in summary.cells[-1].outputs).strip() == "trained"
    assert summary.metadata.sums_up


def test_the_books_pages_that_sum_up_say_so() -> None:
    found = {path.stem for path in BOOK.glob("*.ipynb") if nbformat.read(path, 4).metadata.get("sums_up")}
    assert found >= {"index", "claims", "records", "summary"}
