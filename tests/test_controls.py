"""The controls: every method's gradient against a plain reference, tasks, measurements, and training."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from samlib.images.backbones import build_backbone
from samlib.images.config import PairConfig
from samlib.images.pairs import train_pair
from samlib.images.tiles import load_pair
from samlib.methods.config import ControlConfig
from samlib.methods.gradient import Batch, cross_entropy, descent, importance, moved, perturbation
from samlib.methods.measure import ginis, largest_curvature, ranks
from samlib.methods.networks import ImageNetwork, MemberNetwork, MixedNetworks, ToyNetworks
from samlib.methods.tasks import make_task, rotation, three_features
from samlib.methods.train import _Groups, train_method
from samlib.toy.config import ToyConfig
from samlib.toy.training import train_toy

TOY = ControlConfig(n_epochs=2, seeds=(0, 1))


def toy(**changes: object) -> ControlConfig:
    return dataclasses.replace(TOY, **changes)


def gradients(network: MemberNetwork, batch: Batch, *, active: bool = True, **changes: object) -> list[torch.Tensor]:
    return descent(network, batch, toy(**changes), active=active).gradients


def batch_of(members: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(members, 4, 4, generator=generator)
    labels = torch.randint(2, (members, 4), generator=generator)
    return Batch(inputs, labels, torch.ones(members, 4))


def plain_gradient(network, batch: Batch, member: int, at: dict[str, torch.Tensor] | None = None):
    """One member's gradient of its mean loss, parameters possibly replaced; by name."""
    values = {n: (at or {}).get(n, p.detach()).clone().requires_grad_() for n, p in network.named_parameters()}
    logits = torch.func.functional_call(network, values, (batch.inputs,))
    loss = nn.functional.cross_entropy(logits[member], batch.labels[member])
    return {n: g[member] for n, g in zip(values, torch.autograd.grad(loss, list(values.values())), strict=True)}


def climbed(network, batch: Batch, names, rho: float, scale: str = "unit"):
    """Every member's parameters after its own ascent step, by name."""
    there = {n: p.detach().clone() for n, p in network.named_parameters()}
    for member in range(len(batch.labels)):
        gradient = plain_gradient(network, batch, member)
        size = {n: there[n][member].abs() + 0.01 if scale == "adaptive" else torch.ones(()) for n in names}
        norm = math.sqrt(sum(((size[n] * gradient[n]).double() ** 2).sum().item() for n in names))
        for n in names:
            step = rho * gradient[n] if scale == "none" else rho / norm * size[n] ** 2 * gradient[n]
            there[n][member] += step
    return there


PARAMETERS = ("w1", "b1", "w2", "b2", "w3", "b3", "v")
CHOICES = {"all": PARAMETERS, "last layer": ("v",), "all but last layer": PARAMETERS[:-1], "biases": PARAMETERS[1:6:2]}


@pytest.mark.parametrize("perturbed", list(CHOICES))
@pytest.mark.parametrize("scale", ["unit", "none", "adaptive"])
def test_the_gradient_is_that_at_every_members_own_phantom(perturbed, scale):
    network, batch = ToyNetworks((0, 1), hidden=5), batch_of()
    there = climbed(network, batch, CHOICES[perturbed], 0.5, scale)
    found = gradients(network, batch, rho=0.5, perturbed=perturbed, scale=scale)
    for member in range(2):
        expected = plain_gradient(network, batch, member, there)
        for name, gradient in zip(PARAMETERS, found, strict=True):
            torch.testing.assert_close(gradient[member], expected[name], atol=1e-6, rtol=1e-4)


def test_without_a_radius_or_when_switched_off_the_gradient_is_sgds():
    network, batch = MixedNetworks((0, 1), inputs=4, widths=(6, 5)), batch_of()
    sgd, off = gradients(network, batch), gradients(network, batch, rho=0.7, active=False)
    for member in range(2):
        expected = plain_gradient(network, batch, member)
        for name, one, two in zip(expected, sgd, off, strict=True):
            torch.testing.assert_close(one[member], expected[name])
            assert torch.equal(one, two)


