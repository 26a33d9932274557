"""Figures: the promised panels and labels, drawable, and without effect on the reader's own settings."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.claims.moments import toy_moments
from edition.experiments.toy import NOISES, RATIOS, SENSITIVITY
from edition.figures import importance, mechanism, style, toy_setup, variants
from edition.figures.bands import mean_curve, mean_point, seeds_word
from edition.figures.narrow import stack
from edition.records.kept import checkpoints
from edition.records.store import Store
from edition.runs import Run, do
from edition.runs.results import curve_table, seed_table
from samlib.measures.statistics import Estimate
from samlib.toy.config import VECTORS, ToyConfig, ToyData
from samlib.toy.data import Examples, sample

mpl.use("agg")
TINY = ToyConfig(hidden=4, n_steps=60, n_snapshots=3, checkpoints=(20, 60), seeds=(0, 1)).vary(n_train=60, n_test=80)
COMPLEXITIES = (180.0, 360.0, 540.0)
RHOS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Tiny trained networks: every complexity with every radius."""
    runs = [Run("toy", TINY.vary(complexity=c, rho=rho)) for c in COMPLEXITIES for rho in RHOS]
    return do(runs, Store(tmp_path_factory.mktemp("records")), device="cpu")


@pytest.fixture(scope="module")
def table(records) -> pd.DataFrame:
    return seed_table(records)


@pytest.fixture(scope="module")
def points(records):
    """Checkpoints of SGD and of LSAM (rho = 1) at 360 degrees."""
    return [checkpoints(records[index]) for index in (3, 5)]


@pytest.fixture(scope="module")
def moments(records):
    """Their importance weights."""
    return toy_moments([records[index] for index in (3, 5)])


def errors(**columns) -> list[dict]:
    """Rows of three seeds with the same settings and made-up errors."""
    return [
        columns | {"seed": seed, "final_hard_error": 0.3 + 0.01 * seed, "final_test_error": 0.0} for seed in range(3)
    ]


def intervention_table() -> pd.DataFrame:
    controls = (("initial", "plain"), ("matched", "plain"), ("initial", "weighted"))
    return pd.DataFrame(
        row
        for norm, last_layer in controls
        for term in ("importance", "rate", "both")
        for ratio in RATIOS
        for row in errors(term=term, ratio=ratio, norm=norm, last_layer=last_layer)
    )


def sensitivity_table() -> pd.DataFrame:
    base = {"learning_rate": 0.01, "last_layer_init": 2.0, "hidden": 50, "easy_scale": 0.5, "hard_scale": 4.0}
    settings = {tuple((base | {name: value}).items()) for name, values in SENSITIVITY.items() for value in values}
    return pd.DataFrame(
        row
        for s in sorted(settings)
        for rho in (0.0, 0.3, 1.0)
        for row in errors(**dict(s), rho=rho, record=f"{s}{rho}")
    )


def noise_table() -> pd.DataFrame:
    clean = dict.fromkeys(NOISES, 0.0)
    settings = [clean | {"noisy_features": "both"}] + [
        clean | {kind: level, "noisy_features": scope}
        for scope in ("both", "hard")
        for kind, levels in NOISES.items()
        for level in levels
    ]
    return pd.DataFrame(row for setting in settings for rho in RHOS for row in errors(**setting, rho=rho))


def drawn(draw: Callable[[], Figure]) -> Figure:
    """Draw and render in the book's look; check that nothing else changed, and close the figure."""
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    with style.style():
        inside = dict(mpl.rcParams)
        figure = draw()
        assert dict(mpl.rcParams) == inside, "the figure changed the settings"
        assert isinstance(figure, Figure)
        figure.canvas.draw()
        plt.close(figure)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures
    return figure


