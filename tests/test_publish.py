"""Staging, execution, cleaning, freezing, rendering and link checks, on books of one or two chapters."""

import base64
import copy
import dataclasses
import errno
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import tiny_book
from filelock import FileLock
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from edition.figures import NARROW
from edition.publish import site
from edition.publish.__main__ import _COMMANDS, main
from edition.publish.cells import WIDGET_VIEW, clean_notebook, merge_outputs
from edition.publish.execute import ChapterError, check_kernel, execute_book, freeze
from edition.publish.fingerprint import chapter_key, surroundings, tree_digest
from edition.publish.layout import Layout, chapters
from edition.publish.links import broken_links
from edition.publish.site import SiteError, build_site, size_pictures
from edition.publish.status import status_page

REPOSITORY = Path(__file__).resolve().parents[1]
TOC = "format: jb-book\nroot: book/index\nchapters:\n  - file: book/one\n  - file: book/execution\n"
CONFIG = f"""\
{tiny_book.CONFIG}sphinx:
  config:
    html_extra_path: [_extra]
"""
CODE = "import sys\nprint(profile)\nprint('noise', file=sys.stderr)"


def write_chapter(path: Path, *code: str, **metadata: object) -> None:
    """Write a chapter with a title, the parameter `profile = "standard"`, and the code cells given."""
    parameters = new_code_cell('profile = "standard"', id="parameters", metadata={"tags": ["parameters"]})
    cells = [new_code_cell(text, id=f"code-{number}") for number, text in enumerate(code)]
    tiny_book.write_notebook(path, new_markdown_cell("# One", id="title"), parameters, *cells, **metadata)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a Markdown root page, one chapter, one record and a reader's own record."""
    repository = tmp_path / "repository"
    for folder in ("book", "samlib", "results/toy", "results/local"):
        (repository / folder).mkdir(parents=True)
    (repository / "_toc.yml").write_text(TOC)
    (repository / "_config.yml").write_text(CONFIG)
    (repository / "book/index.md").write_text("# Tiny\n\n[one](one.ipynb), [a record](../results/toy/r1.json)\n")
    (repository / "book/execution.md").write_text("# How\n\n```{include} _generated/execution.md\n```\n")
    (repository / "samlib/part.py").write_text("value = 1\n")
    (repository / "results/toy/r1.json").write_text("{}")
    (repository / "results/local/mine.json").write_text("{}")
    write_chapter(repository / "book/one.ipynb", CODE)
    return repository


def layout_of(root: Path, profile: str | None = None) -> Layout:
    """The default build's folders."""
    return Layout(root=root, work=root / "_build", profile=profile)


def sources(root: Path) -> str:
    """Digest of everything but the build."""
    return tree_digest(root, skip=("_build",))


