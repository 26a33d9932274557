"""Variants of SAM, each beside a plain twin. A new one takes a class and a row of `TWINS`."""

import copy
import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samlib.optim import ASAM, MSAM, SAM, RhoSchedule, is_normalization, perturbed_where

pytestmark = pytest.mark.filterwarnings("error")
Loss = Callable[[], Tensor]
N_STEPS, LR = 12, 0.2


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2)).double()


def _losses(network: nn.Module, step: int) -> list[Loss]:
    """The mean losses of a batch's three micro-batches."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 2, (12,), generator=generator)
    parts = zip(inputs.split(4), targets.split(4), strict=True)
    return [lambda x=x, y=y: nn.functional.cross_entropy(network(x), y) for x, y in parts]


def _mean(losses: list[Loss]) -> Tensor:
    return sum((loss() for loss in losses), torch.tensor(0.0)) / len(losses)


def _backward(loss: Loss) -> Tensor:
    value = loss()
    value.backward()
    return value


# ---- plain twins: the gradient that the base step takes, with loops and a copy of the network


def _moved(network: nn.Module, epsilon: dict[str, Tensor], step: int) -> tuple[nn.Module, list[Loss]]:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter += epsilon.get(name, 0.0)
    return other, _losses(other, step)


def _gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def _length(tensors: Any) -> float:
    return math.sqrt(sum(float(each.square().sum()) for each in tensors))


def _plain_asam(network: nn.Module, step: int, rho: float) -> dict[str, Tensor]:
    scale = {name: p.detach().abs() + 0.03 for name, p in network.named_parameters()}
    at_w = _gradients(network, _mean(_losses(network, step)))
    length = _length(scale[name] * g for name, g in at_w.items())
    other, losses = _moved(network, {name: rho * scale[name] ** 2 * g / length for name, g in at_w.items()}, step)
    return _gradients(other, _mean(losses))


def _plain_msam(network: nn.Module, step: int, rho: float) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for n, loss in enumerate(_losses(network, step)):
        at_w = _gradients(network, loss())
        other, losses = _moved(network, {name: rho * g / _length(at_w.values()) for name, g in at_w.items()}, step)
        for name, g in _gradients(other, losses[n]()).items():
            total[name] += g / 3
    return total


def _plain_subset(start: str) -> Callable[[nn.Module, int, float], dict[str, Tensor]]:
    def gradient(network: nn.Module, step: int, rho: float) -> dict[str, Tensor]:
        at_w = _gradients(network, _mean(_losses(network, step)))
        some = {name: g for name, g in at_w.items() if name.startswith(start)}
        other, losses = _moved(network, {name: rho * g / _length(some.values()) for name, g in some.items()}, step)
        return _gradients(other, _mean(losses))

    return gradient


def _plain_schedule(network: nn.Module, step: int, rho: float) -> dict[str, Tensor]:
    at_w = _gradients(network, _mean(_losses(network, step)))
    now = rho * (step + 1) / N_STEPS
    other, losses = _moved(network, {name: now * g / _length(at_w.values()) for name, g in at_w.items()}, step)
    return _gradients(other, _mean(losses))


# ---- the variants


def _whole_batch(build: Callable[..., SAM]) -> Callable[..., Callable[[int], Any]]:
    def steps(network: nn.Module, rho: float) -> Callable[[int], Any]:
        sam = build(network, rho=rho, lr=LR, momentum=0.9)
        return lambda step: sam.step(lambda: _backward(lambda: _mean(_losses(network, step))))

    return steps


def _micro_batches(network: nn.Module, rho: float) -> Callable[[int], Any]:
    sam = MSAM(network.parameters(), rho=rho, lr=LR, momentum=0.9)
    return lambda step: sam.step([functools.partial(_backward, loss) for loss in _losses(network, step)])


def _scheduled(network: nn.Module, rho: float) -> Callable[[int], Any]:
    sam = SAM(network.parameters(), rho=0.0, lr=LR, momentum=0.9)
    schedule = RhoSchedule(sam, lambda step: rho * (step + 1) / N_STEPS)

    def run(step: int) -> Any:
        loss = sam.step(lambda: _backward(lambda: _mean(_losses(network, step))))
        schedule.step()
        return loss

    return run


TWINS = {
    "ASAM": (_whole_batch(lambda network, **o: ASAM(network.parameters(), eta=0.03, **o)), _plain_asam),
    "m-SAM": (_micro_batches, _plain_msam),
    "norm layers": (
        _whole_batch(lambda net, **o: SAM(perturbed_where(net, is_normalization), **o)),
        _plain_subset("1."),
    ),
    "last layer": (
        _whole_batch(lambda net, **o: SAM(perturbed_where(net, lambda _, layer: layer is net[3]), **o)),
        _plain_subset("3."),
    ),
    "radius by step": (_scheduled, _plain_schedule),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_variant_equals_its_plain_twin_at_every_step(name):
    build, plain_gradient = TWINS[name]
    network = _network()
    twin = copy.deepcopy(network)
    run = build(network, 0.3)
    base = torch.optim.SGD(twin.parameters(), lr=LR, momentum=0.9)
    for step in range(N_STEPS):
        right = _mean(_losses(twin, step)).item()
        assert float(run(step)) == pytest.approx(right, abs=1e-12)
        gradient = plain_gradient(twin, step, 0.3)
        for parameter_name, parameter in twin.named_parameters():
            parameter.grad = gradient[parameter_name]
        base.step()
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["ASAM", "m-SAM", "norm layers"])
def test_a_variant_of_radius_zero_is_the_base(name):
    network = _network()
    twin = copy.deepcopy(network)
    run, base = TWINS[name][0](network, 0.0), torch.optim.SGD(twin.parameters(), lr=LR, momentum=0.9)
    for step in range(3):
        run(step)
        base.zero_grad()
        _mean(_losses(twin, step)).backward()
        base.step()
        for a, b in zip(network.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_asam_is_blind_to_the_scales_of_two_layers_that_undo_each_other():
    """w1 -> a w1, w2 -> w2 / a leaves the function as it is; with eta = 0 the loss at the phantom stays, too."""
    found = []
    for scale in (1.0, 5.0):
        one, two = (nn.Parameter(torch.tensor([value])) for value in (2.0 * scale, 3.0 / scale))
        asam = ASAM([one, two], rho=0.2, eta=0.0, lr=0.1)
        (one * two).sum().backward()
        asam.ascent_step()
        found.append(float((one * two).detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-6) and found[0] > 6.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("check_finite", [True, False])
@pytest.mark.parametrize("size, slope", [(30.0, 100.0), (0.0625, 2.0**-20)])
def test_asam_in_half_precision_neither_overflows_nor_rounds_away(dtype, check_finite, size, slope):
    # With eta = 0 and four equal numbers epsilon = rho w^2 g / (2 w g) = rho w / 2, here 2 w.
    weight = nn.Parameter(torch.full((4,), size, dtype=dtype))
    asam = ASAM([weight], rho=4.0, eta=0.0, check_finite=check_finite, lr=0.1)
    weight.grad = torch.full_like(weight, slope)
    asam.ascent_step()
    assert weight.tolist() == [3 * size] * 4


def test_asam_keeps_eta_in_a_copy_and_refuses_a_negative_one():
    asam = pickle.loads(pickle.dumps(ASAM([nn.Parameter(torch.ones(2))], eta=0.2, lr=0.1)))
    assert asam.eta == 0.2 and asam.rho == 0.5
    with pytest.raises(ValueError, match="eta must be finite and at least 0, got -1"):
        ASAM([nn.Parameter(torch.ones(2))], eta=-1, lr=0.1)


@pytest.mark.parametrize("failing", range(4))
def test_a_micro_batch_that_fails_leaves_the_weights_at_w(failing):
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    sam, calls = MSAM([weight], rho=1.0, lr=0.1), []

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == failing + 1:
            raise RuntimeError("no data")
        return _backward(lambda: weight.square().sum())

    with pytest.raises(RuntimeError, match="no data"):
        sam.step([closure, closure])
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None and not sam.at_phantom


def test_micro_batches_run_hooks_once_and_one_closure_is_sams_step():
    weights = [nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2)]
    sams, calls = (MSAM([weights[0]], rho=1.0, lr=0.1), SAM([weights[1]], rho=1.0, lr=0.1)), []
    sams[0].register_step_post_hook(lambda *_: calls.append(1))
    for sam, weight in zip(sams, weights, strict=True):
        sam.step(lambda weight=weight: _backward(lambda: weight.square().sum()))
    assert torch.equal(*weights) and len(calls) == 1
    sams[0].step([lambda: _backward(lambda: weights[0].square().sum())])
    assert len(calls) == 2
    with pytest.raises(ValueError, match="at least one closure"):
        sams[0].step([])


@pytest.mark.parametrize("returned, expected", [(None, None), ((1.0, 2.0), None), (3, 3.0)])
def test_micro_batches_take_their_step_whatever_the_closures_return(returned, expected):
    weight = nn.Parameter(torch.tensor([1.0]))

    def closure() -> Any:
        weight.square().sum().backward()
        return returned

    # Phantom 2, gradient there 4.
    assert MSAM([weight], rho=1.0, lr=0.1).step(closure for _ in range(2)) == expected
    assert weight.tolist() == [pytest.approx(0.6)]


def test_earlier_gradients_count_whole_beside_micro_batches_of_radius_zero_and_are_dropped_otherwise():
    weight = nn.Parameter(torch.tensor([0.0]))
    sam = MSAM([weight], rho=0.0, lr=1.0)
    losses = [lambda a=a: _backward(lambda: (weight - a).square().sum() / 2) for a in (1.0, 3.0)]
    weight.grad = torch.tensor([5.0])
    sam.step(losses)
    assert weight.tolist() == [-3.0]  # the gradient is 5 - (1 + 3) / 2
    sam.rho, weight.grad = 1.0, torch.tensor([5.0])
    with pytest.warns(UserWarning, match="To accumulate"):
        sam.step(losses)
    assert weight.tolist() == [3.0]  # both phantoms are -4, where the gradients are -5 and -7


def test_micro_batches_between_ascent_and_descent_are_refused_at_radius_zero_too():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    sam, calls = MSAM([weight], rho=0.0, lr=0.1), []
    weight.square().sum().backward()
    sam.ascent_step()
    with pytest.raises(ValueError, match="an ascent_step\\(\\) had no descent"):
        sam.step([lambda: calls.append(1)])
    assert not calls and not sam.at_phantom


def test_a_predicate_that_chooses_nothing_is_refused_and_shared_weights_are_chosen_once():
    network = _network()
    with pytest.raises(ValueError, match="got 1 layers with none"):
        perturbed_where(network, lambda name, layer: isinstance(layer, nn.Tanh))
    network.add_module("again", network[3])
    groups = perturbed_where(network, lambda name, layer: layer is network[3])
    assert [len(group["params"]) for group in groups] == [2, 4]


def test_a_schedule_resumes_and_refuses_what_is_no_sam():
    sams = [SAM([nn.Parameter(torch.ones(2))], lr=0.1) for _ in range(2)]
    one, two = (RhoSchedule(sam, lambda step: step / 4) for sam in sams)
    for _ in range(3):
        one.step()
    two.load_state_dict(one.state_dict())
    two.step()
    assert sams[0].rho == 0.75 and sams[1].rho == 1.0
    with pytest.raises(TypeError, match="got a SGD"):
        RhoSchedule(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), lambda step: 0.1)
