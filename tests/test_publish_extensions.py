"""Numbers of figures and tables, and pages of source code, on a book of a chapter and two appendices."""

import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import nbformat
import pytest
import tiny_book
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import sync_playwright

from edition.claims import Verdict
from edition.figures.toy_setup import contours
from edition.page import chapter
from edition.page.chapter import show_finding, show_source
from edition.page.finding import finding
from edition.publish.code import anchors
from edition.publish.links import broken_links
from edition.publish.pdf import LINKS, PATIENCE, find_chromium
from edition.publish.repository import with_buttons
from edition.publish.site import SiteError, render, run_jupyter_book

CONFIG = f"""\
{tiny_book.CONFIG}html:
  use_repository_button: false
sphinx:
  extra_extensions: [edition.publish.numbering, edition.publish.code]
"""
TOC = """\
format: jb-book
root: book/index
parts:
  - numbered: true
    chapters: [{file: book/one}]
  - chapters: [{file: book/a_more}, {file: book/b_last}]
"""
NUMBERS = {
    "tab-scores": "Table 1.1",
    "tab-plain": "Table 1.2",
    "fig-dot": "Fig. 1.1",
    "tab-first": "Table A.1",
    "tab-second": "Table A.2",
    "tab-last": "Table B.1",
}
TABLE = "```{{table}} Caption\n:name: {}\n\n| a |\n|---|\n| 1 |\n```\n"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CAPTION = re.compile(r'caption-number">([^<]*?) ?</span>')
REFERENCE = re.compile(r'<span class="std std-numref">([^<]*)</span>')


def displayed(data: dict[str, str], **figure: object) -> NotebookNode:
    """A code cell that displayed something, as a figure where there is something to say of one."""
    metadata = {"mystnb": {"figure": figure}} if figure else {}
    return new_code_cell("...", metadata=metadata, outputs=[new_output("display_data", data=data)])


def table_cell(name: str) -> NotebookNode:
    """A cell that displayed a table, with a caption of two paragraphs."""
    html = {"text/html": "<table><tr><td>1</td></tr></table>"}
    return displayed(html, name=name, caption="Caption\n\nMore.", classes="table", caption_before=True)


def cell_of(call: Callable[[], None]) -> NotebookNode:
    """A cell with what a function of `edition.page.chapter` displays."""
    items: list = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter, "display", items.append)
        call()
    (item,) = items
    return displayed({{"HTML": "text/html", "Markdown": "text/markdown"}[type(item).__name__]: item.data})


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
    (book / "index.md").write_text("# Tiny\n\n" + "\n".join(f"{{numref}}`{name}`" for name in NUMBERS) + "\n")
    (book / "a_more.md").write_text(f"# More\n\n{TABLE.format('tab-first')}\n## Sub\n\n{TABLE.format('tab-second')}")
    write_notebook(
        book / "one.ipynb",
        # A heading with the name of a function.
        new_markdown_cell("# One\n\n## Finding\n\n{numref}`tab-scores`"),
        table_cell("tab-scores"),
        new_markdown_cell(TABLE.format("tab-plain")),
        displayed({"image/png": DOT}, name="fig-dot", caption="Caption"),
        cell_of(lambda: show_finding(contours, lambda: "said")),
        cell_of(lambda: show_source(finding)),
        cell_of(lambda: show_source(Verdict.counts.fget)),
    )
    write_notebook(book / "b_last.ipynb", new_markdown_cell("# Last"), table_cell("tab-last"))
    return stage


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book's pages, built where its public repository is known."""
    stage = write_book(tmp_path_factory.mktemp("book") / "stage")
    config = with_buttons(yaml.safe_load(CONFIG), "someone/sam-book")
    (stage / "_config.yml").write_text(yaml.safe_dump(config))
    render(stage, stage.parent / "html")
    return stage.parent / "html"


@pytest.fixture(scope="module")
def single_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single page that the PDF is printed from, where `make pdf` puts it."""
    built = run_jupyter_book(write_book(tmp_path_factory.mktemp("single") / "stage"), "singlehtml")
    return (built / "book/index.html").rename(built / "index.html")


def read(site: Path, page: str) -> str:
    """A page's HTML."""
    return (site / f"{page}.html").read_text()


def plain(html: str) -> str:
    """The text of a piece of HTML."""
    return unescape(re.sub("<[^>]*>", "", html))


# --- numbers


def test_a_cells_table_counts_with_the_tables_and_a_page_without_a_number_counts_by_its_letter(site):
    captions = {page: CAPTION.findall(read(site, f"book/{page}")) for page in ("one", "a_more", "b_last")}
    assert captions == {
        "one": ["Table 1.1", "Table 1.2", "Fig. 1.1"],
        "a_more": ["Table A.1", "Table A.2"],
        "b_last": ["Table B.1"],
    }


def test_references_say_what_the_captions_say_and_lead_there(site):
    assert REFERENCE.findall(read(site, "book/index")) == list(NUMBERS.values())
    assert REFERENCE.findall(read(site, "book/one")) == ["Table 1.1"]
    for target in ("one.html#tab-scores", "one.html#fig-dot", "b_last.html#tab-last"):
        assert f'href="{target}"' in read(site, "book/index")


