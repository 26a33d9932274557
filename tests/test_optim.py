"""SAM: Equation (3), its reference twin, and what it shares with the base optimiser."""

import copy
import pickle
import warnings
from functools import partial

import networks
import pytest
import torch
from torch import Tensor, nn

from samlib.optim import SAM

pytestmark = pytest.mark.filterwarnings("error")

_network = partial(networks.network, dtype=torch.float64)


def _quadratic(values: list[float]) -> tuple[nn.Parameter, object]:
    """A parameter and a closure for the loss ||w||^2 / 2, whose gradient is w."""
    weight = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def closure() -> Tensor:
        loss = (weight**2).sum() / 2
        loss.backward()
        return loss

    return weight, closure


def _batches(n_batches: int, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(6, 3, generator=generator, dtype=dtype),
            torch.randint(0, 2, (6,), generator=generator),
        )
        for _ in range(n_batches)
    ]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _train(model: nn.Module, sam: SAM, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    losses = []
    for batch in batches:

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            loss = _loss(model, batch)
            loss.backward()
            return loss

        losses.append(float(sam.step(closure)))
    return losses


class _ReferenceSAM:
    """SAM with momentum SGD and weight decay, written with explicit loops: the executable specification."""

    def __init__(self, parameters, *, rho, lr, momentum, weight_decay):
        self.parameters = list(parameters)
        self.rho, self.lr, self.momentum, self.weight_decay = rho, lr, momentum, weight_decay
        self.velocities = [torch.zeros_like(p) for p in self.parameters]

    def step(self, compute_loss):
        loss = compute_loss()
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = sum(float((g * g).sum()) for g in gradients) ** 0.5
        iterate = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p, g in zip(self.parameters, gradients, strict=True):
                p.copy_(p + self.rho * g / norm)
        phantom_gradients = torch.autograd.grad(compute_loss(), self.parameters)
        with torch.no_grad():
            for k, (p, w, g) in enumerate(zip(self.parameters, iterate, phantom_gradients, strict=True)):
                self.velocities[k] = self.momentum * self.velocities[k] + g + self.weight_decay * w
                p.copy_(w - self.lr * self.velocities[k])
        return float(loss.detach())


def test_fast_path_matches_reference_at_every_step():
    model = _network(0)
    twin = copy.deepcopy(model)
    options = {"rho": 0.3, "lr": 0.2, "momentum": 0.9, "weight_decay": 0.01}
    sam = SAM(model.parameters(), torch.optim.SGD, **options)
    reference = _ReferenceSAM(twin.parameters(), **options)
    for batch in _batches(60):
        loss = _train(model, sam, [batch])[0]
        assert loss == pytest.approx(reference.step(lambda batch=batch: _loss(twin, batch)), abs=1e-12)
        torch.testing.assert_close(networks.weights(model), networks.weights(twin), rtol=0, atol=1e-12)


def test_one_step_on_a_quadratic_by_hand():
    # g = (3, 4), ||g|| = 5, phantom = (3.6, 4.8) at rho 1, so w - 0.5 * phantom = (1.2, 1.6).
    weight, closure = _quadratic([3.0, 4.0])
    loss = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5).step(closure)
    assert float(loss) == 12.5
    torch.testing.assert_close(weight.data, torch.tensor([1.2, 1.6], dtype=torch.float64))


@pytest.mark.parametrize("check_finite", [True, False])
def test_perturbation_norm_equals_rho_over_all_parameters_jointly(check_finite):
    model = _network(1)
    sam = SAM(model.parameters(), torch.optim.SGD, rho=0.7, lr=0.1, check_finite=check_finite)
    before = networks.weights(model)
    _loss(model, _batches(1)[0]).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    sam.ascent_step()
    epsilon = networks.weights(model) - before
    torch.testing.assert_close(epsilon.norm(), torch.tensor(0.7, dtype=torch.float64))
    torch.testing.assert_close(epsilon, 0.7 * gradient / gradient.norm())


def test_two_step_use_equals_closure_use_bit_for_bit():
    one, two = _network(2), _network(2)
    sam_one = SAM(one.parameters(), torch.optim.Adam, rho=0.1, lr=0.01)
    sam_two = SAM(two.parameters(), torch.optim.Adam, rho=0.1, lr=0.01)
    for batch in _batches(5):
        _train(one, sam_one, [batch])
        _loss(two, batch).backward()
        sam_two.ascent_step()
        _loss(two, batch).backward()
        sam_two.descent_step()
        assert torch.equal(networks.weights(one), networks.weights(two))


