"""Page furniture: buttons to the public repository, reading time, footer, launch copies, the PDF, the workflow."""

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import papermill
import pytest
import tiny_book
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import sync_playwright

from edition.publish.layout import Layout, chapters
from edition.publish.links import broken_links
from edition.publish.pdf import PATIENCE, SUMMARY_FIRST, build_pdf, find_chromium
from edition.publish.repository import SETUP, repository_name, write_launch_copies
from edition.publish.site import SiteError, render, stage_sources

ROOT = Path(__file__).resolve().parent.parent
TOC = "format: jb-book\nroot: book/index\nchapters:\n  - file: book/one\n"
CONFIG = f"""\
{tiny_book.CONFIG}html:
  use_edit_page_button: false
sphinx:
  extra_extensions: [edition.publish.furniture]
  config:
    html_extra_path: [_extra]
    html_static_path: [book/_static]
    html_css_files: [custom.css]
    mathjax_path: mathjax/tex-mml-chtml.js
"""
PROSE = "word " * 250
FRAMES = '<div class="frames"><label for="s">rho</label><input id="s" type="range"><output>1</output></div>'


@pytest.fixture(autouse=True)
def no_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say themselves which repository there is."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a Markdown root page and one executed chapter."""
    return write_repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of such a repository, built where nobody knows its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_REPOSITORY", raising=False)
        layout = staged(write_repository(tmp_path_factory.mktemp("plain") / "repository"))
        render(layout.stage, layout.html)
    return layout.html


def write_repository(repository: Path) -> Path:
    """Write a repository with a root page that has a slider, and one executed chapter; return its folder."""
    (repository / "book").mkdir(parents=True)
    (repository / "_toc.yml").write_text(TOC)
    (repository / "_config.yml").write_text(CONFIG)
    shutil.copytree(ROOT / "book/_static", repository / "book/_static")
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copyfile(ROOT / name, repository / name)
    (repository / "book/index.md").write_text(f"# Tiny\n\n[one](one.ipynb) and $a^2$\n\n{FRAMES}\n")
    code = new_code_cell("print('said')", id="code", outputs=[new_output("stream", text="said " * 300)])
    cells = [new_markdown_cell(f"# One\n\n{PROSE}", id="title"), code]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), repository / "book/one.ipynb")
    return repository


def staged(root: Path) -> Layout:
    """Stage a repository as a build does, with its chapters as they are."""
    layout = Layout(root=root, work=root / "_build")
    stage_sources(layout)
    for chapter in chapters(root):
        shutil.copyfile(root / chapter, layout.stage / chapter)
    return layout


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


# --- which repository


def test_the_environment_names_the_repository_before_the_remote_does(root, monkeypatch):
    git(root, "init")
    git(root, "remote", "add", "origin", "https://github.com/else/where.git")
    assert repository_name(root) == "else/where"
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/sam-book")
    assert repository_name(root) == "someone/sam-book"


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
def test_only_a_remote_on_github_names_a_repository(root, address, name):
    git(root.parent, "init")
    git(root.parent, "remote", "add", "origin", "https://github.com/someone/outer")
    assert repository_name(root) is None  # a plain folder inside another checkout
    git(root, "init")
    git(root, "remote", "add", "origin", address)
    assert repository_name(root) == name


@pytest.mark.parametrize("named", ["someone", "a/b/c", "https://github.com/a/b", 'a/b"><script>'])
def test_a_malformed_name_is_refused(root, monkeypatch, named):
    monkeypatch.setenv("GITHUB_REPOSITORY", named)
    with pytest.raises(ValueError, match="expected owner/name"):
        repository_name(root)


# --- pages


