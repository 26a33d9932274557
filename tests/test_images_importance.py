"""Importance weights of a network at its phantoms, against double-precision references and hand-worked sigmoids."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from samlib.images.importance import READING_RADII, READINGS, image_importance, signed_contributions
from samlib.streams import stream

N, BATCH, RHO = 10, 4, 0.3  # batches of 4, 4 and 2
INPUTS = torch.randn(N, 3, generator=stream(0, "inputs"), dtype=torch.float64)
LABELS = torch.randint(0, 2, (N,), generator=stream(0, "labels"))


def as_trained(network, inputs, labels, *, rho: float = RHO, batch_size: int = BATCH) -> tuple[Tensor, Tensor]:
    """The reading of the phantom that training itself has, at one radius."""
    readings = (("training", batch_size),)
    real, phantom = image_importance(network, inputs.__getitem__, labels, readings=readings, radii=(rho,))
    return real[0], phantom[0, 0]


def every_reading(network) -> tuple[Tensor, Tensor]:
    return image_importance(network, INPUTS.__getitem__, LABELS, readings=READINGS, radii=READING_RADII)


def small_network(*, norm: bool) -> nn.Sequential:
    """Two linear layers in double precision, with or without batch statistics between them."""
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5) if norm else nn.Identity(), nn.Tanh(), nn.Linear(5, 2))
    weights = stream(0, "weights")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=weights))
    return network.double()


def slow_importance(
    network: nn.Module, inputs: Tensor, labels: Tensor, rho: float, *, size: int = BATCH, training: bool = True
) -> tuple[list, list]:
    """Real and phantom weights, batch by batch, on a copy of the network whose parameters are moved one by one."""
    real, phantom = [], []
    for rows in torch.arange(len(labels)).split(size):
        twin = copy.deepcopy(network).train(training)
        trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
        logits = twin(inputs[rows])
        real += [1 - row.softmax(0)[y].item() for row, y in zip(logits, labels[rows], strict=True)]
        loss = sum(row.logsumexp(0) - row[y] for row, y in zip(logits, labels[rows], strict=True)) / len(rows)
        gradients = torch.autograd.grad(loss, trained)
        length = math.sqrt(sum((g**2).sum().item() for g in gradients))
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.data += rho * gradient / length
        phantom += [1 - row.softmax(0)[y].item() for row, y in zip(twin(inputs[rows]), labels[rows], strict=True)]
    return real, phantom


@pytest.mark.parametrize(
    ("norm", "n_frozen"), [(False, 0), (True, 0), (False, 1)], ids=["plain", "batch statistics", "a frozen layer"]
)
def test_weights_equal_a_plain_loop_over_batches_the_smaller_one_included(norm, n_frozen):
    network = small_network(norm=norm).eval()  # the weights are those of training mode all the same
    network[:n_frozen].requires_grad_(False)
    found = as_trained(network, INPUTS, LABELS)
    expected = slow_importance(network, INPUTS, LABELS, RHO)
    for values, wanted in zip(found, expected, strict=True):
        assert (values.shape, values.dtype, values.device.type) == ((N,), torch.float32, "cpu")
        assert values.tolist() == pytest.approx(wanted, abs=1e-7)
    assert (found[0] - found[1]).abs().min() > 1e-4
    with torch.no_grad():  # a caller may have switched gradients off
        assert all(torch.equal(a, b) for a, b in zip(as_trained(network, INPUTS, LABELS), found, strict=True))


def test_every_reading_of_the_phantom_equals_a_plain_loop_in_one_pass_or_several(monkeypatch):
    network = small_network(norm=True)
    network[1].running_mean.add_(0.3)
    real, phantom = every_reading(network)
    assert phantom.shape == (len(READINGS), len(READING_RADII), N)
    for i, (mode, size) in enumerate(READINGS):
        for j, rho in enumerate(READING_RADII):
            expected = slow_importance(network, INPUTS, LABELS, rho, size=size or N, training=mode == "training")
            for found, wanted in zip((real[i], phantom[i, j]), expected, strict=True):
                assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    monkeypatch.setattr("samlib.images.importance.CHUNK", 3)  # of those that share one gradient
    assert torch.allclose(every_reading(network)[1], phantom, atol=1e-6)


def linear(*rows: float) -> nn.Linear:
    """Two classes of one input: logits w_0 x and w_1 x."""
    network = nn.Linear(1, 2, bias=False)
    network.weight.data = torch.tensor([[row] for row in rows])
    return network


def test_with_two_classes_the_weight_is_the_sigmoid_of_minus_the_signed_difference():
    x = torch.tensor([[1.0], [1.0], [2.0]])
    real, _ = as_trained(linear(0.0, math.log(3)), x, torch.tensor([1, 0, 1]), batch_size=3)
    assert real.tolist() == pytest.approx([1 / 4, 3 / 4, 1 / 10])  # 1 / (1 + 3), 3 / (1 + 3), 1 / (1 + 9)
    one = torch.ones(1, 1), torch.tensor([1])
    real, _ = as_trained(linear(0.0, 30.0), *one, batch_size=1)
    assert real.item() == pytest.approx(math.exp(-30), rel=1e-5)  # not rounded to zero
    # At w = 0 the gradient is (1/2, -1/2); the phantom is rho (1, -1) / sqrt 2 and f = -rho sqrt 2 = -log 3.
    real, phantom = as_trained(linear(0.0, 0.0), *one, rho=math.log(3) / math.sqrt(2), batch_size=1)
    assert (real.item(), phantom.item()) == (0.5, pytest.approx(3 / 4))


class Failing(nn.Module):
    """Passes its input on until it has been called often enough."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("as planned")
        return inputs


