"""A reader's visit to a built page: opened from a file, with everything recorded that the browser complains of."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build/html"
# Every page of the table of contents, the search, and the page of a module with a long name.
PAGES = [f"{page}.html" for page in re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())]
PAGES += ["search.html", "code/edition.figures.importance.html"]
MODES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
WITHOUT_NETWORK = ("file:", "data:", "blob:", "about:")
PATIENCE = 300_000  # milliseconds: a machine that is busy with other things is slow, not broken
SETTLED = """async () => {
    await window.MathJax?.startup?.promise;
    // A font is asked for when text that needs it is laid out: two frames, then what those asked for.
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    await document.fonts.ready;
}"""


@dataclass
class Visit:
    """One opened page: what the console and the scripts reported as errors, and what was asked of any host."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def visiting(browser: Browser, path: Path, mode: str, query: str = "") -> Iterator[Visit]:
    """Open a page of the site without a network, wait until its fonts and formulas are there, and close it again."""
    context = browser.new_context(offline=True, **MODES[mode])
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        visit = Visit(page)
        page.on("console", lambda said: said.type == "error" and visit.errors.append(said.text))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(WITHOUT_NETWORK) or visit.requests.append(asked.url))
        page.goto(path.as_uri() + query)
        page.evaluate(SETTLED)
        yield visit
    finally:
        context.close()
