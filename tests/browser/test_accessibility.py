"""Every built page under axe, whose findings of impact serious or critical fail."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from visits import PAGES, visiting

SEVERE = ("serious", "critical")
EVERY_RULE: dict[str, Any] = {"resultTypes": ["violations"]}
# The dark page is the light one in other colours.
COLOURS: dict[str, Any] = {**EVERY_RULE, "runOnly": ["color-contrast", "link-in-text-block"]}


def severe(page, options: dict[str, Any]) -> list[str]:
    """Rule, element and axe's own words for each severe finding on a page as it is now."""
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in SEVERE
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_severe_barrier_in_light_or_dark(browser, site, name):
    with visiting(browser, site / name, "light") as visit:
        assert severe(visit.page, EVERY_RULE) == []
        visit.page.emulate_media(color_scheme="dark")
        visit.page.wait_for_selector("html[data-theme=dark]")
        visit.page.wait_for_function("document.getAnimations().length === 0")  # colours fade from light to dark
        assert severe(visit.page, COLOURS) == []
