"""Claims over the space of the lost constants: each setting judged as the ledger judges it, and what is shown of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from judging import judge, results, verdict
from matplotlib import pyplot as plt

from edition.claims import space as claims_space
from edition.claims.claim import CLAIMS
from edition.claims.moments import ginis
from edition.claims.rules import STATES, Effect
from edition.claims.section_6_2_interventions import COMPARABLE, LEAST, MATCH_MARGIN
from edition.claims.space import JUDGED, SENTENCES, Cases, Space, best, matters, share_told, told_of_all, wilson
from edition.claims.space import space as collect
from edition.experiments import EXPERIMENTS, toy
from edition.figures import space as figures
from edition.figures.performance import search_cost
from edition.records.store import Record, Store
from edition.runs import Run, do
from edition.runs.results import read
from edition.widgets import setting_explorer
from samlib.measures.statistics import estimate, paired_difference
from samlib.search import AXES, FRACTIONS, REFERENCE, RUNS, STATISTICS, TERMS, WEIGHTS, settings

SETTINGS, SEEDS = 16, 6
PHANTOM = ("toy-one-factor-suffices", "toy-rates-match-lsam")
FROM_TABLE = [id for id in JUDGED if CLAIMS[id].needs == ("complexity",)]


@pytest.fixture(scope="module")
def found() -> Space:
    """Made-up settings whose effects lie on both sides and around zero; easy below hard, as the premise has it."""
    draw = np.random.default_rng(3)
    shape = (SETTINGS, len(RUNS), SEEDS, len(STATISTICS))
    effects = draw.normal(0, 0.15, (SETTINGS, len(RUNS), 1, len(STATISTICS)))
    runs = 1.0 + effects + draw.normal(0, 0.05, shape)
    for name, level, width in (("easy", 0.0, 0.05), ("hard", 0.3, 0.5), ("test", 0.0, 0.005)):
        index = STATISTICS.index(f"final_{name}_error")
        runs[..., index] = np.abs(level + (runs[..., index] - 1) * width)
    runs[0, :5, :, STATISTICS.index("final_hard_error")] = 0.25  # nothing varies, nothing differs
    runs[..., STATISTICS.index("agreement_share")] = 1 - np.abs(effects[..., 0] * draw.random(shape[:3])) ** 4
    weights = draw.normal(0, 0.1, (SETTINGS, 2, 1, len(WEIGHTS))) + draw.normal(0, 0.1, (SETTINGS, 2, SEEDS, 5))
    weights[1, 0, 1:, WEIGHTS.index("only_easy")] = np.nan  # one network has such examples: too few
    table = pd.DataFrame([{"place": i} | setting for i, setting in enumerate(settings(SETTINGS))])
    return Space(table, np.ones(SETTINGS, bool), runs.astype(np.float32), weights.astype(np.float32))


def seed_rows(found: Space, setting: int, run: int, **columns) -> pd.DataFrame:
    """One run as the ledger's seed tables have it."""
    values = {name: found.runs[setting, run, :, i].astype(float) for i, name in enumerate(STATISTICS)}
    return pd.DataFrame({"seed": range(SEEDS), "complexity": 360.0, **columns, **values})


def by_radius(found: Space, setting: int) -> pd.DataFrame:
    """The radii of one setting, in units of the reference radius: claims look for rho = 1."""
    parts = [seed_rows(found, setting, i, rho=f / FRACTIONS[REFERENCE]) for i, f in enumerate(FRACTIONS)]
    return pd.concat(parts)


@pytest.mark.parametrize("id", [*FROM_TABLE, *PHANTOM])
def test_each_setting_is_judged_as_the_ledger_judges_its_table(found, id):
    slow = []
    for i in range(SETTINGS):
        tables = [by_radius(found, i)]
        if id in PHANTOM:
            runs = (seed_rows(found, i, RUNS.index(f"phantom {term}"), term=term, rho=1.0) for term in TERMS[:2])
            tables.insert(0, pd.concat(runs))
        slow.append(judge(id, *tables).state)
    assert found.states[id].tolist() == slow
    assert len(set(slow)) > 1 or id in ("toy-spiral-poor", "toy-spiral-learned", "toy-labels-learned")


