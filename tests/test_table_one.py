"""Table 1 from records made up by hand: numbers, verdicts, the table on the page, and the figures."""

import dataclasses
import html
import math
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from judging import cells, judge, numbers, results
from judging import image_record as record
from matplotlib import pyplot as plt

from edition.claims.data_sets import DataSet, confirmatory_entries, waiting
from edition.claims.section_4 import EXPLORATORY
from edition.claims.table_one import (
    BY_SGD,
    Entry,
    comparisons,
    curve_table,
    joint_effects,
    sensitivity_table,
    table_one,
    turned_by_sgd,
)
from edition.experiments.tuned import EQUAL_BUDGET
from edition.figures import table_one as figures

matplotlib.use("agg")

TILES = {"pair": "cifar_mnist", "features": ("mnist", "cifar")}


def entry(n_seeds=3, *, gain=0.1, role="hard", note="", rhos=(0.0, 0.05), first=0, lag=0.0, **options):
    """SGD errs on .30, .32, .34, ... (easy: a tenth); SAM less by `gain`, and a point more, the same or less in turn.

    `role`: the feature on which it gains; on the other both err alike. `lag`: SAM's test error minus SGD's.
    """
    records = []
    for seed in range(n_seeds):
        less, sgd = gain + 0.01 * (seed % 3 - 1), {"hard": 0.30 + 0.02 * seed, "easy": 0.02}
        sam = sgd | {role: sgd[role] - less}
        scattered = 0.1 + lag + 1e-4 * (seed % 3 - 1)
        for rho, errors, test in zip(rhos, (sgd, sam), (0.1, scattered), strict=True):
            records.append(record(rho, first + seed, **errors, test=test, **options))
    return Entry(records, note)


def row(table, metric, title="Waterbirds"):
    return table[(table.metric == metric) & (table.data_set == title)].iloc[0]


def test_the_table_holds_both_methods_and_their_paired_difference():
    table = table_one({"Waterbirds": entry(note="96 pixels"), "CIFAR-MNIST": entry(**TILES)})
    hard = row(table, "hard_probe_error")
    # SGD .30 .32 .34; SAM .21 .22 .23; differences -.09 -.10 -.11 with t(0.975, 2) = 4.302653 times .01 / sqrt(3).
    assert (hard.sgd_mean, hard.sgd_sd) == (pytest.approx(0.32), pytest.approx(0.02))
    assert (hard.sam_mean, hard.sam_sd) == (pytest.approx(0.22), pytest.approx(0.01))
    assert hard.difference == pytest.approx(-0.10) and hard.high - hard.low == pytest.approx(2 * 0.02484138, abs=1e-6)
    assert (hard.n, hard.left_out, hard.feature, hard.note) == (3, "", "bird", "96 pixels")
    assert (hard.image_size, hard.trained, hard.machine) == ("96 × 96", "last block", "one core")
    assert row(table, "hard_probe_worst_group_error").difference == pytest.approx(-0.20)
    tiles = row(table, "easy_probe_error", "CIFAR-MNIST")
    assert (tiles.image_size, tiles.trained, tiles.feature) == ("64 × 32", "all", "mnist")


def test_a_diverged_seed_is_left_out_of_every_number_and_counted():
    table = table_one({"Waterbirds": Entry([*entry().records[:5], record(0.05, 2, None)])})
    hard = row(table, "hard_probe_error")
    assert (hard.n, hard.left_out) == (2, "2 (SAM diverged)")
    assert hard.sgd_mean == pytest.approx(0.31)  # without the .34 of the seed that SAM lost
    assert hard.difference == pytest.approx(hard.sam_mean - hard.sgd_mean)
    assert "Seeds left out: 2 (SAM diverged)." in figures.table_html(table)


