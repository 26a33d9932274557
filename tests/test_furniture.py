"""What pages get beside their prose, on a small book: numbers, source pages, buttons, footer, launch copies, a PDF."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from playwright.sync_api import Page, sync_playwright
from tiny_book import CONFIG, write_notebook

from edition.claims import Verdict
from edition.figures.toy_setup import contours
from edition.page import chapter
from edition.page.chapter import show_finding, show_source
from edition.page.finding import finding
from edition.publish.code import anchors
from edition.publish.layout import Layout, chapters
from edition.publish.links import broken_links
from edition.publish.pdf import LINKS, PATIENCE, SUMMARY_FIRST, build_pdf, find_chromium
from edition.publish.repository import SETUP, repository_name, write_launch_copies
from edition.publish.site import SiteError, render, run_jupyter_book, stage_sources

ROOT = Path(__file__).resolve().parent.parent
CONFIG = f"""\
{CONFIG}html:
  use_edit_page_button: false
  use_repository_button: false
sphinx:
  extra_extensions: [edition.publish.furniture, edition.publish.numbering, edition.publish.code]
  config:
    html_extra_path: [_extra]
    html_static_path: [book/_static]
    html_css_files: [custom.css]
    mathjax_path: mathjax/tex-mml-chtml.js
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
FRAMES = '<div class="frames"><label for="s">rho</label><input id="s" type="range"><output>1</output></div>'
CAPTION = re.compile(r'caption-number">([^<]*?) ?</span>')
REFERENCE = re.compile(r'<span class="std std-numref">([^<]*)</span>')
REPOSITORY = "https://github.com/someone/sam-book"


@pytest.fixture(autouse=True)
def no_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say themselves which repository there is."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


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


def write_book(root: Path) -> Path:
    """Write a book of a first page that refers to everything, a numbered chapter, and two pages without a number."""
    book = root / "book"
    book.mkdir(parents=True)
    (root / "_toc.yml").write_text(TOC)
    (root / "_config.yml").write_text(CONFIG)
    shutil.copytree(ROOT / "book/_static", book / "_static")
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copyfile(ROOT / name, root / name)
    references = "\n".join(f"{{numref}}`{name}`" for name in NUMBERS)
    (book / "index.md").write_text(f"# Tiny\n\n[one](one.ipynb) and $a^2$\n\n{references}\n\n{FRAMES}\n")
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
    said = new_code_cell("print('said')", outputs=[new_output("stream", text="said " * 300)])
    prose = new_markdown_cell("# Last\n\n" + "word " * 250)
    write_notebook(book / "b_last.ipynb", prose, said, table_cell("tab-last"))
    return root


def staged(root: Path, repository: str = "") -> Layout:
    """Stage a book as a build does, with its chapters as they are, where the environment names a repository or none."""
    layout = Layout(root=root, work=root / "_build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_REPOSITORY", repository)
        stage_sources(layout)
    for each in chapters(root):
        shutil.copyfile(root / each, layout.stage / each)
    return layout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the book, for a test to change."""
    return write_book(tmp_path / "repository")


def rendered(folder: Path, repository: str = "") -> Path:
    """The pages of such a book."""
    layout = staged(write_book(folder / "repository"), repository)
    render(layout.stage, layout.html)
    return layout.html


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built where the public repository is known."""
    return rendered(tmp_path_factory.mktemp("book"), "someone/sam-book")


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built where nobody knows its address."""
    return rendered(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def single_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single page that the PDF is printed from, where `make pdf` puts it."""
    layout = staged(write_book(tmp_path_factory.mktemp("single") / "repository"))
    built = run_jupyter_book(layout.stage, "singlehtml")
    return (built / "book/index.html").rename(built / "index.html")


@pytest.fixture
def tab() -> Iterator[Page]:
    """A page of Chromium, of a reader who prefers dark pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        page = browser.new_page(color_scheme="dark")
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def read(site: Path, page: str) -> str:
    """A page's HTML."""
    return (site / f"{page}.html").read_text()


