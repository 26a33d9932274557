"""Figures: the promised panels and numbers, drawable, and without effect on the reader's own settings."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edition.claims.moments import toy_moments
from edition.experiments.toy import NOISES, RATIOS, SENSITIVITY
from edition.figures import importance, mechanism, style, toy_setup, variants
from edition.figures.bands import mean_curve, mean_point, seeds_word
from edition.figures.narrow import stack
from edition.records.kept import checkpoints
from edition.records.store import Store
from edition.runs import Run, do
from edition.runs.results import curve_table, pick, seed_table
from samlib.measures.statistics import Estimate
from samlib.toy.config import VECTORS, ToyConfig, ToyData
from samlib.toy.data import Examples, best_line_error, sample

mpl.use("agg")
TINY = ToyConfig(hidden=4, n_steps=60, n_snapshots=3, checkpoints=(20, 60), seeds=(0, 1)).vary(n_train=60, n_test=80)
COMPLEXITIES = (180.0, 360.0, 540.0)
RHOS = (0.0, 0.5, 1.0)
TERMS = ("importance", "rate", "both")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """Tiny networks of every complexity and radius; checkpoints and weights of SGD and LSAM (rho = 1) at 360°."""
    runs = [Run("toy", TINY.vary(complexity=c, rho=rho)) for c in COMPLEXITIES for rho in RHOS]
    records = do(runs, Store(tmp_path_factory.mktemp("records")), device="cpu")
    sgd, _, lsam = at_360 = records[3:6]
    return SimpleNamespace(
        records=records,
        table=seed_table(records),
        curves=curve_table(at_360),
        points={"SGD": checkpoints(sgd), "LSAM": checkpoints(lsam)},
        moments=toy_moments([sgd, lsam]),
    )


def crossed(**values) -> pd.DataFrame:
    """Rows of three seeds with made-up errors for every combination of the columns' values."""
    table = pd.DataFrame(itertools.product(*values.values(), range(3)), columns=[*values, "seed"])
    return table.assign(final_hard_error=0.3 + 0.01 * table.seed, final_test_error=0.0)


def sensitivity_table() -> pd.DataFrame:
    base = {"learning_rate": 0.01, "last_layer_init": 2.0, "hidden": 50, "easy_scale": 0.5, "hard_scale": 4.0}
    alone = {name: (value,) for name, value in base.items()}
    parts = [crossed(**alone | {name: values}, rho=(0.0, 0.3, 1.0)) for name, values in SENSITIVITY.items()]
    table = pd.concat(parts).drop_duplicates()
    return table.assign(record=table[[*base, "rho"]].astype(str).agg(" ".join, axis=1))


def noise_table() -> pd.DataFrame:
    clean = {kind: (0.0,) for kind in NOISES}
    scopes = ("both", "hard")
    noisy = [crossed(**clean | {kind: levels}, noisy_features=scopes, rho=RHOS) for kind, levels in NOISES.items()]
    return pd.concat([crossed(**clean, noisy_features=("both",), rho=RHOS), *noisy])


def elsewhere_table() -> pd.DataFrame:
    rates = (0.1, 0.02, 0.03)
    sgd = crossed(vector=("fixed",), term=("none",), learning_rate=rates)
    return pd.concat([sgd, crossed(vector=VECTORS[1:], term=TERMS, learning_rate=rates)])


def intervention_table() -> pd.DataFrame:
    return crossed(term=TERMS, ratio=RATIOS, norm=("initial", "matched"), last_layer=("plain", "weighted"))


def drawn(draw: Callable[[], Figure]) -> Figure:
    """Draw and render in the book's look; check that nothing else changed, and close the figure."""
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    with style.style():
        inside = dict(mpl.rcParams)
        figure = draw()
        assert dict(mpl.rcParams) == inside, "the figure changed the settings"
        figure.canvas.draw()
        plt.close(figure)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures
    return figure