@pytest.mark.parametrize("calls", [100, 0, 1, 2, 3])  # none fails; at w or at the phantom of the first or second batch
def test_the_network_is_left_as_it_was_also_after_an_error(calls):
    network = nn.Sequential(*small_network(norm=True), Failing(calls))
    network.eval()
    network[0].train()  # modes may differ from layer to layer
    gradient = torch.ones(5, 3, dtype=torch.float64)
    network[0].weight.grad = gradient
    before = {name: value.clone() for name, value in network.state_dict().items()}
    if calls == 100:
        as_trained(network, INPUTS, LABELS)
    else:
        with pytest.raises(RuntimeError, match="as planned"):
            as_trained(network, INPUTS, LABELS)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [True] + [False] * 4
    assert network[0].weight.grad is gradient and (gradient == 1).all()
    assert network[0].bias.grad is None
    assert network[1].track_running_stats


def test_under_autocast_every_pass_uses_the_weights_of_its_moment():
    network = small_network(norm=False).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # keeps casts of the weights until it ends
        found = as_trained(network, INPUTS.float(), LABELS, rho=2.0)
    expected = slow_importance(network, INPUTS.float(), LABELS, 2.0)
    for values, wanted in zip(found, expected, strict=True):
        assert values.tolist() == pytest.approx(wanted, abs=0.03)
    assert (found[1] - found[0]).abs().max() > 0.3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": LABELS[:0]}, "at least one example"),
        ({"readings": (("train", 4),)}, "mode: expected one of 'evaluation', 'training', got 'train'"),
        ({"readings": (("training", 0),)}, "batch_size"),
        ({"radii": ()}, "radii: expected at least one radius, got none"),
        ({"radii": (-1.0,)}, "rho"),
        ({"inputs": (INPUTS * math.nan).__getitem__}, "finite gradient"),
    ],
)
def test_unusable_arguments_are_refused(changed, message):
    usual = {"inputs": INPUTS.__getitem__, "labels": LABELS, "readings": (("training", 4),), "radii": (RHO,)}
    with pytest.raises(ValueError, match=message):
        image_importance(small_network(norm=False), **usual | changed)


def test_a_probe_on_one_symmetric_feature_has_its_boundary_in_the_middle():
    train = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]])
    train_labels, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 0, 1])
    features = torch.tensor([[1.0], [1.0], [-1.0], [0.0]])
    expected = signed_contributions(train, train_labels, features, labels, strength=1.0)
    found = expected.tolist()
    assert found[0] > 0 and found[1:] == pytest.approx([-found[0], found[0], 0.0], abs=1e-5)
    # Standardized features are -1 and 1, so the slope w solves w = C sum_i sigma(-w) = 4 sigma(-w).
    assert found[0] == pytest.approx(4 / (1 + math.exp(found[0])), abs=1e-3)
    for dtype in (torch.uint8, torch.bool):
        few = train_labels.to(dtype), features, labels.to(dtype)
        assert torch.equal(signed_contributions(train, *few, strength=1.0), expected)
    for given in (train.bfloat16(), train.clone().requires_grad_()):
        assert torch.equal(signed_contributions(given, train_labels, features, labels, strength=1.0), expected)


def test_contributions_need_two_classes():
    features = torch.eye(3)
    for train_labels, labels in (([0, 1, 2], [0, 1, 1]), ([1, 1, 1], [0, 1, 1]), ([0, 1, 1], [0, 1, 2])):
        with pytest.raises(ValueError, match="expected 0 and 1"):
            signed_contributions(features, torch.tensor(train_labels), features, torch.tensor(labels), strength=1.0)
