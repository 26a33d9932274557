"""SAM and LSAM over processes: each way to spread a network takes the steps of one process on the whole batch.

The processes are real and talk by gloo. Each number of them starts once; what every case ended with is kept in a file.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import networks
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from samlib.optim import ASAM, LSAM, SAM, lsam_loss

RHO, LR, N_STEPS, N_EXAMPLES = 0.3, 0.2, 4, 12
BASE = {"lr": LR, "momentum": 0.9, "foreach": False}  # whole parameters and DTensors do not mix in one foreach call
Wrap = Callable[[nn.Module], nn.Module]


def _network() -> nn.Sequential:
    """Layers of widths 5 and 2: some of four processes holds no piece of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
        return nn.Sequential(trunk, nn.Linear(5, 2)).double()


def _batch(step: int, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(N_EXAMPLES, 3, generator=generator, dtype=torch.float64)
    return inputs[part], torch.randint(0, 2, (N_EXAMPLES,), generator=generator)[part]


def _own(step: int) -> tuple[Tensor, Tensor]:
    size = N_EXAMPLES // dist.get_world_size()
    return _batch(step, slice(dist.get_rank() * size, (dist.get_rank() + 1) * size))


# ---- what one process does


def _one_process(*, head_only: bool = False, adaptive: bool = False) -> Tensor:
    """The weights after SAM's slow reference on whole batches; `head_only` is Equation (5), `adaptive` ASAM."""
    network = _network()
    base = torch.optim.SGD(network.parameters(), **BASE)
    options = {"perturbed": list(network[1].parameters()) if head_only else None, "eta": 0.01 if adaptive else None}
    for step in range(N_STEPS):
        inputs, targets = _batch(step)
        loss = partial(lambda x, y: nn.functional.cross_entropy(network(x), y), inputs, targets)
        networks.take_step(base, networks.phantom_gradients(loss, list(network.parameters()), rho=RHO, **options))
    return networks.weights(network)


# ---- ways to spread a network

ALL = ModuleWrapPolicy({nn.Linear})


def _fsdp1(network: nn.Module, strategy: str = "FULL_SHARD", **options: object) -> nn.Module:
    if strategy == "HYBRID_SHARD":
        options["device_mesh"] = init_device_mesh("cpu", (2, 2))
    options = {"use_orig_params": True, "device_id": torch.device("cpu")} | options
    return FullyShardedDataParallel(network, sharding_strategy=ShardingStrategy[strategy], **options)


def _fsdp2(network: nn.Module, mesh: tuple[int, ...] | None = None, *, each: bool = False) -> nn.Module:
    shape = mesh or (dist.get_world_size(),)
    found = init_device_mesh("cpu", shape, mesh_dim_names=("replica", "shard")[-len(shape) :])
    for layer in [layer for layer in network.modules() if isinstance(layer, nn.Linear)] if each else []:
        fully_shard(layer, mesh=found)
    return fully_shard(network, mesh=found)


def _tensor_parallel(network: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(network, mesh, {"0.0": ColwiseParallel(), "0.2": RowwiseParallel()})


WRAPS: dict[str, Wrap] = {
    "ddp": DistributedDataParallel,
    "fsdp1": _fsdp1,
    "fsdp1 flat": partial(_fsdp1, use_orig_params=False),
    "fsdp1 each layer": partial(_fsdp1, auto_wrap_policy=ALL),
    "fsdp1 gradients only": partial(_fsdp1, strategy="SHARD_GRAD_OP", auto_wrap_policy=ALL),
    "fsdp1 replicated": partial(_fsdp1, strategy="NO_SHARD"),
    "fsdp2": _fsdp2,
    "fsdp2 each layer": partial(_fsdp2, each=True),
}
HYBRID = {
    "fsdp1 hybrid": partial(_fsdp1, strategy="HYBRID_SHARD"),
    "fsdp2 hybrid": partial(_fsdp2, mesh=(2, 2), each=True),
}


def _weights(network: nn.Module) -> list[Tensor]:
    """Whole parameters, a copy."""
    with FullyShardedDataParallel.summon_full_params(network, writeback=False):
        return [getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for p in network.parameters()]


# ---- what each process does


def _closure(network: nn.Module, inputs: Tensor, targets: Tensor, *, sign: int = 1) -> Callable[[], Tensor]:
    return lambda: networks.backward(sign * nn.functional.cross_entropy(network(inputs), targets))


def _sam(
    wrap: Wrap,
    *,
    build: type[SAM] = SAM,
    two_step: bool = False,
    maximize: bool = False,
    resumed: bool = False,
    **options: object,
) -> list[Tensor]:
    def new(rho: float) -> tuple[nn.Module, SAM]:
        network = wrap(_network())
        return network, build(network.parameters(), rho=rho, module=network, maximize=maximize, **BASE, **options)

    network, sam = new(RHO)
    whole = wrap is _tensor_parallel
    for step in range(N_STEPS):
        if resumed and step == 2:  # all but a distributed checkpoint is lost
            states = copy.deepcopy(get_state_dict(network, sam))
            network, sam = new(9.0)
            set_state_dict(network, sam, model_state_dict=states[0], optim_state_dict=states[1])
        closure = _closure(network, *(_batch(step) if whole else _own(step)), sign=-1 if maximize else 1)
        networks.sam_step(sam, closure, two_step=two_step)
    return _weights(network)


def _failing(wrap: Wrap) -> list[Tensor]:
    """How far the pieces moved in a step whose second pass fails in the middle of its forward, in every process."""
    network = wrap(_network())
    sam = SAM(network.parameters(), rho=RHO, module=network, lr=LR, foreach=False)
    aliases = [getattr(p, "_local_tensor", p).detach() for p in network.parameters()]
    before = [piece.clone() for piece in aliases]
    moved = []

    def fail(*_: object) -> None:
        moved.append(any(not torch.equal(a, b) for a, b in zip(aliases, before, strict=True)))
        if len(moved) == 2:
            raise RuntimeError("in the second pass")

    next(layer for layer in network.modules() if isinstance(layer, nn.Tanh)).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the second pass"):
        sam.step(_closure(network, *_own(0)))
    assert moved == [False, True]  # the second pass did run at the phantom
    return [a - b for a, b in zip(aliases, before, strict=True)]


def _skipping(wrap: Wrap) -> list[Tensor]:
    """How far the weights moved where every process's closure skips its batch."""
    network = wrap(_network())
    before = _weights(network)
    sam = SAM(network.parameters(), rho=RHO, module=network, lr=LR)
    at_w = network(_own(0)[0])
    answers = []

    def skip_at_the_phantom() -> Tensor | None:
        answers.append(network(_own(0)[0]))
        return networks.backward(answers[0].square().sum()) if len(answers) == 1 else None

    sam.step(skip_at_the_phantom)
    assert not torch.equal(answers[1], at_w) and torch.equal(network(_own(0)[0]), at_w)  # FSDP keeps what it gathered
    sam.step(lambda: None)
    with pytest.raises(ValueError, match="no perturbed parameter has one"):
        sam.step(lambda: 0.0)
    return [a - b for a, b in zip(_weights(network), before, strict=True)]


def _scaled_sums() -> list[Tensor]:
    """Under a GradScaler with gradients that are sums still to be made: parameters replicated, the batch spread."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    network = distribute_module(_network(), mesh)
    sam = SAM(network.parameters(), rho=RHO, module=network, **BASE)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(N_STEPS):
        inputs, targets = _batch(step)
        spread = distribute_tensor(inputs, mesh, [Shard(0)])
        wanted = distribute_tensor(nn.functional.one_hot(targets, 2).double() / -N_EXAMPLES, mesh, [Shard(0)])
        for move in (lambda: sam.ascent_step(allow_overflow=True), lambda: scaler.step(sam)):
            loss = (nn.functional.log_softmax(network(spread), 1) * wanted).sum()
            scaler.scale(loss.full_tensor()).backward()
            move()
        scaler.update()
    return _weights(network)


def _lsam_trunk(wrap: Wrap) -> list[Tensor]:
    """The trunk spread, the head plain, and different in each process at first."""
    trunk, head = _network()
    trunk = wrap(trunk)
    if dist.get_rank():
        nn.init.zeros_(head.weight)
    parameters = [*trunk.parameters(), *head.parameters()]
    lsam = LSAM(trunk, head, torch.optim.SGD(parameters, **BASE), rho=RHO)
    for step in range(N_STEPS):
        lsam.step(*_own(step))
    return [*_weights(trunk), *_weights(head)]


class _PhantomLoss(nn.Module):
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        trunk, head = self.network
        return lsam_loss(trunk(inputs), head, targets, rho=RHO, process_group=dist.group.WORLD).loss


def _lsam_whole(wrap: Wrap) -> list[Tensor]:
    """Trunk and head in one module, which is spread."""
    module = wrap(_PhantomLoss(_network()))
    optimizer = torch.optim.SGD(module.parameters(), **BASE)
    for step in range(N_STEPS):
        optimizer.zero_grad()
        module(*_own(step)).backward()
        optimizer.step()
    return _weights(module)


def _cases(n_processes: int) -> dict[str, Callable[[], list[Tensor]]]:
    wraps = WRAPS | (HYBRID if n_processes == 4 else {})
    cases = {f"sam, {name}": partial(_sam, wrap) for name, wrap in wraps.items()}
    for name in ("ddp", "fsdp1 each layer", "fsdp2"):
        cases[f"two steps, {name}"] = partial(_sam, WRAPS[name], two_step=True)
        cases[f"maximize, {name}"] = partial(_sam, WRAPS[name], maximize=True)
        cases[f"unchecked, {name}"] = partial(_sam, WRAPS[name], check_finite=False)
        cases[f"asam, {name}"] = partial(_sam, WRAPS[name], build=ASAM)
    for name in ("ddp", "fsdp1", "fsdp2"):
        cases[f"lsam's trunk, {name}"] = partial(_lsam_trunk, WRAPS[name])
        cases[f"lsam whole, {name}"] = partial(_lsam_whole, WRAPS[name])
    for name in ("ddp", "fsdp1", "fsdp1 each layer", "fsdp2", "fsdp2 each layer"):
        cases[f"failing, {name}"] = partial(_failing, WRAPS[name])
        cases[f"skipping, {name}"] = partial(_skipping, WRAPS[name])
        cases[f"resumed, {name}"] = partial(_sam, WRAPS[name], resumed=True)
    cases["sam, tensor parallel"] = partial(_sam, _tensor_parallel)
    cases["sam, replicated, under a scaler"] = _scaled_sums
    return cases


def _run(rank: int, n_processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=n_processes)
    found = {}
    for name, case in _cases(n_processes).items():
        try:
            found[name] = case()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What every case ended with, by process."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(_run, (request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


UNMOVED = [case for case in _cases(4) if case.startswith(("failing", "skipping"))]


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in _cases(4) if case not in UNMOVED])
def test_every_process_ends_where_one_process_with_the_whole_batch_does(ended, case):
    if len(ended) == 2 and "hybrid" in case:
        pytest.skip("hybrid sharding takes four processes")
    right = _one_process(head_only="lsam" in case, adaptive="asam" in case)
    for found in ended:
        assert not isinstance(found[case], str), found[case]
        torch.testing.assert_close(torch.cat([w.flatten() for w in found[case]]), right, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", UNMOVED)
def test_a_second_pass_that_fails_and_a_batch_that_all_skip_leave_every_piece_at_w(ended, case):
    for found in ended:
        assert not isinstance(found[case], str), found[case]
        assert not any(bool(moved.any()) for moved in found[case])


def test_lsam_takes_a_group_that_is_added_later(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        trunk, head = _network()
        optimizer = torch.optim.SGD(_fsdp2(trunk).parameters(), **BASE)
        lsam = LSAM(trunk, head, optimizer, rho=RHO)
        before = head.weight.detach().clone()
        lsam.step(*_batch(0))
        assert torch.equal(head.weight, before)
        optimizer.add_param_group({"params": head.parameters()})
        lsam.step(*_batch(1))
        assert not torch.equal(head.weight, before)
    finally:
        dist.destroy_process_group()


def test_flattened_parameters_without_their_network_are_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with warnings.catch_warnings(action="ignore"):  # one process shards nothing, says FSDP
            network = _fsdp1(_network())
        with pytest.raises(TypeError, match="Pass module=network"):
            SAM(network.parameters(), lr=0.1)
        trunk, _ = _network()
        with pytest.raises(
            TypeError, match=r"expects its head to be a plain nn.Linear, .* got FullyShardedDataParallel"
        ):
            LSAM(trunk, network, torch.optim.SGD(network.parameters(), lr=0.1), rho=0.1)
    finally:
        dist.destroy_process_group()