def test_one_seed_has_a_difference_and_no_interval_and_sam_may_have_a_learning_rate_of_its_own():
    records = [record(0.0, 0, 0.3), record(0.05, 0, 0.2, learning_rate=0.001)]
    hard = row(table_one({"Waterbirds": Entry(records)}), "hard_probe_error")
    assert (hard.sgd_learning_rate, hard.sam_learning_rate, hard.rho) == (0.01, 0.001, 0.05)
    assert hard.difference == pytest.approx(-0.1) and math.isnan(hard.sgd_sd)
    assert (hard.low, hard.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (lambda: entry().records[::2], r"got \(learning rate, rho\) SGD: 0.01, 0; select them first"),
        (lambda: [*entry().records, record(0.1, 3, 0.2)], r"SGD and SAM at one setting each, .* SAM: 0.01, 0.1; sel"),
        (lambda: [*entry().records, record(0.05, 3, 0.2, image_size=64)], "records that differ in image_size; make"),
        (lambda: [record(0.0, 0, 0.3), record(0.05, 0, None)], "a seed at which SGD and SAM both converged, got none"),
        (lambda: [record(0.0, 0, 0.3), record(0.05, 1, 0.2)], "a seed at which SGD and SAM both converged, got none"),
        (lambda: [record(0.0, 0, 0.3), record(0.05, 0, 0.2, weights="b2")], "one weights_sha256 for all .* a1, b2"),
    ],
)
def test_what_is_no_entry_is_refused_by_its_title(records, words):
    with pytest.raises(ValueError, match=f"^Waterbirds: .*{words}"):
        table_one({"Waterbirds": Entry(records())})


SETS = {"cifar_mnist": TILES, "fmnist_mnist": {"pair": "fmnist_mnist", "features": ("mnist", "fmnist")},
        "waterbirds": {}, "celeba": {"image_set": "celeba", "features": ("gender", "hair")}}  # fmt: skip


def measured(gain, n_seeds=3, **options):
    """Results of the four data sets, in which SAM gains so much."""
    made = {name: entry(n_seeds, gain=gain, **options | SETS[name]) for name in EXPLORATORY}
    return [results(item.records, name=name) for name, item in made.items()]


@pytest.fixture
def fixed(monkeypatch):
    """Makes confirmatory runs in which SAM gains so much on the four data sets: experiment -> results."""
    chosen = {"SGD": (0.01, 0.0), "SAM": (0.01, 0.05), EQUAL_BUDGET: (0.01, 0.07)}
    monkeypatch.setattr(DataSet, "chosen", lambda self, fixed: chosen)

    def make(*gains, profile="paper", **options):
        found = {}
        for name, gain in zip(EXPLORATORY, gains * (1 if len(gains) > 1 else 4), strict=True):
            own = f"{name}_confirmatory"
            made = entry(20 if "pair" in SETS[name] else 4, gain=gain, first=100, **options | SETS[name])
            found[own] = results(made.records, profile, own)
        return found

    return make


@pytest.mark.parametrize("role", ["hard", "easy"])
@pytest.mark.parametrize(
    ("gains", "state", "together"),
    [
        ((0.1,), "confirmed", "confirmed"),
        ((0.1, 0.1, 0.1, 0.0025), "mixed", "confirmed"),  # of four seeds the mean gain is a quarter of a point less
        ((0.1, 0.1, 0.1, -0.1), "contradicted", "confirmed"),
        ((-0.1,), "contradicted", "contradicted"),
    ],
)
def test_an_improvement_counts_on_every_data_set_and_over_all_together(fixed, role, gains, state, together):
    explored, found = measured(0.0, role=role), fixed(*gains, role=role)
    verdict, joint = (judge(f"table-one-{role}-{asked}", *explored, **found) for asked in ("improved", "together"))
    assert (verdict.state, joint.state) == (state, together)
    assert verdict.effects[0].name == f"CIFAR-MNIST: {SETS['cifar_mnist']['features'][role == 'hard']}"
    assert "confirmatory runs are there" not in verdict.statistic
    gaps = []
    for item in confirmatory_entries(found).values():
        errors = np.reshape([r.metrics[f"{item.roles[role]}_probe_error"] for r in item.records], (-1, 2))
        gaps.append(errors[:, 1] - errors[:, 0])  # SGD's record is followed by SAM's
    parts = [gap.var(ddof=1) / len(gap) for gap in gaps]
    df = sum(parts) ** 2 / sum(part**2 / (len(gap) - 1) for part, gap in zip(parts, gaps, strict=True))
    (effect,), (beside,) = joint.effects, joint.shown
    assert effect.value.mean == pytest.approx(np.mean([gap.mean() for gap in gaps]))
    assert (effect.value.n, effect.value.df) == (48, pytest.approx(df))
    # Seeds 100 to 103 are everywhere.
    assert (beside.value.mean, beside.value.n) == (pytest.approx(np.mean([gap[:4] for gap in gaps])), 4)


