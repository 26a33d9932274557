"""Importance weights on photographs: from records to points, verdicts and figures, on arrays worked out by hand."""

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from edition.claims import real_importance as claims
from edition.claims.moments import Moment, photograph_moments
from edition.figures import importance as figures
from edition.figures import style

mpl.use("agg")
EVEN, STEEP = [1.0, 1.0, 1.0, 1.0], [4.0, 2.0, 1.0, 1.0]  # Gini 0 and 5 / 16
BIRD, BACKGROUND = [3.0, 2.0, 1.0, -1.0], [-1.0, 1.0, 2.0, 3.0]  # worst fitted: the last and the first example
MORE_TO_FIRST, MORE_TO_LAST = [4.0, 2.0, 2.0, 0.0], [0.0, 2.0, 2.0, 4.0]


@dataclass(frozen=True)
class FakeRecord:
    """What `points` reads of a record."""

    config: dict[str, Any]
    metrics: dict[str, Any]
    values: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        return self.values


def record(
    seed: int,
    rho: float,
    weights,
    *,
    bird: float = 0.3,
    epochs=(1, 20),
    contributions=(BIRD, BACKGROUND),
    frequencies=(0.7, 0.1, 0.1, 0.1),
    **changes,
):
    """A run on Waterbirds; weights: by epoch (real, phantom); bird: its probing error, the background's is 0.2."""
    config = {
        "image_set": "waterbirds",
        "rho": rho,
        "seed": seed,
        "importance_epochs": list(epochs),
        "importance_rho": 0.05,
        "n_importance": 4,
        "batch_size": 2,
    }
    metrics = {"bird_head_error": 0.1, "background_head_error": 0.4, "diverged": False}
    metrics |= {"bird_probe_error": bird, "background_probe_error": 0.2, "train_frequencies": list(frequencies)}
    arrays = {
        "importance_real": np.array([real for real, _ in weights], dtype=np.float32),
        "importance_phantom": np.array([phantom for _, phantom in weights], dtype=np.float32),
        "contributions": np.array([contributions] * len(weights), dtype=np.float32),
    }
    return FakeRecord(config | changes, metrics | {"diverged": changes.get("diverged", False)}, arrays)


def runs(sgd, sam, n_seeds: int = 2, **options):
    """SGD's and SAM's records of all seeds, the later seed first."""
    return [record(s, rho, w, **options) for s in reversed(range(n_seeds)) for rho, w in ((0.0, sgd), (0.1, sam))]


TIDY = [(STEEP, EVEN)] * 2


def test_points_are_ordered_by_method_and_epoch_with_one_member_a_seed():
    records = [
        record(1, 0.1, [(EVEN, STEEP), (EVEN, EVEN)]),
        record(0, 0.1, [(STEEP, STEEP), (EVEN, EVEN)]),
        record(1, 0.0, TIDY),
        record(0, 0.0, TIDY),
    ]
    found = claims.points(records)
    assert [(p.method, p.epoch) for p in found] == [("SGD", 1), ("SGD", 20), ("SAM", 1), ("SAM", 20)]
    assert all(p.seeds == (0, 1) and p.rho == 0.05 and p.image_set == "waterbirds" for p in found)
    assert found[2].importance.real.tolist() == [STEEP, EVEN]  # seed 0, then seed 1
    assert found[2].importance.phantom.tolist() == [STEEP, STEEP]
    assert [(p.method, p.epoch) for p in claims.last(found)] == [("SGD", 20), ("SAM", 20)]


def test_epochs_are_those_of_the_arrays_whatever_the_order_in_the_configuration():
    found = claims.points(runs([(EVEN, EVEN), (STEEP, EVEN)], TIDY, epochs=(20, 1)))
    assert [(p.epoch, p.importance.real[0].tolist()) for p in found[:2]] == [(1, EVEN), (20, STEEP)]


@pytest.mark.parametrize(
    ("bird", "features", "first"),
    [(0.3, ("background", "bird"), BACKGROUND), (0.1, ("bird", "background"), BIRD)],
)
def test_contributions_are_easy_then_hard_as_sgds_probes_say(bird, features, first):
    (point, *_) = claims.points(runs(TIDY, TIDY, bird=bird))
    assert point.features == features
    assert point.importance.contributions[0, 0].tolist() == first


def test_an_attribute_that_goes_with_the_other_label_counts_with_the_sign_turned():
    """In CelebA blond (label 1) goes with female (attribute 0)."""
    point = claims.points(runs(TIDY, TIDY, frequencies=(0.44, 0.41, 0.14, 0.01)))[0]
    assert point.features == ("background", "bird")
    assert point.importance.contributions[0].tolist() == [[-value for value in BACKGROUND], BIRD]


def test_an_attribute_that_goes_with_no_label_is_refused():
    with pytest.raises(ValueError, match="expected label and attribute to be correlated"):
        claims.points(runs(TIDY, TIDY, frequencies=(0.25, 0.25, 0.25, 0.25)))


