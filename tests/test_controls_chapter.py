"""Chapter 7's tables, verdicts and figures, on records whose answers are known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from judging import changed, holm, judge, numbers, results

from edition.claims import controls as claims
from edition.claims.beyond import QUESTIONS, family
from edition.experiments import EXPERIMENTS
from edition.experiments.controls import image_methods, methods
from edition.figures.methods import comparison_html, in_short, methods_against_sgd, quality_follows, without_rule
from edition.records.store import Record
from edition.widgets import measure_explorer
from samlib.config import to_dict
from samlib.methods.config import ControlConfig

SEEDS = (0, 1, 2)


def record(config: ControlConfig, **metrics: object) -> Record:
    n = len(config.seeds)
    usual = {"easy_probe_error": 0.0, "hard_probe_error": 0.3, "test_error": 0.0}
    usual |= {"sharpness": 1.0, "effective_rank": 5.0, "gini_used": 0.5, "diverged": False}
    found = {name: [value] * n for name, value in usual.items()} | metrics
    return Record("control", repr(config), to_dict(config), found, {}, Path("x"))


def small(config: ControlConfig, seeds=SEEDS) -> ControlConfig:
    return dataclasses.replace(config, seeds=tuple(seeds))


def toy_records() -> list[Record]:
    """SGD errs on 30 %, the k-th other setting on k points less; sharpness falls with it, Gini rises, rank is mixed."""
    found = []
    for k, config in enumerate(config for each in methods().values() for config in each):
        error = np.array([0.300, 0.302, 0.298] * 4) - 0.004 * k
        rank = [5.0 + (-1) ** (seed + k // (1 + seed)) for seed in range(12)]
        measured = {"sharpness": (10 * error).tolist(), "gini_used": (1 - error).tolist(), "effective_rank": rank}
        found.append(record(small(config, range(12)), hard_probe_error=error.tolist(), **measured))
    return found  # of seeds enough to decide by agreeing


@pytest.fixture(scope="module")
def table():
    return claims.control_table(toy_records())


@pytest.mark.parametrize("name", ["controls_toy", "three_features", "controls_images"])
@pytest.mark.parametrize("profile", ["paper", "quick"])
def test_every_configuration_of_the_experiments_is_a_named_method_and_setting(name, profile):
    configs = EXPERIMENTS[name].configs(profile)
    seeds = {config.seeds for config in configs}
    assert len({claims.method_of(config) for config in configs}) == len(set(configs)) / len(seeds)


def test_every_method_has_as_many_settings_as_every_other_and_no_question_asks_for_one_that_is_not_run():
    assert {len(found) for found in methods().values()} == {3}
    assert set(methods()) == set(image_methods(0))
    assert set(methods()) == {name for question in QUESTIONS.values() for pair in question.pairs for name in pair}
    assert claims.method_of(ControlConfig(rho=1.0, perturbed="last layer")) == ("last layer only", 2)
    with pytest.raises(ValueError, match="expected one of the methods of the experiments"):
        claims.method_of(ControlConfig(rho=0.123))


def test_differences_are_paired_with_sgds_first_setting_and_a_seed_that_diverged_is_left_out_of_its_pair():
    records = toy_records()
    found = claims.against_sgd(claims.control_table(records), "hard_probe_error")
    assert ("SGD", 0) not in found and ("SGD", 1) in found
    sam = found["SAM", 0]
    assert sam.mean == pytest.approx(-0.012) and sam.n == 12 and sam.high - sam.low < 1e-9
    place = next(i for i, r in enumerate(records) if claims.method_of(small(ControlConfig(**r.config))) == ("SAM", 0))
    errors, diverged = [None] + [0.2] * 11, [True] + [False] * 11
    records[place] = changed(records[place], hard_probe_error=errors, diverged=diverged)
    assert claims.against_sgd(claims.control_table(records), "hard_probe_error")["SAM", 0].n == 11


def test_accounts_are_judged_by_rank_correlation_over_methods(table):
    found = claims.follows(table)
    assert found["sharpness"].mean == pytest.approx(1) and found["gini_used"].mean == pytest.approx(-1)
    assert abs(found["effective_rank"].mean) < 0.3
    given = results(toy_records())
    verdicts = [judge(f"controls-toy-{account.replace('_', '-')}", given) for account in claims.ACCOUNTS]
    assert {verdict.state for verdict in verdicts} == {"undecided"}  # the limit was set when the toy's runs were seen
    decided = [dataclasses.replace(verdict.effects[0], decides=True).outcome for verdict in verdicts]
    assert decided == ["holds", "undecided", "reversed"]
    effects = [verdict.effects[0] for verdict in verdicts]
    assert [effect.corrected for effect in effects] == pytest.approx(holm([effect.p for effect in effects]))


def test_a_seed_with_one_network_that_learned_the_task_says_nothing_of_what_follows_what(table):
    alone = (table.seed == table.seed.min()) & (table.index != table[table.seed == table.seed.min()].index[0])
    few = table.assign(test_error=table.test_error.where(~alone, 0.5))
    assert claims.follows(few)["sharpness"].n == table.seed.nunique() - 1


def controls(gains: dict[str, list[float]]) -> list[Record]:
    """The middle setting of every method; `gains`: by method and seed, SGD's error minus the method's."""
    found = []
    for name, (config, *_) in methods().items():
        base = [0.3, 0.32, 0.34] if not name.startswith("Adam") else [0.2, 0.22, 0.24]
        error = (np.array(base) - gains.get(name, 0.0)).tolist()
        found.append(record(small(config), hard_probe_error=error))
    return found


CLEAR, WEAK = [0.0999, 0.1, 0.1001], [0.08, 0.10, 0.12]  # the second: p = .013, which fifteen comparisons make .2
WORSE = [-gain for gain in CLEAR]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_by_its_comparisons(question):
    first, *others = pairs = QUESTIONS[question].pairs
    gains = dict.fromkeys([name for name, _ in others], WORSE) | {first[0]: CLEAR}
    verdict = judge(f"controls-toy-{question}", results(controls(gains)))
    assert [effect.name for effect in verdict.effects] == [" − ".join(pair) for pair in pairs]
    assert verdict.outcomes == ["holds", *["reversed"] * len(others)] and verdict.scaled_down == ""


def test_the_comparisons_of_a_task_are_one_family():
    found = family(claims.control_table(controls({"SAM": WEAK, "ASAM": CLEAR})))
    assert set(found) == {pair for question in QUESTIONS.values() for pair in question.pairs}
    effects = list(found.values())
    assert [effect.corrected for effect in effects] == pytest.approx(holm([effect.p for effect in effects]))
    weak = found["SAM", "SGD"]  # asked twice, counted once
    assert weak.p == pytest.approx(0.0131, abs=1e-4) and weak.corrected == pytest.approx(14 * weak.p)


def sgd_and_sam(sgd: dict[int, list[float]], sam: dict[int, list[float]], **tests: list[float]) -> list[Record]:
    """Records of both methods' settings, with these errors by seed; `tests` are test errors by method and setting."""
    found = []
    for name, errors in (("SGD", sgd), ("SAM", sam)):
        for place, config in enumerate(methods()[name]):
            changes = {"test_error": tests.get(f"{name}{place}", [0.0] * 3)}
            found.append(record(small(config), hard_probe_error=errors[place], **changes))
    return found