def test_exploratory_runs_decide_nothing_and_say_how_many_runs_are_missing(fixed):
    found = measured(0.1)
    for id in ("table-one-hard-improved", "table-one-hard-together"):
        verdict = judge(id, *found, waterbirds_confirmatory=results([], name="waterbirds_confirmatory"))
        assert verdict.state == "undecided" and "(exploratory" in verdict.effects[0].name
        assert verdict.statistic.endswith("0 of 8 confirmatory runs are there")
        assert verdict.experiments == EXPLORATORY  # whose records the page names


@pytest.mark.parametrize("id", ["hard-improved", "hard-together", "training-succeeds"])
def test_one_seed_tests_nothing_and_a_missing_data_set_neither(id):
    assert judge(f"table-one-{id}", *measured(0.1, n_seeds=1)).state == "not tested"
    assert judge(f"table-one-{id}", *measured(0.1, n_seeds=12)[:3], results([])).state == "not tested"


@pytest.mark.parametrize(
    ("lags", "state"),
    [
        ((0.0,) * 4, "confirmed"),
        ((0.0, 0.0, 0.0, 0.02), "contradicted"),
        ((0.0, 0.0, 0.0, 0.01), "mixed"),  # a point is not below a point
        ((0.01,) * 4, "undecided"),
    ],
)
def test_training_succeeds_below_one_point_more_of_test_error(fixed, lags, state):
    found = {f"{name}_confirmatory": lag for name, lag in zip(EXPLORATORY, lags, strict=True)}
    found = {name: fixed(0.1, lag=lag)[name] for name, lag in found.items()}
    assert judge("table-one-training-succeeds", *measured(0.1), **found).state == state
    explored = judge("table-one-training-succeeds", *measured(0.1, lag=lags[-1], n_seeds=12))
    assert explored.counts == "0 of 4 hold, 4 exploratory"


def test_a_complete_set_is_decided_whatever_the_missing_ones_bring(fixed):
    explored, found = measured(0.1), fixed(-0.1)
    alone = {"cifar_mnist_confirmatory": found["cifar_mnist_confirmatory"]}
    verdict = judge("table-one-hard-improved", *explored, **alone)
    assert verdict.state == "contradicted" and verdict.reversed == 1 and len(verdict.effects) == 4
    assert "FMNIST-MNIST: exploratory" in verdict.scaled_down
    assert verdict.experiments == (*EXPLORATORY[1:], *alone)
    (effect,) = comparisons(confirmatory_entries(alone), "hard").values()
    assert effect.corrected == pytest.approx(4 * effect.p) and effect.p < 1e-10  # one of four, the others with p = 1
    assert comparisons(confirmatory_entries(found), "hard")["CelebA"].corrected <= 4 * effect.p + 1e-3


