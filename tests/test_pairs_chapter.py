"""Chapter 1 from records to tables, verdicts and figures: records made up by hand, live steps on the embedded pair."""

import copy
import dataclasses
import json
from pathlib import Path

import matplotlib
import pytest
import torch
from judging import judge, results
from matplotlib import pyplot as plt

from edition import runs
from edition.claims.pairs import difference, pair_roles, pair_table
from edition.experiments import EXPERIMENTS
from edition.experiments.pairs import demo_config
from edition.figures import pairs as figures
from edition.page import chapter
from edition.page import demonstrations as steps
from edition.page.chapter import Chapter
from edition.records.store import Record, Store
from samlib.images.config import PairConfig
from samlib.images.splits import pair_sets
from samlib.images.tiles import load_pair
from samlib.optim import SAM

matplotlib.use("agg")


def record(rho, seed, *, digit, patch, head=(0.0, 0.5), diverged=False, pair="digits_patches"):
    """A record of the embedded pair with these probing errors; `head` are the answers' errors (digit, patch)."""
    errors = {"digits": (digit, head[0]), "patches": (patch, head[1])}
    metrics = {"test_error": 0.01, "n_probe_test": 1000, "diverged": diverged, "curves": {"train_loss": [1.0]}}
    for feature, (probe, own) in errors.items():
        metrics[f"{feature}_probe_error"] = probe
        metrics[f"{feature}_probe_worst_group_error"] = None if probe is None else 2 * probe
        metrics[f"{feature}_probe_group_errors"] = [probe]
        metrics[f"{feature}_head_error"] = own
    config = {"pair": pair, "rho": rho, "seed": seed}
    return Record("pair", f"{rho}-{seed}", config, metrics, {}, Path("none"))


@pytest.fixture
def records():
    """Three seeds: SAM takes 1, 2 and 3 points off the patches' error and leaves the digits' as it is."""
    return [
        item
        for seed in range(3)
        for item in (
            record(0.0, seed, digit=0.02, patch=0.20 + 0.1 * seed),
            record(0.1, seed, digit=0.02, patch=0.20 + 0.1 * seed - 0.01 * (seed + 1)),
        )
    ]


def test_sgd_decides_which_feature_is_easy(records):
    assert pair_roles(records) == {"easy": "digits", "hard": "patches"}
    swapped = [record(0.0, 0, digit=0.3, patch=0.1), record(0.1, 0, digit=0.0, patch=0.2)]
    assert pair_roles(swapped) == {"easy": "patches", "hard": "digits"}


def test_without_sgd_there_is_no_easy_feature():
    with pytest.raises(ValueError, match=r"expected at least one of SGD .* run it too"):
        pair_table([record(0.1, 0, digit=0.1, patch=0.2)])


def test_one_row_a_record_with_metrics_named_by_role(records):
    table = pair_table(records)
    assert len(table) == 6
    first = table.iloc[0]
    assert (first.method, first.easy, first.hard) == ("SGD", "digits", "patches")
    assert (first.easy_probe_error, first.hard_probe_error) == (0.02, 0.20)
    assert first.hard_probe_worst_group_error == 0.40
    assert "curves" not in table and "digits_probe_error" not in table


def test_differences_are_paired_by_seed_whatever_the_order_of_records(records):
    for order in (records, records[::-1]):
        found = difference(pair_table(order), "hard_probe_error")
        assert found.mean == pytest.approx(-0.02) and found.n == 3
        # Differences -.01, -.02, -.03: t(0.975, 2) = 4.302653 times .01 / sqrt(3).
        assert found.high - found.mean == pytest.approx(0.02484138, abs=1e-6)