@pytest.mark.parametrize("part", ["logit", "jacobian"])
def test_one_factor_is_taken_at_the_phantom_and_the_other_at_w(part):
    network, batch = ToyNetworks((0, 1), hidden=5), batch_of()
    found = gradients(network, batch, rho=0.5, part=part)
    there = climbed(network, batch, PARAMETERS, 0.5)
    here = {n: p.detach() for n, p in network.named_parameters()}
    loss_at, jacobian_at = (there, here) if part == "logit" else (here, there)
    values = {n: p.clone().requires_grad_() for n, p in jacobian_at.items()}
    with torch.no_grad():
        logits = torch.func.functional_call(network, loss_at, (batch.inputs,))
    probability = logits.softmax(2)[..., 1]
    outputs = torch.func.functional_call(network, values, (batch.inputs,))[..., 1]  # f; the other logit is 0
    for member in range(2):
        expected = [torch.zeros_like(p[member]) for p in values.values()]
        for i in range(4):  # sum over examples of dl/df times grad f
            slope = (probability[member, i] - batch.labels[member, i]) / 4
            grads = torch.autograd.grad(outputs[member, i], list(values.values()), retain_graph=True)
            expected = [total + slope * g[member] for total, g in zip(expected, grads, strict=True)]
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one[member], two, atol=1e-6, rtol=1e-4)


def test_small_perturbation_batches_average_the_gradients_of_each():
    network, batch = ToyNetworks((0, 1), hidden=5), batch_of()
    whole, same = (gradients(network, batch, rho=0.5, per_perturbation=size) for size in (None, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole, same, strict=True))
    single = descent(network, batch, toy(rho=0.5, per_perturbation=1), active=True)
    alone = [gradients(network, part, rho=0.5) for part in batch.split(1)]
    for gradient, *parts in zip(single.gradients, *alone, strict=True):
        torch.testing.assert_close(gradient, torch.stack(parts).mean(0))
    assert not torch.allclose(single.gradients[0], whole[0])
    assert single.weights.shape == single.losses.shape == (2, 4)


def test_a_gradient_without_direction_gives_no_perturbation_and_weights_come_back_bit_for_bit():
    network = ToyNetworks((0,), hidden=3)
    parameters = list(network.parameters())
    steps = perturbation(network, parameters, [torch.zeros_like(p) for p in parameters], ControlConfig(rho=1.0))
    assert all((step == 0).all() for step in steps)
    before = [p.detach().clone() for p in parameters]
    with pytest.raises(RuntimeError), moved(parameters, [torch.full_like(p, 0.1) for p in parameters]):
        assert not torch.equal(parameters[0], before[0])
        raise RuntimeError
    assert all(torch.equal(p, value) for p, value in zip(parameters, before, strict=True))


def test_importance_is_exact_where_it_is_tiny():
    found = importance(torch.tensor([[[0.0, 40.0], [0.0, 0.0]]]), torch.tensor([[1, 0]]))
    assert found[0].tolist() == [pytest.approx(math.exp(-40), rel=1e-5), 0.5]


def test_l2_pulls_on_the_last_layer_and_on_features():
    network, batch = ToyNetworks((0, 1), hidden=5), batch_of()
    plain, pulled, small = (
        gradients(network, batch, **changes) for changes in ({}, {"last_layer_l2": 0.5}, {"feature_l2": 0.1})
    )
    torch.testing.assert_close(pulled[-1] - plain[-1], network.v.detach())  # d 0.5 v^2 = v
    loss = 0.1 * network.features(batch.inputs).square().sum(2).mean(1).sum()
    torch.testing.assert_close(small[0] - plain[0], *torch.autograd.grad(loss, network.w1), atol=1e-6, rtol=1e-4)


def test_group_dro_moves_weight_to_the_group_with_the_larger_loss():
    labels = torch.tensor([[0, 0, 0, 1]])
    groups = _Groups(ControlConfig(reweighting="group dro", group_step=1.0), labels)
    network, inputs = ToyNetworks((0,), hidden=3), batch_of(members=1).inputs
    losses = cross_entropy(network(inputs), labels)[0].detach()
    grown = torch.stack([losses[:3].mean(), losses[3]]).exp()
    shares = grown / grown.sum()
    expected = 4 * torch.stack([shares[0] / 3] * 3 + [shares[1]])
    torch.testing.assert_close(groups.weights(network, inputs, labels)[0], expected)
    off = _Groups(ControlConfig(), labels).weights(network, inputs, labels)
    assert torch.equal(off, torch.ones(1, 4))


