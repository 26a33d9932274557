"""The random networks of the appendix on theory: fitting, measuring, its verdicts and its figures."""

import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
from judging import judge, numbers
from matplotlib import pyplot as plt
from networks import numbers_of

from edition.claims import appendix_d as claims
from edition.figures import theory as figures
from samlib.theory import Network, log_ratio, study
from samlib.theory.study import Ensemble, Measured, breaking_radii, draw, fresh, measure
from samlib.toy.config import ToyData
from samlib.toy.data import sample

mpl.use("agg")


def test_several_networks_at_once_equal_one_by_one():
    together = fresh("ReLU", (0, 1))
    for index in (0, 1):
        alone = fresh("ReLU", (index,))
        for size in (1, 5):
            both, single = (measure(part, rho=0.2, batch_size=size) for part in (together, alone))
            assert torch.allclose(both.exact[index], single.exact[0], rtol=1e-10, atol=1e-12)
            assert torch.allclose(both.law[index], single.law[0], rtol=1e-10, atol=1e-12)
    # Batches are dealt in order: the last five examples are a batch.
    net = Network(alone.network.v[0], tuple(layer[0] for layer in alone.network.layers), "relu")
    expected = log_ratio(net, alone.inputs[0, -5:], alone.labels[0, -5:], rho=0.2)
    assert torch.allclose(single.exact[0, -5:], expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="a divisor of 100, got 3; every example needs a batch"):
        measure(alone, rho=0.1, batch_size=3)


