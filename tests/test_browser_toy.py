"""The block that trains the toy in a page: small, self-contained, the same every time, and careful with bad input."""

import json
import re

import pytest
from page_elements import Elements

from edition.experiments.toy import base
from edition.widgets import train_in_browser
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
    assert train_in_browser(view="weights").html() != train_in_browser().html()


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


def test_constants_are_those_of_the_chapter(page: Elements) -> None:
    (block,) = (attributes for attributes in page.all("div") if attributes.get("class") == "browser-toy")
    settings, config = json.loads(block["data-settings"]), base("paper")
    assert settings["nSteps"] == config.n_steps == 15_000
    assert (settings["hidden"], settings["batchSize"]) == (config.hidden, config.batch_size) == (50, 5)
    assert settings["lastLayerInit"] == config.last_layer_init == 2.0
    assert (settings["easyScale"], settings["hardScale"]) == (config.data.easy_scale, config.data.hard_scale)


def test_a_view_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="view: expected one of 'toy', 'phantom', 'weights', 'ratio', got 'plane'"):
        train_in_browser(view="plane")