def printed(path: Path) -> str:
    """Everything a notebook printed."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


# --- the table of contents


def test_chapters_are_the_notebooks_of_the_contents_in_reading_order(root: Path) -> None:
    write_chapter(root / "book/zero.ipynb")
    contents = "format: jb-book\nroot: book/index\nparts:\n- chapters:\n  - file: book/zero\n    sections:\n"
    (root / "_toc.yml").write_text(contents + "    - file: book/one\n- chapters:\n  - file: book/execution\n")
    assert chapters(root) == ["book/zero.ipynb", "book/one.ipynb"]


def test_a_page_of_the_contents_that_does_not_exist_is_named(root: Path) -> None:
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/absent\n")
    with pytest.raises(ValueError, match=r"expected book/absent\.ipynb or book/absent\.md, found neither"):
        chapters(root)


# --- what decides whether a chapter is executed again


def test_key_ignores_prose_and_outputs_but_not_code_parameters_or_surroundings() -> None:
    def key(code: str = "1 + 1", prose: str = "", outputs: tuple = (), profile: str = "", library: str = "a") -> str:
        cells = [new_markdown_cell(prose), new_code_cell(code, outputs=list(outputs))]
        return chapter_key(new_notebook(cells=cells), {"profile": profile}, {"library": library})

    assert key(prose="after", outputs=(new_output("stream", text="2"),)) == key()
    assert len({key(), key(code="1 + 2"), key(profile="quick"), key(library="b")}) == 4


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("samlib/part.py", "library"),
        ("samlib/notes.txt", None),  # no code
        ("edition/constants.toml", "library"),  # lists that a reader edits
        ("pyproject.toml", "layers"),  # which a map shows
        ("results/toy/r1.json", "records"),
        ("results/local/mine.json", None),  # a reader's own only save time
        ("data/prepared/waterbirds-110/table.csv", "data"),
        ("data/MNIST/raw/train-images-idx3-ubyte.gz", "data"),
        ("data/activations/a.npy", None),  # which runs make, and no output follows
    ],
)
def test_surroundings_notice_a_new_or_changed_file_where_outputs_rest_on_it(root, monkeypatch, path, part) -> None:
    monkeypatch.setenv("SAMLIB_DATA", str(root / "data"))
    (root / path).parent.mkdir(parents=True, exist_ok=True)  # a set's folder comes before its files
    before = surroundings(root)
    (root / path).write_text("changed")
    after = surroundings(root)
    assert {name for name in before if before[name] != after[name]} == ({part} if part else set())


def test_a_digest_follows_the_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = tree_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert tree_digest(tmp_path) != before


# --- cleaning and merging


def test_cleaning_keeps_results_and_strips_what_differs_from_run_to_run() -> None:
    frames = {"text/html": "<input type='range'>", "text/plain": "Slider()", WIDGET_VIEW: {"model_id": "x"}}
    outputs = [
        new_output("stream", name="stdout", text="step 1\rstep 2\nkept\n"),
        new_output("stream", name="stderr", text="50%|#####"),
        new_output("display_data", data=frames),
        new_output("display_data", data={"text/plain": "0%|", WIDGET_VIEW: {"model_id": "y"}}),
        new_output("execute_result", data={"text/plain": "3"}, execution_count=7),
    ]
    cell = new_code_cell("1 + 2", id="sum", execution_count=7, outputs=outputs)
    cell.metadata = NotebookNode(papermill={"duration": 1}, execution={"iopub.status.busy": "now"}, tags=["keep"])
    notebook = new_notebook(cells=[cell], metadata={"papermill": {}, "widgets": {}, "title": "kept"})
    cleaned = clean_notebook(notebook)
    stream, slider, result = cleaned.cells[0].outputs
    assert stream.text == "step 2\nkept\n"
    assert slider.data == {"text/html": "<input type='range'>", "text/plain": "Slider()"}
    assert result.data == {"text/plain": "3"}
    assert (cleaned.cells[0].id, cleaned.cells[0].execution_count) == ("sum", 7)
    assert cleaned.cells[0].metadata == {"tags": ["keep"]}
    assert set(cleaned.metadata) == {"kernelspec", "language_info", "title"}
    assert len(notebook.cells[0].outputs) == 5, "the argument must not change"
    assert clean_notebook(cleaned) == cleaned


def test_merging_takes_outputs_from_the_execution_of_the_same_code_and_prose_from_the_source() -> None:
    source = new_notebook(cells=[new_markdown_cell("new"), new_code_cell("a"), new_code_cell("b")])
    executed = copy.deepcopy(source)
    executed.cells[0].source = "old"
    for cell in executed.cells[1:]:
        cell.outputs = [new_output("stream", text=f"from {cell.source}")]
    executed.cells.insert(2, new_code_cell('profile = "quick"', metadata={"tags": ["injected-parameters"]}))
    merged = merge_outputs(source, executed)
    assert [cell.source for cell in merged.cells] == ["new", "a", 'profile = "quick"', "b"]
    assert [cell.outputs[0].text for cell in (merged.cells[1], merged.cells[3])] == ["from a", "from b"]
    assert source.cells[1].outputs == []
    executed.cells[-1].source = "c"
    with pytest.raises(ValueError, match="execute the chapter again"):
        merge_outputs(source, executed)


# --- execution


def test_second_run_reuses_prose_is_renewed_and_changed_code_executes_again(root: Path) -> None:
    before, layout = sources(root), layout_of(root)
    first = execute_book(layout)
    second = execute_book(layout)
    assert [entry["reused"] for entry in first + second] == [False, True]
    assert second[0] | {"reused": False} == first[0]
    assert sources(root) == before, "staging must not write into the sources"

    notebook = nbformat.read(root / "book/one.ipynb", as_version=4)
    notebook.cells[0].source = "# One, reworded"
    nbformat.write(notebook, root / "book/one.ipynb")
    assert execute_book(layout)[0]["reused"]
    staged = layout.stage / "book/one.ipynb"
    assert nbformat.read(staged, as_version=4).cells[0].source == "# One, reworded"
    assert printed(staged) == "standard\n"

    (layout.executed / "book/one.json").write_text("")  # a full disk cut it short
    assert not execute_book(layout)[0]["reused"]
    (root / "samlib/part.py").write_text("value = 2\n")
    third = execute_book(layout)
    assert not third[0]["reused"]
    assert json.loads(layout.record.read_text()) == {"schema": 1, "chapters": third}
    assert third[0]["profile"] == "standard"
    assert {"chapter", "machine", "device", "versions", "threads", "seconds", "utc"} <= set(third[0])


MEET = """
import pathlib, time
me, other = pathlib.Path("{0}"), pathlib.Path("{1}")
me.touch()
end = time.monotonic() + {2}
while not other.exists() and time.monotonic() < end:
    time.sleep(0.05)
