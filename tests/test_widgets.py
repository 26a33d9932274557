"""What moves: a slider over figures, the block that trains in a page, and the panel that trains in JupyterLab."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.experiments.toy import base
from edition.widgets import Frames, TrainingPanel, slider, train_in_browser, train_yourself
from edition.widgets.browser import LEARNING_RATES, VIEWS, script
from edition.widgets.training import quick_network, train_networks

SLOPES = ("0", "0.5", "2")


class Elements(HTMLParser):
    """Collects the elements of a page as (name, attributes)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.found if name == tag]

    def values(self, *attributes: str) -> list[str]:
        """What these attributes are of all elements that have one."""
        return [found[name] for _, found in self.found for name in attributes if name in found]


def line(slope: str) -> Figure:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, float(slope)])
    return figure


def describe(slope: str) -> str:
    return f'a "line" of slope {slope}'


@pytest.fixture(scope="module")
def three() -> Frames:
    return slider(line, "slope & rise", SLOPES, alt=describe)


def test_a_page_has_a_labelled_range_and_a_described_image_a_frame_the_first_visible_without_scripts(three: Frames):
    page = Elements(three.html())
    (control,), (label,), (output,) = page.all("input"), page.all("label"), page.all("output")
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "0")
    assert label["for"] == control["id"] == output["for"]
    assert "slope &amp; rise</label>" in three.html()
    assert control["data-texts"] == '["0", "0.5", "2"]' and control["aria-valuetext"] == "0"
    images = page.all("img")
    assert [image["alt"] for image in images] == [describe(value) for value in SLOPES]
    assert ["hidden" in image for image in images] == [False, True, True]
    # Nothing is asked for from the network.
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src", "href"))


def test_same_inputs_give_the_same_page_and_different_ones_other_identifiers(three: Frames):
    assert slider(line, "slope & rise", SLOPES, alt=describe).html() == three.html()
    label, texts = slider(line, "other", SLOPES, alt=describe), slider(line, "slope & rise", ("0", "3"), alt=describe)
    names = [name for frames in (three, label, texts) for name in Elements(frames.html()).values("id")]
    assert len(set(names)) == 6


def test_frames_are_drawn_once_in_the_books_look_and_nothing_stays_open_or_changed():
    mine, settings, seen = plt.figure(), dict(mpl.rcParams), []

    def watched(slope: str) -> Figure:
        seen.append((slope, mpl.rcParams["figure.constrained_layout.use"]))
        return line(slope)

    def broken(slope: str) -> Figure:
        plt.figure()
        raise RuntimeError("no data")

    before = plt.get_fignums()
    output = slider(watched, "slope", ["1", "2"], alt=describe)._repr_mimebundle_()
    assert seen == [("1", True), ("2", True)] and not settings["figure.constrained_layout.use"]
    assert output["text/plain"] == "slope: 2 frames"
    with pytest.raises(RuntimeError, match="no data"):
        slider(broken, "slope", ["1"], alt=describe)
    assert plt.get_fignums() == before and dict(mpl.rcParams) == settings
    plt.close(mine)


