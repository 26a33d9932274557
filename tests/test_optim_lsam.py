"""LSAM: Equation (5) in one pass, against a slow two-pass reference."""

import copy
import math
import pickle

import networks
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samlib.optim import LSAM, SAM, lsam_loss


def _parts(n_classes: int = 3, *, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A trunk with batch norm, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        return nn.Sequential(trunk, nn.Linear(6, n_classes, bias=bias)).to(dtype)


def _batch(loss: str = "cross_entropy", dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 4, generator=generator, dtype=dtype)
    if loss == "logistic":
        return inputs, 2 * torch.randint(0, 2, (8,), generator=generator) - 1
    return inputs, torch.randint(0, 3, (8,), generator=generator)


def _plain_loss(logits: Tensor, targets: Tensor, loss: str) -> Tensor:
    if loss == "logistic":
        return torch.log(1 + torch.exp(-targets * logits[:, 0])).mean()
    return -torch.log_softmax(logits, 1)[range(len(targets)), targets].mean()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss, n_classes", [("logistic", 1), ("cross_entropy", 3)])
def test_one_pass_equals_two_passes_and_never_moves_the_head(loss, n_classes, bias, dtype, tolerance):
    network = _parts(n_classes, bias=bias, dtype=dtype)
    (trunk, head), twin = network, copy.deepcopy(network)
    inputs, targets = _batch(loss, dtype)
    clean = _plain_loss(copy.deepcopy(twin)(inputs), targets, loss)
    expected = networks.phantom_gradients(
        lambda: _plain_loss(twin(inputs), targets, loss),
        list(twin.parameters()),
        perturbed=list(twin[1].parameters()),
        rho=0.4,
    )
    result = lsam_loss(trunk(inputs), head, targets, rho=0.4, loss=loss)
    result.loss.backward()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=tolerance)
    torch.testing.assert_close(result.clean_loss, clean.detach(), rtol=0, atol=tolerance)
    epsilon = [result.weight_perturbation] + ([result.bias_perturbation] if bias else [])
    assert sum(float((each**2).sum()) for each in epsilon) ** 0.5 == pytest.approx(0.4, abs=tolerance)
    assert int(trunk[1].num_batches_tracked) == 1
    assert torch.equal(networks.weights(network), networks.weights(_parts(n_classes, bias=bias, dtype=dtype)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_perturbation_by_hand_for_one_example(dtype):
    # v = 0: lambda = 1/2, g = -y/2 Phi, so epsilon = -rho y Phi / ||Phi|| = (-3, -4) at rho 5, Phi (3, 4).
    head = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(head.weight)
    labels = torch.tensor([1], dtype=dtype)
    result = lsam_loss(torch.tensor([[3.0, 4.0]]), head, labels, rho=5.0, loss="logistic")
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


def test_steps_equal_sam_with_an_unperturbed_trunk():
    network, other = _parts(), _parts()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    lsam = LSAM(*network, torch.optim.SGD(network.parameters(), **options), rho=0.3)
    groups = [{"params": other[0].parameters(), "perturbed": False}, {"params": other[1].parameters()}]
    sam = SAM(groups, rho=0.3, module=other[0], **options)
    for seed in range(50):
        inputs, targets = _batch(seed=seed)
        loss = sam.step(lambda x=inputs, y=targets: networks.backward(F.cross_entropy(other(x), y)))
        torch.testing.assert_close(lsam.step(inputs, targets), loss, rtol=0, atol=1e-11)
        torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=0, atol=1e-11)
    assert int(network[0][1].num_batches_tracked) == 50


def test_radius_zero_is_the_ordinary_step_bit_for_bit():
    (trunk, head), other = _parts(), _parts()
    inputs, targets = _batch()
    lsam_loss(trunk(inputs), head, targets, rho=0.0).loss.backward()
    F.cross_entropy(other(inputs), targets).backward()
    for a, b in zip([*trunk.parameters(), *head.parameters()], other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_zero_features_give_no_perturbation_and_no_nan():
    head = nn.Linear(2, 1, bias=False)
    result = lsam_loss(torch.zeros(3, 2), head, torch.ones(3), rho=1.0, loss="logistic")
    assert result.weight_perturbation.tolist() == [[0.0, 0.0]]
    assert float(result.loss.detach()) == pytest.approx(math.log(2))


# ---- what is refused

LABELS = r"expects labels -1 and \+1, got values .*2 \* targets - 1"


@pytest.mark.parametrize(
    "features, n_classes, targets, options, message",
    [
        ((2, 3), 3, [0, 1], {}, r"features must have shape \(batch, 2\)"),
        ((2, 2, 1), 3, [0, 1], {}, r"features must have shape"),
        ((0, 2), 3, [], {}, r"at least one example, got .*\(0, 2\).*Skip empty batches"),
        ((2, 2), 3, [0, 1, 2], {}, r"targets must have shape \(2,\)"),
        ((2, 2), 3, [0.0, 1.0], {}, "int64"),
        ((2, 2), 3, [-1, 1], {"loss": "logistic"}, "a head with one output, got 3"),
        ((2, 2), 1, [0, 1], {"loss": "logistic"}, LABELS),
        ((2, 2), 1, [1, 2], {"loss": "logistic"}, LABELS),
        ((2, 2), 1, [0.5, 1.0], {"loss": "logistic"}, LABELS),
        ((2, 2), 1, [math.nan, 1.0], {"loss": "logistic"}, LABELS),
        ((2, 2), 1, [False, True], {"loss": "logistic"}, r"got booleans. Use 2 \* targets.long\(\) - 1"),
        ((2, 2), 3, [0, 3], {}, "class indices from 0 to 2, the head's outputs, got 0 to 3"),
        ((2, 2), 3, [-100, 1], {}, "got -100 to 1. Leave out"),
        ((2, 2), 3, [0, 1], {"loss": "hinge"}, "loss must be 'cross_entropy' or 'logistic', got 'hinge'"),
        ((2, 2), 3, [0, 1], {"rho": -0.1}, "rho must be finite and at least 0"),
        ((2, 2), 3, [0, 1], {"rho": math.nan}, "rho must be finite and at least 0"),
        ((2, 2), 3, [0, 1], {"rho": math.inf}, "rho must be finite and at least 0"),
    ],
)
def test_parts_that_do_not_fit_raise(features, n_classes, targets, options, message):
    with pytest.raises(ValueError, match=message):
        lsam_loss(torch.ones(features), nn.Linear(2, n_classes), torch.tensor(targets), **{"rho": 0.1} | options)


def test_features_of_another_dtype_than_the_heads_are_refused_outside_autocast():
    parts = torch.ones(2, 2, dtype=torch.bfloat16), nn.Linear(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"the head's dtype, torch.float32, outside autocast, got torch.bfloat16"):
        lsam_loss(*parts, rho=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lsam_loss(*parts, rho=0.1).loss.isfinite()


def test_a_radius_out_of_range_is_refused_before_the_first_step():
    head = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="rho must be finite and at least 0"):
        LSAM(nn.Identity(), head, torch.optim.SGD(head.parameters(), lr=0.1), rho=-0.1)


@pytest.mark.parametrize("pickled", [False, True])
def test_non_finite_gradient_raises_and_leaves_the_weights_alone(pickled):
    head = nn.Linear(2, 3)
    lsam = LSAM(nn.Identity(), head, torch.optim.SGD(head.parameters(), lr=0.1), rho=0.1)
    lsam.step(torch.ones(3, 2), torch.tensor([0, 1, 1]))
    if pickled:
        lsam = pickle.loads(pickle.dumps(lsam))
    before = networks.weights(lsam.head)
    with pytest.raises(ValueError, match="expects a finite gradient"):
        lsam.step(torch.tensor([[math.inf, 1.0]]), torch.tensor([0]))
    assert torch.equal(networks.weights(lsam.head), before) and lsam.head.weight.grad is None