def test_runs_that_diverged_or_recorded_no_weights_are_left_out():
    records = [*runs(TIDY, TIDY), record(2, 0.1, [], diverged=True), record(2, 0.0, [], importance_epochs=[])]
    assert [p.seeds for p in claims.points(records)] == [(0, 1)] * 4


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(0, 0.1, TIDY)], "at least one of SGD"),
        ([record(0, 0.0, TIDY, importance_epochs=[])], r"got 0: .*with importance_epochs"),
        ([record(0, 0.0, TIDY), record(0, 0.1, TIDY, importance_rho=0.1)], "one setting of image_set.*got 2"),
        ([record(0, 0.0, TIDY), record(0, 0.1, TIDY), record(0, 0.2, TIDY)], r"several of \[\('SAM', 0\)\]"),
    ],
)
def test_records_that_cannot_be_compared_are_refused(records, message):
    with pytest.raises(ValueError, match=message):
        claims.points(records)


@pytest.mark.parametrize(
    ("sgd", "sam", "at_the_end", "throughout"),
    [
        (TIDY, TIDY, "confirmed", "confirmed"),
        ([(EVEN, STEEP), (STEEP, EVEN)], TIDY, "confirmed", "partly"),
        (TIDY, [(STEEP, EVEN), (EVEN, STEEP)], "partly", "partly"),
        ([(EVEN, STEEP)] * 2, [(EVEN, EVEN)] * 2, "not confirmed", "not confirmed"),
    ],
)
def test_more_uniform_means_a_lower_gini_of_the_phantom(sgd, sam, at_the_end, throughout):
    found = claims.points(runs(sgd, sam))
    assert claims.weights_more_uniform(found).status == at_the_end
    assert claims.uniform_throughout(found).status == throughout


def test_the_ginis_at_the_end_are_told_for_both_methods():
    told = claims.ginis_at_the_end(claims.points(runs([(EVEN, EVEN), (STEEP, EVEN)], TIDY)))
    assert told == (
        "Waterbirds: Gini coefficient **0.312** with real and **0.000** with phantom weights for SGD (n = 2); "
        "**0.312** with real and **0.000** with phantom weights for SAM (n = 2)."
    )


def test_effects_say_networks_and_epoch_and_hold_the_difference_of_ginis():
    verdict = claims.uniform_throughout(claims.points(runs(TIDY, [(EVEN, STEEP)] * 2)))
    names = [f"{method}-trained, epoch {epoch}" for method in ("SGD", "SAM") for epoch in (1, 20)]
    assert [effect.name for effect in verdict.effects] == names
    assert [e.value.mean for e in verdict.effects] == pytest.approx([-5 / 16] * 2 + [5 / 16] * 2)
    assert verdict.id == "waterbirds-uniform-throughout" and "rho = 0.05" in verdict.statistic


@pytest.mark.parametrize(
    ("sgd", "sam", "status"),
    [
        ((STEEP, STEEP), (STEEP, EVEN), "confirmed"),  # SAM trains with the phantom's weights, SGD with the real ones
        ((EVEN, STEEP), (STEEP, EVEN), "not confirmed"),
        ((STEEP, EVEN), (EVEN, STEEP), "not confirmed"),
    ],
)
def test_sams_own_weights_are_compared_with_sgds_own(sgd, sam, status):
    verdict = claims.sam_more_uniform_than_sgd(claims.points(runs([sgd] * 2, [sam] * 2)))
    assert verdict.status == status


def test_sam_and_sgd_are_compared_on_their_common_seeds():
    records = [*runs(TIDY, TIDY), record(5, 0.0, [(EVEN, EVEN)] * 2)]
    (effect,) = claims.sam_more_uniform_than_sgd(claims.points(records)).effects
    assert (effect.value.n, effect.value.mean) == (2, pytest.approx(-5 / 16))


def test_weight_moves_from_the_worst_fit_by_easy_to_the_worst_fit_by_hard():
    # The background is easy and fits the first example worst; the bird is hard and fits the last worst.
    towards, away = (EVEN, MORE_TO_LAST), (EVEN, MORE_TO_FIRST)
    verdict = claims.poorly_fit_at_the_end(claims.points(runs([away, towards], [away, towards])))
    assert [e.name for e in verdict.effects][:2] == [
        "SGD-trained, epoch 20, easy (background)",
        "SGD-trained, epoch 20, hard (bird)",
    ]
    assert [e.value.mean for e in verdict.effects] == pytest.approx([-0.25, 0.25] * 2)
    assert verdict.status == "confirmed"
    assert claims.poorly_fit_throughout(claims.points(runs([away, towards], [towards] * 2))).status == "partly"
    assert claims.poorly_fit_throughout(claims.points(runs([away] * 2, [away] * 2))).status == "not confirmed"


VERDICTS = (
    claims.weights_more_uniform,
    claims.uniform_throughout,
    claims.sam_more_uniform_than_sgd,
    claims.poorly_fit_at_the_end,
    claims.poorly_fit_throughout,
)