def test_an_incomplete_set_says_how_many_runs_there_are_and_has_no_verdict(fixed):
    found = fixed(0.1)
    own = found["cifar_mnist_confirmatory"]
    found["cifar_mnist_confirmatory"] = dataclasses.replace(own, records=own.records[:-1], n_missing=1)
    entries, told = confirmatory_entries(found), waiting(found)
    assert list(entries) == ["FMNIST-MNIST", "Waterbirds", "CelebA"] and list(told) == ["CIFAR-MNIST"]
    assert told["CIFAR-MNIST"].startswith("39 of 40 runs") and "runs start --experiment cifar" in told["CIFAR-MNIST"]
    text = figures.table_html(table_one(entries), told)
    assert "39 of 40 runs" in text and text.count("<strong>confirmed</strong>") == 3
    assert "39 of 40" in figures.table_html(pd.DataFrame(), told)
    assert confirmatory_entries(fixed(0.1, profile="quick")) == {} == waiting(fixed(0.1, profile="quick"))


def test_four_more_seeds_of_photographs_count_once_all_are_there(fixed):
    name, found = "waterbirds_confirmatory_more", fixed(0.1)
    more = entry(4, first=104).records
    for records, n in ((more[:-1], 4), (more, 8)):
        found[name] = results(records, name=name)
        assert row(table_one(confirmatory_entries(found)), "hard_probe_error").n == n


def test_roles_that_were_fixed_beforehand_stay_where_sgds_probes_disagree_and_the_table_says_so(fixed):
    table = table_one(confirmatory_entries(fixed(0.1, features=("bird", "background"))))
    hard = row(table, "hard_probe_error")
    assert hard.feature == "bird" and hard.sgd_mean == pytest.approx(0.02)  # which SGD's probes find easily
    assert "SGD's probes err less on bird than on background" in html.unescape(figures.table_html(table))
    assert "err less" not in figures.table_html(table_one(confirmatory_entries(fixed(0.1))))


