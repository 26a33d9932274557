"""SAM under a GradScaler and inside a compiled function."""

import math

import networks
import pytest
import torch
from torch import Tensor, nn

from samlib.optim import ASAM, SAM

pytestmark = pytest.mark.filterwarnings("error")


def _scaled_step(weight: nn.Parameter, sam: SAM, scaler: torch.amp.GradScaler, overflow_in: int = 0) -> None:
    """The documented recipe; the loss overflows in the given pass (0: in none)."""
    factors = [math.inf if n == overflow_in else 1.0 for n in (1, 2)]
    scaler.scale((weight**2).sum() / 2 * factors[0]).backward()
    sam.ascent_step(allow_overflow=True)
    scaler.scale((weight**2).sum() / 2 * factors[1]).backward()
    scaler.step(sam)
    scaler.update()


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_grad_scaler_recipe_equals_the_unscaled_step(base):
    scaled, plain = networks.parameter([3.0, 4.0]), networks.parameter([3.0, 4.0])
    sam_scaled, sam_plain = SAM([scaled], base, rho=1.0, lr=0.5), SAM([plain], base, rho=1.0, lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        _scaled_step(scaled, sam_scaled, scaler)
        sam_plain.step(lambda: networks.quadratic_backward(plain))
    torch.testing.assert_close(scaled, plain)


@pytest.mark.parametrize("overflow_in", [1, 2])
def test_grad_scaler_skips_a_step_that_overflows_and_recovers(overflow_in):
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    _scaled_step(weight, sam, scaler, overflow_in)
    assert weight.tolist() == [3.0, 4.0] and not sam.state[weight] and not sam.at_phantom
    _scaled_step(weight, sam, scaler)
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6]))


def test_grad_scaler_backs_off_where_the_scale_itself_overflows():
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    _scaled_step(weight, sam, scaler)
    assert weight.tolist() == [3.0, 4.0] and scaler.get_scale() == 2.0**126


def test_grad_scaler_with_clipping_unscales_once():
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((weight**2).sum() / 2).backward()
    sam.ascent_step(allow_overflow=True)
    scaler.scale((weight**2).sum() / 2).backward()
    scaler.unscale_(sam)
    nn.utils.clip_grad_norm_([weight], 1.0)
    scaler.step(sam)
    scaler.update()
    torch.testing.assert_close(weight.data, torch.tensor([2.7, 3.6]), rtol=1e-5, atol=0)


def test_disabled_grad_scaler_changes_nothing():
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    _scaled_step(weight, sam, torch.amp.GradScaler("cpu", enabled=False))
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6]))


def test_closure_under_a_grad_scaler_raises_with_advice():
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, lr=0.5)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weight**2).sum()).backward()
    with pytest.raises(ValueError, match=r"expects no closure, one was passed. Use ascent_step"):
        scaler.step(sam, lambda: networks.quadratic_backward(weight))
    sam.zero_grad()
    sam.step(lambda: networks.quadratic_backward(weight))  # without the scaler, it is welcome


def test_restore_forgets_an_overflow():
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    weight.grad = torch.tensor([math.inf, 0.0])
    sam.ascent_step(allow_overflow=True)
    sam.restore()
    sam.rho = 0.0  # no ascent would notice that there is no overflow any more
    sam.step(lambda: networks.quadratic_backward(weight))
    assert weight.tolist() == [1.5, 2.0]


def test_compiled_training_function_takes_the_same_steps():
    compiled_weight, weight = networks.parameter([3.0, 4.0]), networks.parameter([3.0, 4.0])
    sam_compiled, sam = (SAM([w], torch.optim.SGD, rho=1.0, lr=0.1) for w in (compiled_weight, weight))

    def train(w: nn.Parameter, optimizer: SAM) -> None:
        (w**2).sum().div(2).backward()
        optimizer.ascent_step()
        (w**2).sum().div(2).backward()
        optimizer.descent_step()

    compiled = torch.compile(train, backend="eager")
    for _ in range(3):
        compiled(compiled_weight, sam_compiled)
        train(weight, sam)
    assert torch.equal(compiled_weight, weight)
    torch._dynamo.reset()


@pytest.mark.parametrize("scale", [1024.0, 65536.0])
def test_gradients_unscaled_before_the_ascent_are_refused_at_the_descent(scale):
    weight = networks.parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale((weight**2).sum() / 2).backward()
    scaler.unscale_(sam)
    sam.ascent_step(allow_overflow=True)
    scaler.scale((weight**2).sum() / 2).backward()
    with pytest.raises(ValueError, match=r"unscale_\(\) before the descent"):
        scaler.step(sam)
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None
    sam.step(lambda: networks.quadratic_backward(weight))  # nothing of the scaler is left behind
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6]))


# ASAM's T is 0.01: T g is 0.05 long where g = (3, 4), a hundredth of g, and epsilon = 0.002 g.
@pytest.mark.parametrize("kind, start, end", [(SAM, [3.0, 4.0], [1.2, 1.6]), (ASAM, [0.0, 0.0], [-1.503, -2.004])])
def test_unscaling_in_time_at_a_scale_of_one_is_allowed(kind, start, end):
    weight = networks.parameter(start)
    shift = torch.tensor(start) - torch.tensor([3.0, 4.0])  # the gradient is (3, 4) at the start
    sam = kind([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale(((weight - shift) ** 2).sum() / 2).backward()
    sam.ascent_step(allow_overflow=True)
    scaler.scale(((weight - shift) ** 2).sum() / 2).backward()
    scaler.unscale_(sam)
    scaler.step(sam)
    torch.testing.assert_close(weight.data, torch.tensor(end))


def test_closures_may_clip_as_lightning_does_where_no_optimiser_unscales_by_itself():
    weight, asked = networks.parameter([3.0, 4.0]), []
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)

    def closure() -> Tensor:
        asked.append(sam._step_supports_amp_scaling)
        return networks.quadratic_backward(weight)

    sam.step(closure)
    assert asked == [False, False] and sam._step_supports_amp_scaling
