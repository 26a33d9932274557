"""SAM in distributed checkpoints."""

import copy

import networks
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from samlib.optim import SAM

pytestmark = pytest.mark.filterwarnings("error")


def _train(network: nn.Module, sam: SAM, n_steps: int) -> None:
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))

    def closure() -> Tensor:
        loss = network(inputs).square().mean()
        loss.backward()
        return loss

    for _ in range(n_steps):
        sam.step(closure)


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_distributed_checkpoint_resumes_a_new_sam_with_its_radius(base, flatten):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    network = networks.network()
    momentum = {"momentum": 0.9} if base is torch.optim.SGD else {}
    sam = SAM(network.parameters(), base, rho=0.3, lr=0.1, **momentum)
    _train(network, sam, 3)
    saved = copy.deepcopy(get_optimizer_state_dict(network, sam, options=options))
    resumed = copy.deepcopy(network)
    new = SAM(resumed.parameters(), base, rho=0.05, lr=0.7, **momentum)
    set_optimizer_state_dict(resumed, new, saved, options=options)
    assert new.rho == 0.3 and new.param_groups[0]["lr"] == 0.1
    _train(network, sam, 3)
    _train(resumed, new, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), resumed.parameters(), strict=True))


def test_asking_a_new_sam_for_its_distributed_state_changes_nothing():
    network = networks.network()
    before = copy.deepcopy(network.state_dict())
    sam = SAM(network.parameters(), torch.optim.AdamW, rho=0.3, lr=0.1)
    get_optimizer_state_dict(network, sam)
    assert sam.param_groups[0]["lr"] == 0.1 and not sam.at_phantom
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
