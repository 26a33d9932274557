"""Sliders over figures: static frames and live widgets, and the chapters' panels."""

import re
from collections.abc import Callable

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from page_elements import Elements

from edition.experiments.toy import base
from edition.records.kept import KeptNetworks
from edition.widgets import (
    Frames,
    TrainingPanel,
    contour_explorer,
    importance_explorer,
    phantom_explorer,
    ratio_explorer,
    sliders,
    train_yourself,
)
from edition.widgets.frames import MAX_FRAMES
from edition.widgets.panels import draw_importance, draw_phantom, quick_network, train_networks
from samlib.toy.network import Weights
from samlib.toy.training import train_toy

VIEW = "application/vnd.jupyter.widget-view+json"


def line(slope: float) -> Figure:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, slope])
    return figure


def describe(slope: float) -> str:
    return f'a "line" of slope {slope:g}'


def bars(height: float, width: float) -> Figure:
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.bar([0], [height], width=width)
    axes.set(xlim=(-2, 2), ylim=(0, 3))
    return figure


@pytest.fixture(scope="module")
def three() -> Frames:
    return sliders(line, {"slope & rise": [0.0, 0.5, 2.0]}, initial=(1,), alt=describe)


@pytest.fixture(scope="module")
def grid() -> Frames:
    return sliders(
        bars,
        {"height": [1.0, 2.0], "width": [0.5, 1.0, 1.5]},
        initial=(1, 2),
        alt=lambda height, width: f"bar {height:g} by {width:g}",
    )


def test_page_has_a_labelled_range_and_one_described_image_per_frame(three: Frames) -> None:
    page = Elements(three.html())
    (control,), (label,), (output,) = page.all("input"), page.all("label"), page.all("output")
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "1")
    assert label["for"] == control["id"] == output["for"]
    assert "slope &amp; rise</label>" in three.html()
    assert control["data-texts"] == '["0", "0.5", "2"]' and control["aria-valuetext"] == "0.5"
    assert [image["alt"] for image in page.all("img")] == [describe(value) for value in (0.0, 0.5, 2.0)]
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))


def test_only_the_initial_frame_is_visible_without_scripts(three: Frames, grid: Frames) -> None:
    assert ["hidden" in image for image in Elements(three.html()).all("img")] == [True, False, True]
    assert ["hidden" in image for image in Elements(grid.html()).all("img")] == [True] * 5 + [False]


def test_page_asks_for_nothing_from_the_network(three: Frames) -> None:
    sources = [
        attributes[key]
        for _, attributes in Elements(three.html()).found
        for key in ("src", "href")
        if key in attributes
    ]
    assert len(sources) == 3 and all(source.startswith("data:") for source in sources)


def test_same_inputs_give_the_same_page_and_different_ones_other_identifiers(three: Frames) -> None:
    assert sliders(line, {"slope & rise": [0.0, 0.5, 2.0]}, initial=(1,), alt=describe).html() == three.html()
    others = [
        sliders(line, {"another label": [0.0, 0.5, 2.0]}, initial=(1,), alt=describe),
        sliders(line, {"slope & rise": [0.0, 0.5, 2.0]}, initial=(0,), alt=describe),
        sliders(line, {"slope & rise": [0.0, 0.5, 2.5]}, initial=(1,), alt=describe),
    ]
    pages = [Elements(frames.html()) for frames in (three, *others)]
    names = [attributes["id"] for page in pages for _, attributes in page.found if "id" in attributes]
    assert len(names) == 8 and len(set(names)) == 8


def test_combinations_are_ordered_as_the_script_counts_them(grid: Frames) -> None:
    alts = [picture.alt for picture in grid.pictures]
    assert alts[grid.index([0, 0])] == "bar 1 by 0.5"
    assert alts[grid.index([0, 2])] == "bar 1 by 1.5"
    assert alts[grid.index([1, 0])] == "bar 2 by 0.5"
    assert [control["max"] for control in Elements(grid.html()).all("input")] == ["1", "2"]


def test_live_sliders_change_the_picture(grid: Frames) -> None:
    height, width, shown = grid.live().children
    assert shown.value == grid.pictures[5].html()
    width.value = 0
    assert shown.value == grid.pictures[3].html()
    height.index = 0
    assert shown.value == grid.pictures[0].html()
    assert grid.pictures[0].png != grid.pictures[3].png != grid.pictures[5].png
    assert height.description == "height"


def test_one_output_carries_both_forms(three: Frames) -> None:
    bundle = three._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/html", "text/plain"} and bundle["text/html"] == three.html()
    assert bundle["text/plain"] == "slope & rise: 3 frames"
    assert bundle[VIEW]["model_id"]