def test_a_seed_is_measured_at_the_setting_that_the_other_seeds_choose():
    sgd = {0: [0.3, 0.3, 0.3], 1: [0.1, 0.3, 0.9], 2: [0.5, 0.5, 0.5]}
    sam = {0: [0.2, 0.2, 0.2], 1: [0.9, 0.9, 0.9], 2: [0.9, 0.9, 0.9]}
    found = claims.chosen(claims.control_table(sgd_and_sam(sgd, sam)))
    rows = found.set_index(["method", "seed"])
    # Seed 2 of SGD: the others' means are .3, .2 and .5, so it is measured at setting 1, its own worst.
    assert [rows.setting["SGD", s] for s in SEEDS] == [0, 0, 1]
    assert [rows.hard_probe_error["SGD", s] for s in SEEDS] == [0.3, 0.3, 0.9]
    assert claims.difference(found, "SAM", "SGD").mean == pytest.approx(-(0.1 + 0.1 + 0.7) / 3)
    assert claims.difference(found, "Adam", "SGD") is None


def test_settings_that_have_not_learned_the_task_are_not_chosen():
    sgd, sam = {0: [0.3] * 3, 1: [0.3] * 3, 2: [0.3] * 3}, {0: [0.2] * 3, 1: [0.25] * 3, 2: [0.1] * 3}
    for unsolved, chosen_one in (([2], 0), ([0, 1, 2], 2)):  # where none has learned it, the best of all
        tests = {f"SAM{place}": [0.5] * 3 for place in unsolved}
        found = claims.chosen(claims.control_table(sgd_and_sam(sgd, sam, **tests)))
        assert set(found.setting[found.method == "SAM"]) == {chosen_one}


