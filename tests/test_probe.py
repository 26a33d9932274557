"""Linear probes: what they find, how C is chosen, and what they refuse."""

import numpy as np
import pytest
import torch
from torch import Tensor

from samlib.measures.probe import (
    PENALTIES,
    STRENGTHS,
    FrozenFeatures,
    ProbeResult,
    balanced_rows,
    fit_probe,
    group_errors,
    in_their_span,
    probe_error,
)
from samlib.streams import stream


def make_set(purpose: str, *, scale: float = 1.0, per_group: int = 50, n_features: int = 5) -> FrozenFeatures:
    """Four groups (label, attribute); feature 0 is scale times the label's sign, the others are noise."""
    groups = torch.arange(4).repeat_interleave(per_group)
    labels = groups // 2
    features = torch.randn(len(groups), n_features, generator=stream(0, purpose))
    features[:, 0] += scale * (2 * labels - 1)
    return FrozenFeatures(features, labels, groups)


TRAIN, TEST = make_set("train"), make_set("test")
APART = make_set("train", scale=20.0), make_set("test", scale=20.0)  # without an error


def probe(train: FrozenFeatures, test: FrozenFeatures, **options: object) -> ProbeResult:
    return probe_error(train, test, n_groups=4, generator=stream(0, "probe"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_folds", "strengths"), [(0, (1.0, 0.1)), (5, STRENGTHS)])
def test_separable_features_give_no_error_and_ties_go_to_the_stronger_penalty(n_folds: int, strengths) -> None:
    result = probe(*APART, n_folds=n_folds, strengths=strengths)
    assert result == ProbeResult(0, 0, [0, 0, 0, 0], [50, 50, 50, 50], min(strengths), 0)


def test_errors_match_a_plain_reference() -> None:
    result = probe(TRAIN, TEST, strengths=(0.1,))
    x, y = TRAIN.features.double(), 2.0 * TRAIN.labels - 1
    mean, deviation = x.mean(0), x.std(0, correction=0)
    x = (x - mean) / deviation
    w = torch.zeros(6, dtype=torch.float64)
    for _ in range(5000):  # gradient descent on C * sum of logistic losses + |w|^2 / 2, the bias unpenalized
        pull = torch.sigmoid(-y * (x @ w[:5] + w[5])) * y
        w += 0.02 * torch.cat([0.1 * (x.T @ pull) - w[:5], 0.1 * pull.sum()[None]])
    answers = ((TEST.features.double() - mean) / deviation @ w[:5] + w[5] > 0).long()
    wrong = (answers != TEST.labels).double().view(4, 50).mean(1).tolist()
    assert 0 < result.error < 0.5
    assert result.group_errors == pytest.approx(wrong, abs=1e-12)
    assert result.error == pytest.approx(np.mean(wrong), abs=1e-12)
    assert result.worst_group_error == max(wrong)


def test_test_labels_do_not_choose_the_strength() -> None:
    first, second = probe(TRAIN, TEST), probe(TRAIN, TEST._replace(labels=1 - TEST.labels))
    assert first.strength == second.strength
    assert second.error == pytest.approx(1 - first.error, abs=1e-12)


def test_an_l1_penalty_silences_features_that_say_nothing_and_folds_do_not_know_it() -> None:
    kept = {
        penalty: np.count_nonzero(fit_probe(TRAIN.features, TRAIN.labels, strength=0.03, penalty=penalty)[-1].coef_)
        for penalty in PENALTIES
    }
    assert kept["l2"] == 5 and 0 < kept["l1"] < 4
    assert probe(TRAIN, TRAIN, penalty="l1", strengths=(0.03,)).error < 0.2
    with pytest.raises(ValueError, match="penalty: expected one of 'l2', got 'l1'"):
        probe(TRAIN, TRAIN, penalty="l1", n_folds=2)


def test_the_strength_with_the_lowest_held_out_error_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def predict(train: FrozenFeatures, features: Tensor, strength: float, penalty: str) -> Tensor:
        calls.append((strength, len(train.labels), len(features), torch.bincount(train.groups).tolist()))
        right = (features[:, 0] > 0).long()  # feature 0 carries the label's sign
        return right if strength == 0.3 else 1 - right

    monkeypatch.setattr("samlib.measures.probe._predict", predict)
    result = probe(*APART, strengths=(1, 0.3, 0.1))
    assert (result.strength, result.error) == (0.3, 0)
    assert sorted(calls[:3]) == [(c, 152, 48, [38] * 4) for c in (0.1, 0.3, 1)]  # 12 of 50 are a quarter, down
    assert calls[3:] == [(0.3, 200, 200, [50] * 4)]


def test_unequal_test_groups_count_equally() -> None:
    rows = torch.tensor([0, 50, 100, 150, 151, 152])  # one, one, one and three examples
    test = FrozenFeatures(*(part[rows].clone() for part in APART[0]))
    test.features[0, 0] *= -1  # the only example of group 0 now looks like the other label
    result = probe(APART[0], test)
    assert (result.group_errors, result.group_counts, result.error) == ([1, 0, 0, 0], [1, 1, 1, 3], 0.25)


def test_same_generator_state_same_result_and_global_generators_untouched() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert probe(TRAIN, TEST) == probe(TRAIN, TEST)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize(
    ("wrong", "groups", "error", "words"),
    [
        ([1, 0, 0], [0, 0, 1], TypeError, "wrong: expected booleans, got torch.int64; pass `predictions != labels`"),
        ([True], [0, 1], ValueError, r"wrong: expected shape \(2,\) as of groups, got \(1,\)"),
        ([True, False], [0, 0], ValueError, r"none of \[1\].*use a larger set"),
        ([True, False], [0, 2], ValueError, r"expected values 0\.\.1, got 0\.\.2"),
    ],
)
def test_group_errors_of_what_does_not_fit_are_refused(wrong, groups, error, words) -> None:
    with pytest.raises(error, match=words):
        group_errors(torch.tensor(wrong), torch.tensor(groups), n_groups=2)


def test_balanced_rows_draw_each_group_equally_without_repeats() -> None:
    groups = torch.tensor([0, 1, 1, 0, 2, 2, 2, 1])
    rows = balanced_rows(groups, n_groups=3, generator=stream(0, "rows"))
    assert groups[rows].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(rows.tolist())) == 6
    with pytest.raises(ValueError, match=r"per_group: expected 1 to 2, .*got 3; lower it"):
        balanced_rows(groups, n_groups=3, generator=stream(0, "rows"), per_group=3)


def some(rows: Tensor) -> FrozenFeatures:
    return FrozenFeatures(*(part[rows] for part in TRAIN))


FIRST = torch.arange(200)
EMPTY = FrozenFeatures(torch.empty(0, 5), torch.empty(0).long(), torch.empty(0).long())
BROKEN = TRAIN._replace(features=TRAIN.features.clone().index_fill_(0, torch.tensor([3]), float("nan")))
WRONG_STRENGTHS = (), (0.0,), (float("nan"),), np.array([]), (float("inf"), 1.0)
REFUSED = [  # training set, test set, options, words
    (some(torch.cat([FIRST, FIRST[:1]])), TEST, {}, r"groups of one size.*\[50, 51\].*balanced_rows"),
    (EMPTY, TEST, {}, r"train: .*at least one example, got \(0, 5\)"),
    (TRAIN, EMPTY, {}, r"test: .*at least one example"),
    (TRAIN, some(FIRST[:150]), {}, r"test.groups: .*none of \[3\]"),
    (TRAIN._replace(labels=TRAIN.labels[:-1]), TEST, {}, r"train: expected labels of shape \(200,\), got \(199,\)"),
    (TRAIN._replace(groups=TRAIN.groups[:, None]), TEST, {}, r"expected groups of shape \(200,\), got \(200, 1\)"),
    (TRAIN, TEST._replace(features=TEST.features[:, :4]), {}, r"expected 5 features as in train, got 4"),
    (BROKEN, TEST, {}, r"train: expected finite features, got NaN"),
    (TRAIN._replace(labels=torch.ones_like(TRAIN.labels)), TEST, {}, r"two classes or more, got only 1"),
    (TRAIN._replace(features=TRAIN.features.long()), TEST, {}, r"floating type, got torch\.int64"),
    (TRAIN._replace(features=TRAIN.features.numpy()), TEST, {}, "train: expected features as a tensor of floats"),
    (TRAIN, TEST._replace(groups=TEST.groups.float()), {}, "test: expected groups as a tensor of integers"),
    (TRAIN, TEST, {"held_out_share": 1.0}, "held_out_share: expected"),
    (make_set("train", per_group=3), TEST, {"n_folds": 4}, r"n_folds: expected .*\[2, 3\], got 4"),
    *((TRAIN, TEST, {"strengths": wrong}, "strengths: expected one or more finite C > 0") for wrong in WRONG_STRENGTHS),
]


@pytest.mark.parametrize(("train", "test", "options", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_unusable_sets_and_options_are_refused(train, test, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        probe(train, test, **options)


@pytest.mark.parametrize(("n_folds", "part"), [(0, "the held-out part"), (2, "a fold")])
def test_a_class_that_is_held_out_whole_is_refused(n_folds: int, part: str) -> None:
    labels = (torch.arange(8) == 0).long()
    data = FrozenFeatures(torch.randn(8, 2, generator=stream(0, "one class")), labels, torch.zeros(8).long())
    with pytest.raises(ValueError, match=f"train without {part}: expected labels of two classes or more, got only 0"):
        for seed in range(20):  # the only example of class 1 is held out in some of them
            probe_error(data, data, n_groups=1, generator=stream(seed, "probe"), n_folds=n_folds)


@pytest.mark.parametrize(("per_group", "n_features"), [(20, 5), (12, 90)])
def test_cross_validation_matches_a_plain_reference(per_group: int, n_features: int) -> None:
    from sklearn.linear_model import LogisticRegression

    train = make_set("train", per_group=per_group, n_features=n_features)
    test = make_set("test", n_features=n_features)
    strengths = (0.001, 0.1, 1.0)
    result = probe(train, test, strengths=strengths, n_folds=4)

    rows = balanced_rows(train.groups, n_groups=4, generator=stream(0, "probe")).view(4, per_group)
    x, y = ((train.features - train.features.mean(0)) / train.features.std(0, correction=0)).double(), train.labels
    wrong = dict.fromkeys(strengths, 0)
    for c in strengths:
        for i in range(4):
            out = rows[:, i::4].flatten()
            kept = torch.tensor([row for row in range(len(y)) if row not in out.tolist()])
            fitted = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x[kept], y[kept])
            wrong[c] += int((fitted.predict(x[out]) != y[out].numpy()).sum())
    best = min(wrong, key=lambda c: (wrong[c], c))
    assert (result.strength, result.held_out_error) == (best, wrong[best] / len(y))
    fixed = probe(train, test, strengths=(best,))
    assert result.group_errors == pytest.approx(fixed.group_errors, abs=1 / 50 + 1e-12)  # one image at the boundary


def test_coordinates_of_the_span_keep_every_inner_product() -> None:
    train, other = (torch.randn(n, 30, generator=stream(0, f"span {n}"), dtype=torch.float64) for n in (8, 5))
    x, y = in_their_span(train, other)
    plain, moved = ((part - train.mean(0)) / train.std(0, correction=0) for part in (train, other))
    assert x.shape == (8, 7)  # centred, eight examples span seven directions
    np.testing.assert_allclose(x @ x.T, (plain @ plain.T).numpy(), atol=1e-10)
    np.testing.assert_allclose(y @ x.T, (moved @ plain.T).numpy(), atol=1e-10)


def test_a_constant_feature_is_not_scaled_although_its_mean_is_rounded() -> None:
    train = torch.full((3, 1), 0.1, dtype=torch.float64)  # the mean of three is 0.10000000000000002
    x, y = in_their_span(train, torch.full((1, 1), 0.3, dtype=torch.float64))
    np.testing.assert_allclose(x, 0, atol=1e-15)
    np.testing.assert_allclose(y, 0.2, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("n_features", [5, 90])  # fewer and more than examples
def test_features_that_never_vary_are_probed_at_chance(n_features: int, value: float) -> None:
    dead = [
        part._replace(features=torch.full((len(part.labels), n_features), value).double())
        for part in (make_set("train", per_group=10), TEST)
    ]
    for n_folds in (0, 2):
        assert probe(*dead, n_folds=n_folds).error == 0.5


@pytest.mark.parametrize("n_folds", [0, 4])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_features_of_any_precision_are_probed_as_their_values_are(kind: torch.dtype, n_folds: int) -> None:
    given = [part._replace(features=part.features.to(kind)) for part in (TRAIN, TEST)]
    plain = [part._replace(features=part.features.float()) for part in given]
    found, expected = probe(*given, n_folds=n_folds), probe(*plain, n_folds=n_folds)
    if kind == torch.float64:
        assert found.error == pytest.approx(expected.error, abs=0.02)
    else:
        assert found == expected


def test_features_with_a_gradient_and_strengths_in_an_array_are_taken() -> None:
    tracked = [part._replace(features=part.features.clone().requires_grad_()) for part in (TRAIN, TEST)]
    assert probe(*tracked, strengths=np.array([0.01, 0.1])) == probe(TRAIN, TEST, strengths=(0.01, 0.1))
