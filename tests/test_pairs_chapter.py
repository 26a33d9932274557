"""Chapter 1 from records to tables, verdicts and figures: records made up by hand, live steps on the embedded pair."""

import dataclasses
import json

import matplotlib
import pytest
from judging import image_record, judge, results
from matplotlib import pyplot as plt

from edition import runs
from edition.claims.pairs import difference, pair_roles, pair_table
from edition.experiments import EXPERIMENTS
from edition.experiments.pairs import demo_config
from edition.figures import pairs as figures
from edition.page import chapter
from edition.page import demonstrations as steps
from edition.page.chapter import Chapter
from edition.records.store import Store
from samlib.images.config import PairConfig
from samlib.images.splits import pair_sets
from samlib.images.tiles import load_pair

matplotlib.use("agg")


def record(rho, seed, digit, patch, **more):
    """A record of the embedded pair with these probing errors; without the patches' the run diverged."""
    features = {"pair": "digits_patches", "features": ("digits", "patches")}
    return image_record(rho, seed, patch, easy=digit, **features | more)


@pytest.fixture
def records():
    """Three seeds: SAM takes 1, 2 and 3 points off the patches' error and leaves the digits' as it is."""
    errors = [(rho, seed, 0.20 + 0.1 * seed - 0.1 * rho * (seed + 1)) for seed in range(3) for rho in (0.0, 0.1)]
    return [record(rho, seed, 0.02, error) for rho, seed, error in errors]


def test_sgd_decides_which_feature_is_easy_and_without_it_none_is(records):
    assert pair_roles(records) == {"easy": "digits", "hard": "patches"}
    swapped = [record(0.0, 0, 0.3, 0.1), record(0.1, 0, 0.0, 0.2)]
    assert pair_roles(swapped) == {"easy": "patches", "hard": "digits"}
    with pytest.raises(ValueError, match=r"expected at least one of SGD .* run it too"):
        pair_table(swapped[1:])


def test_one_row_a_record_with_metrics_named_by_role(records):
    first, *others = pair_table(records).itertuples()
    assert (first.method, first.easy, first.hard, len(others)) == ("SGD", "digits", "patches", 5)
    assert (first.easy_probe_error, first.hard_probe_error, first.hard_probe_worst_group_error) == (0.02, 0.20, 0.40)


def test_differences_are_paired_by_seed_whatever_the_order_and_a_diverged_run_drops_its_pair(records):
    lost = record(0.1, 2, None, None)
    for order, mean, n in ((records, -0.02, 3), (records[::-1], -0.02, 3), ([*records[:-1], lost], -0.015, 2)):
        found = difference(pair_table(order), "hard_probe_error")
        assert (found.mean, found.n) == (pytest.approx(mean), n)


@pytest.mark.parametrize("role", ["hard", "easy"])
@pytest.mark.parametrize(
    ("gains", "state"),
    [
        ((0.05, 0.06, 0.07), "confirmed"),
        ((-0.05, -0.06, -0.07), "contradicted"),
        ((0.01, 0.02, 0.03), "undecided"),  # the interval reaches zero
        ((0.0, 0.0, 0.0), "undecided"),
        ((0.05,), "not tested"),
    ],
)
def test_an_improvement_is_confirmed_only_where_there_is_one(role, gains, state):
    found = []
    for seed, gain in enumerate(gains):
        sam = (0.1 - gain, 0.3) if role == "easy" else (0.1, 0.3 - gain)
        found += [record(0.0, seed, 0.1, 0.3), record(0.1, seed, *sam)]
    assert judge(f"pair-{role}-improved", results(found)).state == state


@pytest.mark.parametrize(
    ("pair", "head", "state"),
    [
        ("digits_patches", (0.01, 0.49), "confirmed"),
        ("digits_patches", (0.01, 0.3), "mixed"),
        ("digits_patches", (0.3, 0.2), "contradicted"),
        ("digits_patches", (0.05, 0.55), "undecided"),  # at the margins
        ("fmnist_mnist", (0.0, 0.8), "confirmed"),  # chance of five classes is four fifths
        ("fmnist_mnist", (0.0, 0.5), "mixed"),
    ],
)
def test_reliance_on_the_easy_feature_needs_both_answers(pair, head, state):
    found = [record(0.0, seed, 0.1, 0.3, head=head, pair=pair) for seed in range(8)]
    assert judge("pair-sgd-relies-on-easy", results(found)).state == state
    assert judge("pair-sgd-relies-on-easy", results(found[:1])).state == "not tested"