def visible(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def labels(axes) -> tuple[str, str, str]:
    return axes.get_xlabel(), axes.get_ylabel(), axes.get_title()


def curves(axes) -> dict[str, np.ndarray]:
    """Labelled lines of the axes: label -> (x, y) values."""
    lines = axes.get_lines()
    return {line.get_label(): np.array(line.get_data()) for line in lines if not line.get_label().startswith("_")}


def test_style_applies_inside_and_comes_back_also_after_an_error():
    before = dict(mpl.rcParams)
    with pytest.raises(KeyError), style.style():
        assert mpl.rcParams["axes.spines.top"] is False and mpl.rcParams["svg.hashsalt"] == "samlib"
        raise KeyError
    assert dict(mpl.rcParams) == before


def test_meanings_have_different_colours_and_sequences_run_from_light_to_dark():
    colours = [colour for meanings in style.PALETTES.values() for colour in meanings.values()]
    assert len({*colours, style.NEUTRAL}) == len(colours) + 1
    brightness = [sum(style.sequence_colour(index, 8)[:3]) for index in range(8)]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 8
    assert style.sequence_colour(0, 1) == style.sequence_colour(0, 8)


def test_a_mean_curve_is_the_mean_over_seeds_with_its_interval_as_band():
    data = pd.DataFrame({"x": [0, 0, 0, 1, 1, 1], "y": [1.0, 2.0, 3.0, 5.0, 5.0, 5.0], "seed": [0, 1, 2] * 2})
    figure, axes = plt.subplots()
    mean_curve(axes, data, x="x", y="y", colour="black", label="mean")
    plt.close(figure)
    assert curves(axes)["mean"].tolist() == [[0, 1], [2, 5]]
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(2 - 2.484138, abs=1e-5)
    assert corners[:, 1].max() == 5
    assert seeds_word(data).startswith("n = 3 seeds")


def test_points_without_a_number_are_left_out_and_one_seed_has_no_band():
    data = pd.DataFrame({"x": [0, 1, 2], "y": [1.0, float("nan"), 3.0]})
    figure, axes = plt.subplots()
    mean_curve(axes, data, x="x", y="y", colour="black", label="mean")
    plt.close(figure)
    assert curves(axes)["mean"].tolist() == [[0, 2], [1, 3]]
    assert not axes.collections


def test_contours_say_each_probes_error(records, points):
    member = {point.method: point.member(1) for point in (points[0][-1], points[1][-1])}
    figure = drawn(lambda: toy_setup.contours(member))
    assert len(visible(figure)) == 4
    assert [axes.get_title() for axes in figure.axes[:2]] == ["SGD", "LSAM"]
    expected = records[5].metrics["final_hard_error"][1]
    assert figure.axes[3].texts[0].get_text() == f"probing error {expected:.1%}"


def test_errors_against_radius(table):
    figure = drawn(lambda: toy_setup.error_against_radius(table))
    hard, line = visible(figure)
    assert "rho" in hard.get_xlabel() and "complexity" in line.get_xlabel()
    found = curves(hard)
    assert list(found) == ["180°", "360°", "540°"]
    expected = table[table.complexity == 360.0].groupby("rho").final_hard_error.mean()
    assert found["360°"].tolist() == [list(RHOS), pytest.approx(expected.tolist())]
    heights = [bar.get_height() for bar in line.patches]
    assert heights == pytest.approx(table.groupby("complexity").linear_baseline_error.mean().tolist())
    assert "n = 2 seeds" in figure.get_supxlabel()


def test_condition_shares_leave_sgd_out(table):
    flipped = table.assign(flipped_steps=np.where(table.rho == 1.0, 2, 0))
    figure = drawn(lambda: toy_setup.condition_shares(flipped))
    (share,) = visible(figure)
    assert share.get_ylabel() == "share of steps" and curves(share)["360°"][0].tolist() == [0.5, 1.0]
    assert f"{2 * (table.rho == 1.0).sum()} steps, all at $\\rho \\geq$ 1" in figure.get_supxlabel()


def test_sensitivity_has_a_panel_a_constant():
    figure = drawn(lambda: toy_setup.sensitivity(sensitivity_table()))
    panels = visible(figure)
    assert len(panels) == len(SENSITIVITY)
    for panel, values in zip(panels, SENSITIVITY.values(), strict=True):
        assert panel.get_xscale() == "log" and panel.get_xlabel()
        assert [line[0].tolist() for line in curves(panel).values()] == [pytest.approx(list(values))] * 3


def two_sets() -> dict[str, Examples]:
    return {f"{c:g}°": sample(ToyData(complexity=c, n_train=50), seed=0, split="train") for c in (180.0, 540.0)}


def mechanism_table() -> pd.DataFrame:
    settings = (("none", "fixed"), *itertools.product(("importance", "rate", "both"), VECTORS[1:]))
    return pd.DataFrame(
        row
        for rate in (0.1, 0.02, 0.03)
        for term, vector in settings
        for row in errors(vector=vector, term=term, learning_rate=rate)
    )


TERMS = ["importance weights only", "learning rates only", "both"]
MOMENTS = [f"{method}, step {step}" for method in ("SGD", "LSAM") for step in (20, 60)]
NOISE = ["flipped feature labels, probability", "Gaussian noise, standard deviation", "feature dropout, probability"]
FITS = [f"{m}-trained, by the {role} feature's fit" for m in ("SGD", "LSAM") for role in ("easy", "hard")]
PANELS = {  # a figure of the table, checkpoints and moments; the titles of its panels, and the named curves in each
    "data": (lambda _: toy_setup.data_planes(two_sets()), ["180°", "540°", "", ""], 0),
    "training": (lambda of: toy_setup.along_training({"SGD": of.points[0], "LSAM": of.points[1]}, 0), MOMENTS, 0),
    "ratios": (lambda of: toy_setup.ratios_against_radius(of.table), ["180°", "360°", "540°"], 3),
    "interventions": (lambda of: mechanism.interventions(intervention_table(), of.table), TERMS, 2),
    "controls": (lambda _: mechanism.intervention_controls(intervention_table()), TERMS, 3),
    "elsewhere": (lambda _: mechanism.mechanism_elsewhere(mechanism_table()), TERMS, 0),
    "noise": (lambda _: variants.noise(noise_table()), [*NOISE, "", "", ""], 4),
    "Lorenz": (lambda of: importance.lorenz_pair(of.moments), ["SGD-trained networks", "LSAM-trained networks"], 2),
    "Lorenz, all": (
        lambda of: importance.lorenz_grid(of.moments),
        [name.replace(",", "-trained,") for name in MOMENTS],
        2,
    ),
    "medians": (lambda of: importance.medians_pair(of.moments), FITS, 2),
}


@pytest.mark.parametrize(("draw", "titles", "n_curves"), PANELS.values(), ids=PANELS)
def test_a_figure_has_the_panels_and_curves_that_its_caption_names(table, points, moments, draw, titles, n_curves):
    figure = drawn(lambda: draw(SimpleNamespace(table=table, points=points, moments=moments)))
    assert [axes.get_title() for axes in visible(figure)] == titles
    assert all(len(curves(axes)) == n_curves for axes in visible(figure))
    assert all(len(x) for axes in figure.axes for x, _ in curves(axes).values())
    assert all(axes.has_data() for axes in visible(figure))


def test_a_point_has_a_bar_where_there_is_an_interval_and_is_open_elsewhere():
    figure, axes = plt.subplots()
    mean_point(axes, 3, Estimate(0.5, 0.25, 0.75, 4), scale=100, color="black")
    mean_point(axes, 3, Estimate(0.5, float("-inf"), float("inf"), 1), along="x", color="black")
    plt.close(figure)
    several, one = axes.containers
    assert several.has_yerr and np.ptp(several[2][0].get_segments()[0][:, 1]) == pytest.approx(50)
    assert not one.has_xerr and one[0].get_markerfacecolor() == "white"
    assert (one[0].get_xdata()[0], one[0].get_ydata()[0]) == (0.5, 3)


def test_rates_against_radius_and_along_the_training(records, table):
    training = curve_table([record for record in records if record.config["data"]["complexity"] == 360.0])
    figure = drawn(lambda: mechanism.rates_against_radius(table, training))
    radius, steps = visible(figure)
    assert list(curves(radius)) == ["easy feature", "hard feature"]
    expected = table[table.complexity == 360.0].groupby("rho").hard_rate.mean()
    assert curves(radius)["hard feature"][1].tolist() == pytest.approx(expected.tolist())
    assert (steps.get_xlabel(), steps.get_xscale()) == ("step", "log")
    assert steps.get_lines()[0].get_xdata().tolist() == [20, 40, 60]


def test_phantom_terms_show_three_curves_and_sgd(table):
    terms = pd.DataFrame(
        row for term in ("importance", "rate", "both") for rho in (0.5, 1.0) for row in errors(term=term, rho=rho)
    )
    (axes,) = visible(drawn(lambda: mechanism.phantom_terms(terms, table)))
    assert len(curves(axes)) == 4 and "SGD" in curves(axes)
    assert "rho" in axes.get_xlabel() and axes.get_ylabel() == "hard-feature probing error"


def test_the_mechanism_has_a_point_a_stand_in_and_term(table):
    terms = pd.DataFrame(
        row
        for vector in VECTORS[1:]
        for term in ("importance", "rate", "both")
        for row in errors(vector=vector, term=term)
    )
    (axes,) = visible(drawn(lambda: mechanism.mechanism(terms, table)))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(mechanism.STAND_INS.values())
    assert len(axes.containers) == 3 * len(mechanism.STAND_INS) and "rho" in axes.get_title()


def test_on_a_phone_panels_stand_below_each_other_with_the_labels_that_they_shared():
    def grid():
        figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex=True, sharey="row")
        for column, title in enumerate(("left", "right")):
            axes[0, column].set_title(title)
            axes[1, column].set_xlabel("step")
        axes[0, 0].set_ylabel("error")
        axes[1, 0].set_ylabel("ratio")
        axes[0, 0].plot([0, 1], [0, 1], label="a line")
        figure.legend(loc="outside lower center")
        figure.supxlabel("word " * 30)
        assert stack(figure)
        return figure

    figure = drawn(grid)
    assert [labels(axes) for axes in figure.axes] == [
        ("step", name, title) for name in ("error", "ratio") for title in ("left", "right")
    ]
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert np.ptp([box.x1 for box in boxes]) < 1e-6 and figure.get_figwidth() < 5
    for axes in figure.axes:
        assert all(
            any(label.get_visible() for label in each) for each in (axes.get_xticklabels(), axes.get_yticklabels())
        )
    canvas = figure.get_window_extent()
    (legend,) = figure.legends
    for artist in (legend, figure._supxlabel, *(axes.yaxis.label for axes in figure.axes)):
        box = artist.get_window_extent()
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1, artist


