"""The whole book as one PDF, printed by Chromium from a single page: the summary, then page after page."""

import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from edition.publish.layout import Layout
from edition.publish.site import SiteError, run_jupyter_book

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOOTER = (
    '<div style="width: 100%; font-size: 8px; text-align: center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
PATIENCE = 600_000  # milliseconds: a whole book on a busy machine
# The page's own promise that formulas are typeset, and every picture decoded.
READY = """async () => {
  await MathJax.startup.promise;
  await Promise.all([...document.images].map(image => { image.loading = "eager"; return image.decode(); }));
}"""
# A link to another page leads inside the PDF; one to a file of this machine, such as a record or the page of a module
# (the only pages with a dot in their names), would lead nowhere.
LINKS = """() => {
  for (const link of document.querySelectorAll("a[href]")) {
    const url = new URL(link.href);
    if (url.protocol !== "file:" || link.getAttribute("href").startsWith("#")) continue;
    const page = url.pathname.match(/\\/([^/.]+)\\.html$/);
    const target = url.hash.slice(1) || (page && document.querySelector(`[id^="document-"][id$="/${page[1]}"]`)?.id);
    if (page && document.getElementById(target)) link.setAttribute("href", "#" + target);
    else link.removeAttribute("href");
  }
}"""

# On paper the summary stands first: a report of two pages. A document's part of the single page is the mark with its
# name and what follows, up to the next mark.
SUMMARY_FIRST = """() => {
  const mark = document.querySelector('[id="document-book/summary"]');
  if (!mark) return;
  const summary = [mark];
  for (let next = mark.nextElementSibling; next && !next.id.startsWith("document-"); next = next.nextElementSibling)
    summary.push(next);
  mark.closest(".bd-article").prepend(...summary);
}"""


def find_chromium() -> str:
    """Find a Chromium, to print with or to test pages in.

    Returns:
        The path in the environment variable CHROMIUM, or a Chromium or Chrome of the system, or the one that
        `playwright install chromium` fetched.
    Raises:
        SiteError: there is none.
    """
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    if shutil.which(found) is None:
        raise SiteError(
            f"expected a Chromium for the pages, found none ({found} cannot be executed); install your system's "
            "chromium, or run `playwright install chromium`, or name one in the environment variable CHROMIUM"
        )
    return found


def build_pdf(layout: Layout) -> Path:
    """Print the staged book as A4, chapter after chapter, once its formulas are typeset and its pictures are loaded.

    Args:
        layout: the folders; `build_site` has staged the sources and the executed chapters.
    Returns:
        The PDF, `layout.work / "book.pdf"`.
    Raises:
        SiteError: no Chromium, or the single page could not be built.
    Side effects: replaces the PDF.
    """
    chromium = find_chromium()
    built = run_jupyter_book(layout.stage, "singlehtml")
    # Sphinx writes the single page as if it stood at the top, whatever the folder of the book's first page.
    (first,) = (path for path in built.rglob("index.html") if path.parent != built and "_static" not in path.parts)
    page, pdf = first.replace(built / "index.html"), layout.work / "book.pdf"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        tab = browser.new_page(color_scheme="light")
        tab.set_default_timeout(PATIENCE)
        tab.goto(page.resolve().as_uri())
        tab.evaluate(READY)
        tab.evaluate(LINKS)
        tab.evaluate(SUMMARY_FIRST)
        tab.pdf(
            path=pdf,
            format="A4",
            margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        browser.close()
    shutil.rmtree(built.parent, ignore_errors=True)
    return pdf
