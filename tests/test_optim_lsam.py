"""LSAM: Equation (5) in one pass, against a slow two-pass reference."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlib.optim import LSAM, SAM, lsam_loss

pytestmark = pytest.mark.filterwarnings("error")


def _parts(n_classes: int, *, bias: bool, dtype: torch.dtype) -> tuple[nn.Sequential, nn.Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        return trunk.to(dtype), nn.Linear(6, n_classes, bias=bias).to(dtype)


def _batch(loss: str, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 4, generator=generator, dtype=dtype)
    if loss == "logistic":
        return inputs, 2 * torch.randint(0, 2, (8,), generator=generator) - 1
    return inputs, torch.randint(0, 3, (8,), generator=generator)


def _plain_loss(logits: Tensor, targets: Tensor, loss: str) -> Tensor:
    if loss == "logistic":
        return torch.log(1 + torch.exp(-targets * logits[:, 0])).mean()
    return -torch.log_softmax(logits, 1)[range(len(targets)), targets].mean()


def _two_pass_gradients(trunk, head, inputs, targets, *, rho, loss):
    """Reference: autograd for the head at w, the head moved, a second forward and backward."""
    parameters, last = [*trunk.parameters(), *head.parameters()], list(head.parameters())
    gradients = torch.autograd.grad(_plain_loss(head(trunk(inputs)), targets, loss), last)
    norm = sum((g**2).sum() for g in gradients).sqrt()
    saved = [p.detach().clone() for p in last]
    with torch.no_grad():
        for p, g in zip(last, gradients, strict=True):
            p.add_(rho * g / norm)
    phantom = torch.autograd.grad(_plain_loss(head(trunk(inputs)), targets, loss), parameters)
    with torch.no_grad():
        for p, w in zip(last, saved, strict=True):
            p.copy_(w)
    return phantom


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss, n_classes", [("logistic", 1), ("cross_entropy", 3)])
def test_one_pass_equals_two_passes(loss, n_classes, bias, dtype, tolerance):
    trunk, head = _parts(n_classes, bias=bias, dtype=dtype)
    inputs, targets = _batch(loss, dtype)
    expected = _two_pass_gradients(*copy.deepcopy((trunk, head)), inputs, targets, rho=0.4, loss=loss)
    clean = _plain_loss(head(copy.deepcopy(trunk)(inputs)), targets, loss)
    result = lsam_loss(trunk(inputs), head, targets, rho=0.4, loss=loss)
    result.loss.backward()
    for parameter, gradient in zip([*trunk.parameters(), *head.parameters()], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=tolerance)
    torch.testing.assert_close(result.clean_loss, clean.detach(), rtol=0, atol=tolerance)
    assert int(trunk[1].num_batches_tracked) == 1


def test_perturbation_by_hand_for_one_example():
    # v = 0: lambda = 1/2, g = -y/2 Phi, so epsilon = -rho y Phi / ||Phi|| = (-3, -4) at rho 5, Phi (3, 4).
    head = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(head.weight)
    result = lsam_loss(torch.tensor([[3.0, 4.0]]), head, torch.tensor([1.0]), rho=5.0, loss="logistic")
    torch.testing.assert_close(result.weight_perturbation, torch.tensor([[-3.0, -4.0]]))
    assert float(result.clean_loss) == pytest.approx(math.log(2))
    assert float(result.loss.detach()) == pytest.approx(math.log(1 + math.exp(25)))  # f at v~ is -25
    assert result.bias_perturbation is None and float(result.logits) == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_a_class_that_is_all_but_certain_keeps_its_residual_in_half_precision(dtype, autocast):
    # Logits 10, 0, 0: r = q (-2, 1, 1) with q = e^-10 / (1 + 2 e^-10). In half precision p(y) rounds to 1.
    head = nn.Linear(1, 3, bias=False)
    head.weight.data = torch.tensor([[10.0], [0.0], [0.0]])
    features = torch.ones(1, 1)
    if not autocast:
        head, features = head.to(dtype), features.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        result = lsam_loss(features, head, torch.tensor([0]), rho=6**0.5)
    expected = torch.tensor([[-2.0], [1.0], [1.0]])
    torch.testing.assert_close(result.weight_perturbation.float(), expected, rtol=1e-3, atol=0)
    assert float(result.clean_loss) == pytest.approx(2 * math.exp(-10), rel=1e-3)


def test_perturbation_norm_equals_rho_over_weight_and_bias_jointly():
    trunk, head = _parts(3, bias=True, dtype=torch.float64)
    inputs, targets = _batch("cross_entropy", torch.float64)
    result = lsam_loss(trunk(inputs), head, targets, rho=0.7)
    norm = (result.weight_perturbation**2).sum() + (result.bias_perturbation**2).sum()
    assert float(norm.sqrt()) == pytest.approx(0.7, abs=1e-12)


def test_steps_equal_sam_with_an_unperturbed_trunk():
    trunk, head = _parts(3, bias=True, dtype=torch.float64)
    other_trunk, other_head = copy.deepcopy((trunk, head))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], **options)
    lsam = LSAM(trunk, head, optimizer, rho=0.3)
    groups = [
        {"params": other_trunk.parameters(), "perturbed": False},
        {"params": other_head.parameters()},
    ]
    sam = SAM(groups, torch.optim.SGD, rho=0.3, module=other_trunk, **options)
    for seed in range(50):
        inputs, targets = _batch("cross_entropy", torch.float64, seed)

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            loss = F.cross_entropy(other_head(other_trunk(inputs)), targets)
            loss.backward()
            return loss

        torch.testing.assert_close(lsam.step(inputs, targets), sam.step(closure), rtol=0, atol=1e-11)
        for a, b in zip(
            optimizer.param_groups[0]["params"],
            [*other_trunk.parameters(), *other_head.parameters()],
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
        torch.testing.assert_close(trunk[1].running_var, other_trunk[1].running_var, rtol=0, atol=1e-11)
    assert int(trunk[1].num_batches_tracked) == 50


def test_radius_zero_is_the_ordinary_step_bit_for_bit():
    trunk, head = _parts(3, bias=True, dtype=torch.float64)
    inputs, targets = _batch("cross_entropy", torch.float64)
    other_trunk, other_head = copy.deepcopy((trunk, head))
    lsam_loss(trunk(inputs), head, targets, rho=0.0).loss.backward()
    F.cross_entropy(other_head(other_trunk(inputs)), targets).backward()
    for a, b in zip(trunk.parameters(), other_trunk.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert torch.equal(head.weight.grad, other_head.weight.grad)


def test_zero_features_give_no_perturbation_and_no_nan():
    head = nn.Linear(2, 1, bias=False)
    result = lsam_loss(torch.zeros(3, 2), head, torch.ones(3), rho=1.0, loss="logistic")
    assert result.weight_perturbation.tolist() == [[0.0, 0.0]]
    assert float(result.loss.detach()) == pytest.approx(math.log(2))


def test_head_itself_is_never_moved_by_the_loss():
    trunk, head = _parts(3, bias=True, dtype=torch.float32)
    before = copy.deepcopy(head.state_dict())
    inputs, targets = _batch("cross_entropy", torch.float32)
    lsam_loss(trunk(inputs), head, targets, rho=0.5).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_trunk_runs_once_a_step():
    trunk, head = _parts(3, bias=True, dtype=torch.float32)
    calls = []
    trunk.register_forward_hook(lambda *_: calls.append(1))
    optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.1)
    LSAM(trunk, head, optimizer, rho=0.5).step(*_batch("cross_entropy", torch.float32))
    assert len(calls) == 1


def test_integer_and_float_labels_agree():
    _, head = _parts(1, bias=True, dtype=torch.float64)
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = _batch("logistic", torch.float64)[1]
    losses = [lsam_loss(features, head, t, rho=0.2, loss="logistic").loss for t in (labels, labels.float())]
    assert torch.equal(*losses)


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [0.5, 1.0], [math.nan, 1.0]])
def test_logistic_labels_other_than_plus_and_minus_one_raise_with_advice(labels):
    head = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"expects labels -1 and \+1, got values .*2 \* targets - 1"):
        lsam_loss(torch.ones(2, 2), head, torch.tensor(labels), rho=0.1, loss="logistic")


def test_a_radius_out_of_range_is_refused_before_the_first_step():
    head = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="rho must be finite and at least 0"):
        LSAM(nn.Identity(), head, torch.optim.SGD(head.parameters(), lr=0.1), rho=-0.1)


@pytest.mark.parametrize(
    "features, n_classes, targets, options, message",
    [
        ((2, 3), 3, [0, 1], {}, r"features must have shape \(batch, 2\)"),
        ((2, 2, 1), 3, [0, 1], {}, r"features must have shape"),
        ((0, 2), 3, [], {}, r"at least one example, got .*\(0, 2\).*Skip empty batches"),
        ((2, 2), 3, [0, 1, 2], {}, r"targets must have shape \(2,\)"),
        ((2, 2), 3, [0.0, 1.0], {}, "int64"),
        ((2, 2), 3, [-1, 1], {"loss": "logistic"}, "a head with one output, got 3"),
        ((2, 2), 3, [0, 1], {"loss": "hinge"}, "loss must be 'cross_entropy' or 'logistic', got 'hinge'"),
        ((2, 2), 3, [0, 1], {"rho": -0.1}, "rho must be finite and at least 0"),
        ((2, 2), 3, [0, 1], {"rho": math.nan}, "rho must be finite and at least 0"),
        ((2, 2), 3, [0, 1], {"rho": math.inf}, "rho must be finite and at least 0"),
    ],
)
def test_parts_that_do_not_fit_raise(features, n_classes, targets, options, message):
    with pytest.raises(ValueError, match=message):
        lsam_loss(torch.ones(features), nn.Linear(2, n_classes), torch.tensor(targets), **{"rho": 0.1} | options)


def test_non_finite_gradient_raises_and_leaves_the_weights_alone():
    head = nn.Linear(2, 3)
    before = head.weight.detach().clone()
    lsam = LSAM(nn.Identity(), head, torch.optim.SGD(head.parameters(), lr=0.1), rho=0.1)
    with pytest.raises(ValueError, match="expects a finite gradient"):
        lsam.step(torch.tensor([[math.inf, 1.0]]), torch.tensor([0]))
    assert torch.equal(head.weight, before) and head.weight.grad is None