def test_each_frame_is_drawn_once_and_not_again_by_the_forms() -> None:
    drawn: list[float] = []

    def counted(slope: float) -> Figure:
        drawn.append(slope)
        return line(slope)

    frames = sliders(counted, {"slope": [1.0, 2.0]}, alt=describe)
    frames.live().children[0].value = 1
    frames._repr_mimebundle_()
    assert drawn == [1.0, 2.0]


def test_figures_are_closed_and_the_global_style_is_left_alone() -> None:
    mine = plt.figure()
    try:
        before, settings = plt.get_fignums(), dict(mpl.rcParams)
        seen: list[bool] = []

        def watched(slope: float) -> Figure:
            seen.append(mpl.rcParams["figure.constrained_layout.use"])
            return line(slope)

        sliders(watched, {"slope": [1.0]}, alt=describe)
        assert plt.get_fignums() == before
        assert dict(mpl.rcParams) == settings
        assert seen == [True] and not settings["figure.constrained_layout.use"]
    finally:
        plt.close(mine)


def test_figures_are_closed_where_drawing_fails() -> None:
    def broken(slope: float) -> Figure:
        plt.figure()
        raise RuntimeError("no data")

    before = plt.get_fignums()
    with pytest.raises(RuntimeError, match="no data"):
        sliders(broken, {"slope": [1.0]}, alt=describe)
    assert plt.get_fignums() == before