def visible(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def curves(axes: Axes) -> dict[str, np.ndarray]:
    """Labelled lines of the axes: label -> (x, y) values."""
    lines = axes.get_lines()
    return {line.get_label(): np.array(line.get_data()) for line in lines if not line.get_label().startswith("_")}


@pytest.fixture
def axes() -> Iterator[Axes]:
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_sequences_run_from_light_to_dark():
    brightness = [sum(style.sequence_colour(index, 8)[:3]) for index in range(8)]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 8


def test_a_mean_curve_is_the_mean_over_seeds_with_its_interval_as_band_where_there_are_several(axes):
    data = pd.DataFrame({"x": [0, 0, 0, 1, 1, 1], "y": [1.0, 2.0, 3.0, 5.0, 5.0, 5.0], "seed": [0, 1, 2] * 2})
    mean_curve(axes, data, x="x", y="y", colour="black", label="mean")
    # One seed at each x, none at the second.
    mean_curve(axes, data[::2].assign(y=[1.0, None, 5.0], x=range(3)), x="x", y="y", colour="black", label="one")
    assert (curves(axes)["mean"].tolist(), curves(axes)["one"].tolist()) == ([[0, 1], [2, 5]], [[0, 2], [1, 5]])
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(2 - 2.484138, abs=1e-5)
    assert corners[:, 1].max() == 5
    assert seeds_word(data).startswith("n = 3 seeds")
    twice = pd.concat([data, data])
    with pytest.raises(ValueError, match=r"table: expected one row per \(x, seed\), got several"):
        mean_curve(axes, twice, x="x", y="y", colour="black")


def test_a_point_has_a_bar_where_there_is_an_interval_and_is_open_elsewhere(axes):
    mean_point(axes, 3, Estimate(0.5, 0.25, 0.75, 4), scale=100, color="black")
    mean_point(axes, 3, Estimate(0.5, float("-inf"), float("inf"), 1), along="x", color="black")
    several, one = axes.containers
    assert several.has_yerr and np.ptp(several[2][0].get_segments()[0][:, 1]) == pytest.approx(50)
    assert not one.has_xerr and one[0].get_markerfacecolor() == "white"
    assert (one[0].get_xdata()[0], one[0].get_ydata()[0]) == (0.5, 3)


def test_contours_say_each_probes_error(made):
    figure = drawn(lambda: toy_setup.contours({name: points[-1].member(1) for name, points in made.points.items()}))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["SGD", "LSAM"]
    expected = made.records[5].metrics["final_hard_error"][1]
    assert figure.axes[3].texts[0].get_text() == f"probing error {expected:.1%}"


def test_errors_against_radius_are_means_over_seeds_by_complexity(made):
    hard, line = visible(drawn(lambda: toy_setup.error_against_radius(made.table)))
    assert list(curves(hard)) == ["180°", "360°", "540°"]
    expected = made.table[made.table.complexity == 360.0].groupby("rho").final_hard_error.mean()
    assert curves(hard)["360°"].tolist() == [list(RHOS), pytest.approx(expected.tolist())]
    heights = [bar.get_height() for bar in line.patches]
    tests = [[sample(TINY.vary(complexity=c).data, seed=seed, split="test") for seed in (0, 1)] for c in COMPLEXITIES]
    lines = [[best_line_error(test) for test in seeds] for seeds in tests]
    assert heights == pytest.approx(np.mean(lines, 1).tolist())


def test_condition_shares_leave_sgd_out_and_count_flipped_steps(made):
    flipped = made.table.assign(flipped_steps=np.where(made.table.rho == 1.0, 2, 0))
    figure = drawn(lambda: toy_setup.condition_shares(flipped))
    assert curves(visible(figure)[0])["360°"][0].tolist() == [0.5, 1.0]
    assert "12 steps, all at $\\rho \\geq$ 1" in figure.get_supxlabel()  # 2 steps, 3 complexities, 2 seeds


def test_sensitivity_has_a_panel_a_constant_with_all_its_values():
    panels = visible(drawn(lambda: toy_setup.sensitivity(sensitivity_table())))
    for panel, values in zip(panels, SENSITIVITY.values(), strict=True):
        assert [line[0].tolist() for line in curves(panel).values()] == [pytest.approx(list(values))] * 3


def test_rates_are_shown_against_radius_and_along_the_training(made):
    radius, steps = visible(drawn(lambda: mechanism.rates_against_radius(made.table, made.curves)))
    expected = made.table[made.table.complexity == 360.0].groupby("rho").hard_rate.mean()
    assert curves(radius)["hard feature"][1].tolist() == pytest.approx(expected.tolist())
    assert steps.get_lines()[0].get_xdata().tolist() == [20, 40, 60]


def test_terms_stand_beside_lsam_and_sgd_and_the_mechanism_has_a_point_a_stand_in_and_term(made):
    table = crossed(term=TERMS, rho=RHOS[1:], vector=VECTORS[1:])
    (axes,) = visible(drawn(lambda: mechanism.phantom_terms(pick(table, vector="phantom"), made.table)))
    assert list(curves(axes)) == ["importance weights only", "learning rates only", "both: LSAM", "SGD"]
    (axes,) = visible(drawn(lambda: mechanism.mechanism(table, made.table)))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(mechanism.STAND_INS.values())
    assert len(axes.containers) == 3 * len(mechanism.STAND_INS)


def test_batch_sizes_are_shown_at_equal_epochs_and_equal_steps():
    table = crossed(batch_size=(1, 5, 300), rho=RHOS)
    epochs, steps, *tests = visible(drawn(lambda: variants.batch_sizes(table, table)))
    assert [axes.get_title() for axes in (epochs, steps)] == ["equal epochs", "equal steps"]
    assert list(curves(epochs)) == list(curves(steps)) == ["1", "5", "300"] and all(axes.has_data() for axes in tests)


def two_sets() -> dict[str, Examples]:
    return {f"{c:g}°": sample(ToyData(complexity=c, n_train=50), seed=0, split="train") for c in (180.0, 540.0)}


TERM_TITLES = ["importance weights only", "learning rates only", "both"]
MOMENTS = [f"{method}, step {step}" for method in ("SGD", "LSAM") for step in (20, 60)]
NOISE = ["flipped feature labels, probability", "Gaussian noise, standard deviation", "feature dropout, probability"]
FITS = [f"{m}-trained, by the {role} feature's fit" for m in ("SGD", "LSAM") for role in ("easy", "hard")]
ALL = [name.replace(",", "-trained,") for name in MOMENTS]
PANELS = {  # a figure of what was trained; the titles of its panels, and the named curves in each
    "data": (lambda _: toy_setup.data_planes(two_sets()), ["180°", "540°", "", ""], 0),
    "training": (lambda of: toy_setup.along_training(of.points, 0), MOMENTS, 0),
    "ratios": (lambda of: toy_setup.ratios_against_radius(of.table), ["180°", "360°", "540°"], 3),
    "interventions": (lambda of: mechanism.interventions(intervention_table(), of.table), TERM_TITLES, 2),
    "controls": (lambda _: mechanism.intervention_controls(intervention_table()), TERM_TITLES, 3),
    "elsewhere": (lambda _: mechanism.mechanism_elsewhere(elsewhere_table()), TERM_TITLES, 0),
    "noise": (lambda _: variants.noise(noise_table()), [*NOISE, "", "", ""], 4),
    "Lorenz": (lambda of: importance.lorenz_pair(of.moments), ["SGD-trained networks", "LSAM-trained networks"], 2),
    "Lorenz, all": (lambda of: importance.lorenz_grid(of.moments), ALL, 2),
    "medians": (lambda of: importance.medians_pair(of.moments), FITS, 2),
}


@pytest.mark.parametrize(("draw", "titles", "n_curves"), PANELS.values(), ids=PANELS)
def test_a_figure_has_the_panels_and_curves_that_its_caption_names(made, draw, titles, n_curves):
    panels = visible(drawn(lambda: draw(made)))
    assert [axes.get_title() for axes in panels] == titles
    assert all(len(curves(axes)) == n_curves and axes.has_data() for axes in panels)
    assert all(len(x) for axes in panels for x, _ in curves(axes).values())


def grid(rows: int, columns: int, *, scales: bool = True, **options) -> tuple[Figure, np.ndarray]:
    """Panels as chapters draw them, each with its place for a title; without scales they are pictures."""
    figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=(9, 5), **options)
    for place, panel in np.ndenumerate(panels):
        panel.set_title(str(place))
        if not scales:
            style.bare(panel)
    return figure, panels