# Tasks


def test_the_last_layer_method_is_chapter_twos_lsam():
    found = train_method(toy(rho=1.0, perturbed="last layer", n_epochs=3))
    expected = train_toy([ToyConfig(rho=1.0, n_steps=180, n_snapshots=1, seeds=(0, 1))])[0].metrics
    for mine in ("hard_probe_error", "easy_probe_error", "test_error"):
        assert found[mine] == pytest.approx(expected[f"final_{mine.replace('_probe', '')}"], abs=0.002)


@pytest.mark.slow
def test_sgd_and_sam_on_images_are_chapter_ones():
    for rho in (0.0, 0.1):
        pair = PairConfig(pair="digits_patches", n_train=200, n_epochs=2, n_probe=200, rho=rho, learning_rate=0.05)
        expected = train_pair(pair, load_pair("digits_patches")).metrics
        config = ControlConfig(
            task="digits_patches", rho=rho, learning_rate=0.05, momentum=0.9, batch_size=100, n_epochs=2, n_train=200
        )
        found = train_method(config)
        assert found["train_loss"][0] == pytest.approx(expected["curves"]["train_loss"][-1], rel=1e-4)
        for name in ("test_error", *(n for n in found if n.endswith("_probe_error"))):
            assert found[name][0] == pytest.approx(expected[name], abs=0.02), name


def test_three_features_agree_in_training_and_are_independent_for_probes():
    for split, equal in (("train", True), ("test", True), ("probe train", False)):
        found = three_features(400, seed=0, split=split)
        same = (found.labels[:, 0] == found.labels[:, 2]).double().mean().item()
        assert same == 1 if equal else 0.4 < same < 0.6
    with pytest.raises(ValueError, match=r"split: expected one of 'train', .*, got 'tset'"):
        three_features(400, seed=0, split="tset")
    turn = rotation(0)
    torch.testing.assert_close(turn @ turn.T, torch.eye(6, dtype=torch.float64))
    back = three_features(400, seed=0, split="train")
    line = (back.inputs @ turn.T)[:, :2]
    assert (line[:, 1].abs() < 1e-12).all() and ((line[:, 0] > 0) == (back.labels[:, 0] == 1)).all()


# Measurements


def test_curvature_is_the_largest_eigenvalue_of_the_hessian():
    network, batch = MixedNetworks((0, 1), inputs=4, widths=(3, 2)), batch_of()
    found = largest_curvature(network, batch.inputs, batch.labels, iterations=200)
    shapes = {n: p.shape[1:] for n, p in network.named_parameters()}
    for member in range(2):
        start = torch.cat([p.detach()[member].flatten() for p in network.parameters()]).double()

        def loss(flat, member=member):
            parts = flat.split([math.prod(shape) for shape in shapes.values()])
            values = {n: part.view(1, *shapes[n]) for n, part in zip(shapes, parts, strict=True)}
            logits = torch.func.functional_call(network, values, (batch.inputs[member : member + 1].double(),))
            return nn.functional.cross_entropy(logits[0], batch.labels[member])

        eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))
        largest = eigenvalues[eigenvalues.abs().argmax()].item()
        assert found[member] == pytest.approx(largest, rel=1e-3)


def test_ranks_and_ginis_are_by_member():
    network = MixedNetworks((0, 1), inputs=4, widths=(6, 5))
    found = ranks(network, torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)))
    assert len(found["effective_rank"]) == len(found["components"]) == 2
    assert all(1 <= rank <= 5 for rank in found["effective_rank"])
    weights = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [math.nan, 1.0]])
    assert ginis(weights) == [0.0, 0.5, None, None]