def plain(html: str) -> str:
    """The text of a piece of HTML."""
    return unescape(re.sub("<[^>]*>", "", html))


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


# --- numbers


def test_a_cells_table_counts_with_the_tables_and_a_page_without_a_number_counts_by_its_letter(site, single_page):
    captions = [CAPTION.findall(read(site, f"book/{page}")) for page in ("one", "a_more", "b_last")]
    assert captions == [list(NUMBERS.values())[part] for part in (slice(0, 3), slice(3, 5), slice(5, 6))]
    assert CAPTION.findall(single_page.read_text()) == list(NUMBERS.values())


def test_references_say_what_the_captions_say_and_lead_there(site, single_page):
    assert REFERENCE.findall(read(site, "book/index")) == list(NUMBERS.values())
    assert REFERENCE.findall(read(site, "book/one")) == ["Table 1.1"]
    assert REFERENCE.findall(single_page.read_text()) == [*NUMBERS.values(), "Table 1.1"]
    for target in ("one.html#tab-scores", "one.html#fig-dot", "b_last.html#tab-last"):
        assert f'href="{target}"' in read(site, "book/index")


def test_a_cells_table_has_its_caption_above_it_and_apart_from_it(site):
    (found,) = re.findall(r'<figure class="([^"]*)" id="tab-scores">(.*?)</figure>', read(site, "book/one"), re.DOTALL)
    classes, content = found
    caption, table = content.split("</figcaption>")
    assert plain(caption).strip() == "Table 1.1 Caption#"
    assert plain(table).split() == ["More.", "1"]
    assert "table" not in classes.split()  # the theme would draw the figure as one


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


def test_a_source_page_holds_a_linked_module_as_it_is_and_leads_to_its_file_and_the_search_leaves_it_out(site):
    made = {path.stem for path in (site / "code").iterdir()}
    assert made == {"edition.figures.toy_setup", "edition.page.finding", "edition.claims.rules"}
    page = read(site, "code/edition.page.finding")
    (shown,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert plain(shown) == Path(chapter.__file__).with_name("finding.py").read_text()
    assert f"{REPOSITORY}/blob/main/edition/page/finding.py" in page and "<title>edition.page.finding" in page
    index = (site / "searchindex.js").read_text()
    assert "book/one" in index and "code/edition" not in index


def test_in_the_pdf_names_of_code_lead_nowhere_even_where_a_heading_has_the_same_name(single_page, tab):
    tab.goto(single_page.as_uri())
    names = tab.locator(".cell_output a").filter(has=tab.locator("code"))
    assert tab.locator("#finding").count() == 1 and names.count() == 3
    tab.evaluate(LINKS)
    assert [name.get_attribute("href") for name in names.all()] == [None] * 3


def test_methods_are_anchored_by_qualified_name_at_their_first_decorator():
    source = "import x\n\n@x.first\n@x.second\nclass A:\n    def b(self):\n        def c(): ...\n\n\ndef d(): ...\n"
    assert anchors(source) == {"A": 3, "A.b": 6, "d": 10}


def test_links_to_no_code_and_a_letter_of_two_pages_stop_the_build_and_are_named(root, tmp_path, capfd):
    targets = ("os.html", "samlib.absent.html#x", "edition.page.finding.html#absent", "edition.page.finding.html")
    links = " ".join(f'<a href="../code/{target}">code</a>' for target in targets)
    (root / "book/index.md").write_text(f"# Tiny\n\n{links}\n")
    (root / "_toc.yml").write_text(TOC.replace("book/b_last}", "book/b_last}, {file: book/best}"))
    write_notebook(root / "book/best.ipynb", new_markdown_cell("# Best"), table_cell("tab-best"))
    stage = staged(root).stage
    with pytest.raises(SiteError, match="expected the pages"):
        render(stage, tmp_path / "html")
    said = re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().err)
    warned = sorted(re.findall(r"book/(\w+)\.\w+: WARNING: (.*)", said))
    for (page, told), (where, *words) in zip(
        warned,
        (
            ("best", "B.1", "got book/b_last and book/best", "begins with another letter"),
            ("index", "expected a module of samlib or edition", "got 'os'", "correct the link"),
            ("index", "expected a module of samlib or edition", "got 'samlib.absent'"),
            ("index", "expected a name that edition.page.finding defines", "got 'absent'"),
        ),
        strict=True,
    ):
        assert page == where and all(word in told for word in words), told