def test_on_a_phone_panels_stand_below_each_other_with_the_labels_that_they_shared():
    def stacked():
        figure, panels = grid(2, 2, sharex=True, sharey="row")
        for panel in panels[1]:
            panel.set(title="", xlabel="step")
        for panel, name in zip(panels[:, 0], ("error", "ratio"), strict=True):
            panel.set_ylabel(name)
        panels[0, 0].plot([0, 1], [0, 1], label="a line")
        figure.legend(loc="outside lower center")
        figure.supxlabel("word " * 30)
        assert stack(figure)
        return figure

    figure = drawn(stacked)
    assert [(axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) for axes in figure.axes] == [
        ("step", name, title) for name in ("error", "ratio") for title in ("(0, 0)", "(0, 1)")
    ]
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))
    assert np.ptp([box.x1 for box in boxes]) < 1e-6 and figure.get_figwidth() < 5
    for axes in figure.axes:
        assert all(any(label.get_visible() for label in side.get_ticklabels()) for side in (axes.xaxis, axes.yaxis))
    canvas = figure.get_window_extent()
    for artist in (*figure.legends, figure._supxlabel, *(axes.yaxis.label for axes in figure.axes)):
        box = artist.get_window_extent()
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1, artist


@pytest.mark.parametrize(("rows", "columns", "scales"), [(1, 1, True), (5, 5, True), (3, 4, False)])
def test_a_wide_panel_and_many_panels_stay_as_they_are(rows, columns, scales):
    figure, _ = grid(rows, columns, scales=scales)
    assert not stack(figure) and tuple(figure.get_size_inches()) == (9, 5)
    plt.close(figure)


def test_panels_with_a_colour_bar_each_stay_as_they_are():
    figure, panels = grid(1, 2)
    for panel in panels.flat:
        figure.colorbar(panel.imshow([[0, 1]]), ax=panel)
    assert not stack(figure) and tuple(figure.get_size_inches()) == (9, 5)
    plt.close(figure)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 4), (4, 2)])
def test_on_a_phone_pictures_without_scales_stand_two_a_row(rows, columns):
    def paired():
        figure, _ = grid(rows, columns, scales=False)
        assert stack(figure)
        return figure

    figure = drawn(paired)
    boxes = {axes.get_title(): axes.get_position() for axes in figure.axes}
    assert figure.get_figwidth() < 5 and len({round(box.x0, 3) for box in boxes.values()}) == 2
    same_row = ("(0, 0)", "(1, 0)") if columns > 2 else ("(0, 0)", "(0, 1)")  # turned where there are more
    assert len({round(boxes[name].y0, 3) for name in same_row}) == 1