def test_a_diverged_run_drops_its_pair_and_n_says_so(records):
    lost = record(0.1, 2, digit=None, patch=None, head=(None, None), diverged=True)
    found = difference(pair_table([*records[:-1], lost]), "hard_probe_error")
    assert found.n == 2 and found.mean == pytest.approx(-0.015)


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
    less = {"digit": 0.1, "patch": 0.3}
    found = []
    for seed, gain in enumerate(gains):
        moved = {"digit" if role == "easy" else "patch": (0.1 if role == "easy" else 0.3) - gain}
        found += [record(0.0, seed, **less), record(0.1, seed, **less | moved)]
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
    found = [record(0.0, seed, digit=0.1, patch=0.3, head=head, pair=pair) for seed in range(8)]
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
    assert [axes.get_title() for axes in figure.axes] == [
        "Easy ft. probe\n(digits)",
        "Hard ft. probe\n(patches)",
        "Test\n(correlated test set)",
    ]
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([20, 19])
    bars = figures.probe_bars(table[table.seed == 0])
    assert [patch.get_height() for patch in bars.axes[0].patches] == pytest.approx([2, 20, 2, 19])
    plt.close("all")


def test_sample_images_say_which_combinations_do_not_occur():
    sets = pair_sets(load_pair("digits_patches"), demo_config("digits_patches", rho=0.0))
    figure = figures.sample_images({"train": sets.train, "balanced": sets.probe_test}, sets.features)
    empty = [bool(axes.texts) for axes in figure.axes]
    assert empty == [False, True, True, False, False, False, False, False]
    assert figure.axes[4].get_xlabel() == "125 of 500 images"
    plt.close("all")


def sam_step(network, loss, *, rho, learning_rate):
    """Take one SAM step (Eq 3) in place; with rho = 0 it is SGD's (Eq 2)."""
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    iterate = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if norm > 0:
                parameter.add_(rho * gradient / norm)  # now at the phantom parameters
    at_phantom = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        for parameter, saved, gradient in zip(parameters, iterate, at_phantom, strict=True):
            parameter.copy_(saved - learning_rate * gradient)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_library_equals_the_plain_sam_step(rho):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [torch.nn.Linear(3, 2).double()]
    networks.append(copy.deepcopy(networks[0]))
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(8, 3, generator=generator, dtype=torch.float64), torch.arange(8) % 2
    losses = [lambda net=net: torch.nn.functional.cross_entropy(net(inputs), labels) for net in networks]
    optimizer = SAM(networks[1].parameters(), torch.optim.SGD, rho=rho, lr=0.3)

    def closure():
        loss = losses[1]()
        loss.backward()
        return loss

    start = networks[0].weight.detach().clone()
    for _ in range(3):
        sam_step(networks[0], losses[0], rho=rho, learning_rate=0.3)
        optimizer.step(closure)
    assert not torch.equal(networks[0].weight, start)
    for plain, fast in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(plain, fast, rtol=1e-12, atol=1e-12)


def test_without_data_the_embedded_pair_is_shown_and_the_note_says_why(tmp_path):
    nothing, empty = steps.at_hand(None), steps.at_hand(tmp_path)
    for found in (nothing, empty):
        assert found.source.name == "digits_patches"
        assert "not the paper's pair" in found.note and "SAMLIB_DATA" in found.note
    assert "no folder" in nothing.note and "does not hold CIFAR-MNIST" in empty.note


def test_the_demonstration_trains_anew_into_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    monkeypatch.setattr(steps, "demo_config", lambda pair, *, rho, seed: tiny(pair, rho, seed))
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
    assert f"<code>python -m edition runs start --experiment {name} --profile quick</code>" in box
    assert "Not run yet. 2 of 2 runs" in box and "SAMLIB_DATA" in advice


def test_runs_whose_settings_other_runs_choose_show_what_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    name, shown = "pacs_whole", []
    waiting = dataclasses.replace(EXPERIMENTS[name], configs=lambda profile: [])
    monkeypatch.setitem(EXPERIMENTS, name, waiting)
    monkeypatch.setattr(chapter, "display", shown.append)
    assert not steps.full_scale(Chapter("paper", data_root=tmp_path), name)
    (box,) = shown
    assert "are chosen by other runs, which come first" in box.data and "--experiment pacs_whole_rates" in box.data


def tiny(pair, rho, seed):
    """A run of one step."""
    return PairConfig(pair=pair, rho=rho, seed=seed, n_train=40, n_epochs=1, n_probe=8)
