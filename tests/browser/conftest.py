"""Fixtures of the browser tests: a browser, and the built pages."""

from pathlib import Path

import pytest
import visits
from playwright.sync_api import Browser, sync_playwright

from edition.publish.pdf import find_chromium
from edition.publish.site import SiteError


def pytest_collection_modifyitems(items):
    """Every test of this folder counts as slow: each starts a browser and opens whole pages."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def browser() -> Browser:
    """Chromium: the one that CHROMIUM names, the system's, or Playwright's own.

    For one file's tests: Playwright keeps an event loop running in the process, which other files' tests must not meet.
    """
    try:
        found = find_chromium()
    except SiteError as failure:
        pytest.skip(str(failure))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built pages."""
    if not (visits.SITE / "index.html").is_file():
        pytest.skip(f"expected the built pages in {visits.SITE}, found none; run `make book`")
    return visits.SITE