def test_fitting_is_gradient_descent_on_the_mean_logistic_loss():
    net, (inputs, labels) = draw((4, 5), "relu", seed=0), sample(ToyData(n_train=10), seed=0, split="train")
    fitted = study.descend(net, inputs, labels, rate=0.1, n_steps=3)
    weights = [weight.clone().requires_grad_() for weight in net.weights]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        margins = labels * (torch.relu(inputs @ weights[1].T) @ weights[0])
        torch.nn.functional.softplus(-margins).mean().backward()
        optimizer.step()
    for found, expected in zip(fitted.weights, weights, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_the_length_of_the_weights_is_that_of_one_vector():
    networks = Ensemble(
        Network(numbers_of([2], [0]), (numbers_of([[1]], [[3]]),)), numbers_of([[1]], [[1]]), numbers_of([1], [1])
    )
    assert study.length(networks) == pytest.approx((math.sqrt(5) + 3) / 2)


def test_draws_come_from_their_own_stream():
    state = torch.random.get_rng_state()
    first, again, other = draw((4, 8), "relu", seed=0), draw((4, 8), "relu", seed=0), draw((4, 8), "relu", seed=1)
    assert torch.equal(first.v, again.v) and not torch.equal(first.v, other.v)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_error_of_a_network_is_the_median_over_its_examples():
    measured = Measured(exact=numbers_of([1.1, 2.0, 1.5]), law=numbers_of([1.0, 1.0, 1.0]))
    assert measured.error().tolist() == pytest.approx([0.5])
    assert Measured(numbers_of([-1, 1, 2, 3]), numbers_of([1, 1, 1, 1])).falling().tolist() == [0.25]


def at(error):
    return Measured(exact=numbers_of([1 + error]), law=numbers_of([1]))


def test_the_law_breaks_where_the_median_network_crosses_a_tenth_at_the_start_or_nowhere():
    found = breaking_radii({"a": [at(0.01), at(1.0)], "b": [at(0.5), at(1.0)], "c": [at(0.0)] * 2}, radii=(0.01, 1.0))
    assert found == pytest.approx({"a": 0.1, "b": 0.01, "c": math.nan}, nan_ok=True)


@pytest.fixture
def few(monkeypatch) -> None:
    """Three networks instead of twenty, fitted in few steps."""
    seeds = (0, 1, 2)
    monkeypatch.setattr(study, "N_STEPS", 20)
    fitted = study.fitted(seeds)
    monkeypatch.setattr(study, "fresh", lambda kind: fresh(kind, seeds))
    monkeypatch.setattr(study, "fitted", lambda: fitted)


@pytest.fixture
def with_networks(monkeypatch):
    """Let the claims be judged on other networks."""
    return lambda networks: monkeypatch.setattr(claims, "ensemble", lambda name: networks)


def by_hand(margins: torch.Tensor, weight: float = 1.0) -> Ensemble:
    """Networks f(x) = weight^2 x with the given margins, all labels +1; enough of them to decide by agreeing."""
    margins = margins.repeat(8, 1)
    n = len(margins)
    one = torch.full((n, 1), weight, dtype=torch.float64)
    return Ensemble(Network(one, (one[..., None],), "relu"), margins[..., None] / weight**2, torch.ones_like(margins))


@pytest.mark.parametrize(("weight", "state"), [(1.0, "confirmed"), (0.1, "mixed"), (0.01, "contradicted")])
def test_the_law_holds_for_flat_networks_and_not_for_curved_ones_and_at_small_radii(with_networks, weight, state):
    # v = W = a at x = m / a^2: |grad f| = m sqrt(2) / a, and the second-order term is rho^2 m / (2 a^2).
    with_networks(by_hand(numbers_of([1, 2], [1, 3]), weight))
    verdict = judge("theory-first-order")
    assert verdict.state == state and verdict.effects[0].value.n == 16
    assert numbers(verdict)["ReLU, rho = 0.01"] == pytest.approx(0.01 / (2 * math.sqrt(2) * weight))
    assert {effect.name.partition(", rho = ")[2] for effect in verdict.effects} == {"0.01", "0.1"}
    assert [effect.outcome for effect in verdict.shown] == ["reversed"] * 4  # at the toy's radius


def scaled(true, factors: torch.Tensor):
    """The same function with the numbers of each network times a factor."""

    def changed(*args, **options):
        values = true(*args, **options)
        return values * factors.reshape(-1, *[1] * (values.ndim - 1))

    return changed


@pytest.mark.parametrize(
    ("off", "state"),
    [((0.0, 0.0), "confirmed"), ((1e-9, 1e-9), "contradicted"), ((0.0, 2e-10), "undecided")],  # 1e-10 is the limit
)
@pytest.mark.parametrize("id", ["theory-closed-forms", "theory-last-layer"])
def test_equalities_hold_up_to_rounding(monkeypatch, with_networks, id, off, state):
    with_networks(by_hand(numbers_of([1, 2], [1, 3])))
    for name in ("squared_norms", "gradient_norm"):
        monkeypatch.setattr(claims, name, scaled(getattr(claims, name), 1 + numbers_of(*off * 8)))
    assert judge(id).state == state


@pytest.mark.parametrize(
    ("margins", "state"), [((9.0, 12.0), "confirmed"), ((0.5, 1.0), "contradicted")], ids=["large", "small"]
)
def test_losses_agree_at_large_margins_only(with_networks, margins, state):
    def apart(margin: float) -> float:
        return 1 - math.log(1 + math.exp(-margin)) / math.exp(-margin)

    networks = by_hand(numbers_of(margins, margins))
    with_networks(networks)
    verdict = judge("theory-losses")
    assert verdict.state == state and verdict.effects[0].value.mean == pytest.approx(np.mean([*map(apart, margins)]))
    expected = np.mean([1 / (1 + math.exp(margin)) for margin in margins])
    assert verdict.shown[0].value.mean == pytest.approx(expected)  # of the importance weight
    # Points that are not classified correctly do not count.
    with_networks(networks._replace(labels=numbers_of(*[[1, -1]] * 16)))
    assert judge("theory-losses").effects[0].value.mean == pytest.approx(apart(margins[0]))


def test_the_linear_approximation_is_judged_by_ranks_and_size(with_networks):
    with_networks(fresh("deep linear", range(12)))
    assert judge("theory-linear").state == "confirmed"
    # v = (0.1, 3), W = diag(2, 1): at (1, 0) |grad f|^2 = 4 + 0.01, at (0, 1) it is 1 + 9; with c = 9.01 throughout
    # the estimates are 13.01 and 10.01, the other way round.
    many = 12  # alike
    net = Network(numbers_of(*[[0.1, 3]] * many), (numbers_of(*[[[2, 0], [0, 1]]] * many),), "relu")
    inputs, labels = numbers_of(*[[[1, 0], [0, 1]]] * many), numbers_of(*[[1, 1]] * many)
    with_networks(Ensemble(net, inputs, labels))
    verdict = judge("theory-linear")
    assert [effect.value.mean for effect in verdict.effects[:4]] == pytest.approx([-1] * 4)
    assert verdict.outcomes == ["reversed"] * 4 + ["holds"] * 2  # their size is still right to a factor of two
    assert verdict.state == "mixed"


def test_every_figure_is_drawn_from_the_measurements(few):
    sizes = (1, 5)
    left, _ = figures.first_order(study.by_radius()).axes
    assert len(left.get_lines()) == len(study.CASES)
    assert np.allclose(left.get_lines()[0].get_ydata(), 1)  # LSAM lies on the law
    spread, share, rank = figures.batches(study.by_batch(sizes, rho=0.1), sizes).axes
    assert [label.get_text() for label in spread.get_xticklabels()] == ["1", "5"]
    assert share.get_lines()[0].get_ydata()[0] <= 0.01 < share.get_lines()[0].get_ydata()[1]
    assert rank.get_lines()[0].get_ydata()[0] > 0.9
    assert figures.losses(rho=0.1).axes and figures.linear_approximation().axes
    plt.close("all")
