"""The block that trains the toy in a page: small, self-contained, the same every time, and careful with bad input."""

import json
import re
from typing import Any

import pytest
from page_elements import Elements

from edition.experiments.toy import base
from edition.widgets import BrowserToy, train_in_browser
from edition.widgets.browser import LEARNING_RATES, VIEWS, script


@pytest.fixture
def page() -> Elements:
    return Elements(train_in_browser().html())


@pytest.mark.parametrize("view", VIEWS)
def test_script_and_block_are_under_60_kilobytes(view: str) -> None:
    assert 10_000 < len(script().encode()) < len(train_in_browser(view=view).html().encode()) < 60_000


def test_block_asks_for_nothing_and_names_no_address(page: Elements) -> None:
    requests = r"http|fetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|url\("
    assert re.findall(requests, train_in_browser().html()) == []
    assert not any({"src", "href"} & set(attributes) for _, attributes in page.found)
    assert "</script" not in script()


def test_equal_panels_give_equal_bytes_and_others_do_not() -> None:
    assert train_in_browser().html() == train_in_browser().html() == train_in_browser()._repr_html_()
    assert train_in_browser(rho=0.5).html() != train_in_browser().html()
    assert train_in_browser(rho=1).html() == train_in_browser(rho=1.0).html()


def test_block_has_no_identifier_that_could_clash(page: Elements) -> None:
    assert [attributes["id"] for _, attributes in page.found if "id" in attributes] == []


def test_every_slider_and_picture_has_a_name_for_those_who_cannot_see_it(page: Elements) -> None:
    assert [(slider["name"], slider["value"]) for slider in page.all("input")] == [
        ("rho", "1"),
        ("complexity", "360"),
        ("learningRate", str(LEARNING_RATES.index(0.01))),
        ("seed", "6"),
    ]
    named = [*page.all("input"), *page.all("canvas"), *page.all("progress")]
    assert len(named) == 4 + 6 + 1 and all(attributes["aria-label"] for attributes in named)
    (status,) = (attributes for attributes in page.all("p") if attributes.get("class") == "status")
    assert status["aria-live"] == "polite"


def test_sliders_stand_where_they_are_asked_to() -> None:
    panel = train_in_browser(rho=0.3, complexity=720, learning_rate=0.1, seed=19)
    assert [slider["value"] for slider in Elements(panel.html()).all("input")] == ["0.3", "720", "8", "19"]
    assert panel == BrowserToy(rho=0.3, complexity=720, learning_rate=0.1, seed=19)


def test_constants_are_those_of_the_chapter(page: Elements) -> None:
    (block,) = (attributes for attributes in page.all("div") if attributes.get("class") == "browser-toy")
    settings, config = json.loads(block["data-settings"]), base("paper")
    assert settings["nSteps"] == config.n_steps == 15_000
    assert (settings["hidden"], settings["batchSize"]) == (config.hidden, config.batch_size) == (50, 5)
    assert settings["lastLayerInit"] == config.last_layer_init == 2.0
    assert (settings["easyScale"], settings["hardScale"]) == (config.data.easy_scale, config.data.hard_scale)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"rho": 2.1}, ValueError, r"rho: expected a finite number in \[0, 2\], got 2.1"),
        ({"rho": -0.1}, ValueError, "rho: expected"),
        ({"rho": float("nan")}, ValueError, "rho: expected"),
        ({"rho": "1"}, TypeError, "rho: expected"),
        ({"rho": 0.25}, ValueError, "rho: expected a multiple of 0.1, got 0.25; the slider stands at these only"),
        ({"complexity": 75.0}, ValueError, r"complexity: expected a finite number in \[90, 720\], got 75"),
        ({"complexity": 100.0}, ValueError, "complexity: expected a multiple of 15, got 100"),
        ({"learning_rate": 0.007}, ValueError, "learning_rate: expected one of 0.001, .*, got 0.007"),
        ({"view": "plane"}, ValueError, "view: expected one of 'toy', 'phantom', 'weights', 'ratio', got 'plane'"),
        ({"seed": 20}, ValueError, "seed: expected a whole number"),
        ({"seed": 1.0}, TypeError, "seed: expected a whole number"),
        ({"seed": True}, TypeError, "seed: expected a whole number"),
    ],
)
def test_a_value_at_which_no_slider_stands_is_refused(
    values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_in_browser(**values)
