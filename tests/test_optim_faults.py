"""SAM where other implementations break: misuse, failures, unused parameters, zero and non-finite values."""

import copy
import math

import networks
import pytest
import torch
from torch import Tensor, nn

from samlib.optim import MSAM, SAM

# ---- weights are put back exactly


def test_restores_weights_exactly_and_keeps_storage():
    weight = nn.Parameter(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    before, address = weight.detach().clone(), weight.data_ptr()
    sam = SAM([weight], rho=0.3, lr=0.0)
    for _ in range(3):
        sam.step(lambda: networks.quadratic_backward(weight))
    assert torch.equal(weight, before)
    assert weight.data_ptr() == address


def test_parameter_used_only_in_the_second_pass_is_stepped_unperturbed():
    first, second = networks.parameter([3.0]), networks.parameter([4.0])
    sam = SAM([first, second], rho=1.0, lr=0.5)
    networks.quadratic_backward(first)
    sam.ascent_step()
    assert second.item() == 4.0
    networks.quadratic_backward(second)
    sam.descent_step()
    assert first.item() == 3.0
    assert second.item() == 2.0


def test_parameter_without_gradient_keeps_no_stale_perturbation():
    first, second = networks.parameter([3.0]), networks.parameter([4.0])
    sam = SAM([first, second], rho=1.0, lr=0.0)
    sam.step(lambda: networks.quadratic_backward(first) + networks.quadratic_backward(second))
    networks.quadratic_backward(first)
    sam.ascent_step()
    assert (first.item(), second.item()) == (4.0, 4.0)  # the whole radius on the first, none on the second


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_closure_that_fails_in_the_second_pass_leaves_the_weights_at_w(error):
    network = networks.normalised_network()
    sam = SAM(network.parameters(), rho=0.5, lr=0.1, module=network)
    before = networks.weights(network)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        loss = networks.backward(network(networks.inputs()).square().mean())
        if len(calls) == 2:
            raise error("failed at the phantom")
        return loss

    with pytest.raises(error, match="failed at the phantom"):
        sam.step(closure)
    assert torch.equal(networks.weights(network), before)
    assert not sam.at_phantom and network[1].track_running_stats
    sam.step(closure)  # and the next step works
    assert len(calls) == 4


def test_an_ascent_that_fails_half_way_leaves_the_weights_at_w(monkeypatch):
    sam, weight, closure = networks.small_sam()

    def fail(parameters: list[Tensor], *_: object) -> None:
        parameters[0].add_(1.0)
        raise RuntimeError("failed between two tensors")

    monkeypatch.setattr(sam, "_move", fail)
    closure()
    with pytest.raises(RuntimeError, match="between two tensors"):
        sam.ascent_step()
    assert weight.tolist() == [3.0, 4.0] and not sam.at_phantom


def test_restore_after_the_callers_own_failure_goes_back_to_w():
    sam, weight, closure = networks.small_sam()
    closure()
    sam.ascent_step()
    closure()
    sam.restore()
    sam.restore()
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None and not sam.at_phantom


# ---- gradients: missing, stale, out of order


def test_gradients_from_before_the_step_are_dropped_with_one_warning_unless_they_are_zero():
    sam, weight, closure = networks.small_sam(lr=0.0)
    weight.grad = torch.zeros(2)  # what zero_grad(set_to_none=False) leaves: no reason to warn
    sam.step(closure)
    sam.param_groups[0]["lr"] = 0.5
    weight.grad = torch.tensor([-100.0, 7.0])  # left over from elsewhere
    with pytest.warns(UserWarning, match="To accumulate"):
        sam.step(closure)
    networks.assert_stepped(weight)
    weight.grad = torch.tensor([-100.0, 7.0])
    sam.step(closure)  # warned once: a second warning would be an error


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("kind", [SAM, MSAM])
def test_the_warning_of_dropped_gradients_points_at_the_callers_line(kind, hooked):
    sam, weight, closure = networks.small_sam(kind)
    if hooked:  # torch then wraps the step once more
        sam.register_step_post_hook(lambda *_: None)
    weight.grad = torch.tensor([-100.0, 7.0])
    with pytest.warns(UserWarning, match="To accumulate") as caught:
        sam.step([closure] if kind is MSAM else closure)
    assert caught[0].filename == __file__


NO_DESCENT = "had no descent. They are now back at w. Call descent_step"
OUT_OF_ORDER = {  # what was called before, the call, the error's words
    "ascent without gradient": ((), SAM.ascent_step, r"no perturbed parameter has one. Call loss.backward\(\) first"),
    "closure without backward": ((), lambda sam: sam.step(lambda: torch.ones(())), "in a closure, before it returns"),
    "step without ascent": (("backward",), SAM.step, "expects an ascent_step"),
    "descent without ascent": (("backward",), SAM.descent_step, "expects an ascent_step"),
    "descent without new gradients": (("backward", "ascent"), SAM.descent_step, "made since the last step"),
    "second ascent": (("backward", "ascent", "backward"), SAM.ascent_step, NO_DESCENT),
    "closure after ascent": (("backward", "ascent", "backward"), lambda sam: sam.step(lambda: None), NO_DESCENT),
}


@pytest.mark.parametrize("before, call, words", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_steps_out_of_order_are_refused_with_advice_at_w(before, call, words):
    sam, weight, closure = networks.small_sam()
    for act in before:
        closure() if act == "backward" else sam.ascent_step()
    with pytest.raises(ValueError, match=words):
        call(sam)
    assert weight.tolist() == [3.0, 4.0] and not sam.at_phantom


def test_saving_loading_and_copying_at_the_phantom_are_refused():
    sam, _, closure = networks.small_sam()
    saved = sam.state_dict()
    closure()
    sam.ascent_step()
    for call in (sam.state_dict, lambda: sam.load_state_dict(saved), lambda: copy.deepcopy(sam)):
        with pytest.raises(ValueError, match=r"Call descent_step\(\) or restore\(\) first"):
            call()


# ---- zero, tiny and non-finite values


@pytest.mark.parametrize("check_finite", [True, False])
def test_zero_gradient_gives_no_perturbation_and_the_base_step_is_taken(check_finite):
    sam, weight, _ = networks.small_sam(weight_decay=0.1, momentum=0.9, check_finite=check_finite)
    (0 * weight).sum().backward()
    sam.ascent_step()
    assert weight.tolist() == [3.0, 4.0]
    (0 * weight).sum().backward()
    sam.descent_step()
    torch.testing.assert_close(weight.data, torch.tensor([2.85, 3.8]))  # w - 0.5 * 0.1 w: decay acts, and at w
    assert "momentum_buffer" in sam.state[weight]


@pytest.mark.parametrize("length", [3e-38, 2e-22, 1e-18, 1.0, 1e19, 1e38])  # squares leave float32's range
@pytest.mark.parametrize("n_numbers, n_stored", [(2, 2), (20_000, 20_000), (4, 1)])  # the last: one number, expanded
def test_a_gradient_of_any_length_gives_a_perturbation_of_the_radius(length, n_numbers, n_stored):
    weight = nn.Parameter(torch.zeros(n_numbers))
    number = length / math.sqrt(n_numbers) if length > 1e-30 else length
    weight.grad = torch.full((n_stored,), number).expand(n_numbers)
    SAM([weight], rho=1.0, lr=0.5).ascent_step()
    torch.testing.assert_close(weight.data, torch.full_like(weight, n_numbers**-0.5), rtol=1e-4, atol=0)


def test_a_gradient_below_the_normal_numbers_counts_as_zero():
    sam, weight, _ = networks.small_sam()
    weight.grad = torch.tensor([1e-42, 0.0])
    sam.ascent_step()
    assert weight.tolist() == [3.0, 4.0]


def test_step_with_zero_loss_is_not_skipped():
    # loss = w^2 / 2 - 1/2 is 0 at w = 1, its gradient is 1: phantom 1.5, step 1 - 0.1 * 1.5.
    weight = networks.parameter([1.0])
    sam = SAM([weight], rho=0.5, lr=0.1)
    assert float(sam.step(lambda: networks.backward((weight**2).sum() / 2 - 0.5))) == 0.0
    assert weight.item() == pytest.approx(0.85)


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("failing_pass", [1, 2])
def test_non_finite_gradient_raises_and_leaves_weights_and_momentum_alone(value, failing_pass):
    sam, weight, _ = networks.small_sam(momentum=0.9)
    factors = iter([value, 1.0] if failing_pass == 1 else [1.0, value])
    with pytest.raises(ValueError, match=f"expects a finite gradient, its joint norm is {value}"):
        sam.step(lambda: networks.backward((weight * next(factors)).sum()))
    assert weight.tolist() == [3.0, 4.0] and weight.grad is None
    assert not sam.state[weight] and not sam.at_phantom


def test_sparse_gradient_raises_with_advice():
    table = nn.Embedding(3, 2, sparse=True)
    sam = SAM(table.parameters(), lr=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        sam.ascent_step()


# ---- parameters of mixed kinds in one list

_KINDS = {
    "single": torch.tensor([3.0, 4.0]),
    "double": torch.tensor([1.0], dtype=torch.float64),
    "half": torch.tensor([2.0, 1.0], dtype=torch.float16),
    "brain": torch.tensor([2.0], dtype=torch.bfloat16),
    "complex": torch.tensor([1.0 + 2.0j]),
    "complex_double": torch.tensor([1.0 - 1.0j], dtype=torch.complex128),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(2.0),
    "large": torch.linspace(-1, 1, 60_000).view(200, 300),
    "transposed": torch.arange(6.0).view(2, 3).t(),
}


@pytest.mark.parametrize("size, check_finite", [(1.0, True), (1.0, False), (1e-6, True), (1e-6, False), (1e-20, True)])
@pytest.mark.parametrize("kinds", [list(_KINDS), ["single", "complex"], ["single", "empty"], ["brain", "complex"],
                                   ["single", "large"], ["single", "transposed"]])  # fmt: skip
def test_parameters_of_mixed_kinds_share_one_norm(kinds, size, check_finite):
    weights = [nn.Parameter(torch.zeros_like(_KINDS[kind])) for kind in kinds]
    sam = SAM(weights, rho=0.5, lr=0.0, foreach=False, check_finite=check_finite)
    lengths = []
    for move in (sam.ascent_step, sam.descent_step):
        for weight, kind in zip(weights, kinds, strict=True):
            weight.grad = _KINDS[kind] * size
        move()
        lengths.append(math.sqrt(sum(float(weight.detach().abs().double().square().sum()) for weight in weights)))
    assert lengths == [pytest.approx(0.5, rel=0.02 if "half" in kinds or "brain" in kinds else 1e-6), 0.0]


@pytest.mark.parametrize("check_finite", [True, False])
@pytest.mark.parametrize("size", [1e-4, 1e-6])
def test_a_tiny_gradient_in_half_precision_is_scaled_to_the_radius(size, check_finite):
    weight, empty = (nn.Parameter(torch.zeros(n, dtype=torch.float16)) for n in (2, 0))
    sam = SAM([weight, empty], rho=0.5, lr=0.0, check_finite=check_finite)
    weight.grad, empty.grad = torch.full_like(weight, size), torch.zeros_like(empty)
    sam.ascent_step()
    assert weight.tolist() == pytest.approx([0.5 / math.sqrt(2)] * 2, rel=2e-3)


def test_half_precision_by_default_is_scaled_to_the_radius_too():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float16))
    sam = SAM([weight], rho=0.5, lr=0.0)
    weight.grad = torch.full_like(weight, 1e-6)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        sam.ascent_step()
    finally:
        torch.set_default_dtype(before)
    assert weight.tolist() == pytest.approx([0.5 / math.sqrt(2)] * 2, rel=2e-3)


def test_parameters_that_are_all_empty_or_zero_take_the_base_step():
    empty, weight = nn.Parameter(torch.empty(0)), networks.parameter([1.0])
    for parameters in ([empty], [empty, weight]):
        sam = SAM(parameters, rho=0.5, lr=0.1)
        sam.step(lambda: ((0 * empty).sum() + (0 * weight).sum()).backward())
    assert weight.item() == 1.0


# ---- closures that skip a batch or return more than a loss


@pytest.mark.parametrize("rho, skipping_pass", [(0.0, 1), (1.0, 1), (1.0, 2)])
def test_a_closure_that_skips_its_batch_takes_no_step(rho, skipping_pass):
    sam, weight, closure = networks.small_sam(rho=rho, momentum=0.9)
    calls = []

    def skipping() -> Tensor | None:
        calls.append(1)
        return None if len(calls) == skipping_pass else closure()

    sam.step(skipping)
    assert weight.tolist() == [3.0, 4.0] and not sam.state[weight] and not sam.at_phantom and weight.grad is None
    sam.step(closure)
    assert weight.tolist() != [3.0, 4.0]


def test_a_closure_that_forgets_to_return_its_loss_still_steps():
    sam, weight, closure = networks.small_sam()
    assert sam.step(lambda: closure() and None) is None
    networks.assert_stepped(weight)


def test_what_a_closure_returns_beside_the_loss_keeps_no_graph():
    sam, weight, closure = networks.small_sam()
    loss, outputs, name = sam.step(lambda: (closure(), {"outputs": weight * 2}, "name"))
    assert (loss.item(), outputs["outputs"].tolist(), name) == (12.5, [6.0, 8.0], "name")
    assert not loss.requires_grad and not outputs["outputs"].requires_grad


# ---- radii, bases and options that do not fit

OUT_OF_RANGE, NO_NUMBER = r"rho must be finite and at least 0, got .*Pass the perturbation", "rho must be a real number"
REFUSED = {  # building it, the error, its words
    "negative": (lambda w: SAM([w], rho=-0.1, lr=0.1), ValueError, OUT_OF_RANGE),
    "nan": (lambda w: SAM([w], rho=math.nan, lr=0.1), ValueError, OUT_OF_RANGE),
    "infinite": (lambda w: SAM([w], rho=math.inf, lr=0.1), ValueError, OUT_OF_RANGE),
    "set later": (lambda w: setattr(SAM([w], lr=0.1), "rho", -0.1), ValueError, OUT_OF_RANGE),
    "text": (lambda w: SAM([w], rho="0.1", lr=0.1), TypeError, NO_NUMBER),
    "truth": (lambda w: SAM([w], rho=True, lr=0.1), TypeError, NO_NUMBER),
    "none": (lambda w: SAM([w], rho=None, lr=0.1), TypeError, NO_NUMBER),
    "a group's": (lambda w: SAM([{"params": [w], "rho": 0.1}], lr=0.1), TypeError, "one number for all groups"),
    "an added group's": (
        lambda w: SAM([w], lr=0.1).add_param_group({"params": [networks.parameter([1.0])], "rho": 0.1}),
        TypeError,
        "one number for all groups",
    ),
    "an optimiser": (lambda w: SAM([w], torch.optim.SGD([w], lr=0.1)), TypeError, "Pass the class and its options"),
    "no optimiser": (lambda w: SAM([w], list), TypeError, "it gave a list"),
    "needs a closure": (lambda w: SAM([w], torch.optim.LBFGS, lr=0.1), TypeError, "without a closure, LBFGS needs one"),
    "perturbed": (
        lambda w: SAM([{"params": [w], "perturbed": 0.0}], lr=0.1),
        TypeError,
        "`perturbed` must be True or False",
    ),
}


@pytest.mark.parametrize("build, error, words", REFUSED.values(), ids=REFUSED)
def test_a_radius_or_base_that_cannot_be_is_refused_with_advice(build, error, words):
    with pytest.raises(error, match=words):
        build(networks.parameter([1.0]))


def test_a_groups_rho_is_the_bases_own_option_where_the_base_has_one():
    groups = [{"params": [networks.parameter([1.0])], "rho": 0.8}]
    assert SAM(groups, torch.optim.Adadelta).param_groups[0]["rho"] == 0.8