def test_fixed_ratios_are_judged_by_the_rules_of_the_ledger_at_lsams_own_ratio(found):
    errors = found.of("final_hard_error")
    for setting in range(SETTINGS):
        sgd, lsam = errors[setting, 0], errors[setting, REFERENCE]
        importance, rate, both = (errors[setting, RUNS.index(f"fixed {term}")] for term in TERMS)
        least = LEAST * min(0.0, float((lsam - sgd).mean()))
        gains = [paired_difference(one, sgd) for one in (importance, rate)]
        expected = {
            "toy-interventions-help": [Effect(str(gain), gain, "below", least, none=0.0) for gain in gains],
            "toy-both-match-lsam": [Effect("x", paired_difference(both, lsam), "within", MATCH_MARGIN)],
            "toy-gains-comparable": [],
        }
        if max(gain.mean for gain in gains) < least:
            larger, smaller = sorted((importance - sgd, rate - sgd), key=np.mean)
            expected["toy-gains-comparable"] = [Effect("x", estimate(smaller - (1 - COMPARABLE) * larger), "below")]
        assert {id: found.states[id][setting] for id in expected} == {
            id: verdict(*e).state for id, e in expected.items()
        }


def test_weights_are_judged_by_the_rules_of_the_ledger(found):
    real, phantom = (found.weight(f"gini_{kind}") for kind in ("real", "phantom"))
    for setting in range(SETTINGS):
        parts = (phantom - real)[setting, 0], (phantom - real)[setting, 1], phantom[setting, 1] - real[setting, 0]
        effects = [Effect(str(i), estimate(value), "below") for i, value in enumerate(parts)]
        assert found.states["toy-weights-uniform"][setting] == verdict(*effects).state


def test_settings_without_values_are_not_tested_and_those_whose_premise_fails_are_told_apart(found):
    none = Cases(np.full((2, 3, 4), np.nan), ("above",) * 3)
    assert none.states("in general").tolist() == ["not tested"] * 2
    premise = np.arange(SETTINGS) % 2 == 0
    half = Space(found.settings, premise, found.runs, found.weights)
    assert (half.states["toy-hard-error-lower"] == "premise fails").tolist() == (~premise).tolist()
    assert set(half.shares.sum(axis=1)) == {SETTINGS / 2 - 1}  # nor does the base count
    assert all(half.settings.place[row] % 2 == 0 < half.settings.place[row] for row in best(half))


def test_the_sentence_on_all_settings_counts_what_is_confirmed_in_most():
    """Ten counted settings: a share needs nine of them for its whole interval to lie above one half (.596)."""
    counts = {
        "toy-hard-error-lower": {"confirmed": 8, "contradicted": 1, "undecided": 1},
        "toy-most": {"confirmed": 9, "mixed": 1},
        "toy-fewer": {"confirmed": 8, "mixed": 2},
        "toy-none": {"not tested": 10},
        "toy-spiral-poor": {"confirmed": 10},  # by the premise
    }
    shares = pd.DataFrame(counts).T.reindex(columns=STATES).fillna(0)
    told = told_of_all(SimpleNamespace(shares=shares, share=lambda id, of: wilson(9, 10)))
    numbers = ("of **10** other", "**80%** (49% to 94%)", "average in **90%**", "worse in **10%**", "**1** of 3 claims")
    assert all(number in told for number in numbers)


@pytest.mark.parametrize(
    ("confirmed", "contradicted", "state"),
    [(9, 0, "confirmed"), (1, 0, "undecided"), (1, 9, "contradicted"), (4, 6, "undecided")],
)
def test_a_sentence_on_most_settings_is_contradicted_by_contrary_settings_and_not_by_undecided_ones(
    monkeypatch, confirmed, contradicted, state
):
    counts = {"confirmed": confirmed, "contradicted": contradicted, "undecided": 10 - confirmed - contradicted}
    shares = pd.DataFrame(dict.fromkeys(JUDGED, dict.fromkeys(STATES, 0) | counts)).T
    of = {"confirmed": confirmed, "reversed": contradicted, "favoured": 7}
    made = SimpleNamespace(shares=shares, share=lambda id, what, batch_size=None: wilson(of[what], 10))
    monkeypatch.setattr(claims_space, "space", lambda records: made)
    verdict = judge("space-hard-error-lower", results([Record("search", "x", {}, {}, {}, Path("x"))]))
    assert verdict.state == state and [effect.value.mean for effect in verdict.shown] == [confirmed / 10, 0.7]


def test_a_setting_favours_a_claim_where_every_mean_lies_as_predicted():
    values = np.array([[[1.0, 3.0], [0.1, -0.3]], [[1.0, 3.0], [0.5, 0.5]], [[-1.0, 0.5], [0.0, 0.0]]])
    assert Cases(values, ("above", "within"), 0.4).favoured.tolist() == [True, False, False]


def test_shares_are_of_what_is_reversed_somewhere_and_of_the_papers_batch_size(found):
    outcomes = found._cases["toy-real-ratio-constant"].outcomes
    some = (outcomes == "reversed").any(1)[1:]  # the base does not count
    assert found.share("toy-real-ratio-constant", "reversed").mean == pytest.approx(some.mean()) and some.any()
    fives = (found.settings.batch_size == 5)[1:]
    assert found.share("toy-hard-error-lower", "favoured", batch_size=5).n == fives.sum() < len(fives)
    both = [found.share("toy-hard-error-lower", of).mean for of in ("favoured", "unfavoured")]
    assert sum(both) == pytest.approx(1)