@pytest.mark.parametrize(("rows", "columns", "scales"), [(1, 1, True), (5, 5, True), (3, 4, False)])
def test_a_wide_panel_and_many_panels_stay_as_they_are(rows, columns, scales):
    def grid():
        figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(9, 5))
        for panel in axes.flat if not scales else ():
            style.bare(panel)
        assert not stack(figure)
        return figure

    assert tuple(drawn(grid).get_size_inches()) == (9, 5)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 4), (4, 2)])
def test_on_a_phone_pictures_without_scales_stand_two_a_row(rows, columns):
    def grid():
        figure, axes = plt.subplots(rows, columns, figsize=(9, 5))
        for place, panel in np.ndenumerate(axes):
            panel.set_title(str(place))
            style.bare(panel)
        assert stack(figure)
        return figure

    figure = drawn(grid)
    boxes = {axes.get_title(): axes.get_position() for axes in figure.axes}
    assert figure.get_figwidth() < 5 and len({round(box.x0, 3) for box in boxes.values()}) == 2
    same_row = ("(0, 0)", "(1, 0)") if columns > 2 else ("(0, 0)", "(0, 1)")  # turned where there are more
    assert len({round(boxes[name].y0, 3) for name in same_row}) == 1


def test_batch_sizes_are_shown_at_equal_epochs_and_equal_steps():
    table = pd.DataFrame(row for size in (1, 5, 300) for rho in RHOS for row in errors(batch_size=size, rho=rho))
    figure = drawn(lambda: variants.batch_sizes(table, table))
    epochs, steps, *tests = visible(figure)
    assert [labels(axes)[2] for axes in (epochs, steps)] == ["equal epochs", "equal steps"]
    assert list(curves(epochs)) == list(curves(steps)) == ["1", "5", "300"]
    assert [axes.get_ylabel() for axes in tests] == ["test error (label)", ""]
    assert "n = 3 seeds" in figure.legends[0].get_title().get_text()
