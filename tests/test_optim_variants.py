"""SAM and its variants, each beside a plain twin. A new one takes a class and a row of `TWINS`."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import networks
import pytest
import torch
from networks import backward, phantom_gradients
from torch import Tensor, nn

from samlib.optim import ASAM, MSAM, SAM, RhoSchedule, is_normalization, perturbed_where

Loss = Callable[[], Tensor]
N_STEPS = 12
BASE = {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.01}


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


# ---- how each steps, and its twin: the gradient that the base step takes


def _whole_batch(sam: SAM, network: nn.Module) -> Callable[[int], Any]:
    return lambda step: sam.step(lambda: backward(_mean(_losses(network, step))))


def _accumulated(network: nn.Module, rho: float) -> Callable[[int], Any]:
    sam = SAM(network.parameters(), rho=rho, **BASE)
    return lambda step: sam.step(lambda: sum(backward(loss() / 3).detach() for loss in _losses(network, step)))


def _micro_batches(network: nn.Module, rho: float) -> Callable[[int], Any]:
    sam = MSAM(network.parameters(), rho=rho, **BASE)
    return lambda step: sam.step([lambda loss=loss: backward(loss()) for loss in _losses(network, step)])


def _scheduled(network: nn.Module, rho: float) -> Callable[[int], Any]:
    sam = SAM(network.parameters(), rho=0.0, **BASE)
    schedule = RhoSchedule(sam, lambda step: rho * (step + 1) / N_STEPS)
    train = _whole_batch(sam, network)
    return lambda step: (train(step), schedule.step())[0]


def _plain(network: nn.Module, step: int, rho: float, **options: Any) -> list[Tensor]:
    return phantom_gradients(lambda: _mean(_losses(network, step)), list(network.parameters()), rho=rho, **options)


def _plain_micro_batches(network: nn.Module, step: int, rho: float) -> list[Tensor]:
    parts = [phantom_gradients(loss, list(network.parameters()), rho=rho) for loss in _losses(network, step)]
    return [sum(gradients) / len(parts) for gradients in zip(*parts, strict=True)]


TWINS = {
    "SAM": (lambda net, rho: _whole_batch(SAM(net.parameters(), rho=rho, **BASE), net), _plain),
    "SAM, accumulated in the closure": (_accumulated, _plain),
    "ASAM": (
        lambda net, rho: _whole_batch(ASAM(net.parameters(), eta=0.03, rho=rho, **BASE), net),
        partial(_plain, eta=0.03),
    ),
    "m-SAM": (_micro_batches, _plain_micro_batches),
    "norm layers": (
        lambda net, rho: _whole_batch(SAM(perturbed_where(net, is_normalization), rho=rho, **BASE), net),
        lambda net, step, rho: _plain(net, step, rho, perturbed=list(net[1].parameters())),
    ),
    "last layer": (
        lambda net, rho: _whole_batch(
            SAM(perturbed_where(net, lambda _, layer: layer is net[3]), rho=rho, **BASE), net
        ),
        lambda net, step, rho: _plain(net, step, rho, perturbed=list(net[3].parameters())),
    ),
    "radius by step": (_scheduled, lambda net, step, rho: _plain(net, step, rho * (step + 1) / N_STEPS)),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("rho", [0.3, 0.0])
def test_a_variant_equals_its_plain_twin_at_every_step(name, rho):
    build, plain_gradients = TWINS[name]
    network = _network()
    twin = copy.deepcopy(network)
    run, base = build(network, rho), torch.optim.SGD(twin.parameters(), **BASE)
    for step in range(N_STEPS):
        assert float(run(step)) == pytest.approx(_mean(_losses(twin, step)).item(), abs=1e-12)
        networks.take_step(base, plain_gradients(twin, step, rho))
        torch.testing.assert_close(networks.weights(network), networks.weights(twin), rtol=0, atol=1e-11)


def test_asam_is_blind_to_the_scales_of_two_layers_that_undo_each_other():
    """w1 -> a w1, w2 -> w2 / a leaves the function as it is; with eta = 0 the loss at the phantom stays, too."""
    found = []
    for scale in (1.0, 5.0):
        one, two = (networks.parameter([value]) for value in (2.0 * scale, 3.0 / scale))
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
    weight = networks.parameter([1.0])
    asam = pickle.loads(pickle.dumps(ASAM([weight], eta=0.2, lr=0.1)))
    assert asam.eta == 0.2 and asam.rho == 0.5
    with pytest.raises(ValueError, match="eta must be finite and at least 0, got -1"):
        ASAM([weight], eta=-1, lr=0.1)


@pytest.mark.parametrize("failing", range(4))
def test_a_micro_batch_that_fails_leaves_the_weights_at_w(failing):
    sam, weight, backward_of_it = networks.small_sam(MSAM)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == failing + 1:
            raise RuntimeError("no data")
        return backward_of_it()

    with pytest.raises(RuntimeError, match="no data"):
        sam.step([closure, closure])
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None and not sam.at_phantom


def test_micro_batches_run_hooks_once_and_one_closure_is_sams_step():
    sam, weight, closure = networks.small_sam(MSAM)
    calls = []
    sam.register_step_post_hook(lambda *_: calls.append(1))
    sam.step(closure)
    networks.assert_stepped(weight)
    sam.step(closure=[closure])  # by the name that torch's optimisers give it
    assert len(calls) == 2
    with pytest.raises(ValueError, match="at least one closure"):
        sam.step([])


@pytest.mark.parametrize("returned, expected", [(None, None), ((1.0, 2.0), None), (3, 3.0)])
def test_micro_batches_take_their_step_whatever_the_closures_return(returned, expected):
    sam, weight, closure = networks.small_sam(MSAM)
    assert sam.step((lambda: (closure(), returned)[1]) for _ in range(2)) == expected
    networks.assert_stepped(weight)


def test_earlier_gradients_count_whole_beside_micro_batches_of_radius_zero_and_are_dropped_otherwise():
    weight = networks.parameter([0.0])
    sam = MSAM([weight], rho=0.0, lr=1.0)
    losses = [lambda a=a: backward((weight - a).square().sum() / 2) for a in (1.0, 3.0)]
    weight.grad = torch.tensor([5.0])
    sam.step(losses)
    assert weight.tolist() == [-3.0]  # the gradient is 5 - (1 + 3) / 2
    sam.rho, weight.grad = 1.0, torch.tensor([5.0])
    with pytest.warns(UserWarning, match="To accumulate"):
        sam.step(losses)
    assert weight.tolist() == [3.0]  # both phantoms are -4, where the gradients are -5 and -7


def test_micro_batches_between_ascent_and_descent_are_refused_at_radius_zero_too():
    sam, _, closure = networks.small_sam(MSAM, rho=0.0)
    calls = []
    closure()
    sam.ascent_step()
    with pytest.raises(ValueError, match=r"an ascent_step\(\) had no descent"):
        sam.step([lambda: calls.append(1)])
    assert not calls and not sam.at_phantom


def test_a_predicate_that_chooses_nothing_is_refused_and_shared_weights_are_chosen_once():
    network = _network()
    with pytest.raises(ValueError, match="got 1 layers with none"):
        perturbed_where(network, lambda name, layer: isinstance(layer, nn.Tanh))
    network.add_module("again", network[3])
    groups = perturbed_where(network, lambda name, layer: layer is network[3])
    assert [len(group["params"]) for group in groups] == [2, 4]


def test_a_parametrized_layer_is_chosen_whole():
    network = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    chosen, _ = perturbed_where(network, lambda name, layer: layer is network[1])
    assert {id(parameter) for parameter in chosen["params"]} == {id(parameter) for parameter in network[1].parameters()}


def test_a_schedule_resumes_and_refuses_what_is_no_sam():
    one, two = (RhoSchedule(networks.small_sam()[0], lambda step: step / 4) for _ in range(2))
    for _ in range(3):
        one.step()
    two.load_state_dict(one.state_dict())
    two.step()
    assert one.sam.rho == 0.75 and two.sam.rho == 1.0
    with pytest.raises(TypeError, match="got a SGD"):
        RhoSchedule(torch.optim.SGD([networks.parameter([1.0])], lr=0.1), lambda step: 0.1)
