"""SAM and LSAM in mixed precision: casts that autocast keeps follow the weights; a GradScaler's scale and overflows."""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import networks
import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from samlib.optim import ASAM, LSAM, SAM

N_STEPS = 10
_network = partial(networks.network, hidden=32)


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 3, generator=generator), torch.randint(0, 2, (16,), generator=generator)


# ---- one autocast block around more than a forward pass


def _autocast(enabled: bool = True) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if enabled else nullcontext()


def _backward(network: nn.Module, *, cast: bool = False) -> Tensor:
    inputs, targets = _batch()
    with _autocast(cast):
        loss = nn.functional.cross_entropy(network(inputs), targets)
    return networks.backward(loss).detach()


def _trained(block_around: str, rho: float) -> Tensor:
    network = _network()
    sam = SAM(network.parameters(), rho=rho, lr=0.5)
    backward = partial(_backward, network, cast=block_around == "the loss")
    with _autocast(block_around == "all steps"):
        for _ in range(N_STEPS):
            if block_around == "both passes":
                with _autocast():
                    backward()
                    sam.ascent_step()
                    backward()
                sam.descent_step()
            else:
                with _autocast(block_around == "each step"):
                    sam.step(backward)
    return networks.weights(network)


@pytest.mark.parametrize("rho", [0.5, 0.0])
@pytest.mark.parametrize("block_around", ["each step", "both passes", "all steps"])
def test_autocast_around_the_step_equals_autocast_inside_the_closure(block_around, rho):
    expected = _trained("the loss", rho)
    assert not torch.allclose(expected, _trained("the loss", 0.25))  # the radius counts
    assert torch.equal(_trained(block_around, rho), expected)


def test_restore_inside_an_autocast_block_lets_the_next_pass_see_w():
    network = _network()
    sam = SAM(network.parameters(), rho=5.0, lr=0.1)
    with _autocast():
        at_w = _backward(network)
        sam.ascent_step()
        assert _backward(network) != at_w
        sam.restore()
        assert _backward(network) == at_w


def test_lsam_in_one_autocast_block_for_all_steps():
    trained = []
    for one_block in (False, True):
        network = _network()
        lsam = LSAM(network[:2], network[2], torch.optim.SGD(network.parameters(), lr=0.5), rho=0.5)
        with _autocast(one_block):
            for _ in range(N_STEPS):
                with _autocast(not one_block):
                    lsam.step(*_batch())
        trained.append(networks.weights(network))
    assert torch.equal(*trained)


# ---- under a GradScaler


def _scaled_step(
    weight: nn.Parameter,
    sam: SAM,
    scaler: GradScaler,
    *,
    overflow_in: str = "",
    unscale_before: str = "",
    clip: float = math.inf,
    goal: Tensor | float = 0.0,
) -> None:
    """The documented recipe for ||w - goal||^2 / 2, which overflows in the pass before the move that is named."""
    for move in ("ascent", "descent"):
        factor = math.inf if move == overflow_in else 1.0
        scaler.scale(((weight - goal) ** 2).sum() / 2 * factor).backward()
        if move == unscale_before:
            scaler.unscale_(sam)
        if move == "ascent":
            sam.ascent_step(allow_overflow=True)
    if clip < math.inf:
        nn.utils.clip_grad_norm_([weight], clip)
    scaler.step(sam)
    scaler.update()


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("enabled", [True, False])
def test_grad_scaler_recipe_equals_the_unscaled_step(base, enabled):
    (sam, scaled, _), (plain_sam, plain, closure) = networks.small_sam(base=base), networks.small_sam(base=base)
    scaler = GradScaler("cpu", init_scale=1024.0, enabled=enabled)
    for _ in range(3):
        _scaled_step(scaled, sam, scaler)
        plain_sam.step(closure)
    torch.testing.assert_close(scaled, plain)


@pytest.mark.parametrize("overflow_in", ["ascent", "descent"])
def test_grad_scaler_skips_a_step_that_overflows_and_recovers(overflow_in):
    sam, weight, _ = networks.small_sam(momentum=0.9)
    scaler = GradScaler("cpu", init_scale=1024.0)
    _scaled_step(weight, sam, scaler, overflow_in=overflow_in)
    assert weight.tolist() == [3.0, 4.0] and not sam.state[weight] and not sam.at_phantom
    _scaled_step(weight, sam, scaler)
    networks.assert_stepped(weight)