# --- which repository


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/someone/sam-book", "someone/sam-book"),
        ("https://github.com/someone/sam.book.git/", "someone/sam.book"),
        ("git@github.com:someone/sam-book.git", "someone/sam-book"),
        ("ssh://git@github.com/someone/sam-book", "someone/sam-book"),
        ("https://example.org/someone/sam-book.git", None),
        ("https://example.org/github.com/someone/sam-book.git", None),
        ("/somewhere/github.com/someone/sam-book", None),
    ],
)
def test_a_remote_on_github_names_the_repository_unless_the_environment_does(tmp_path, monkeypatch, address, name):
    root = tmp_path / "inner"
    root.mkdir()
    git(tmp_path, "init")
    git(tmp_path, "remote", "add", "origin", "https://github.com/someone/outer")
    assert repository_name(root) is None  # a plain folder inside another checkout
    git(root, "init")
    git(root, "remote", "add", "origin", address)
    assert repository_name(root) == name
    monkeypatch.setenv("GITHUB_REPOSITORY", "else/where")
    assert repository_name(root) == "else/where"


@pytest.mark.parametrize("named", ["someone", "a/b/c", "https://github.com/a/b", 'a/b"><script>'])
def test_a_malformed_name_is_refused(tmp_path, monkeypatch, named):
    monkeypatch.setenv("GITHUB_REPOSITORY", named)
    with pytest.raises(ValueError, match="expected owner/name"):
        repository_name(tmp_path)


# --- buttons and footer


def test_pages_lead_to_their_repository_and_its_launchers(site):
    page = read(site, "book/one")
    assert set(re.findall(r'href="(https://(?:github|colab|mybinder)[^"?]*)', page)) == {
        REPOSITORY,
        f"{REPOSITORY}/edit/main/book/one.ipynb",
        f"{REPOSITORY}/issues/new",
        "https://colab.research.google.com/github/someone/sam-book/blob/launch/book/one.ipynb",
        "https://mybinder.org/v2/gh/someone/sam-book/main",
    }
    assert "main?urlpath=lab/tree/book/one.ipynb" in page


def test_without_a_repository_pages_have_no_button_that_leaves_the_book(plain_site):
    for name in ("book/index", "book/b_last", "code/edition.page.finding"):
        page = read(plain_site, name)
        assert re.findall(r"https://[^\"' ]*(?:github\.com|colab|mybinder)", page) == []
        assert 'href="../LICENSE.txt"' in page and 'href="../CITATION.txt"' in page
    assert broken_links(plain_site) == []
    page = read(plain_site, "book/b_last")
    # Some 255 words with title and table: the code and the 300 words it printed do not count.
    assert re.findall(r"Reading time: [^<]*", page) == ["Reading time: 2 minutes"]
    assert "Reading time: 1 minute<" in read(plain_site, "book/index")
    (download,) = re.findall(r'href="([^"]*_sources[^"]*\.ipynb)"', page)
    cells = nbformat.read(plain_site / "book" / download, as_version=4).cells
    assert cells[1].outputs[0].text.startswith("said ")


# --- what Colab opens