def test_pages_lead_to_their_repository_and_its_launchers(root, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/sam-book")
    layout = staged(root)
    render(layout.stage, layout.html)
    page = (layout.html / "book/one.html").read_text()
    hosted = set(re.findall(r'href="(https://(?:github|colab|mybinder)[^"?]*)', page))
    assert hosted == {
        "https://github.com/someone/sam-book",
        "https://github.com/someone/sam-book/edit/main/book/one.ipynb",
        "https://github.com/someone/sam-book/issues/new",
        "https://colab.research.google.com/github/someone/sam-book/blob/launch/book/one.ipynb",
        "https://mybinder.org/v2/gh/someone/sam-book/main",
    }
    assert "main?urlpath=lab/tree/book/one.ipynb" in page
    assert (root / "_config.yml").read_text() == CONFIG


def test_without_a_repository_pages_have_no_button_that_leaves_the_book(plain_site):
    pages = {name: (plain_site / f"book/{name}.html").read_text() for name in ("index", "one")}
    for page in pages.values():
        assert re.findall(r"https://[^\"' ]*(?:github\.com|colab|mybinder)", page) == []
        assert 'href="../LICENSE.txt"' in page and 'href="../CITATION.txt"' in page
    # 251 words with the title: the code and the 300 words it printed do not count.
    assert re.findall(r"Reading time: [^<]*", pages["one"]) == ["Reading time: 2 minutes"]
    assert re.findall(r"Reading time: [^<]*", pages["index"]) == ["Reading time: 1 minute"]
    assert broken_links(plain_site) == []
    (download,) = re.findall(r'href="([^"]*_sources[^"]*\.ipynb)"', pages["one"])
    cells = nbformat.read(plain_site / "book" / download, as_version=4).cells
    assert cells[1].outputs[0].text.startswith("said ")


# --- what Colab opens


def test_a_launch_copy_fetches_the_repository_and_then_runs(root, tmp_path, monkeypatch):
    (root / "requirements.txt").write_text("# numerics\npip\n\n# the book: left to Colab\nno-such-package==0\n")
    (root / "fetched_part.py").write_text("VALUE = 7\n")
    git(root, "init", "-b", "main")
    git(root, "add", "requirements.txt", "fetched_part.py")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "all")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")  # the address that the cell names leads to this copy
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{root.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/someone/sam-book")
    layout = staged(root)
    folder = write_launch_copies(layout, "someone/sam-book")
    copied = nbformat.read(folder / "book/one.ipynb", as_version=4)
    assert [cell.cell_type for cell in copied.cells] == ["code", "markdown", "code"]
    copied.cells.append(new_code_cell("from fetched_part import VALUE\nprint('value', VALUE)", id="use"))
    nbformat.write(copied, tmp_path / "in.ipynb")
    away = tmp_path / "away"
    away.mkdir()
    papermill.execute_notebook(
        str(tmp_path / "in.ipynb"),
        str(tmp_path / "out.ipynb"),
        cwd=str(away),
        kernel_name="python3",
    )
    ran = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "".join(output.text for output in ran.cells[-1].outputs) == "value 7\n"  # a kernel may send it in parts


def test_without_a_repository_there_are_no_launch_copies(root):
    layout = staged(root)
    assert write_launch_copies(layout, "someone/sam-book") == root / "_build/launch"
    assert write_launch_copies(layout, None) is None
    assert not (root / "_build/launch").exists()


def test_the_set_up_cell_installs_what_numbers_depend_on_and_leaves_the_notebook_server_alone():
    (command,) = re.findall(r"sed '([^']*)'", SETUP)
    done = subprocess.run(["sed", command, ROOT / "requirements.txt"], capture_output=True, text=True, check=True)
    names = set(re.findall(r"^([\w.-]+)==", done.stdout, flags=re.MULTILINE))
    assert {"torch", "torchvision", "numpy", "matplotlib", "jaxtyping"} <= names
    assert not names & {"ipykernel", "ipython", "jupyterlab", "jupyter-book", "pytest"}


# --- the PDF


@pytest.mark.slow
def test_the_pdf_holds_every_chapter_its_formulas_and_no_path_of_this_machine(root):
    layout = staged(root)
    pdf = build_pdf(layout)
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert pdf == root / "_build/book.pdf"
    assert pdf.read_bytes().count(b"/Type /Page\n") == 2  # the first page and the chapter, each on a sheet of its own
    assert str(root).encode() not in pdf.read_bytes()


def test_the_pdf_opens_with_the_summary_then_come_the_pages_in_their_order():
    parts = "".join(
        f'<span id="document-book/{name}"></span><section>{name}</section>' for name in ("claims", "summary", "one")
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        page = browser.new_page()
        page.set_content(f'<div class="bd-article"><section>landing</section><div>{parts}</div></div>')
        page.evaluate(SUMMARY_FIRST)
        assert page.locator("section").all_inner_texts() == ["summary", "landing", "claims", "one"]
        browser.close()


def test_printed_pages_are_white_without_navigation_and_without_sliders(plain_site):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        page = browser.new_page(color_scheme="dark")
        page.set_default_timeout(PATIENCE)
        page.goto((plain_site / "book/index.html").as_uri())
        assert page.locator(".frames input").is_visible()
        page.emulate_media(media="print", color_scheme="dark")
        for hidden in (
            ".frames input",
            ".frames label",
            ".bd-sidebar-primary",
            ".prev-next-footer",
            ".bd-header-article",
        ):
            assert not page.locator(hidden).first.is_visible(), hidden
        assert page.get_by_role("link", name="one").first.is_visible()
        background = "() => getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(background) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
        browser.close()


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
