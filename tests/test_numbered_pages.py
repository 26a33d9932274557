"""Numbers of figures and tables, and pages of source code, on a book of a chapter and two appendices."""

import re
import shutil
from html import unescape
from pathlib import Path

import nbformat
import pytest
import tiny_book
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import sync_playwright

from samlib import chapter
from samlib.chapter import show_finding, show_source
from samlib.claims import Verdict
from samlib.figures.toy_setup import contours
from samlib.finding import finding
from samlib.publish import SiteError, broken_links
from samlib.publish.code import anchors
from samlib.publish.pdf import LINKS, PATIENCE, find_chromium
from samlib.publish.repository import with_buttons
from samlib.publish.site import render, run_jupyter_book

CONFIG = f"""\
{tiny_book.CONFIG}sphinx:
  extra_extensions: [samlib.publish.numbering, samlib.publish.code]
"""
TOC = """\
format: jb-book
root: book/index
parts:
  - numbered: true
    chapters: [{file: book/one}]
  - chapters: [{file: book/a_more}, {file: book/b_last}]
"""
NAMES = ("tab-scores", "tab-plain", "fig-dot", "tab-first", "tab-second", "tab-last")
NUMBERS = ["Table 1.1", "Table 1.2", "Fig. 1.1", "Table A.1", "Table A.2", "Table B.1"]
TABLE = "```{{table}} Caption\n:name: {}\n\n| a |\n|---|\n| 1 |\n```\n"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CAPTION = re.compile(r'caption-number">([^<]*?) ?</span>')
REFERENCE = re.compile(r'<span class="std std-numref">([^<]*)</span>')


def displayed(data: dict[str, str], name: str = "", **figure: object) -> NotebookNode:
    """A code cell that displayed something, as a figure where it has a name."""
    metadata = {"mystnb": {"figure": {"caption": "Caption", "name": name, **figure}}} if name else {}
    return new_code_cell("...", metadata=metadata, outputs=[new_output("display_data", data=data)])


def cell_table(name: str) -> NotebookNode:
    """A cell that displayed a table."""
    return displayed({"text/html": "<table><tr><td>1</td></tr></table>"}, name, classes="table", caption_before=True)


def said(*calls: tuple) -> list[NotebookNode]:
    """Cells with what functions of `samlib.chapter` display."""
    items: list = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter, "display", items.append)
        for function, *arguments in calls:
            function(*arguments)
    kinds = {"HTML": "text/html", "Markdown": "text/markdown"}
    return [displayed({kinds[type(item).__name__]: item.data}) for item in items]


def write_notebook(path: Path, *cells: NotebookNode) -> None:
    """Write a notebook."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=list(cells), metadata=kernel), path)


def write_book(stage: Path) -> Path:
    """Write a book of a first page that refers to everything, a numbered chapter, and two pages without a number."""
    book = stage / "book"
    book.mkdir(parents=True)
    (stage / "_toc.yml").write_text(TOC)
    (stage / "_config.yml").write_text(CONFIG)
    (book / "index.md").write_text("# Tiny\n\n" + "\n".join(f"{{numref}}`{name}`" for name in NAMES) + "\n")
    source = said((show_finding, contours, lambda: "said"), (show_source, finding), (show_source, Verdict.status.fget))
    dot = displayed({"image/png": DOT}, "fig-dot")
    # A heading with the name of a function that the source pages have.
    title = new_markdown_cell("# One\n\n## Finding\n\n{numref}`tab-scores`")
    write_notebook(book / "one.ipynb", title, cell_table("tab-scores"), markdown_table("tab-plain"), dot, *source)
    (book / "a_more.md").write_text(
        "# More\n\n" + TABLE.format("tab-first") + "\n## Sub\n\n" + TABLE.format("tab-second")
    )
    write_notebook(book / "b_last.ipynb", new_markdown_cell("# Last"), cell_table("tab-last"))
    return stage


def markdown_table(name: str) -> NotebookNode:
    """A cell with a table in its text."""
    return new_markdown_cell(TABLE.format(name))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The book's pages, built where its public repository is known."""
    stage = write_book(tmp_path_factory.mktemp("book") / "stage")
    config = with_buttons(yaml.safe_load(CONFIG), "someone/sam-book")
    (stage / "_config.yml").write_text(yaml.safe_dump(config))
    render(stage, stage.parent / "html")
    return stage.parent / "html"


@pytest.fixture(scope="module")
def single_page(tmp_path_factory) -> Path:
    """The single page that the PDF is printed from, where `make pdf` puts it."""
    built = run_jupyter_book(write_book(tmp_path_factory.mktemp("single") / "stage"), "singlehtml")
    return (built / "book/index.html").rename(built / "index.html")


def text(site: Path, page: str) -> str:
    """A page's HTML."""
    return (site / f"{page}.html").read_text()


# --- numbers


def test_a_cells_table_counts_with_the_tables_and_a_page_without_a_number_counts_by_its_letter(site):
    captions = {page: CAPTION.findall(text(site, f"book/{page}")) for page in ("one", "a_more", "b_last")}
    assert captions == {
        "one": ["Table 1.1", "Table 1.2", "Fig. 1.1"],
        "a_more": ["Table A.1", "Table A.2"],
        "b_last": ["Table B.1"],
    }