@pytest.mark.parametrize(
    "base",
    [
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
        partial(torch.optim.AdamW, lr=0.01),
        partial(torch.optim.Adagrad, lr=0.01),
        partial(torch.optim.Adadelta, rho=0.8),
    ],
)
def test_radius_zero_is_the_base_optimiser_bit_for_bit(base):
    model, plain = _network(3), _network(3)
    sam, optimizer = SAM(model.parameters(), base, rho=0.0), base(plain.parameters())
    for batch in _batches(20):
        _train(model, sam, [batch])
        optimizer.zero_grad()
        _loss(plain, batch).backward()
        optimizer.step()
        assert torch.equal(networks.weights(model), networks.weights(plain))


def test_radius_zero_runs_the_closure_once_so_dropout_draws_once():
    calls = []
    weight, closure = _quadratic([1.0])
    SAM([weight], rho=0.0, lr=0.1).step(lambda: (calls.append(1), closure())[1])
    assert len(calls) == 1


def test_only_perturbed_groups_move_and_the_norm_runs_over_them_alone():
    model = _network(4)
    groups = [
        {"params": model[0].parameters(), "perturbed": False},
        {"params": model[2].parameters(), "lr": 0.5},
    ]
    sam = SAM(groups, torch.optim.SGD, rho=0.1, lr=0.1)
    trunk, head = networks.weights(model[0]), networks.weights(model[2])
    _loss(model, _batches(1)[0]).backward()
    sam.ascent_step()
    assert torch.equal(networks.weights(model[0]), trunk)
    # A radius of 0 for the trunk would not do this: the trunk would still count in the norm.
    torch.testing.assert_close((networks.weights(model[2]) - head).norm().item(), 0.1, rtol=1e-12, atol=0)
    _loss(model, _batches(1)[0]).backward()
    sam.descent_step()
    assert not torch.equal(networks.weights(model[0]), trunk)
    assert [group["lr"] for group in sam.base.param_groups] == [0.1, 0.5]


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit():
    batches = _batches(10)
    whole, first = _network(5), _network(5)
    options = {"rho": 0.2, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    _train(whole, SAM(whole.parameters(), torch.optim.SGD, **options), batches)
    sam = SAM(first.parameters(), torch.optim.SGD, **options)
    _train(first, sam, batches[:5])
    saved = pickle.loads(pickle.dumps((first.state_dict(), sam.state_dict())))
    second = _network(6)
    second.load_state_dict(saved[0])
    resumed = SAM(second.parameters(), torch.optim.SGD, lr=0.9, rho=0.9)
    resumed.load_state_dict(saved[1])
    assert resumed.rho == 0.2 and resumed.param_groups[0]["lr"] == 0.1
    assert resumed.param_groups is resumed.base.param_groups and resumed.state is resumed.base.state
    _train(second, resumed, batches[5:])
    assert torch.equal(networks.weights(second), networks.weights(whole))


def test_base_state_dict_starts_late_sam_epochs():
    model = _network(7)
    base = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    _loss(model, _batches(1)[0]).backward()
    base.step()
    sam = SAM([{"params": model.parameters(), "perturbed": False}], torch.optim.SGD, rho=0.2, lr=0.1)
    sam.load_state_dict(base.state_dict())
    assert sam.rho == 0.2 and sam.param_groups[0]["lr"] == 0.3 and not sam.param_groups[0]["perturbed"]
    parameter = model[0].weight
    assert torch.equal(sam.state[parameter]["momentum_buffer"], base.state[parameter]["momentum_buffer"])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copy_and_pickle_carry_on_identically(duplicate):
    model = _network(8)
    sam = SAM(model.parameters(), torch.optim.SGD, rho=0.2, lr=0.1, momentum=0.9, module=model)
    _train(model, sam, _batches(3))
    other, other_sam = duplicate((model, sam))
    assert other_sam.module is other
    _train(model, sam, _batches(3))
    _train(other, other_sam, _batches(3))
    assert torch.equal(networks.weights(model), networks.weights(other))


@pytest.mark.parametrize("two_step", [False, True])
def test_schedulers_work_without_a_warning(two_step):
    weight, closure = _quadratic([1.0])
    sam = SAM([weight], torch.optim.SGD, rho=0.1, lr=0.4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(sam, step_size=1, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            if two_step:
                closure()
                sam.ascent_step()
                closure()
                sam.descent_step()
            else:
                sam.step(closure)
            scheduler.step()
    assert sam.base.param_groups[0]["lr"] == 0.05
    torch.optim.lr_scheduler.OneCycleLR(sam, max_lr=0.1, total_steps=5)  # needs the base's defaults


def test_accumulation_inside_the_closure_equals_the_big_batch():
    model, whole = _network(9), _network(9)
    batch = _batches(1)[0]
    parts = [(batch[0][rows], batch[1][rows]) for rows in (slice(0, 3), slice(3, 6))]
    accumulating, sam = SAM(model.parameters(), lr=0.1, rho=0.5), SAM(whole.parameters(), lr=0.1, rho=0.5)

    def closure() -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for microbatch in parts:
            part = _loss(model, microbatch) / len(parts)
            part.backward()
            total += part.detach()
        return total

    for _ in range(3):
        assert float(accumulating.step(closure)) == pytest.approx(_train(whole, sam, [batch])[0])
    torch.testing.assert_close(networks.weights(model), networks.weights(whole))


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_radius_zero_keeps_gradients_from_before_the_step_as_the_base_does(base):
    model, plain = _network(3), _network(3)
    sam, optimizer = SAM(model.parameters(), base, rho=0.0, lr=0.1), base(plain.parameters(), lr=0.1)
    for earlier, last in zip(_batches(4), reversed(_batches(4)), strict=True):
        for network in (model, plain):
            _loss(network, earlier).backward()
        _train(model, sam, [last])
        _loss(plain, last).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(networks.weights(model), networks.weights(plain))


def test_weight_decay_acts_at_the_iterate():
    # Loss 0 * w: the gradient is 0, so the step is decay alone, at w = 2 and not at a phantom.
    weight = nn.Parameter(torch.tensor([2.0]))
    sam = SAM([weight], torch.optim.SGD, rho=1.0, lr=0.5, weight_decay=0.1)

    def closure() -> Tensor:
        loss = (0 * weight).sum()
        loss.backward()
        return loss

    sam.step(closure)
    assert weight.item() == pytest.approx(2 - 0.5 * 0.1 * 2)


def test_global_generator_is_untouched():
    before = torch.random.get_rng_state()
    weight, closure = _quadratic([1.0, 2.0])
    SAM([weight], rho=0.1, lr=0.1).step(closure)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_state_that_the_base_made_on_construction_is_kept():
    weight, _ = _quadratic([1.0, 2.0])
    sam = SAM([weight], torch.optim.Adagrad, lr=0.1, initial_accumulator_value=0.5)
    assert sam.state[weight]["sum"].tolist() == [0.5, 0.5]
    assert len(sam.param_groups) == 1


# ---- bases that maximise


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW, partial(torch.optim.SGD, foreach=False)])
@pytest.mark.parametrize("check_finite", [True, False])
def test_maximising_the_loss_is_minimising_its_negative(base, check_finite):
    (up, _), (down, _) = _quadratic([3.0, 4.0]), _quadratic([3.0, 4.0])
    maximiser = SAM([up], base, rho=0.5, lr=0.1, weight_decay=0.1, check_finite=check_finite, maximize=True)
    minimiser = SAM([down], base, rho=0.5, lr=0.1, weight_decay=0.1, check_finite=check_finite)

    def backward(weight: nn.Parameter, sign: float) -> Tensor:
        loss = sign * weight.cos().sum()
        loss.backward()
        return loss

    for _ in range(3):
        maximiser.step(lambda: backward(up, 1.0))
        minimiser.step(lambda: backward(down, -1.0))
        assert torch.equal(up, down)


def test_a_group_that_maximises_beside_one_that_minimises_is_moved_against_its_own_aim():
    (low, _), (high, _) = _quadratic([3.0]), _quadratic([4.0])
    sam = SAM([{"params": [low]}, {"params": [high], "maximize": True}], torch.optim.SGD, rho=1.0, lr=0.1)
    (low.square() / 2 + high.square() / 2).sum().backward()
    sam.ascent_step()
    assert (low.item(), high.item()) == (pytest.approx(3.6), pytest.approx(3.2))