print(profile, other.exists())
"""


@pytest.mark.parametrize(
    ("profile", "told"), [(None, ["standard True", "standard True"]), ("quick", ["quick False", "quick True"])]
)
def test_chapters_go_side_by_side_but_one_by_one_where_a_profile_makes_them_train_what_they_share(
    root: Path, tmp_path: Path, monkeypatch, profile: str | None, told: list[str]
) -> None:
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/one\nchapters:\n- file: book/two\n")
    limit = 0 if profile else 120  # who goes alone waits for nobody
    places = [(tmp_path / name).as_posix() for name in ("one", "two")]
    write_chapter(root / "book/one.ipynb", MEET.format(*places, limit))
    write_chapter(root / "book/two.ipynb", MEET.format(*places[::-1], limit))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    layout = layout_of(root, profile)
    entries = execute_book(layout)
    assert [entry["chapter"] for entry in entries] == chapters(root)
    assert {entry["profile"] for entry in entries} == {profile or "standard"}
    assert [printed(layout.stage / chapter).strip() for chapter in chapters(root)] == told


def test_a_page_that_sums_up_finds_what_a_later_chapter_recorded_and_keeps_its_place(root: Path) -> None:
    record = root / "record.txt"
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/summary\nchapters:\n- file: book/one\n")
    write_chapter(root / "book/summary.ipynb", f"print(open({str(record)!r}).read())", sums_up=True)
    write_chapter(root / "book/one.ipynb", f"with open({str(record)!r}, 'w') as file: file.write('trained')")
    layout = layout_of(root)
    entries = execute_book(layout)
    assert [entry["chapter"] for entry in entries] == ["book/summary.ipynb", "book/one.ipynb"]
    assert printed(layout.stage / "book/summary.ipynb").strip() == "trained"
    assert nbformat.read(layout.stage / "book/summary.ipynb", as_version=4).metadata.sums_up


def test_the_books_pages_that_sum_up_say_so() -> None:
    pages = (REPOSITORY / "book").glob("*.ipynb")
    found = {path.stem for path in pages if nbformat.read(path, as_version=4).metadata.get("sums_up")}
    assert found >= {"index", "claims", "records", "summary"}


def test_a_failing_cell_is_named_and_nothing_of_it_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_chapter(root / "book/one.ipynb", "one = 1", "# divide\none / 0")
    with pytest.raises(ChapterError, match=r"book/one\.ipynb: .*cell 4, In \[3\], raised ZeroDivisionError"):
        execute_book(layout_of(root))
    assert not (root / "_build/stage/book/one.ipynb").exists()
    assert not (root / "_build/executed/book/one.json").exists()
    assert main(["freeze", "--root", str(root)]) == 1
    assert "raised ZeroDivisionError" in capsys.readouterr().err
    assert "outputs" not in (root / "book/one.ipynb").read_text().replace('"outputs": []', "")


def test_two_builds_in_one_folder_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "_build").mkdir()
    with FileLock(root / "_build" / ".lock"):
        assert main(["book", "--root", str(root)]) == 1
    assert "expected to build there alone" in capsys.readouterr().err


def test_a_reader_who_stops_a_build_waits_for_no_cell(root: Path) -> None:
    begun = root / "begun"
    write_chapter(root / "book/one.ipynb", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(120)")
    command = [sys.executable, "-m", "edition.publish", "book", "--root", str(root)]
    options = {"cwd": REPOSITORY, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    # Tests that a script has put into the background ignore Ctrl-C, and so would the build.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **options) as build:
        while not begun.exists():
            assert build.poll() is None, build.stderr.read()
            time.sleep(0.1)
        os.killpg(build.pid, signal.SIGINT)  # as a terminal sends Ctrl-C
        assert build.wait(timeout=60) == 130
        assert "stopped; chapters that were finished are kept" in build.stderr.read()


def test_another_environments_kernel_is_refused_with_a_command_that_can_be_pasted(tmp_path: Path, monkeypatch) -> None:
    python = str(tmp_path / "Vögel's #1 env" / "python")
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: KernelSpec(argv=["/elsewhere/python"]))
    with pytest.raises(ChapterError, match="got /elsewhere/python") as caught:
        check_kernel()
    command = str(caught.value).partition("`")[2].partition("`")[0]
    assert shlex.split(command, comments=True) == [python, "-m", "ipykernel", "install", "--sys-prefix"]


# --- freezing


def test_freezing_twice_differs_in_no_byte_even_from_a_fresh_execution(root: Path) -> None:
    page = root / "book/one.ipynb"
    assert freeze(layout_of(root)) == ["book/one.ipynb"]
    frozen = page.read_bytes()
    assert freeze(layout_of(root)) == []
    assert freeze(Layout(root=root, work=root / "_build/other")) == []
    assert page.read_bytes() == frozen
    assert printed(page) == "standard\n"
    assert [cell.execution_count for cell in nbformat.read(page, as_version=4).cells[1:]] == [1, 2]


def test_without_execution_a_chapter_shows_its_committed_outputs_unless_it_was_executed_meanwhile(root: Path) -> None:
    committed = nbformat.read(root / "book/one.ipynb", as_version=4)
    committed.cells[-1].outputs = [new_output("stream", text="committed\n")]
    nbformat.write(committed, root / "book/one.ipynb")
    frozen = dataclasses.replace(layout_of(root), frozen=True)
    for execution, shown in ((False, "committed\n"), (True, "standard\n")):
        if execution:
            execute_book(layout_of(root))
        (entry,) = execute_book(frozen)
        assert printed(frozen.stage / "book/one.ipynb") == shown
        assert entry["reused"] and ("utc" in entry) == execution
        assert ("committed outputs" in status_page([entry])) != execution
    for layout in (frozen, layout_of(root, "quick")):
        with pytest.raises(ValueError, match="freeze the default build"):
            freeze(layout)


# --- pages and links


def test_a_figure_has_its_size_in_inches_and_a_phone_takes_its_stacked_version(tmp_path: Path) -> None:
    pictures = {name: base64.b64encode(name.encode()).decode() for name in ("wide", "narrow", "other")}
    forms = (("wide", {NARROW: pictures["narrow"]}), ("other", {}), ("other", {}))
    outputs = [new_output("display_data", {"image/png": pictures[name]}, metadata=beside) for name, beside in forms]
    stage, built = tmp_path / "stage", tmp_path / "built"
    for folder in (stage / "book", built / "book", built / "_images"):
        folder.mkdir(parents=True)
    tiny_book.write_notebook(stage / "book/one.ipynb", new_code_cell("show()", outputs=outputs))
    tiny_book.write_notebook(stage / "book/not_a_page.ipynb")
    wide, other = (hashlib.sha256(name.encode()).hexdigest() for name in ("wide", "other"))
    image = '<img alt="Two panels." src="../_images/{}.png" />'
    sized = '<img srcset="../_images/{0}.png 2x" alt="Two panels." src="../_images/{0}.png" />'
    page = built / "book/one.html"
    page.write_text("".join(map(image.format, (wide, other, other))))
    size_pictures(stage, built)
    narrow = f'<source media="(max-width: 600px)" srcset="../_images/{wide}-narrow.png">'
    assert page.read_text() == f"<picture>{narrow}{sized.format(wide)}</picture>" + 2 * sized.format(other)
    assert {path.name: path.read_bytes() for path in (built / "_images").iterdir()} == {f"{wide}-narrow.png": b"narrow"}


@pytest.mark.slow
def test_a_book_builds_links_its_records_and_is_rendered_again_only_after_a_change(root: Path, monkeypatch) -> None:
    before, layout = sources(root), layout_of(root)
    build_site(layout)
    page = (layout.html / "book/one.html").read_text()
    assert "standard" in page
    assert (layout.html / "results/toy/r1.json").is_file()
    assert not (layout.html / "results/local").exists()
    assert 'href="one.html"' in (layout.html / "book/execution.html").read_text().split("<tbody")[1]
    assert broken_links(layout.html) == []
    assert sources(root) == before

    rendered = (layout.html / "book/one.html").stat().st_mtime_ns
    build_site(layout)
    assert (layout.html / "book/one.html").stat().st_mtime_ns == rendered
    monkeypatch.setattr(site, "PACKAGES", (root / "samlib",))  # as if the library, with its extensions, were another
    build_site(layout)
    assert (layout.html / "book/one.html").stat().st_mtime_ns > rendered

    (root / "book/index.md").write_text("# Tiny\n\n[nowhere](absent.md)\n")
    for _ in range(2):  # a warning stops the second build as well as the first
        with pytest.raises(SiteError, match="without a warning"):
            build_site(layout)


def test_the_link_check_passes_a_good_site_and_names_each_broken_link(tmp_path: Path, capsys) -> None:
    command = ["links", "--root", str(tmp_path)]
    assert main(command) == 1
    assert "build the book first" in capsys.readouterr().err
    site = tmp_path / "_build/html"
    (site / "sub").mkdir(parents=True)
    (site / "sub/b c.html").write_text('<h1 id="here">b</h1> <a href="../index.html?x=1#top">up</a>')
    good = '<a href="sub/b%20c.html#here">b</a> <a href="#own">o</a> <p id="own"> <a href="https://example.org">'
    (site / "index.html").write_text(good)
    assert main(command) == 0
    bad = '<a href="absent.html">a</a> <a href="sub/b%20c.html#gone">f</a> <img src="/x.png"> <a href="../y">'
    (site / "bad.html").write_text(bad)
    capsys.readouterr()
    assert main(command) == 1
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "bad.html: ../y (leads out of the book)",
        "bad.html: /x.png (begins with /, which leaves the book)",
        "bad.html: absent.html (no such file)",
        "bad.html: sub/b%20c.html#gone (no such anchor on that page)",
    ]


def test_status_page_lists_each_place_once() -> None:
    here = {"machine": "M", "device": "cpu", "threads": 1, "versions": {"torch": "2"}}
    common = {"profile": "standard", "seconds": 2.0, "utc": "2026-01-01 10:00", "reused": False}
    entries = [
        {"chapter": "book/a.ipynb", **here, **common},
        {"chapter": "book/b.ipynb", **here, **common, "profile": ""},
        {"chapter": "book/c.ipynb", **here, **common, "device": "G", "reused": True},
    ]
    page = status_page(entries)
    rows = re.findall(r"`/book/(\w)` \| (\w+) \| 2\.0 \| \[2026-01-01 10:00\]\S* \| (\d) \|", page)
    assert rows == [("a", "standard", "1"), ("b", "none", "1"), ("c", "standard", "2")]
    assert page.endswith("\n\n1. M; device cpu; 1 thread; torch 2.\n2. M; device G; 1 thread; torch 2.\n")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_repository_that_cannot_be_written_to_is_told_in_a_sentence(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(root: Path) -> int:
        raise OSError(number, "no", str(root / "_build"))

    monkeypatch.setitem(_COMMANDS, "book", fail)
    assert main(["book", "--root", str(tmp_path)]) == 1
    assert f"{tmp_path / '_build'}: expected to write there" in capsys.readouterr().err