def test_images_hold_no_metadata_and_have_two_pixels_for_each_of_the_page(three: Frames):
    png = three.pictures[0].png
    assert (three.pictures[0].width, three.pictures[0].height) == (200, 100)
    assert int.from_bytes(png[16:20]) == 400 and int.from_bytes(png[20:24]) == 200
    assert not re.search(rb"tEXt|iTXt|zTXt|tIME", png)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: slider(line, "slope", [], alt=describe), ValueError, "slope: expected one or more values"),
        (lambda: slider(line, " ", ["1"], alt=describe), ValueError, "label: expected what the slider changes"),
        (lambda: slider(line, "slope", ["1"], alt=lambda slope: ""), ValueError, "alt: expected a description"),
        (lambda: slider(len, "slope", ["1"], alt=describe), TypeError, "expected a matplotlib Figure, got int"),
        (lambda: train_in_browser(view="plane"), ValueError, "view: expected one of 'toy', .*, got 'plane'"),
        (
            lambda: train_networks([quick_network(0, 120).vary(learning_rate=1e20)]),
            ValueError,
            "expected finite weights",
        ),
    ],
    ids=["no position", "no label", "no description", "no figure", "no such view", "diverging training"],
)
def test_bad_input_is_refused_with_advice(call, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        call()


@pytest.fixture
def block() -> Elements:
    return Elements(train_in_browser().html())


@pytest.mark.parametrize("view", VIEWS)
def test_the_block_of_a_view_is_under_60_kilobytes_and_the_same_every_time(view: str):
    page = train_in_browser(view=view)
    assert len(page.html().encode()) < 60_000
    assert page.html() == train_in_browser(view=view)._repr_html_()


def test_the_block_asks_for_nothing_names_no_address_and_has_no_identifier_that_could_clash(block: Elements):
    requests = r"http|fetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|url\("
    assert re.findall(requests, train_in_browser().html()) == []
    assert block.values("src", "href", "id") == []
    assert "</script" not in script()


def test_every_slider_and_picture_has_a_name_for_those_who_cannot_see_it(block: Elements):
    positions = {"rho": "1", "complexity": "360", "learningRate": str(LEARNING_RATES.index(0.01)), "seed": "6"}
    assert {slider["name"]: slider["value"] for slider in block.all("input")} == positions
    named = [*block.all("input"), *block.all("canvas"), *block.all("progress")]
    assert block.all("canvas") and all(attributes["aria-label"] for attributes in named)
    (status,) = (attributes for attributes in block.all("p") if attributes.get("class") == "status")
    assert status["aria-live"] == "polite"


def test_constants_are_those_of_the_chapter(block: Elements):
    (settings,) = map(json.loads, block.values("data-settings"))
    config = base("paper")
    assert settings["nSteps"] == config.n_steps == 15_000
    assert (settings["hidden"], settings["batchSize"]) == (config.hidden, config.batch_size) == (50, 5)
    assert settings["lastLayerInit"] == config.last_layer_init == 2.0
    assert (settings["easyScale"], settings["hardScale"]) == (config.data.easy_scale, config.data.hard_scale)


@pytest.fixture
def panel() -> TrainingPanel:
    return train_yourself(n_steps=60)


def test_training_panel_is_live_in_jupyterlab_and_a_line_in_a_page(panel: TrainingPanel):
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "JupyterLab" in bundle["text/html"] and "<img" not in bundle["text/html"]


def test_button_trains_the_network_that_the_sliders_ask_for(panel: TrainingPanel):
    before, open_figures = panel.picture.value, plt.get_fignums()
    panel.rho.value, panel.complexity.value, panel.seed.value = 0.7, 270.0, 2
    panel.button.click()
    (alone,) = train_networks([quick_network(2, 60).vary(complexity=270.0, rho=0.7)])
    assert "After 60 steps of LSAM (ρ = 0.7, 270°, seed 2)" in panel.message.value
    assert f"{alone.metrics['final_hard_error'][0]:.1%} for the hard one" in panel.message.value
    assert f"{alone.metrics['phantom_ratio'][0]:.2f} phantom" in panel.message.value
    assert panel.picture.value != before and panel.picture.value.startswith("<img")
    assert panel.bar.value == panel.bar.max == 60
    assert not panel.button.disabled and plt.get_fignums() == open_figures


def test_sliders_reach_as_far_as_the_network_at_which_the_panel_opens():
    panel = TrainingPanel(quick_network(12, 60).vary(n_steps=20_000))
    assert (panel.seed.value, panel.n_steps.value) == (12, 20_000)


def test_errors_stand_in_the_panel_as_one_line(panel: TrainingPanel):
    before = panel.picture.value
    panel.rho.min = -1
    panel.rho.value = -0.5
    panel.button.click()
    assert panel.message.value.startswith('<p role="alert"><strong>rho: expected') and "\n" not in panel.message.value
    assert panel.picture.value == before and not panel.button.disabled
    panel.rho.value = 0.5
    panel.button.click()
    assert "alert" not in panel.message.value and panel.picture.value != before