def test_images_hold_no_metadata_and_have_two_pixels_for_each_of_the_page(three: Frames) -> None:
    png = three.pictures[0].png
    assert (three.pictures[0].width, three.pictures[0].height) == (200, 100)
    assert int.from_bytes(png[16:20]) == 400 and int.from_bytes(png[20:24]) == 200
    assert not re.search(rb"tEXt|iTXt|zTXt|tIME", png)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sliders(line, {"slope": []}, alt=describe), "slope: expected one or more values"),
        (lambda: sliders(line, {"slope": [1.0]}, initial=(1,), alt=describe), "initial: expected an index from 0 to 0"),
        (lambda: sliders(line, {"slope": [1.0]}, initial=(-1,), alt=describe), "got -1"),
        (lambda: sliders(line, {" ": [1.0]}, alt=describe), "label: expected what the slider changes"),
        (lambda: sliders(line, {"slope": [1.0]}, alt=lambda slope: ""), "alt: expected a description"),
        (lambda: sliders(line, {}, alt=describe), "one or more labels"),
        (lambda: sliders(line, {"slope": [1.0]}, initial=(), alt=describe), "one initial index for each"),
    ],
)
def test_bad_input_is_refused_with_advice(call: Callable[[], Frames], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_too_many_frames_are_refused_before_any_is_drawn() -> None:
    def never(slope: float, width: float) -> Figure:
        raise AssertionError("drawn")

    values = {"slope": [0.0] * 9, "width": [1.0] * 8}
    with pytest.raises(ValueError, match=f"at most {MAX_FRAMES} frames, got 72"):
        sliders(never, values, alt=lambda slope, width: "x")


def test_what_is_no_figure_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a matplotlib Figure, got int"):
        sliders(lambda slope: 3, {"slope": [1.0]}, alt=describe)  # type: ignore[arg-type, return-value]


def test_contour_explorer_shows_the_error_of_the_network_it_trained() -> None:
    frames = contour_explorer((0.0, 1.0), (180.0, 360.0), seed=3, n_steps=60)
    again = contour_explorer((0.0, 1.0), (180.0, 360.0), seed=3, n_steps=60)
    assert frames.html() == again.html()
    assert len({picture.png for picture in frames.pictures}) == 4
    assert [slider.initial for slider in frames.sliders] == [1, 0]
    (alone,) = train_networks([quick_network(3, 60).vary(complexity=360.0, rho=1.0)])
    assert f"probing error {alone.hard_error:.1%}" in frames.pictures[frames.index([1, 1])].alt
    assert "LSAM, ρ = 1" in frames.pictures[frames.index([1, 1])].alt
    assert "SGD" in frames.pictures[frames.index([1, 0])].alt


def test_ratio_explorer_shows_the_error_of_the_network_it_trained() -> None:
    frames = ratio_explorer((0.5, 2.0), ("rate", "both"), n_steps=60)
    plain, alone = train_networks([quick_network(0, 60), quick_network(0, 60).vary(term="both", ratio=0.5)])
    alt = frames.pictures[frames.index([1, 0])].alt
    assert f"probing error {alone.hard_error:.1%} (plain SGD {plain.hard_error:.1%})" in alt
    assert frames.sliders[0].texts == ("rate", "both") and frames.sliders[1].texts == ("0.5", "2")


def test_training_that_diverges_is_refused() -> None:
    with pytest.raises(ValueError, match="expected finite weights"):
        train_networks([quick_network(0, 120).vary(learning_rate=1e20)])


@pytest.mark.parametrize(
    ("rho", "angle", "told"),
    [
        # v = (2, 1.5). Against the easy axis: v~ = (1, 1.5), ratio 1.5. Against the hard axis: v~ = (2, 0.5), 0.25.
        (1.0, 0.0, "rises: 0.75 → 1.50. The condition holds"),
        (1.0, 90.0, "falls: 0.75 → 0.25. The condition does not hold"),
        (0.0, 0.0, "stays: 0.75 → 0.75. The condition holds"),
        (2.0, 0.0, "cannot be read: a phantom weight changes sign. The condition holds"),
        (1.8, 90.0, "cannot be read: a phantom weight changes sign. The condition does not hold"),
    ],
)
def test_phantom_explorer_states_whether_the_ratio_rises(rho: float, angle: float, told: str) -> None:
    frames = phantom_explorer((rho,), (angle,))
    assert told in frames.pictures[0].alt


def test_phantom_drawing_puts_its_finding_in_the_title_and_both_ratios_in_the_legend() -> None:
    figure = draw_phantom(0.0, 1.0)
    try:
        (axes,) = figure.axes
        assert axes.get_title(loc="left").startswith("The ratio rises: 0.75 → 1.50")
        assert axes.get_title(loc="left").endswith("holds")
        told = [text.get_text() for text in axes.get_legend().get_texts()]
        assert told[0].endswith("ratio 0.75") and told[1].endswith("ratio 1.50")
    finally:
        plt.close(figure)


@pytest.fixture(scope="module")
def points() -> list[list[KeptNetworks]]:
    start = base("smoke").vary(n_steps=60, checkpoints=(30, 60), seeds=(0, 4))
    found = []
    for config, result in zip([start, start.vary(rho=1.0)], train_toy([start, start.vary(rho=1.0)]), strict=True):
        arrays = {name: torch.from_numpy(values) for name, values in result.arrays.items()}
        kept = [Weights(*(arrays[name][i] for name in Weights._fields)) for i in range(2)]
        found.append([KeptNetworks(config, step, weights) for step, weights in zip((30, 60), kept, strict=True)])
    return found


def test_importance_explorer_has_a_frame_per_step_and_radius(points: list[list[KeptNetworks]]) -> None:
    frames = importance_explorer(*points, (0.5, 1.0), seed=4)
    assert [slider.texts for slider in frames.sliders] == [("30", "60"), ("0.5", "1")]
    assert frames.initial == 3
    assert frames.pictures[3].alt.startswith("Importance weights after 60 steps, real and phantom at radius 1,")


def test_importance_is_drawn_for_the_seed_and_the_radius_asked_for(points: list[list[KeptNetworks]]) -> None:
    figure = draw_importance([points[0][1], points[1][1]], 0.5, 4)
    try:
        drawn = figure.axes[3].collections[1].get_offsets()  # LSAM's row, phantom weights
        expected = points[1][1].importance(0.5)
        assert drawn[:, 0].tolist() == expected.contributions[1, 1].tolist()
        assert drawn[:, 1].tolist() == expected.phantom[1].tolist()
    finally:
        plt.close(figure)


def test_importance_explorer_refuses_other_steps_and_unknown_seeds(points: list[list[KeptNetworks]]) -> None:
    sgd, lsam = points
    with pytest.raises(ValueError, match=r"expected SGD's steps \[30, 60\], got \[30\]"):
        importance_explorer(sgd, lsam[:1], (1.0,))
    with pytest.raises(ValueError, match=r"seed: expected one of \[0, 4\], got 1"):
        importance_explorer(sgd, lsam, (1.0,), seed=1)


@pytest.fixture
def panel() -> TrainingPanel:
    return train_yourself((0.0, 1.0), n_steps=60)


def test_training_panel_stands_as_frames_in_a_page(panel: TrainingPanel) -> None:
    bundle = panel._repr_mimebundle_()
    assert bundle["text/html"] == contour_explorer((0.0, 1.0), (360.0,), n_steps=60).html()
    assert VIEW in bundle and panel.picture.value in bundle["text/html"]


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