def test_a_cells_table_has_its_caption_above_it_and_apart_from_it(site):
    (found,) = re.findall(r'<figure class="([^"]*)" id="tab-scores">(.*?)</figure>', read(site, "book/one"), re.DOTALL)
    classes, content = found
    caption, table = content.split("</figcaption>")
    assert plain(caption).strip() == "Table 1.1 Caption#"
    assert plain(table).split() == ["More.", "1"]
    assert "table" not in classes.split()  # the theme would draw the figure as one


def test_the_single_page_has_the_same_numbers(single_page):
    assert CAPTION.findall(single_page.read_text()) == list(NUMBERS.values())
    assert REFERENCE.findall(single_page.read_text()) == [*NUMBERS.values(), "Table 1.1"]


# --- source pages


def test_names_below_figures_and_listings_lead_to_their_definitions(site):
    links = re.findall(r'<a href="\.\./code/([^"#]*)\.html#([^"]*)"><code>([^<]*)', read(site, "book/one"))
    assert links == [
        ("edition.figures.toy_setup", "contours", "edition.figures.toy_setup.contours"),
        ("edition.page.finding", "finding", "edition.page.finding"),
        ("edition.claims.rules", "Verdict.counts", "edition.claims.rules"),
    ]
    below = [read(site, f"code/{module}").partition(f'<span id="{name}"></span>')[2] for module, name, _ in links]
    lines = [plain(text.partition("\n")[0]) for text in below]
    assert lines[0].startswith("def contours(") and lines[1].startswith("def finding(") and lines[2] == "    @property"
    assert broken_links(site) == []


def test_a_source_page_holds_the_module_as_it_is_and_leads_to_its_file_in_the_repository(site):
    page = read(site, "code/edition.page.finding")
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert plain(shown) == Path(chapter.__file__).with_name("finding.py").read_text()
    assert "https://github.com/someone/sam-book/blob/main/edition/page/finding.py" in page
    assert "<title>edition.page.finding" in page


def test_only_modules_that_are_linked_have_pages_and_the_search_leaves_them_out(site):
    made = {path.stem for path in (site / "code").iterdir()}
    assert made == {"edition.figures.toy_setup", "edition.page.finding", "edition.claims.rules"}
    index = (site / "searchindex.js").read_text()
    assert "book/one" in index and "code/edition" not in index


def test_in_the_pdf_names_of_code_lead_nowhere_even_where_a_heading_has_the_same_name(single_page):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(single_page.as_uri())
        names = page.locator(".cell_output a").filter(has=page.locator("code"))
        assert page.locator("#finding").count() == 1 and names.count() == 3
        page.evaluate(LINKS)
        assert [name.get_attribute("href") for name in names.all()] == [None] * 3
        browser.close()


def test_methods_are_anchored_by_qualified_name_at_their_first_decorator():
    source = "import x\n\n@x.first\n@x.second\nclass A:\n    def b(self):\n        def c(): ...\n\n\ndef d(): ...\n"
    assert anchors(source) == {"A": 3, "A.b": 6, "d": 10}


# --- mistakes


def test_links_to_no_code_and_a_letter_of_two_pages_stop_the_build_and_are_named(tmp_path, capfd):
    stage = write_book(tmp_path / "stage")
    targets = ("os.html", "samlib.absent.html#x", "edition.page.finding.html#absent", "edition.page.finding.html")
    links = " ".join(f'<a href="../code/{target}">code</a>' for target in targets)
    (stage / "book/index.md").write_text(f"# Tiny\n\n{links}\n")
    (stage / "_toc.yml").write_text(TOC.replace("book/b_last}", "book/b_last}, {file: book/best}"))
    write_notebook(stage / "book/best.ipynb", new_markdown_cell("# Best"), table_cell("tab-best"))
    with pytest.raises(SiteError, match="expected the pages"):
        render(stage, tmp_path / "html")
    said = re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().err)
    assert sorted(re.findall(r"book/(\w+)\.\w+: WARNING: (.*)", said)) == [
        (
            "best",
            "expected one page whose tables count as B.1, B.2, ..., got book/b_last and book/best; "
            "give one of the files a name that begins with another letter",
        ),
        ("index", "link to a source page: expected a module of samlib or edition, got 'os'; correct the link"),
        (
            "index",
            "link to a source page: expected a module of samlib or edition, got 'samlib.absent'; correct the link",
        ),
        (
            "index",
            "link to a source page: expected a name that edition.page.finding defines, got 'absent'; correct the link",
        ),
    ]
    # This book has no public repository: Jupyter Book then knows the address of its own.
    assert "blob/main" not in read(stage / "_build/html", "code/edition.page.finding")


def test_the_extensions_import_neither_torch_nor_matplotlib():
    code = (
        "import sys, edition.publish.furniture, edition.publish.numbering, edition.publish.code; "
        "print(sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
