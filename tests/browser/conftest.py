"""Fixtures of the browser tests: a browser, and the built pages."""

import os
import shutil
from pathlib import Path

import pytest
import visits
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


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
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        found = found or playwright.chromium.executable_path
        if not Path(found).exists():
            pytest.skip(
                "expected Chromium, found none; run `apt-get install chromium` or `playwright install chromium`, "
                "or name its program in CHROMIUM"
            )
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])  # CI may be root
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built pages."""
    if not (visits.SITE / "index.html").is_file():
        pytest.skip(f"expected the built pages in {visits.SITE}, found none; run `make book`")
    return visits.SITE