def test_references_say_what_the_captions_say_and_lead_there(site):
    assert REFERENCE.findall(text(site, "book/index")) == NUMBERS
    assert REFERENCE.findall(text(site, "book/one")) == ["Table 1.1"]
    for page, name in (("one", "tab-scores"), ("one", "fig-dot"), ("b_last", "tab-last")):
        assert f'href="{page}.html#{name}"' in text(site, "book/index")


def test_a_cells_table_has_its_caption_above_and_its_name_as_anchor(site):
    (figure,) = re.findall(r'<figure class="([^"]*)" id="tab-scores">(.*?)</figure>', text(site, "book/one"), re.DOTALL)
    assert figure[1].index("Table 1.1") < figure[1].index("<table")
    assert "table" not in figure[0].split()  # which the theme would draw as one


def test_the_single_page_has_the_same_numbers(single_page):
    assert CAPTION.findall(single_page.read_text()) == NUMBERS
    assert REFERENCE.findall(single_page.read_text()) == [*NUMBERS, "Table 1.1"]


# --- source pages


def test_names_below_figures_and_listings_lead_to_their_definitions(site):
    page = text(site, "book/one")
    links = re.findall(r'<a href="\.\./code/([^"]*)"><code>([^<]*)</code></a>', page)
    assert links == [
        ("samlib.figures.toy_setup.html#contours", "samlib.figures.toy_setup.contours"),
        ("samlib.finding.html#finding", "samlib.finding"),
        ("samlib.claims.rules.html#Verdict.status", "samlib.claims.rules"),
    ]
    assert broken_links(site) == []
    for target, line in (
        ("samlib.finding.html#finding", "def finding("),
        ("samlib.claims.rules.html#Verdict.status", "@property"),
    ):
        name, _, anchor = target.partition("#")
        after = (site / "code" / name).read_text().partition(f'<span id="{anchor}"></span>')[2].partition("\n")[0]
        assert unescape(re.sub("<[^>]*>", "", after)).strip().startswith(line)


def test_a_source_page_holds_the_module_as_it_is_and_leads_to_the_repository(site):
    page = text(site, "code/samlib.finding")
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert unescape(re.sub("<[^>]*>", "", shown)) == Path(chapter.__file__).with_name("finding.py").read_text()
    assert "https://github.com/someone/sam-book/blob/main/samlib/finding.py" in page
    assert "<title>samlib.finding" in page


def test_only_modules_that_are_linked_have_pages_and_the_search_leaves_them_out(site):
    made = {path.stem for path in (site / "code").iterdir()}
    assert made == {"samlib.figures.toy_setup", "samlib.finding", "samlib.claims.rules"}
    assert "book/one" in (site / "searchindex.js").read_text()
    assert "code/samlib" not in (site / "searchindex.js").read_text()


def test_in_the_pdf_names_of_code_are_plain_text_even_where_a_heading_has_the_same_name(single_page):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(single_page.as_uri())
        names = page.locator(".source a, em + a").filter(has=page.locator("code"))
        assert page.locator("#finding").count() == 1 and names.count() == 3
        page.evaluate(LINKS)
        assert [name.get_attribute("href") for name in names.all()] == [None] * 3
        browser.close()


def test_methods_are_anchored_by_qualified_name_at_their_first_decorator():
    source = "import x\n\n@x.first\n@x.second\nclass A:\n    def b(self):\n        def c(): ...\n\n\ndef d(): ...\n"
    assert anchors(source) == {"A": 3, "A.b": 6, "d": 10}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """A book whose links to code lead nowhere, and two of whose pages would both count as B."""
    stage = write_book(tmp_path_factory.mktemp("faulty") / "stage")
    links = [f'<a href="../code/{to}.html">code</a>' for to in ("samlib.absent", "samlib.finding.html#absent", "os")]
    (stage / "book/index.md").write_text(f"# Tiny\n\n{' '.join(links)}\n".replace(".html#absent.html", ".html#absent"))
    (stage / "_toc.yml").write_text(TOC.replace("book/b_last}", "book/b_last}, {file: book/best}"))
    shutil.copyfile(stage / "book/b_last.ipynb", stage / "book/best.ipynb")
    notebook = nbformat.read(stage / "book/best.ipynb", as_version=4)
    notebook.cells[1].metadata["mystnb"]["figure"]["name"] = "tab-best"
    nbformat.write(notebook, stage / "book/best.ipynb")
    return stage


def test_links_to_no_code_and_a_letter_of_two_pages_stop_the_build_and_are_named(faulty, capfd):
    with pytest.raises(SiteError, match="expected the pages"):
        render(faulty, faulty.parent / "html")
    said = re.findall(r"WARNING: (.*)", re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().err))
    assert sorted(said) == [
        "expected one page whose tables count as B.1, B.2, ..., got book/b_last and book/best; "
        "give one of the files a name that begins with another letter",
        "link to a source page: expected a module of samlib, got 'os'; correct the link",
        "link to a source page: expected a module of samlib, got 'samlib.absent'; correct the link",
        "link to a source page: expected a name that samlib.finding defines, got 'absent'; correct the link",
    ]
    assert not (faulty.parent / "html").exists()
