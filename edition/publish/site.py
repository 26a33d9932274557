"""Stage the sources and render the pages, with every warning an error."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from edition.figures import NARROW
from edition.publish.execute import execute_book
from edition.publish.fingerprint import tree_digest
from edition.publish.layout import PACKAGES, Layout
from edition.publish.repository import repository_name, with_buttons, write_launch_copies
from edition.publish.status import status_page

IGNORED = shutil.ignore_patterns(".ipynb_checkpoints", "_generated", "__pycache__", "*.ipynb")
EXTRA = "_extra"
FOOTER_FILES = {"LICENSE": "LICENSE.txt", "CITATION.cff": "CITATION.txt"}  # names that a browser shows as text


class SiteError(RuntimeError):
    """The pages could not be built; the renderer's own messages stand above."""


def stage_sources(layout: Layout) -> None:
    """Copy everything the pages need, except the chapters, into a fresh staged folder.

    Side effects: replaces `layout.stage`. Records go to `_extra/results`, without the reader's own
        `results/local`, so that a page's link `../results/<experiment>/<id>.json` opens offline. Where the
        book has a public repository, the staged configuration has the buttons that lead there.
    """
    if layout.stage.exists():
        shutil.rmtree(layout.stage)
    (layout.stage / EXTRA).mkdir(parents=True)
    shutil.copyfile(layout.root / "_toc.yml", layout.stage / "_toc.yml")
    config, name = (layout.root / "_config.yml").read_text(encoding="utf-8"), repository_name(layout.root)
    if name is not None:
        config = yaml.safe_dump(with_buttons(yaml.safe_load(config), name), sort_keys=False, allow_unicode=True)
    (layout.stage / "_config.yml").write_text(config, encoding="utf-8")
    for file, shown in FOOTER_FILES.items():
        if (layout.root / file).is_file():
            shutil.copyfile(layout.root / file, layout.stage / EXTRA / shown)
    shutil.copytree(layout.root / "book", layout.stage / "book", ignore=IGNORED)
    if (layout.root / "results").is_dir():
        for folder in (layout.stage, layout.stage / EXTRA):  # for Markdown links, and for links in plain HTML
            shutil.copytree(layout.root / "results", folder / "results", ignore=_left_out)


def build_site(layout: Layout) -> list[dict[str, Any]]:
    """Execute what changed, stage it, and build the pages unless nothing on them changed.

    Returns:
        The execution record's entries.
    Raises:
        ChapterError: a cell failed.
        SiteError: the renderer warned or failed.
    Side effects: writes under `layout.work` only; the pages are `layout.html`.
    """
    stage_sources(layout)
    entries = execute_book(layout)
    generated = layout.stage / "book" / "_generated"
    generated.mkdir(exist_ok=True)
    (generated / "execution.md").write_text(status_page(entries), encoding="utf-8")
    write_launch_copies(layout, repository_name(layout.root))
    # The library's extensions make the pages, which also show its source.
    digest = tree_digest(layout.stage)
    digest += "".join(tree_digest(folder, suffixes=(".py", ".toml")) for folder in PACKAGES)
    marker = layout.work / "html.digest"
    if not (layout.html / "index.html").is_file() or not marker.is_file() or marker.read_text() != digest:
        marker.unlink(missing_ok=True)
        print(f"rendering {layout.html}", flush=True)
        render(layout.stage, layout.html)
        marker.write_text(digest)
    return entries


def render(stage: Path, html: Path) -> None:
    """Render a staged book from scratch with Jupyter Book; every warning is an error.

    From scratch, because an incremental build does not read again a page that warned once, and then passes.

    Args:
        stage: a folder with `_config.yml` and `_toc.yml`.
        html: where the pages go; replaced.
    Raises:
        SiteError: the renderer warned or failed.
    """
    built = run_jupyter_book(stage, "html")
    size_pictures(stage, built)
    shutil.rmtree(html, ignore_errors=True)
    shutil.move(built, html)
    shutil.rmtree(built.parent, ignore_errors=True)


def size_pictures(stage: Path, built: Path) -> None:
    """Show every figure at its size in inches, so that letters are alike in all; a phone takes the stacked version.

    Args:
        stage: the staged book, with the executed chapters.
        built: its pages; rewritten, and the narrow pictures put beside those they stand for.
    """
    for chapter in (stage / "book").glob("*.ipynb"):
        page = built / "book" / f"{chapter.stem}.html"
        if not page.is_file():
            continue
        text = page.read_text(encoding="utf-8")
        for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
            for output in (each for each in cell.get("outputs", ()) if "image/png" in each.get("data", ())):
                name = hashlib.sha256(base64.b64decode("".join(output["data"]["image/png"]))).hexdigest()  # the file's
                # Two pixels of the file a pixel of the page: figures are saved at twice `figure.dpi`.
                shown = rf'<img srcset="../_images/{name}.png 2x" \1>'
                if NARROW in output["metadata"]:
                    (built / "_images" / f"{name}-narrow.png").write_bytes(base64.b64decode(output["metadata"][NARROW]))
                    source = f'<source media="(max-width: 600px)" srcset="../_images/{name}-narrow.png">'
                    shown = f"<picture>{source}{shown}</picture>"
                text = re.sub(f"<img (?!srcset)([^>]*{name}[^>]*)>", shown, text)
        page.write_text(text, encoding="utf-8")


def run_jupyter_book(stage: Path, builder: str) -> Path:
    """Build a staged book from scratch, every warning an error.

    Args:
        stage: a folder with `_config.yml` and `_toc.yml`.
        builder: Jupyter Book's name of the format, "html" or "singlehtml".
    Returns:
        The folder it built, inside the staged one.
    Raises:
        SiteError: the renderer warned or failed.
    """
    built = stage / "_build"
    shutil.rmtree(built, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(stage)]
    command += ["--builder", builder, "-W", "-n", "--keep-going", "--quiet"]
    # Warnings go to the terminal as they come; the closing message is dropped: it names a folder that is moved.
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if outcome.returncode != 0:
        raise SiteError(
            f"{outcome.stdout}\nexpected the pages of {stage} to build without a warning, got the messages "
            f"above (exit status {outcome.returncode}); mend the page they name, in book/, and build again"
        )
    return built / builder


def _left_out(folder: str, names: list[str]) -> set[str]:
    """A reader's own records, and editors' leavings."""
    own = {"local"} if Path(folder).name == "results" else set()
    return {name for name in names if name in own or name.startswith(".")}
