"""SAM: Equation (3) by hand, and what it shares with the base optimiser; its slow twin is with the variants'."""

import copy
import pickle
from functools import partial

import networks
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as distributed

from samlib.optim import MSAM, SAM

_network = partial(networks.network, dtype=torch.float64)
Batch = tuple[Tensor, Tensor]


def _batches(n_batches: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.randint(0, 2, (6,), generator=generator))
        for _ in range(n_batches)
    ]


def _backward(model: nn.Module, batch: Batch) -> Tensor:
    return networks.backward(nn.functional.cross_entropy(model(batch[0]), batch[1]))


def _train(model: nn.Module, sam: SAM, batches: list[Batch]) -> list[float]:
    return [float(sam.step(partial(_backward, model, batch))) for batch in batches]


def test_one_step_on_a_quadratic_by_hand_draws_no_random_numbers():
    sam, weight, closure = networks.small_sam()
    before = torch.random.get_rng_state()
    assert float(sam.step(closure)) == 12.5
    networks.assert_stepped(weight)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("check_finite", [True, False])
def test_perturbation_norm_equals_rho_over_all_parameters_jointly(check_finite):
    model = _network(1)
    sam = SAM(model.parameters(), rho=0.7, lr=0.1, check_finite=check_finite)
    before = networks.weights(model)
    _backward(model, _batches(1)[0])
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    sam.ascent_step()
    epsilon = networks.weights(model) - before
    torch.testing.assert_close(epsilon.norm(), torch.tensor(0.7, dtype=torch.float64))
    torch.testing.assert_close(epsilon, 0.7 * gradient / gradient.norm())


def test_two_step_use_equals_closure_use_bit_for_bit():
    one, two = _network(2), _network(2)
    sam_one, sam_two = (SAM(each.parameters(), torch.optim.Adam, rho=0.1, lr=0.01) for each in (one, two))
    for batch in _batches(5):
        _train(one, sam_one, [batch])
        networks.sam_step(sam_two, partial(_backward, two, batch), two_step=True)
        assert torch.equal(networks.weights(one), networks.weights(two))


@pytest.mark.parametrize("earlier", [False, True], ids=["alone", "added to earlier gradients"])
@pytest.mark.parametrize(
    "base",
    [
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
        partial(torch.optim.AdamW, lr=0.01),
        partial(torch.optim.Adagrad, lr=0.01, initial_accumulator_value=0.5),  # makes its state on construction
        partial(torch.optim.Adadelta, rho=0.8),
    ],
)
def test_radius_zero_is_the_base_optimiser_bit_for_bit(base, earlier):
    model, plain = _network(3), _network(3)
    sam, optimizer = SAM(model.parameters(), base, rho=0.0), base(plain.parameters())
    batches = _batches(20)
    for batch, before in zip(batches, reversed(batches), strict=True):
        if earlier:
            _backward(model, before)
            _backward(plain, before)
        _train(model, sam, [batch])
        _backward(plain, batch)
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(networks.weights(model), networks.weights(plain))


def test_radius_zero_runs_the_closure_once_so_dropout_draws_once():
    sam, _, closure = networks.small_sam(rho=0.0)
    calls = []
    sam.step(lambda: (calls.append(1), closure())[1])
    assert len(calls) == 1


def test_only_perturbed_groups_move_and_the_norm_runs_over_them_alone():
    model = _network(4)
    groups = [
        {"params": model[0].parameters(), "perturbed": False},
        {"params": model[2].parameters(), "lr": 0.5},
    ]
    sam = SAM(groups, rho=0.1, lr=0.1)
    trunk, head = networks.weights(model[0]), networks.weights(model[2])
    _backward(model, _batches(1)[0])
    sam.ascent_step()
    assert torch.equal(networks.weights(model[0]), trunk)
    # A radius of 0 for the trunk would not do this: the trunk would still count in the norm.
    torch.testing.assert_close((networks.weights(model[2]) - head).norm().item(), 0.1, rtol=1e-12, atol=0)
    _backward(model, _batches(1)[0])
    sam.descent_step()
    assert not torch.equal(networks.weights(model[0]), trunk)
    assert [group["lr"] for group in sam.base.param_groups] == [0.1, 0.5]


