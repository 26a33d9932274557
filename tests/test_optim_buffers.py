"""What SAM keeps from step to step never goes stale; hooks and profilers see the steps."""

import copy

import networks
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from samlib.optim import SAM


def _backward(network: nn.Sequential, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 3, generator=generator).to(network[0].weight)
    return networks.backward(network(inputs).square().mean())


def _takes_the_step_of_a_new_sam(sam: SAM, network: nn.Sequential) -> None:
    """The next step of a used SAM, without momentum, must be that of one made for the network as it is now."""
    fresh = copy.deepcopy(network)
    SAM(fresh.parameters(), rho=0.3, lr=0.1).step(lambda: _backward(fresh, 1))
    sam.step(lambda: _backward(network, 1))
    assert torch.equal(networks.weights(network), networks.weights(fresh))


@pytest.fixture
def used() -> tuple[SAM, nn.Sequential]:
    """A network and its SAM after two steps."""
    network = networks.network()
    sam = SAM(network.parameters(), rho=0.3, lr=0.1)
    for seed in range(2):
        sam.step(lambda seed=seed: _backward(network, seed))
    return sam, network


# ---- copies of the parameters


def _cast(sam: SAM, network: nn.Sequential) -> None:
    network.double()
    with torch.no_grad():
        network[0].weight += 1e-12  # float32 copies would lose this
    before = networks.weights(network)
    _backward(network)
    sam.ascent_step()
    sam.restore()
    assert torch.equal(networks.weights(network), before) and before.dtype == torch.float64


def _freeze_and_thaw(sam: SAM, network: nn.Sequential) -> None:
    network[0].weight.requires_grad_(False)
    _takes_the_step_of_a_new_sam(sam, network)
    network[0].weight.requires_grad_(True)


def _add_a_group(sam: SAM, network: nn.Sequential) -> None:
    network.append(nn.Linear(2, 2))
    sam.add_param_group({"params": network[3].parameters()})


def _lengthen(sam: SAM, network: nn.Sequential) -> None:
    network[2].weight.data, network[2].bias.data = torch.ones(5, 8), torch.ones(5)


def _step_without_perturbation(sam: SAM, network: nn.Sequential) -> None:
    before = networks.weights(network)
    sam.step(lambda: networks.backward(0 * network(torch.ones(1, 3)).sum()))
    assert torch.equal(networks.weights(network), before)


def _replace_storage(sam: SAM, network: nn.Sequential) -> None:
    network[0].weight.data = network[0].weight.data.clone()


def _run_out_of_memory(sam: SAM, network: nn.Sequential) -> None:
    network[0].weight.requires_grad_(False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(torch, "empty_like", lambda tensor: (_ for _ in ()).throw(MemoryError()))
        sam.step(lambda: _backward(network))
    network[0].weight.requires_grad_(True)


CHANGES = [
    _run_out_of_memory,
    _cast,
    _freeze_and_thaw,
    _add_a_group,
    _lengthen,
    _step_without_perturbation,
    _replace_storage,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_steps_is_saved_stepped_and_restored_in_place_as_it_is_now(used, change):
    sam, network = used
    change(sam, network)
    addresses = [parameter.data_ptr() for parameter in network.parameters()]
    _takes_the_step_of_a_new_sam(sam, network)
    assert [parameter.data_ptr() for parameter in network.parameters()] == addresses


# ---- who watches a step sees it


def test_hooks_before_and_after_a_step_run_once_each_and_can_be_removed(used):
    sam, network = used
    calls = []
    handles = [
        sam.register_step_pre_hook(lambda *_: calls.append("before")),
        sam.register_step_post_hook(lambda *_: calls.append("after")),
    ]
    sam.step(lambda: _backward(network))
    for handle in handles:
        handle.remove()
    sam.step(lambda: _backward(network))
    assert calls == ["before", "after"]


def test_hooks_for_all_optimisers_and_a_profiler_see_sam_and_its_base(used):
    sam, network = used
    seen = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: seen.append(type(optimizer)))
    try:
        sam.step(lambda: _backward(network))
    finally:
        handle.remove()
    assert seen == [torch.optim.SGD, SAM]
    with torch.autograd.profiler.profile() as profile:
        sam.step(lambda: _backward(network))
    names = {event.name for event in profile.function_events}
    assert {"Optimizer.step#SAM.step", "Optimizer.step#SGD.step"} <= names