@pytest.mark.parametrize("judge", VERDICTS)
def test_nothing_is_tested_without_two_seeds_of_both_methods(judge):
    sgd_alone = [record(seed, 0.0, TIDY) for seed in range(3)]
    for records in (runs(TIDY, TIDY, n_seeds=1), sgd_alone, [*sgd_alone, record(0, 0.1, TIDY)]):
        assert judge(claims.points(records)).status == "not tested"


def test_verdicts_have_different_names():
    found = claims.points(runs(TIDY, TIDY))
    assert len({judge(found).id for judge in VERDICTS}) == len(VERDICTS)


N = 40  # examples; contributions 1/2, 3/2, ... of the easy feature, of the hard one with the opposite sign


def drawing(n_seeds: int = 2) -> list[Moment]:
    """Moments whose median weights fall with the easy feature's contribution: one step in the middle."""
    position = np.arange(N) - N / 2 + 0.5
    real = np.where(position < 0, 3.0, 1.0)
    both = [(real, np.ones(N))] * 2
    return photograph_moments(runs(both, both, n_seeds, contributions=(-position, position)))


def drawn(draw):
    """Draw and render in the book's look; check that settings stay as they were, and close the figure."""
    with style.style():
        inside = dict(mpl.rcParams)
        figure = draw()
        figure.canvas.draw()
        assert dict(mpl.rcParams) == inside
        plt.close(figure)
    return figure


def curves(axes) -> dict[str, np.ndarray]:
    """Labelled lines of the axes: first word of the label -> (x, y)."""
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label().split()[0]: np.array(line.get_data()) for line in lines}


def test_lorenz_pair_show_real_and_phantom_weights_of_both_methods():
    figure = drawn(lambda: figures.lorenz_pair(drawing()))
    assert [axes.get_title() for axes in figure.axes] == ["SGD-trained networks", "SAM-trained networks"]
    for axes in figure.axes:
        lines = curves(axes)
        share = np.linspace(0, 1, N + 1)
        assert lines["phantom"][1] == pytest.approx(share)
        assert lines["real"][1][N // 2] == pytest.approx(0.25)  # the light half holds 20 of 80
        assert [text.get_text().split(", ")[1] for text in axes.get_legend().get_texts()] == ["Gini 0.25", "Gini 0.00"]
    assert "2 seeds; bands: full range over seeds" in figure.get_supxlabel()


def test_medians_pair_have_a_row_a_method_and_a_column_a_feature():
    # Bins of 40 / 12 positions and two seeds: six examples or eight, fewer than ten, so four times the seeds.
    figure = drawn(lambda: figures.medians_pair(drawing(n_seeds=8)))
    easy, hard, *others = figure.axes
    assert len(others) == 2
    assert easy.get_title() == "SGD-trained, by the easy feature's fit (background)"
    assert hard.get_title() == "SGD-trained, by the hard feature's fit (bird)"
    assert (easy.get_xlabel(), hard.get_yscale()) == ("signed contribution, background probe", "log")
    for axes, order in ((easy, 1), (hard, -1)):  # a mean weight of two: medians 3 / 2 and 1 / 2
        assert curves(axes)["real"][1][::order] == pytest.approx([1.5] * 6 + [0.5] * 6)
        assert curves(axes)["phantom"][1] == pytest.approx([1.0] * 12)


def test_bins_of_fewer_than_ten_examples_are_not_drawn_and_a_panel_without_bins_says_so():
    figure = drawn(lambda: figures.medians_pair(drawing(n_seeds=2)))
    assert all(len(line[0]) == 0 for axes in figure.axes for line in curves(axes).values())
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["no bin with 10 examples"] * 4


@pytest.mark.parametrize(
    "draw",
    [figures.lorenz_grid, lambda p: figures.medians_grid(p, 0), lambda p: figures.medians_grid(p, 1)],
)
def test_grids_have_a_row_a_method_and_a_column_an_epoch(draw):
    figure = drawn(lambda: draw(drawing(n_seeds=8)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{method}-trained, epoch {epoch}" for method in ("SGD", "SAM") for epoch in (1, 20)]
    assert all(len(curves(axes)) == 2 for axes in figure.axes)


def test_a_method_without_runs_has_no_panel():
    found = [point for point in drawing() if point.method == "SGD"]
    assert [axes.get_title() for axes in drawn(lambda: figures.lorenz_pair(found)).axes] == ["SGD-trained networks"]
    assert len(drawn(lambda: figures.medians_pair(found)).axes) == 2


def test_different_numbers_of_seeds_are_both_said():
    found = [*drawing(2)[:2], *drawing(3)[2:]]
    assert "2 and 3 seeds;" in drawn(lambda: figures.lorenz_pair(found)).get_supxlabel()
    assert "1 seed;" in drawn(lambda: figures.lorenz_pair(drawing(1))).get_supxlabel()