@pytest.mark.parametrize("two_step", [False, True])
def test_schedulers_work_without_a_warning(two_step):
    sam, _, closure = networks.small_sam(lr=0.4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(sam, step_size=1, gamma=0.5)
    for _ in range(3):
        networks.sam_step(sam, closure, two_step=two_step)
        scheduler.step()
    assert sam.base.param_groups[0]["lr"] == 0.05
    torch.optim.lr_scheduler.OneCycleLR(sam, max_lr=0.1, total_steps=5)  # needs the base's defaults


def test_compiled_training_function_takes_the_same_steps():
    (compiled_sam, compiled_weight, _), (sam, weight, _) = networks.small_sam(lr=0.1), networks.small_sam(lr=0.1)

    def train(w: nn.Parameter, optimizer: SAM) -> None:
        (w**2).sum().div(2).backward()
        optimizer.ascent_step()
        (w**2).sum().div(2).backward()
        optimizer.descent_step()

    compiled = torch.compile(train, backend="eager")
    for _ in range(3):
        compiled(compiled_weight, compiled_sam)
        train(weight, sam)
    assert torch.equal(compiled_weight, weight)
    torch._dynamo.reset()


# ---- saved, resumed, copied


Pair = tuple[nn.Module, SAM]


def _by_state_dict(old: Pair, new: Pair) -> Pair:
    for part, saved in zip(new, pickle.loads(pickle.dumps([part.state_dict() for part in old])), strict=True):
        part.load_state_dict(saved)
    return new


def _by_distributed_checkpoint(old: Pair, new: Pair, *, flatten: bool) -> Pair:
    options = distributed.StateDictOptions(flatten_optimizer_state_dict=flatten)
    saved = copy.deepcopy(distributed.get_optimizer_state_dict(*old, options=options))
    new[0].load_state_dict(old[0].state_dict())
    distributed.set_optimizer_state_dict(*new, saved, options=options)
    return new


HAND_OVER = {
    "state dicts": _by_state_dict,
    "distributed checkpoint": partial(_by_distributed_checkpoint, flatten=False),
    "flattened distributed checkpoint": partial(_by_distributed_checkpoint, flatten=True),
    "copy": lambda old, new: copy.deepcopy(old),
    "pickle": lambda old, new: pickle.loads(pickle.dumps(old)),
}


@pytest.mark.parametrize("base, momentum", [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})])
@pytest.mark.parametrize("hand_over", HAND_OVER.values(), ids=HAND_OVER)
def test_a_run_resumed_with_its_radius_equals_the_uninterrupted_one_bit_for_bit(hand_over, base, momentum):
    batches = _batches(10)
    whole, first, new = _network(5), _network(5), _network(6)
    options = {"rho": 0.2, "lr": 0.1, "weight_decay": 0.01} | momentum
    sam = SAM(first.parameters(), base, module=first, **options)
    _train(whole, SAM(whole.parameters(), base, **options), batches)
    _train(first, sam, batches[:5])
    new_sam = SAM(new.parameters(), base, module=new, rho=0.9, lr=0.7, **momentum)
    second, resumed = hand_over((first, sam), (new, new_sam))
    assert resumed.rho == 0.2 and resumed.param_groups[0]["lr"] == 0.1 and resumed.module is second
    assert resumed.param_groups is resumed.base.param_groups and resumed.state is resumed.base.state
    for network, optimizer in ((second, resumed), (first, sam)):  # the one that was saved goes on undisturbed
        _train(network, optimizer, batches[5:])
        assert torch.equal(networks.weights(network), networks.weights(whole))


@pytest.mark.parametrize("kind", [SAM, MSAM])
def test_asking_a_new_sam_for_its_distributed_state_changes_nothing(kind):
    network = networks.network()
    before = networks.weights(network)
    sam = kind(network.parameters(), torch.optim.AdamW, rho=0.3, lr=0.1)
    distributed.get_optimizer_state_dict(network, sam)
    assert sam.param_groups[0]["lr"] == 0.1 and not sam.at_phantom
    assert torch.equal(networks.weights(network), before)


def test_base_state_dict_starts_late_sam_epochs():
    model = _network(7)
    base = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    _backward(model, _batches(1)[0])
    base.step()
    sam = SAM([{"params": model.parameters(), "perturbed": False}], rho=0.2, lr=0.1)
    sam.load_state_dict(base.state_dict())
    assert sam.rho == 0.2 and sam.param_groups[0]["lr"] == 0.3 and not sam.param_groups[0]["perturbed"]
    parameter = model[0].weight
    assert torch.equal(sam.state[parameter]["momentum_buffer"], base.state[parameter]["momentum_buffer"])


class _Owned(torch.optim.SGD):
    """A base that saves more than groups and state, as ZeroRedundancyOptimizer does."""

    owned = 0

    def state_dict(self):
        return {**super().state_dict(), "owned": self.owned}

    def load_state_dict(self, state_dict):
        self.owned = state_dict["owned"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "owned"})


def test_a_bases_own_way_of_saving_and_loading_is_kept():
    old, new = (networks.small_sam(base=_Owned, rho=rho, lr=lr)[0] for rho, lr in ((0.3, 0.1), (0.5, 0.2)))
    old.base.owned = 3
    new.load_state_dict(pickle.loads(pickle.dumps(old.state_dict())))
    assert (new.base.owned, new.rho, new.param_groups[0]["lr"]) == (3, 0.3, 0.1)


def test_what_is_done_to_the_base_itself_is_done_to_sam():
    sam, weight, closure = networks.small_sam()
    other = networks.parameter([0.0])
    sam.base.load_state_dict(torch.optim.SGD([weight], lr=0.5).state_dict())
    sam.base.add_param_group({"params": [other]})
    networks.quadratic_backward(other)
    sam.step(closure)  # both groups count as perturbed
    networks.assert_stepped(weight)


# ---- bases that maximise


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW, partial(torch.optim.SGD, foreach=False)])
@pytest.mark.parametrize("check_finite", [True, False])
def test_maximising_the_loss_is_minimising_its_negative(base, check_finite):
    options = {"base": base, "rho": 0.5, "lr": 0.1, "weight_decay": 0.1, "check_finite": check_finite}
    (maximiser, up, _), (minimiser, down, _) = (networks.small_sam(**options, maximize=on) for on in (True, False))
    for _ in range(3):
        maximiser.step(lambda: networks.backward(up.cos().sum()))
        minimiser.step(lambda: networks.backward(-down.cos().sum()))
        assert torch.equal(up, down)


def test_a_group_that_maximises_beside_one_that_minimises_is_moved_against_its_own_aim():
    low, high = networks.parameter([3.0]), networks.parameter([4.0])
    sam = SAM([{"params": [low]}, {"params": [high], "maximize": True}], rho=1.0, lr=0.1)
    (low.square() / 2 + high.square() / 2).sum().backward()
    sam.ascent_step()
    assert (low.item(), high.item()) == (pytest.approx(3.6), pytest.approx(3.2))
