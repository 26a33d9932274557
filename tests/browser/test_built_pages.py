"""Every built page as a reader opens it: from a file, without a network, in light and dark, on a phone, under axe.

A page's size is what a reader of that page alone must fetch: the HTML file with all it embeds (the frames of the
sliders), and each image that it shows from a file of its own. Styles, scripts and fonts, which all pages share, do not
count.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page
from visits import MODES, PAGES, visiting

MAX_BYTES = 3 * 1024**2
# The others' panels: test_toy_in_the_browser.
WITH_SLIDERS = ["01_feature_diversity", "06_domainbed", "07_beyond", "08_lost_constants"]
SLIDER = ".frames input[type=range]:visible"
# Parts of the text that a reader cannot see: they begin left of the window, end right of it in no box that scrolls, or
# overflow a box that does not show what overflows.
CUT = """() => [...document.querySelectorAll(".bd-article *:not(svg *, mjx-assistive-mml, mjx-assistive-mml *)")]
.filter(element => {
    if (!element.checkVisibility()) return false;
    const place = element.getBoundingClientRect();
    const scrolls = ["auto", "scroll"];
    const drawn = element.closest("mjx-math"); // MathJax clips the parts that it stretches brackets with
    const hides = !drawn && ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
    if (place.left < -1 || (hides && element.scrollWidth > element.clientWidth + 2)) return true;
    if (place.right <= innerWidth + 1) return false;
    for (let box = element; box; box = box.parentElement)
        if (scrolls.includes(getComputedStyle(box).overflowX) &&
            box.getBoundingClientRect().right <= innerWidth + 1) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 120))"""

WIDTHS = (1024, 1280, 1440)
# Tables, pictures and code that end right of their column, in no box of the column that scrolls; in the widest window
# a table has to be seen whole.
OVERHANGING = """() => {
  const column = (document.querySelector(".bd-article") ?? document.body).getBoundingClientRect().right + 2;
  const within = box => box.getBoundingClientRect().right <= column;
  return [...document.querySelectorAll(".bd-article :is(table, img, svg, canvas, pre, figure)")].filter(element => {
    if (!element.checkVisibility() || within(element) || element.closest("mjx-container")) return false;
    const whole = innerWidth >= 1440 && element.matches("table");
    for (let box = element.parentElement; box && !whole; box = box.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX) && within(box)) return false;
    return true;
  }).map(element => element.outerHTML.slice(0, 120));
}"""

# Images without a description in words: where nothing describes one, Sphinx writes its file's name, without a space.
UNDESCRIBED = "all => all.filter(image => !image.alt.includes(' ')).map(image => image.src.slice(-80))"

# The dark page is the light one in other colours.
RULES = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]},
}


def barriers(page: Page, mode: str) -> list[str]:
    """Rule, element and axe's own words for each finding of impact serious or critical."""
    page.wait_for_function("document.getAnimations().length === 0")  # colours fade from light to dark
    return [
        f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for violation in Axe().run(page, options=RULES[mode]).response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.fixture(scope="module")
def visited(browser, site) -> Callable[[str, str], SimpleNamespace]:
    """What a visit finds, made once for each page and mode; at other widths of the window at the end."""

    @functools.cache
    def visit(name: str, mode: str) -> SimpleNamespace:
        with visiting(browser, site / name, mode) as opened:
            page = opened.page
            found = SimpleNamespace(
                errors=[*opened.errors],  # without those of axe, which tries to read the styles
                requests=opened.requests,
                n_formulas_left=page.locator(".math:not(:has(mjx-container))").count(),
                widths=page.evaluate("[document.documentElement.scrollWidth, innerWidth]"),
                cut=page.evaluate(CUT),
                undescribed=page.eval_on_selector_all("img", UNDESCRIBED),
                images=set(page.eval_on_selector_all("img", "all => all.map(image => image.src)")),
                n_sliders=page.locator(SLIDER).count(),
                theme=page.get_attribute("html", "data-theme"),
                barriers=barriers(page, mode) if mode in RULES else [],
                overhanging=[],
            )
            for width in WIDTHS if mode == "light" else ():
                page.set_viewport_size({"width": width, "height": 900})
                found.overhanging += [(width, element) for element in page.evaluate(OVERHANGING)]
        return found

    return visit


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_an_error_and_asks_nothing_of_any_host(visited, name, mode):
    found = visited(name, mode)
    assert (found.errors, found.requests, found.n_formulas_left) == ([], [], 0)


@pytest.mark.parametrize("mode", RULES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_severe_barrier(visited, name, mode):
    found = visited(name, mode)
    assert (found.theme, found.barriers) == (mode, [])


def test_axe_sees_text_that_cannot_be_read_and_an_image_without_description(browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.set_content('<p style="color: #999; background: #aaa">faint</p><img src="data:,">')
        found = {mode: {line.split(":")[0] for line in barriers(page, mode)} for mode in RULES}
    assert found["light"] >= {"color-contrast", "image-alt"} and found["dark"] == {"color-contrast"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_no_wider_than_a_phone(visited, name):
    found = visited(name, "phone")
    content, window = found.widths
    assert window == 390 and content <= window
    assert found.cut == []


@pytest.mark.parametrize("name", PAGES)
def test_tables_pictures_and_code_end_within_their_column_and_every_image_is_described(visited, name):
    found = visited(name, "light")
    assert (found.overhanging, found.undescribed) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_smaller_than_three_megabytes(visited, site, name):
    images = [image for image in visited(name, "light").images if image.startswith("file:")]
    files = [site / name, *(Path(unquote(image.removeprefix("file://"))) for image in images)]
    sizes = {path.name: path.stat().st_size for path in files}
    assert sum(sizes.values()) < MAX_BYTES, sizes


def test_a_phone_shows_pictures_drawn_for_it_within_its_column_and_taller(browser, site):
    shape = "all => all.map(image => [image.currentSrc.includes('-narrow'), image.clientWidth, image.clientHeight])"
    tall = {}
    for mode in ("light", "phone"):
        with visiting(browser, site / "book/02_toy_setup.html", mode) as visit:
            visit.page.eval_on_selector_all("picture img", "all => Promise.all(all.map(image => image.decode()))")
            found = visit.page.eval_on_selector_all("picture img", shape)
            column = visit.page.locator(".bd-article").evaluate("box => box.clientWidth")
        assert found and all(narrow == (mode == "phone") and width <= column for narrow, width, _ in found)
        tall[mode] = [height / width for _, width, height in found]
    assert all(phone > wide for phone, wide in zip(tall["phone"], tall["light"], strict=True))


def state(slider: Locator) -> tuple[str, str]:
    """What a slider says, and the one picture that is visible in its box."""
    pictures = slider.locator("xpath=ancestor::*[contains(@class, 'frames')]//img")
    (shown,) = pictures.evaluate_all("all => all.filter(image => image.checkVisibility()).map(image => image.src)")
    return slider.get_attribute("aria-valuetext"), shown


@pytest.mark.parametrize("name", PAGES)
def test_chapters_with_widgets_and_no_others_have_sliders_which_change_their_pictures(browser, visited, site, name):
    n_sliders = visited(name, "light").n_sliders
    assert (n_sliders > 0) == (Path(name).stem in WITH_SLIDERS)
    if not n_sliders:
        return
    with visiting(browser, site / name, "light") as visit:
        for slider in visit.page.locator(SLIDER).all():
            text, picture = state(slider)
            slider.press("ArrowLeft" if slider.evaluate("input => input.value === input.max") else "ArrowRight")
            other_text, other_picture = state(slider)
            assert text != other_text
            assert picture != other_picture, f"{text} and {other_text} show one picture"
        assert visit.errors == []


def test_the_search_finds_a_word_and_leads_to_it_or_says_that_it_finds_nothing(browser, site):
    with visiting(browser, site / "search.html", "light", "?q=phantom") as visit:
        results = visit.page.locator("ul.search li a")
        results.first.wait_for()
        results.filter(has_text="The ascent step rebalances the phantom").first.click()
        visit.page.wait_for_url("**/book/03_phantom_rebalancing.html*")
        assert "phantom" in visit.page.get_by_role("heading", level=1).inner_text()
        assert visit.errors == [] and visit.requests == []
    with visiting(browser, site / "search.html", "light", "?q=xylophone") as visit:
        visit.page.get_by_text("Your search did not match any documents").wait_for()
        assert visit.page.locator("ul.search li").count() == 0 and visit.errors == []
