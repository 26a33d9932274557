"""A slider over figures, and the panel that trains in JupyterLab."""

import re
from collections.abc import Callable

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from page_elements import Elements

from edition.widgets import Frames, TrainingPanel, slider, train_yourself
from edition.widgets.training import quick_network, train_networks

VIEW = "application/vnd.jupyter.widget-view+json"


SLOPES = ("0", "0.5", "2")


def line(slope: str) -> Figure:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, float(slope)])
    return figure


def describe(slope: str) -> str:
    return f'a "line" of slope {slope}'


@pytest.fixture(scope="module")
def three() -> Frames:
    return slider(line, "slope & rise", SLOPES, alt=describe)


def test_page_has_a_labelled_range_and_one_described_image_per_frame(three: Frames) -> None:
    page = Elements(three.html())
    (control,), (label,), (output,) = page.all("input"), page.all("label"), page.all("output")
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "0")
    assert label["for"] == control["id"] == output["for"]
    assert "slope &amp; rise</label>" in three.html()
    assert control["data-texts"] == '["0", "0.5", "2"]' and control["aria-valuetext"] == "0"
    assert [image["alt"] for image in page.all("img")] == [describe(value) for value in SLOPES]
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))


def test_only_the_first_frame_is_visible_without_scripts(three: Frames) -> None:
    assert ["hidden" in image for image in Elements(three.html()).all("img")] == [False, True, True]


def test_page_asks_for_nothing_from_the_network(three: Frames) -> None:
    sources = [
        attributes[key]
        for _, attributes in Elements(three.html()).found
        for key in ("src", "href")
        if key in attributes
    ]
    assert len(sources) == 3 and all(source.startswith("data:") for source in sources)


def test_same_inputs_give_the_same_page_and_different_ones_other_identifiers(three: Frames) -> None:
    assert slider(line, "slope & rise", SLOPES, alt=describe).html() == three.html()
    others = [
        slider(line, "another label", SLOPES, alt=describe),
        slider(line, "slope & rise", ("0", "0.5", "2.5"), alt=describe),
    ]
    pages = [Elements(frames.html()) for frames in (three, *others)]
    names = [attributes["id"] for page in pages for _, attributes in page.found if "id" in attributes]
    assert len(names) == 6 and len(set(names)) == 6


def test_an_output_is_the_page_and_a_line(three: Frames) -> None:
    assert three._repr_mimebundle_() == {"text/html": three.html(), "text/plain": "slope & rise: 3 frames"}


def test_each_frame_is_drawn_once_and_not_again_when_it_is_shown() -> None:
    drawn: list[str] = []

    def counted(slope: str) -> Figure:
        drawn.append(slope)
        return line(slope)

    slider(counted, "slope", ["1", "2"], alt=describe)._repr_mimebundle_()
    assert drawn == ["1", "2"]


def test_figures_are_closed_and_the_global_style_is_left_alone() -> None:
    mine = plt.figure()
    try:
        before, settings = plt.get_fignums(), dict(mpl.rcParams)
        seen: list[bool] = []

        def watched(slope: str) -> Figure:
            seen.append(mpl.rcParams["figure.constrained_layout.use"])
            return line(slope)

        slider(watched, "slope", ["1"], alt=describe)
        assert plt.get_fignums() == before
        assert dict(mpl.rcParams) == settings
        assert seen == [True] and not settings["figure.constrained_layout.use"]
    finally:
        plt.close(mine)


def test_figures_are_closed_where_drawing_fails() -> None:
    def broken(slope: str) -> Figure:
        plt.figure()
        raise RuntimeError("no data")

    before = plt.get_fignums()
    with pytest.raises(RuntimeError, match="no data"):
        slider(broken, "slope", ["1"], alt=describe)
    assert plt.get_fignums() == before


def test_images_hold_no_metadata_and_have_two_pixels_for_each_of_the_page(three: Frames) -> None:
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
        (
            lambda: slider(lambda slope: 3, "slope", ["1"], alt=describe),  # type: ignore[arg-type, return-value]
            TypeError,
            "expected a matplotlib Figure, got int",
        ),
    ],
)
def test_bad_input_is_refused_with_advice(call: Callable[[], Frames], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_training_that_diverges_is_refused() -> None:
    with pytest.raises(ValueError, match="expected finite weights"):
        train_networks([quick_network(0, 120).vary(learning_rate=1e20)])


@pytest.fixture
def panel() -> TrainingPanel:
    return train_yourself(n_steps=60)


def test_training_panel_is_live_in_jupyterlab_and_a_line_in_a_page(panel: TrainingPanel) -> None:
    bundle = panel._repr_mimebundle_()
    assert VIEW in bundle and "JupyterLab" in bundle["text/html"] and "<img" not in bundle["text/html"]


def test_button_trains_the_network_that_the_sliders_ask_for(panel: TrainingPanel) -> None:
    before, open_figures = panel.picture.value, plt.get_fignums()
    panel.rho.value, panel.complexity.value, panel.seed.value = 0.7, 270.0, 2
    panel.button.click()
    (alone,) = train_networks([quick_network(2, 60).vary(complexity=270.0, rho=0.7)])
    assert "After 60 steps of LSAM (ρ = 0.7, 270°, seed 2)" in panel.message.value
    assert f"{alone.hard_error:.1%} for the hard one" in panel.message.value
    assert f"{alone.metrics['phantom_ratio'][0]:.2f} phantom" in panel.message.value
    assert panel.picture.value != before and panel.picture.value.startswith("<img")
    assert panel.bar.value == panel.bar.max == 60
    assert not panel.button.disabled and plt.get_fignums() == open_figures


def test_errors_stand_in_the_panel_as_one_line(panel: TrainingPanel) -> None:
    before = panel.picture.value
    panel.rho.min = -1
    panel.rho.value = -0.5
    panel.button.click()
    assert panel.message.value.startswith('<p role="alert"><strong>rho: expected') and "\n" not in panel.message.value
    assert panel.picture.value == before and not panel.button.disabled
    panel.rho.value = 0.5
    panel.button.click()
    assert "alert" not in panel.message.value and panel.picture.value != before
