"""The landing page on a laptop's screen: the question, the answer, the training, the verdicts and the doors at once."""

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from visits import visiting

from edition.publish.pdf import find_chromium

LANDING = "book/index.html"
SCREEN = {"width": 1440, "height": 900}
PARTS = {
    "question": ".bd-article h1 ~ p:not(.reading-time)",
    "picture": ".bd-article img",
    "training, SGD": ".browser-toy canvas[data-part=sgd-hard]",
    "training, LSAM": ".browser-toy canvas[data-part=lsam-hard]",
    "verdicts": ".squares",
    "first door": ".landing-doors .sd-card >> nth=0",
    "second door": ".landing-doors .sd-card >> nth=1",
    "third door": ".landing-doors .sd-card >> nth=2",
}

ROOM = 50  # pixels that stay free below the lowest part
NO_FONTS = '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>'


@pytest.fixture
def bare(browser, tmp_path) -> Iterator[Browser]:
    """A browser that finds none of the system's fonts."""
    empty = tmp_path / "fonts.conf"
    empty.write_text(NO_FONTS)
    environment = os.environ | {"FONTCONFIG_FILE": str(empty)}
    with browser.browser_type.launch(executable_path=find_chromium(), env=environment) as bare:
        yield bare


@pytest.mark.parametrize("name", ["browser", "bare"], ids=["the system's fonts", "no fonts but the book's"])
def test_all_parts_are_wholly_on_the_first_screen_and_none_covers_another(request, site, name):
    found = {}
    with visiting(request.getfixturevalue(name), site / LANDING, "light") as visit:
        visit.page.set_viewport_size(SCREEN)
        places = {part: visit.page.locator(place).first for part, place in PARTS.items()}
        for place in places.values():
            place.wait_for()  # without a font of the system a text has no height before the book's is there
        for part, place in places.items():
            box = place.bounding_box()
            found[part] = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    for part, (left, top, right, bottom) in found.items():
        assert 0 <= left < right <= SCREEN["width"] and 0 <= top < bottom <= SCREEN["height"] - ROOM, part
        for other, (x0, y0, x1, y1) in found.items():
            assert part == other or right <= x0 or x1 <= left or bottom <= y0 or y1 <= top, (part, other)


def test_a_square_leads_to_its_claim(browser, site):
    with visiting(browser, site / LANDING, "light") as visit:
        squares = visit.page.locator(".squares a")
        assert visit.page.locator(".squares li").first.inner_text() == f"{squares.count()} claims:"
        verdict, _, words = squares.nth(1).get_attribute("aria-label").partition(": ")
        squares.nth(1).press("Enter")
        visit.page.wait_for_url(re.compile(r"claims\.html#"))
        claim = visit.page.locator("tr:target")
        assert claim.locator(".status").inner_text() == verdict.partition(" (")[0]
        assert claim.locator("td").nth(1).inner_text().startswith(words.partition(" (")[0])
        assert visit.errors == []


def test_on_paper_a_panel_that_trains_in_the_browser_is_no_blank_picture(browser, site):
    with visiting(browser, site / LANDING, "light") as visit:
        canvas = visit.page.locator(".browser-toy canvas").first
        assert canvas.is_visible()
        visit.page.emulate_media(media="print")
        assert not canvas.is_visible() and visit.page.locator(".browser-toy").first.is_visible()
