"""SAM where other implementations break: misuse, failures, unused parameters, zero and non-finite values."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from samlib.optim import SAM

pytestmark = pytest.mark.filterwarnings("error")


def _parameter(values: list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def _quadratic_backward(weight: nn.Parameter) -> Tensor:
    loss = (weight**2).sum() / 2
    loss.backward()
    return loss


def _normalised_network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def _inputs() -> Tensor:
    return torch.randn(8, 2, generator=torch.Generator().manual_seed(1))


# ---- weights are put back exactly


def test_restores_weights_exactly_and_keeps_storage():
    weight = nn.Parameter(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    before, address = weight.detach().clone(), weight.data_ptr()
    sam = SAM([weight], torch.optim.SGD, rho=0.3, lr=0.0)
    for _ in range(3):
        sam.step(lambda: _quadratic_backward(weight))
    assert torch.equal(weight, before)
    assert weight.data_ptr() == address


def test_views_of_a_flat_buffer_stay_views():
    flat = torch.tensor([3.0, 4.0])
    weight = nn.Parameter(flat[:2])
    SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5).step(lambda: _quadratic_backward(weight))
    torch.testing.assert_close(flat, torch.tensor([1.2, 1.6]))


def test_parameter_unused_in_the_second_pass_is_restored():
    first, second = _parameter([3.0]), _parameter([4.0])
    sam = SAM([first, second], torch.optim.SGD, rho=1.0, lr=0.5)
    (first**2 / 2 + second**2 / 2).sum().backward()
    sam.ascent_step()
    assert second.item() == pytest.approx(4.8)
    _quadratic_backward(first)
    sam.descent_step()
    assert second.item() == 4.0
    assert first.item() == pytest.approx(3 - 0.5 * 3.6)


def test_parameter_used_only_in_the_second_pass_is_stepped_unperturbed():
    first, second = _parameter([3.0]), _parameter([4.0])
    sam = SAM([first, second], torch.optim.SGD, rho=1.0, lr=0.5)
    _quadratic_backward(first)
    sam.ascent_step()
    assert second.item() == 4.0
    _quadratic_backward(second)
    sam.descent_step()
    assert first.item() == 3.0
    assert second.item() == 2.0


def test_parameter_without_gradient_keeps_no_stale_perturbation():
    first, second = _parameter([3.0]), _parameter([4.0])
    sam = SAM([first, second], torch.optim.SGD, rho=1.0, lr=0.0)
    sam.step(lambda: _quadratic_backward(first) + _quadratic_backward(second))
    _quadratic_backward(first)
    sam.ascent_step()
    assert (first.item(), second.item()) == (4.0, 4.0)  # the whole radius on the first, none on the second


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_closure_that_fails_in_the_second_pass_leaves_the_weights_at_w(error):
    network = _normalised_network()
    sam = SAM(network.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, module=network)
    before = copy.deepcopy(list(network.parameters()))
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        loss = network(_inputs()).square().mean()
        loss.backward()
        if len(calls) == 2:
            raise error("failed at the phantom")
        return loss

    with pytest.raises(error, match="failed at the phantom"):
        sam.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    assert not sam.at_phantom and network[1].track_running_stats
    sam.step(closure)  # and the next step works
    assert len(calls) == 4


def test_restore_after_the_callers_own_failure_goes_back_to_w():
    weight = _parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    _quadratic_backward(weight)
    sam.ascent_step()
    _quadratic_backward(weight)
    sam.restore()
    sam.restore()
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None and not sam.at_phantom


# ---- gradients: missing, stale, out of order


def test_torch_closure_uses_only_gradients_it_makes():
    weight = _parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    weight.grad = torch.tensor([-100.0, 7.0])  # left over from elsewhere
    with pytest.warns(UserWarning, match="To accumulate"):
        sam.step(lambda: _quadratic_backward(weight))
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6]))
    weight.grad = torch.tensor([-100.0, 7.0])
    sam.step(lambda: _quadratic_backward(weight))  # warned once: no second warning, which would be an error here


def test_gradients_that_are_zero_before_the_step_are_no_reason_to_warn():
    weight = _parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    weight.grad = torch.zeros(2)  # what zero_grad(set_to_none=False) leaves
    sam.step(lambda: _quadratic_backward(weight))
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6]))


def test_torch_closure_without_a_prior_gradient_is_not_plain_sgd():
    weight = _parameter([3.0, 4.0])
    SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5).step(lambda: _quadratic_backward(weight))
    assert not torch.allclose(weight, torch.tensor([1.5, 2.0]))


def test_gradients_are_cleared_once_used():
    weight = _parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    _quadratic_backward(weight)
    sam.ascent_step()
    assert weight.grad is None
    _quadratic_backward(weight)
    sam.descent_step()
    assert weight.grad is None


def test_ascent_without_gradient_raises_with_advice():
    with pytest.raises(ValueError, match=r"no parameter has one. Call loss.backward\(\) first"):
        SAM([_parameter([1.0])], lr=0.1).ascent_step()


def test_closure_without_backward_raises_with_advice():
    weight = _parameter([1.0])
    with pytest.raises(ValueError, match="in a closure, before it returns"):
        SAM([weight], lr=0.1).step(lambda: (weight**2).sum())


def test_descent_without_ascent_raises_and_takes_no_step():
    weight = _parameter([3.0])
    sam = SAM([weight], lr=0.1)
    _quadratic_backward(weight)
    with pytest.raises(ValueError, match="expects an ascent_step"):
        sam.step()
    with pytest.raises(ValueError, match="expects an ascent_step"):
        sam.descent_step()
    assert weight.item() == 3.0


def test_descent_without_new_gradients_raises_and_restores():
    weight = _parameter([3.0])
    sam = SAM([weight], lr=0.1, rho=1.0)
    _quadratic_backward(weight)
    sam.ascent_step()
    with pytest.raises(ValueError, match="made since the last step"):
        sam.descent_step()
    assert weight.item() == 3.0


@pytest.mark.parametrize("call", [lambda sam: sam.ascent_step(), lambda sam: sam.step(lambda: None)])
def test_second_ascent_raises_and_restores(call):
    weight = _parameter([3.0])
    sam = SAM([weight], lr=0.1, rho=1.0)
    _quadratic_backward(weight)
    sam.ascent_step()
    _quadratic_backward(weight)
    with pytest.raises(ValueError, match=r"had no descent. They are now back at w. Call descent_step"):
        call(sam)
    assert weight.item() == 3.0


def test_saving_loading_and_copying_at_the_phantom_are_refused():
    weight = _parameter([3.0])
    sam = SAM([weight], lr=0.1, rho=1.0)
    saved = sam.state_dict()
    _quadratic_backward(weight)
    sam.ascent_step()
    for call in (sam.state_dict, lambda: sam.load_state_dict(saved), lambda: copy.deepcopy(sam)):
        with pytest.raises(ValueError, match=r"Call descent_step\(\) or restore\(\) first"):
            call()


# ---- zero, tiny and non-finite values


@pytest.mark.parametrize("check_finite", [True, False])
def test_zero_gradient_gives_no_perturbation_and_the_base_step_is_taken(check_finite):
    weight = _parameter([0.0, 2.0])
    sam = SAM(
        [weight],
        torch.optim.SGD,
        rho=1.0,
        lr=0.5,
        weight_decay=0.1,
        momentum=0.9,
        check_finite=check_finite,
    )
    (0 * weight).sum().backward()
    sam.ascent_step()
    assert weight.tolist() == [0.0, 2.0]
    (0 * weight).sum().backward()
    sam.descent_step()
    torch.testing.assert_close(weight.data, torch.tensor([0.0, 1.9]))
    assert "momentum_buffer" in sam.state[weight]


@pytest.mark.parametrize("size", [1e-36, 1e-15, 1e25])
def test_tiny_or_huge_gradient_gives_the_same_radius(size):
    weight = _parameter([0.0, 0.0])  # at 1e-36 and 1e25 the squares leave float32's range
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    (weight * torch.tensor([3 * size, 4 * size])).sum().backward()
    sam.ascent_step()
    torch.testing.assert_close(weight.data, torch.tensor([0.6, 0.8]))


def test_gradient_below_the_normal_numbers_counts_as_zero():
    weight = _parameter([0.0, 0.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5)
    (weight * torch.tensor([1e-42, 0.0])).sum().backward()
    sam.ascent_step()
    assert weight.tolist() == [0.0, 0.0]


def test_step_with_zero_loss_is_not_skipped():
    # loss = w^2 / 2 - 1/2 is 0 at w = 1, its gradient is 1: phantom 1.5, step 1 - 0.1 * 1.5.
    weight = _parameter([1.0])

    def closure() -> Tensor:
        loss = (weight**2).sum() / 2 - 0.5
        loss.backward()
        return loss

    assert float(SAM([weight], torch.optim.SGD, rho=0.5, lr=0.1).step(closure)) == 0.0
    assert weight.item() == pytest.approx(0.85)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("failing_pass", [1, 2])
def test_non_finite_gradient_raises_and_leaves_weights_and_momentum_alone(value, failing_pass):
    weight = _parameter([3.0, 4.0])
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5, momentum=0.9)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        loss = (weight * (value if len(calls) == failing_pass else 1.0)).sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=f"expects a finite gradient, its joint norm is {value}"):
        sam.step(closure)
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None
    assert not sam.state[weight] and not sam.at_phantom


def test_sparse_gradient_raises_with_advice():
    table = nn.Embedding(3, 2, sparse=True)
    sam = SAM(table.parameters(), torch.optim.SGD, lr=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        sam.ascent_step()


@pytest.mark.parametrize("rho", [-0.1, math.nan, math.inf])
def test_radius_out_of_range_raises_with_advice(rho):
    with pytest.raises(ValueError, match=r"rho must be finite and at least 0, got .*Pass the perturbation"):
        SAM([_parameter([1.0])], rho=rho, lr=0.1)
    sam = SAM([_parameter([1.0])], lr=0.1)
    with pytest.raises(ValueError, match="at least 0"):
        sam.rho = rho


@pytest.mark.parametrize("rho", ["0.1", True, None])
def test_radius_of_another_type_raises(rho):
    with pytest.raises(TypeError, match="rho must be a real number"):
        SAM([_parameter([1.0])], rho=rho, lr=0.1)


def test_base_that_is_no_optimiser_raises_with_advice():
    weight = _parameter([1.0])
    with pytest.raises(TypeError, match="Pass the class and its options"):
        SAM([weight], torch.optim.SGD([weight], lr=0.1))
    with pytest.raises(TypeError, match="it gave a list"):
        SAM([weight], list)
    with pytest.raises(TypeError, match="`perturbed` must be True or False"):
        SAM([{"params": [weight], "perturbed": 0.0}], lr=0.1)