def test_a_launch_copy_fetches_the_repository_where_there_is_one_and_then_runs(root, tmp_path, monkeypatch):
    (root / "requirements.txt").write_text("# numerics\npip\n\n# the book: left to Colab\nno-such-package==0\n")
    (root / "fetched_part.py").write_text("VALUE = 7\n")
    git(root, "init", "-b", "main")
    git(root, "add", "requirements.txt", "fetched_part.py")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "all")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")  # the address that the cell names leads to this copy
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{root.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", REPOSITORY)
    layout = staged(root)
    folder = write_launch_copies(layout, "someone/sam-book")
    assert folder == root / "_build/launch"
    copied = nbformat.read(folder / "book/b_last.ipynb", as_version=4)
    assert [cell.cell_type for cell in copied.cells] == ["code", "markdown", "code", "code"]
    copied.cells[-1] = new_code_cell("from fetched_part import VALUE\nprint('value', VALUE)", id="use")
    nbformat.write(copied, tmp_path / "in.ipynb")
    away = tmp_path / "away"
    away.mkdir()
    papermill.execute_notebook(
        str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), cwd=str(away), kernel_name="python3"
    )
    ran = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "".join(output.text for output in ran.cells[-1].outputs) == "value 7\n"  # a kernel may send it in parts
    assert write_launch_copies(layout, None) is None and not folder.exists()  # where there is no repository


def test_the_set_up_cell_installs_what_numbers_depend_on_and_leaves_the_notebook_server_alone():
    (command,) = re.findall(r"sed '([^']*)'", SETUP)
    done = subprocess.run(["sed", command, ROOT / "requirements.txt"], capture_output=True, text=True, check=True)
    names = set(re.findall(r"^([\w.-]+)==", done.stdout, flags=re.MULTILINE))
    assert {"torch", "torchvision", "numpy", "matplotlib", "jaxtyping"} <= names
    assert not names & {"ipykernel", "ipython", "jupyterlab", "jupyter-book", "pytest"}


# --- the PDF


@pytest.mark.slow
def test_the_pdf_holds_every_page_its_formulas_and_no_path_of_this_machine(root):
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters: [{file: book/b_last}]\n")
    (root / "book/index.md").write_text("# Tiny\n\n$a^2$\n")
    pdf = build_pdf(staged(root))
    assert pdf == root / "_build/book.pdf" and pdf.read_bytes().startswith(b"%PDF-")
    assert pdf.read_bytes().count(b"/Type /Page\n") == 2  # both short, each on a sheet of its own
    assert str(root).encode() not in pdf.read_bytes()


def test_the_pdf_opens_with_the_summary_then_come_the_pages_in_their_order(tab):
    parts = "".join(
        f'<span id="document-book/{name}"></span><section>{name}</section>' for name in ("claims", "summary", "one")
    )
    tab.set_content(f'<div class="bd-article"><section>landing</section><div>{parts}</div></div>')
    tab.evaluate(SUMMARY_FIRST)
    assert tab.locator("section").all_inner_texts() == ["summary", "landing", "claims", "one"]


def test_printed_pages_are_white_without_navigation_and_without_sliders(plain_site, tab):
    tab.goto((plain_site / "book/index.html").as_uri())
    assert tab.locator(".frames input").is_visible()
    tab.emulate_media(media="print", color_scheme="dark")
    furniture = (".bd-sidebar-primary", ".prev-next-footer", ".bd-header-article")
    for hidden in (".frames input", ".frames label", *furniture):
        assert not tab.locator(hidden).first.is_visible(), hidden
    assert tab.get_by_role("link", name="one").first.is_visible()
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(background) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")


def test_a_missing_chromium_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "absent"))
    with pytest.raises(SiteError, match=r"expected a Chromium .*absent.*install"):
        find_chromium()


# --- the workflow


def test_the_workflow_tests_every_push_and_publishes_main_alone():
    jobs = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())["jobs"]
    commands = [step["run"] for step in jobs["test"]["steps"] if step.get("run", "").startswith("make")]
    assert commands[-1] == "make test ALL=1"
    for name in ("pages", "launch"):
        assert jobs[name]["if"] == "github.ref == 'refs/heads/main'" and jobs[name]["needs"] == "test"
    assert "permissions" not in jobs["test"] and jobs["pages"]["permissions"] == {"pages": "write", "id-token": "write"}
