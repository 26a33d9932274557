"""The search of the lost constants: its settings, and what a chunk holds beside the runs trained one by one."""

from dataclasses import replace

import numpy as np
import pytest

from samlib import search
from samlib.search import AXES, RUNS, STATISTICS, SearchConfig, initial_norm, settings
from samlib.toy.config import ToyConfig
from samlib.toy.training import train_toy

TINY = SearchConfig(n_settings=2, n_steps=60, n_test=100, seeds=(0, 1))


def test_the_first_setting_is_the_base_and_a_longer_sequence_begins_with_a_shorter_one():
    assert ToyConfig().vary(**settings(1)[0]) == ToyConfig()
    assert settings(40)[:7] == settings(7)
    assert len({tuple(one.values()) for one in settings(200)}) == 200


def test_settings_fill_every_axis_evenly():
    drawn = settings(257)[1:]
    for name, axis in AXES.items():
        values = [one[name] for one in drawn]
        if axis.choices:
            counts = [values.count(choice) for choice in axis.choices]
            assert max(counts) - min(counts) <= 2
        else:
            assert axis.low <= min(values) and max(values) <= axis.high
    rates = sorted(one["learning_rate"] for one in drawn)
    assert rates[128] == pytest.approx((0.002 * 0.1) ** 0.5, rel=0.05)  # the middle of the logarithm


def test_a_chunk_holds_what_its_runs_give_alone(monkeypatch):
    monkeypatch.setattr(search, "ROOM", 0.0)
    monkeypatch.setattr(search, "LEARNED", 2.0)  # after sixty steps nothing is learned
    metrics, arrays = search.search(TINY)
    assert (
        metrics["settings"] == list(settings(2))
        and metrics["settings"][0] is not settings(2)[0]
        and metrics["premise"] == [True, True]
    )
    assert arrays["runs"].shape == (2, len(RUNS), 2, len(STATISTICS)) and arrays["weights"].shape == (2, 2, 2, 5)
    setting, error = metrics["settings"][1], STATISTICS.index("final_hard_error")
    base = ToyConfig(n_steps=60, n_snapshots=5, seeds=(0, 1)).vary(**setting, n_test=100)
    rho = 0.3 * initial_norm(setting)
    by_name = dict(zip(RUNS, arrays["runs"][1], strict=True))
    lsam = train_toy([base.vary(rho=rho)])[0].metrics
    np.testing.assert_allclose(by_name["radius 0.3"].T, [lsam[name] for name in STATISTICS], rtol=1e-5)
    ratio = float(np.exp(np.mean(lsam["phantom_log_ratio"])))
    for name, changes in (
        ("phantom rate", {"rho": rho, "term": "rate", "vector": "phantom", "last_layer": "weighted"}),
        ("fixed both", {"term": "both", "ratio": ratio}),
    ):
        alone = train_toy([base.vary(**changes)])[0].metrics
        assert by_name[name][:, error].tolist() == pytest.approx(alone["final_hard_error"])
    wrong = arrays["curves"][1, search.REFERENCE, :, :, 1]
    np.testing.assert_allclose(wrong.T / 100, lsam["curves"]["hard_error"])


def test_where_the_premise_fails_only_the_radii_are_trained():
    metrics, arrays = search.search(replace(TINY, n_settings=1))  # sixty steps: the label is not learned
    assert metrics["premise"] == [False]
    assert np.isnan(arrays["runs"][0, len(search.FRACTIONS) :]).all()
    assert np.isfinite(arrays["runs"][0, 0, :, :3]).all()


def test_members_whose_weights_are_not_finite_say_so():
    ones, parts = np.ones(4), np.ones((2, 4))
    assert np.isnan(search._row(ones * np.nan, ones, parts)).all()
    gini_real, gini_phantom, *gains = search._row(ones, 2 * ones, parts)
    assert (gini_real, gini_phantom) == (0.0, 0.0) and gains[:2] == [1.0, 1.0] and np.isnan(gains[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seeds": (0,)}, "seeds: expected 2 or more"), ({"n_steps": 4}, "n_steps"), ({"first": -1}, "first")],
)
def test_bad_chunks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