def test_grad_scaler_backs_off_where_the_scale_itself_overflows():
    sam, weight, _ = networks.small_sam()
    scaler = GradScaler("cpu", init_scale=2.0**127)
    _scaled_step(weight, sam, scaler)
    assert weight.tolist() == [3.0, 4.0] and scaler.get_scale() == 2.0**126


def test_grad_scaler_with_clipping_unscales_once():
    sam, weight, _ = networks.small_sam()
    _scaled_step(weight, sam, GradScaler("cpu", init_scale=1024.0), unscale_before="descent", clip=1.0)
    torch.testing.assert_close(weight.data, torch.tensor([2.7, 3.6]), rtol=1e-5, atol=0)


def test_closure_under_a_grad_scaler_raises_with_advice():
    sam, weight, closure = networks.small_sam()
    scaler = GradScaler("cpu")
    scaler.scale((weight**2).sum()).backward()
    with pytest.raises(ValueError, match=r"expects no closure, one was passed. Use ascent_step"):
        scaler.step(sam, closure)
    sam.zero_grad()
    sam.step(closure)  # without the scaler, it is welcome


def test_an_overflow_that_nobody_reads_gives_no_perturbation():
    network = networks.normalised_network()
    sam = SAM(network.parameters(), rho=0.1, lr=0.1, check_finite=False)
    scaler, before = GradScaler("cpu", init_scale=2.0**127), networks.weights(network)
    for move in (lambda: sam.ascent_step(allow_overflow=True), lambda: scaler.step(sam)):
        scaler.scale(1e3 * network(networks.inputs()).square().sum()).backward()
        move()
        assert torch.equal(networks.weights(network), before)
    assert network[1].running_mean.isfinite().all()


@pytest.mark.parametrize("end", [SAM.restore, SAM.descent_step], ids=["restored", "without a second gradient"])
def test_a_step_that_is_given_up_forgets_an_overflow(end):
    sam, weight, closure = networks.small_sam()
    weight.grad = torch.tensor([math.inf, 0.0])
    sam.ascent_step(allow_overflow=True)
    with nullcontext() if end is SAM.restore else pytest.raises(ValueError, match="no perturbed parameter has one"):
        end(sam)
    sam.rho = 0.0  # no ascent would notice that there is no overflow any more
    sam.step(closure)
    assert weight.tolist() == [1.5, 2.0]


@pytest.mark.parametrize("scale", [1024.0, 65536.0])
def test_gradients_unscaled_before_the_ascent_are_refused_at_the_descent(scale):
    sam, weight, closure = networks.small_sam()
    with pytest.raises(ValueError, match=r"unscale_\(\) before the descent"):
        _scaled_step(weight, sam, GradScaler("cpu", init_scale=scale), unscale_before="ascent")
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None
    sam.step(closure)  # nothing of the scaler is left behind
    networks.assert_stepped(weight)


def test_a_scale_that_falls_to_almost_nothing_is_no_sign_of_a_wrong_loop():
    (sam, scaled, _), (plain_sam, plain, closure) = networks.small_sam(), networks.small_sam()
    scaler = GradScaler("cpu", init_scale=1024.0)
    for _ in range(2):
        _scaled_step(scaled, sam, scaler, unscale_before="descent")
        plain_sam.step(closure)
        scaler.update(2.0**-7)
    torch.testing.assert_close(scaled, plain)


# ASAM's T is 0.01: T g is 0.05 long where g = (3, 4), a hundredth of g, and epsilon = 0.002 g.
@pytest.mark.parametrize("kind, start, end", [(SAM, [3.0, 4.0], [1.2, 1.6]), (ASAM, [0.0, 0.0], [-1.503, -2.004])])
def test_unscaling_in_time_at_a_scale_of_one_is_allowed(kind, start, end):
    weight = networks.parameter(start)
    goal = torch.tensor(start) - torch.tensor([3.0, 4.0])  # the gradient is (3, 4) at the start
    sam = kind([weight], rho=1.0, lr=0.5)
    _scaled_step(weight, sam, GradScaler("cpu", init_scale=1.0), unscale_before="descent", goal=goal)
    torch.testing.assert_close(weight.data, torch.tensor(end))


def test_closures_may_clip_as_lightning_does_where_no_optimiser_unscales_by_itself():
    sam, _, closure = networks.small_sam()
    asked = []
    sam.step(lambda: (asked.append(sam._step_supports_amp_scaling), closure())[1])
    assert asked == [False, False] and sam._step_supports_amp_scaling