def test_networks_that_have_not_learned_the_task_do_not_decide_what_quality_follows():
    records = toy_records()
    broken = {"test_error": 0.5, "hard_probe_error": 9.0, "sharpness": 0.0}
    records[5] = changed(records[5], **{name: [value] * 12 for name, value in broken.items()})
    table = claims.control_table(records)
    assert claims.follows(table)["sharpness"].mean == pytest.approx(1)
    # One of 51 differs by 50 places and the others by one: 1 - 6 (50^2 + 50) / (51 (51^2 - 1)).
    assert claims.follows(table, worst_test_error=1.0)["sharpness"].mean == pytest.approx(1 - 6 * 2550 / (51 * 2600))
    assert "Toy: 12 of 612 networks left out; with them, sharpness +0.88" in without_rule({"Toy": table})


def test_one_seed_decides_nothing():
    found = [record(dataclasses.replace(c[0], seeds=(0,))) for c in methods().values()]
    verdict = judge("controls-toy-l2", results(found))
    assert verdict.state == "undecided" and np.isinf(verdict.effects[0].value.low)
    page = comparison_html(claims.control_table(found))
    assert page.count(">0.0</td>") == 16 and "inf" not in page  # each method minus SGD, without an interval


def other_features(item: Record, **errors: list[float]) -> Record:
    """The same run with the probing errors of these features alone."""
    metrics = {name: value for name, value in item.metrics.items() if not name.endswith("_probe_error")}
    return dataclasses.replace(item, metrics=metrics | {f"{name}_probe_error": row for name, row in errors.items()})


def test_the_easy_feature_of_images_is_decided_by_sgds_probes_and_the_runs_are_scaled_down():
    found = []
    for seed in SEEDS:
        for k, config in enumerate(image_methods(seed).values()):
            cifar = 0.3 - (0.01 + 1e-6 * seed) * k + 0.001 * seed
            found.append(other_features(record(config), mnist=[0.01 + 0.001 * seed], cifar=[cifar]))
    table = claims.control_table(found)
    assert table.hard.unique().tolist() == ["cifar"] and table.easy.unique().tolist() == ["mnist"]
    verdict = judge("controls-cifar-mnist-parts", results(found))
    assert (verdict.state, verdict.scaled_down) == ("confirmed", "8,000 of 9,000 training images; 10 of 20 epochs")
    assert numbers(verdict)["SAM − SGD"] == pytest.approx(-0.010001)


def test_three_features_are_judged_on_the_two_harder_ones():
    found, gains = [], (0.01, -0.01)
    for config in EXPERIMENTS["three_features"].configs("quick"):
        k = 0 if claims.method_of(config)[0] == "SGD" else 1
        easier, harder = ([0.1 + 0.001 * s - gain * k * (1 + s / 1000) for s in SEEDS] for gain in gains)
        features = {"line": [0.0] * 3, "three_quarter_turn": easier, "full_turn": harder}
        found.append(other_features(record(small(config)), **features))
    verdict = judge("controls-three-features", results(found))
    assert list(numbers(verdict)) == ["three quarter turn, SAM", "full turn, SAM"]
    assert verdict.outcomes == ["holds", "reversed"]
    assert [effect.name for effect in verdict.shown] == [
        f"{name} turn, last layer only" for name in ("three quarter", "full")
    ]


@pytest.mark.parametrize(
    ("records", "found"), [([ControlConfig(), image_methods(0)["SGD"]], "cifar_mnist, toy"), ([], "none")]
)
def test_records_of_no_single_task_are_refused(records, found):
    with pytest.raises(ValueError, match=f"expected one task, got {found}"):
        claims.control_table([record(config) for config in records])


def test_figures_and_table_show_every_method(table):
    figure = methods_against_sgd({"Toy": table})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(methods())
    assert len(figure.axes[0].containers) == 3 * len(methods()) - 1  # every setting but SGD's first
    assert len(quality_follows({"Toy": table}).axes) == 3
    told = claims.comparison(table).set_index("method").loc["just train twice"]
    assert (told.settings, told.hard_probe_error) == ([2], pytest.approx(0.3 - 0.004 * 50))
    page = comparison_html(table)
    assert page.count("<tr>") == len(methods()) + 1 and "−19.2" in page


def test_the_answer_in_short_is_computed(table):
    assert "Nothing has been run" in in_short({})
    told = in_short({"Toy": table})
    assert "just train twice (−19.2)" in told and "Adam with SAM" not in told  # Adam alone is better than with SAM
    n = len({pair for question in QUESTIONS.values() for pair in question.pairs})
    assert f"{n - 1} of {n} comparisons" in told and "follows **flatness** (a limit set after" in told


def test_a_slider_shows_every_measure_of_every_method(table):
    frames = measure_explorer({"Toy": table})
    assert frames.texts[:2] == ("hard probe, %", "easy probe, %") and len(frames.pictures) == 6
    assert "from 10.0 (just train twice, large) to 30.0 (SGD, middle)" in frames.pictures[0].alt