def test_a_share_is_told_of_the_settings_in_which_the_claim_is_tested():
    table = pd.DataFrame([{"confirmed": 8, "contradicted": 2, "not tested": 5}], index=["toy-x"])
    assert share_told(table, "toy-x").startswith("confirmed in 80% (49% to 94%) and contradicted in 20% of 10 settings")
    assert share_told(table, "toy-y") == share_told(None, "toy-x") == ""


def test_the_constant_that_makes_the_effect_matters_most():
    table = pd.DataFrame([{"place": i} | setting for i, setting in enumerate(settings(200))])
    made = Space(table, np.ones(200, bool), *[np.zeros((200, 1, 1, 1))] * 2)
    effect = np.log(table.hard_scale.to_numpy()) + 0.3 * (table.radius_profile == "angle").to_numpy()
    ranked, score = matters(made, effect)
    assert list(ranked.index[:2]) == ["hard_scale", "radius_profile"] and set(ranked.index) == set(AXES)
    assert score > 0.9


def test_the_figures_show_what_is_there(found):
    figure = figures.shares(found)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [id[4:] for id in JUDGED]
    assert len(figures.maps(found).axes) == len(figures.PAIRS) + 1
    assert len(figures.redrawn(found).axes) == 30
    assert list(figures.best_table(found).columns) == [f"setting {found.settings.place[row]}" for row in best(found)]


def test_networks_of_the_best_settings_are_drawn_with_the_errors_and_weights_on_record(found, tmp_path, monkeypatch):
    rows = best(found)
    monkeypatch.setattr(toy, "BEST", tuple(int(found.settings.place[row]) for row in rows))
    records = do([Run("toy", config) for config in toy.best_settings("smoke")], Store(tmp_path))
    networks = figures.best_networks(found, records)
    (row, ((sgd, lsam), moments)), *others = networks.items()
    assert row == rows[0] and not others  # the smallest profile has one setting
    assert (sgd.config.rho, lsam.config.rho) == (0.0, moments[0].rho) and moments[0].rho == moments[1].rho
    figure = figures.contours(found, networks)
    told = [panel.texts[0].get_text() for panel in figure.axes]
    errors = [record.metrics[f"final_{name}_error"][0] for record in records for name in ("easy", "hard")]
    assert told == [f"probing error {error:.1%}" for error in errors]
    first = figures.weights(found, networks).axes[0].get_legend().get_texts()[0].get_text()
    assert first.endswith(f"Gini {ginis(moments[0].importance, 'real').mean():.2f}")
    assert figures.best_networks(found, records[:1]) == {}
    plt.close("all")


def test_the_settings_trained_again_are_those_in_which_most_claims_hold():
    everything = collect(read("search", "paper").records)
    assert tuple(everything.settings.place[row] for row in best(everything)) == toy.BEST


def test_the_slider_walks_from_the_largest_gain(found, monkeypatch):
    monkeypatch.setattr("edition.widgets.from_records.SETTINGS_SHOWN", 3)
    frames = setting_explorer(found)
    assert len(frames.pictures) == 3
    first = found.settings.loc[np.where(found.counted, found.gain, np.inf).argmin()]
    assert f"learning rate: {first.learning_rate}" in frames.pictures[0].alt


def test_the_cost_is_told_from_the_chunks_and_extrapolated_by_arithmetic():
    metrics = {"settings": [{}] * 4, "premise": [True, True, False, False]}  # 2 * 10 + 2 * 5 runs of 2 * 1,000 steps
    config = {"seeds": [0, 1], "n_steps": 1000}
    told = search_cost([Record("search", "x", config, metrics, {"wall_seconds": 36.0}, Path("x"))] * 2)
    for number in ("**0.02 hours of one core**", "9.0 s a setting", "1,667 model-steps", "2.5 hours on a thousand"):
        assert number in told


def test_a_recorded_chunk_is_read_back_and_its_sentences_are_judged(tmp_path):
    run = Run("search", *EXPERIMENTS["search"].configs("smoke"))
    records = do([run], Store(tmp_path))
    small = collect(records)
    assert small.settings.place.tolist() == [0, 1] and small.settings.hidden[0] == 50
    assert not small.counted.any() and small.shares.to_numpy().sum() == 0  # sixty steps teach nothing
    assert small.states.iloc[0].tolist() == ["premise fails"] * len(JUDGED)
    for id in SENTENCES:
        assert judge(id, results(records, "smoke")).state == "not tested"
    with pytest.raises(ValueError, match="expected one or more of the search, got none"):
        collect([])