def test_the_summary_says_mean_spread_difference_and_n(records):
    row = figures.summary(pair_table(records)).loc["Hard ft. probe"]
    assert row["SGD"] == "30.00\u00a0±\u00a010.00" and row["n"] == "3"
    assert row["SAM − SGD"] == "−2.00" and row["95 % interval"] == "[−4.48, +0.48]"
    alone = figures.summary(pair_table(records[:2])).loc["Hard ft. probe"]
    assert (alone["SGD"], alone["95 % interval"]) == ("20.00", "no interval")


def test_figures_draw_what_the_table_holds(records):
    table = pair_table(records)
    figure = figures.paired_errors(table, figures.ERRORS)
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([20, 19])
    bars = figures.probe_bars(table[table.seed == 0])
    assert [patch.get_height() for patch in bars.axes[0].patches] == pytest.approx([2, 20, 2, 19])
    plt.close("all")


def test_sample_images_say_which_combinations_do_not_occur():
    sets = pair_sets(load_pair("digits_patches"), demo_config("digits_patches", rho=0.0))
    figure = figures.sample_images({"train": sets.train, "balanced": sets.probe_test}, sets.features)
    assert [bool(axes.texts) for axes in figure.axes] == [False, True, True, *[False] * 5]
    assert figure.axes[4].get_xlabel() == "125 of 500 images"
    plt.close("all")


def test_without_data_the_embedded_pair_is_shown_and_the_note_says_why(tmp_path):
    for folder, why in ((None, "no folder"), (tmp_path, "does not hold CIFAR-MNIST")):
        found = steps.at_hand(folder)
        assert found.source.name == "digits_patches"
        assert all(words in found.note for words in ("not the paper's pair", "SAMLIB_DATA", why))


def test_the_demonstration_trains_anew_into_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    one_step = {"n_train": 40, "n_epochs": 1, "n_probe": 8}
    monkeypatch.setattr(steps, "demo_config", lambda pair, **changes: PairConfig(pair=pair, **changes, **one_step))
    first, second = (steps.train_pair_now(Chapter("paper", device="cpu", seed=3), "digits_patches") for _ in range(2))
    assert [item.config["rho"] for item in first] == [0.0, 0.1]
    assert {item.config["seed"] for item in first} == {3}
    assert [item.metrics for item in first] == [item.metrics for item in second]
    assert first[0].path != second[0].path and json.loads(first[0].path.read_text())["kind"] == "pair"
    assert not (tmp_path / "paper").exists()


@pytest.mark.parametrize("name", ["cifar_mnist_fixed", "fmnist_mnist"])
def test_quick_without_data_shows_a_box_with_the_command_and_trains_nothing(tmp_path, monkeypatch, name):
    shown = []
    monkeypatch.setattr(runs, "start", lambda *args, **kwargs: pytest.fail("nothing can be trained"))
    monkeypatch.setattr(steps, "display", shown.append)
    results = steps.full_scale(Chapter("quick", data_root=tmp_path), name)
    assert not results and results.n_missing == 2
    box, advice = (part.data for part in shown)
    assert f"python -m edition runs start --experiment {name} --profile quick" in box and "2 of 2 runs" in box
    assert "SAMLIB_DATA" in advice


def test_runs_whose_settings_other_runs_choose_show_what_comes_first(tmp_path, monkeypatch):
    shown = []
    waiting = dataclasses.replace(EXPERIMENTS["pacs_whole"], configs=lambda profile: [])
    monkeypatch.setitem(EXPERIMENTS, "pacs_whole", waiting)
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    monkeypatch.setattr(chapter, "display", shown.append)
    assert not steps.full_scale(Chapter("paper", data_root=tmp_path), "pacs_whole")
    (box,) = shown
    assert "come first" in box.data and "--experiment pacs_whole_rates" in box.data
