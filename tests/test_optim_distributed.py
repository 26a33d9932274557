"""SAM and LSAM in distributed training: checkpoints, sharded parameters, replicas."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from samlib.optim import LSAM, SAM, lsam_loss

pytestmark = pytest.mark.filterwarnings("error")


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


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
    network = _network()
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
    network = _network()
    before = copy.deepcopy(network.state_dict())
    sam = SAM(network.parameters(), torch.optim.AdamW, rho=0.3, lr=0.1)
    get_optimizer_state_dict(network, sam)
    assert sam.param_groups[0]["lr"] == 0.1 and not sam.at_phantom
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def _two_replicas(rank: int, store: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    network = _network()
    trunk = nn.parallel.DistributedDataParallel(copy.deepcopy(network[:2]))
    with pytest.raises(TypeError, match=r"Wrap a module whose forward returns lsam_loss"):
        LSAM(trunk, network[2], torch.optim.SGD(network.parameters(), lr=0.1), rho=0.1)
    step = nn.parallel.DistributedDataParallel(_PhantomLoss(network))
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(rank))
    step(inputs, torch.zeros(6, dtype=torch.int64)).backward()
    gradient = network[2].weight.grad
    mean = gradient.clone()
    torch.distributed.all_reduce(mean)
    torch.testing.assert_close(gradient, mean / 2)
    sharded = copy.deepcopy(_network())
    fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(TypeError, match="Use DistributedDataParallel"):
        SAM(sharded.parameters(), lr=0.1)
    torch.distributed.destroy_process_group()


class _PhantomLoss(nn.Module):
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return lsam_loss(self.network[:2](inputs), self.network[2], targets, rho=0.1).loss


def test_replicas_refuse_shards_and_a_trunk_apart_from_its_head(tmp_path):
    torch.multiprocessing.spawn(_two_replicas, (str(tmp_path / "store"),), nprocs=2)