@pytest.mark.parametrize(
    "build", [lambda: MixedNetworks((0,), inputs=4), lambda: build_backbone("smallnet", n_classes=2, seed=0)]
)
def test_first_weights_do_not_depend_on_the_default_dtype(build):
    expected = build().state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = build().state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], value) and found[name].dtype is value.dtype for name, value in expected.items())


def test_an_image_network_counts_as_one_member():
    network = ImageNetwork(build_backbone("convnet", n_classes=2, seed=0))
    assert network(torch.zeros(1, 3, 3, 64, 32)).shape == (1, 3, 2)
    assert len(network.chosen("last layer")) == 2 and len(network.chosen("biases")) == 4
    assert len(network.chosen("all but last layer")) == 6
    weight = network.chosen("last layer")[0]
    assert network.squared(weight).item() == pytest.approx(weight.square().sum().item())


# Training

METHODS = [
    {},
    {"rho": 0.3},
    {"rho": 0.3, "part": "logit"},
    {"rho": 0.3, "per_perturbation": 2},
    {"base": "adam", "learning_rate": 0.001},
    {"reweighting": "group dro"},
    {"reweighting": "just train twice", "upweight": 4.0},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_run_reports_every_number_for_every_seed_and_repeats(method):
    shares = []
    found = train_method(toy(**method), report=shares.append)
    assert found == train_method(toy(**method))
    assert shares[-2:] == [0.5, 1.0]
    assert set(found) == {
        "test_error", "easy_probe_error", "hard_probe_error", "train_loss", "effective_rank", "components", "sharpness",
        "gini_used", "gini_real", "missed", "diverged",
    }  # fmt: skip
    assert all(len(values) == 2 for values in found.values()) and found["diverged"] == [False, False]
    assert all(0 <= value <= 1 for value in found["gini_used"])
    assert (max(found["missed"]) > 0) == (method.get("reweighting") == "just train twice")


def test_sam_in_no_epoch_is_sgd_and_in_the_first_half_is_neither():
    sgd, none, half, whole = (
        train_method(toy(**values))["train_loss"]
        for values in ({}, {"rho": 0.3, "start": 0.6, "end": 0.9}, {"rho": 0.3, "end": 0.5}, {"rho": 0.3})
    )
    assert sgd == none and len({tuple(sgd), tuple(half), tuple(whole)}) == 3


@pytest.mark.parametrize("task", ["toy", "three_features"])
def test_one_diverged_seed_takes_no_other_with_it(task, monkeypatch):
    config = ControlConfig(task=task, n_epochs=2, n_train=100, seeds=(0, 1))
    usual = train_method(config)

    def with_a_blown_up_member(config, root):
        made = make_task(config, root)
        made.network.v.data[1] = math.inf
        return made

    monkeypatch.setattr("samlib.methods.train.make_task", with_a_blown_up_member)
    found = train_method(config)
    assert found.pop("diverged") == [False, True] and usual.pop("diverged") == [False, False]
    assert found == {name: [value, None] for name, (value, _) in usual.items()}


@pytest.mark.parametrize("task", ["toy", "three_features", "digits_patches"])
def test_a_run_whose_seeds_all_diverge_reports_the_same_names(task):
    fine = ControlConfig(task=task, n_epochs=1, n_train=100, batch_size=20)
    found = train_method(dataclasses.replace(fine, learning_rate=1e6))
    assert found.pop("diverged") == [True] and all(value == [None] for value in found.values())
    assert found.keys() | {"diverged"} == train_method(fine).keys()


BAD = {"rho": -1.0, "per_perturbation": 6, "start": 1.0, "end": 1.5, "upweight": 0.5, "momentum": 1.0, "n_train": 0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({name: value}, f"{name}: expected") for name, value in BAD.items()),
        ({"seeds": ()}, "seeds: expected"),
        ({"part": "loss"}, "part: expected one of 'both', 'logit', 'jacobian'"),
        ({"task": "cifar_mnist"}, "n_train: expected a number of images for 'cifar_mnist', got None"),
        ({"task": "cifar_mnist", "n_train": 8000}, "expected one seed for 'cifar_mnist'"),
    ],
)
def test_unusable_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        toy(**settings)