def test_other_penalties_are_set_beside_the_probe_that_decides():
    records = entry().records
    for place, made in enumerate(records):  # SGD .3, SAM .3 less half a point a seed
        made.metrics["bird_probe_sensitivity"] = {"C = 0.001": 0.3 - 0.005 * (place // 2) * (place % 2)}
    table = sensitivity_table({"Waterbirds": Entry(records)})
    found = {(r.way, r.role): pytest.approx(r.value.mean) for r in table.itertuples()}
    decides = {("cross-validated", "hard"): -0.1, ("cross-validated", "easy"): 0}
    assert decides | {("C = 0.001", "hard"): -0.005} == found
    assert set(sensitivity_table({"Waterbirds": Entry(records)}, "last block").way) == {"last block"}
    first = cells(figures.sensitivity_html(table))[2]
    assert first[0] == table.way[0] and first[1].startswith("−10.00") and first[-1] == "3"


def test_the_joint_effect_has_a_verdict_only_where_it_decides():
    joint = {"hard": joint_effects({"Waterbirds": entry(), "CelebA": entry(first=1, **SETS["celeba"])}, "hard")}
    _, stratified, by_seed = cells(figures.joint_html(joint, decides=True))
    assert stratified[:4] == ["hard feature, 2 data sets", "stratified", "−10.00", "[−11.13, −8.87]"]
    assert (stratified[4], stratified[-1]) == ("6", "confirmed") and by_seed[4] == "2 seeds"  # seeds 1 and 2
    assert cells(figures.joint_html(joint, decides=False))[1][-1] == "no verdict"
    assert joint_effects({"Waterbirds": entry(1)}, "hard") == joint_effects({}, "hard") == {}


def test_where_sgds_probes_contradict_names_fixed_beforehand_their_names_stand_beside_and_decide_nothing():
    fixed = {"Waterbirds": entry()._replace(roles={"easy": "bird", "hard": "background"}, fixed=True)}
    assert turned_by_sgd({"Waterbirds": entry(), "fixed": fixed["Waterbirds"]})["fixed"].roles["hard"] == "bird"
    found = joint_effects(fixed, "hard")
    assert [found[way].value.mean for way in ("stratified", f"stratified, {BY_SGD}")] == [0, pytest.approx(-0.1)]
    rows = cells(figures.joint_html({"hard": found}, decides=True))
    assert [row[-1] for row in rows[1:]] == ["undecided", "shown beside it", "shown beside it"]


def test_curves_become_one_row_a_point_with_roles_by_the_final_probes_or_as_they_were_fixed():
    records = [record(0.0, 0, 0.3, curve=(0.1, 0.0)), record(0.05, 0, None), record(0.05, 1, 0.2, curve=(0.2, 0.0))]
    table = curve_table(records)
    assert len(table) == 8  # two runs that converged, two roles, two epochs
    point = table[(table.method == "SAM") & (table.role == "hard") & (table.epoch == 1)]
    assert point.seed.tolist() == [1] and point.error.tolist() == [pytest.approx(0.4)]
    turned = curve_table(records, {"easy": "bird", "hard": "background"})
    assert turned[(turned.method == "SAM") & (turned.epoch == 1)].error.tolist() == [pytest.approx(0.4), 0.22]
    with pytest.raises(ValueError, match=r"got none in 0.0-0; run it with probe_each_epoch = True"):
        curve_table([record(0.0, 0, 0.3)])


def early(gains):
    """Seeds from 100, five epochs; SAM's gain is `gains` after epoch 2 (a quarter, rounded up) and .1 at the end."""
    found = []
    for seed, gain in enumerate(gains, start=100):
        found += [record(rho, seed, 0.3, curve=(0.0,) * 5) for rho in (0.0, 0.05)]
        found[-1].metrics["curves"]["bird_probe_error"] = [0.3, 0.3 - gain, 0.3, 0.3, 0.2]
    return found


@pytest.mark.parametrize(
    ("gains", "state"),
    [
        ((0.1, 0.11, 0.12, 0.1), "confirmed"),
        ((0.0, 0.01, -0.01, 0.0), "undecided"),
        ((-0.1, -0.11, -0.12, -0.1), "contradicted"),
    ],
)
def test_an_early_gain_is_looked_for_after_a_quarter_of_the_epochs(fixed, gains, state):
    name = "waterbirds_confirmatory"
    own = {name: results(early(gains), name=name)}
    verdict = judge("table-one-gain-early", *measured(0.1), **own)
    assert verdict.state == state
    assert numbers(verdict) == {"Waterbirds: epoch 2 of 5": pytest.approx(-np.mean(gains))}  # the others have no curves
    assert "after the last epoch, in points: −10.00 [in every seed] (Waterbirds)" in verdict.statistic
    explored = measured(0.1)
    explored[3] = results(entry(gain=0.1, curve=(0.0, 0.0), **SETS["celeba"]).records, name="celeba")
    beside = judge("table-one-gain-early", *explored, **own)
    assert list(numbers(beside))[1] == "CelebA: epoch 1 of 2 (exploratory)"
    assert beside.state == {"confirmed": "mixed"}.get(state, state)
    for made in own[name].records:
        made.metrics["background_probe_error"] = 0.4  # more than on the bird: SGD's probes give the names anew
    turned = judge("table-one-gain-early", *measured(0.1), **own)
    (other,) = turned.shown
    assert turned.state == state and other.name.endswith(BY_SGD) and other.value.mean == 0


def test_without_curves_or_seeds_an_early_gain_is_not_tested():
    assert judge("table-one-gain-early", *measured(0.1)).state == "not tested"
    alone = judge("table-one-gain-early", *measured(0.1, n_seeds=1, curve=(0.0, 0.0)))
    assert alone.state == "not tested" and "in points: −9.00, one seed (CIFAR-MNIST)" in alone.statistic


def test_the_page_says_every_number_in_percent_and_where_the_interval_lies():
    text = figures.table_html(table_one({"Waterbirds": entry(note="96 pixels & less")}))
    _, group, easy, hard, *_ = cells(text)
    assert hard[:6] == ["Hard ft. probe (bird)", "32.00 ± 2.00", "22.00 ± 1.00", "−10.00", "[−12.48, −7.52]", "3"]
    # t = 10 / (1 / sqrt(3)) = 17.3 with two degrees of freedom: .0033, one of four.
    assert hard[6:] == [".013", "3.26", "lower"]
    assert easy[3:] == ["0.00", "[0.00, 0.00]", "3", "1.000", "", "undecided"]
    assert "DenseNet-121, last block trained, 96 × 96 pixels, on one core." in group[0]
    assert group[0].endswith("SAM: learning rate 0.01, ρ = 0.05. Scaled down: 96 pixels &amp; less")
    worse = cells(figures.table_html(table_one({"Waterbirds": entry(gain=-0.1)})))[3]
    assert worse[3:5] == ["+10.00", "[+7.52, +12.48]"] and worse[-1] == "higher"
    alone = cells(figures.table_html(table_one({"Waterbirds": entry(1)})))[3]
    assert alone[1:] == ["30.00", "21.00", "−9.00", "no interval", "1", "", "", "not tested"]


@pytest.mark.parametrize(("n_seeds", "word"), [(2, "undecided"), (7, "undecided"), (8, "lower")])
def test_the_same_few_images_in_every_seed_are_counted_and_only_many_seeds_decide(n_seeds, word):
    records = [record(rho, seed, error) for seed in range(n_seeds) for rho, error in ((0.0, 0.3), (0.05, 0.2))]
    hard = cells(figures.table_html(table_one({"Waterbirds": Entry(records)})))[3]
    assert hard[3:5] == ["−10.00", "579 of 5794 images in every seed"] and hard[-1] == word


def test_the_picture_draws_the_differences_and_prints_the_means():
    table = table_one({"Waterbirds": entry(note="smaller"), "CelebA": entry(1)})
    (axes,) = figures.table_picture(table).axes
    told = [label.get_text() for label in (*axes.get_yticklabels(), *axes.texts)]
    titles = {"Waterbirds (n = 3, exploratory, scaled down)", "CelebA (n = 1, exploratory)"}
    assert titles | {"32.00", "22.00", "30.00", "21.00"} <= set(told)
    points = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert points[2] == pytest.approx(-10) and points[8] == pytest.approx(-9) and len(points) == 10
    assert sum(point.has_xerr for point in axes.containers) == 5  # no bars for the single seed
    plt.close("all")


def test_curves_are_drawn_for_each_method_and_role_with_a_band_where_there_are_seeds():
    several, one = (curve_table(entry(n, curve=(0.1, 0.0)).records) for n in (3, 1))
    left, right, *rest = figures.probe_curves({"Waterbirds": several, "CelebA": one, "tiles": several}).axes
    assert len(rest) == 1  # no empty fourth panel
    assert len(left.collections) == 4 and not right.collections
    hard = next(line for line in left.lines if line.get_label() == "SGD, hard feature")
    assert hard.get_ydata().tolist() == pytest.approx([42, 32]) and hard.get_linestyle() == "-"
    assert left.lines[-1].get_xdata() == [1, 1]  # early: epoch 1 of 2
    plt.close("all")


def test_the_four_groups_are_shown_with_their_shares():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(3, 2).repeat(3, 3)
    data = SimpleNamespace(images=images, table=pd.DataFrame({"group": [0, 0, 0, 0, 0, 3, 3, 1, 2, 3]}))
    figure = figures.group_samples(data, {"training": range(7), "probe": [7, 8, 9, 0]}, ("bird", "background"), "abcd")
    assert figure.axes[0].get_xlabel() == "5 of 7 (71.4%)" and figure.axes[7].get_xlabel() == "1 of 4 (25.0%)"
    assert [bool(axes.texts) for axes in figure.axes[:4]] == [False, True, True, False]
    shown = figure.axes[7].images[0].get_array()
    assert shown.shape == (10, 10, 3) and shown[1, 1, 0] == 9 and shown[6, 6, 0] == 255  # image 9 and an empty cell
    plt.close("all")
