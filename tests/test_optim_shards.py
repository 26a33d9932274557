"""SAM and LSAM over processes: each way to spread a network takes the steps of one process on the whole batch.

The processes are real and talk by gloo. Each number of them starts once; what every case ended with is kept in a file.
"""

import copy
import functools
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from samlib.optim import ASAM, LSAM, SAM, lsam_loss

pytestmark = pytest.mark.filterwarnings("error")
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


def _one_process(*, head_only: bool = False, adaptive: bool = False) -> list[Tensor]:
    """Equation (3) spelt out, with momentum SGD; `head_only` is Equation (5), `adaptive` ASAM."""
    network = _network()
    parameters = list(network.parameters())
    perturbed = list(network[1].parameters()) if head_only else parameters
    velocities = [torch.zeros_like(p) for p in parameters]
    for step in range(N_STEPS):
        inputs, targets = _batch(step)

        def gradients(of: list[Tensor], inputs: Tensor = inputs, targets: Tensor = targets) -> tuple[Tensor, ...]:
            return torch.autograd.grad(nn.functional.cross_entropy(network(inputs), targets), of)

        ascent = gradients(perturbed)
        scales = [p.detach().abs() + 0.01 if adaptive else torch.ones_like(p) for p in perturbed]
        ascent = [g * t for g, t in zip(ascent, scales, strict=True)]
        length = sum(float(g.square().sum()) for g in ascent) ** 0.5
        saved = [p.detach().clone() for p in perturbed]
        with torch.no_grad():
            for p, g, t in zip(perturbed, ascent, scales, strict=True):
                p += RHO * t * g / length
        descent = gradients(parameters)
        with torch.no_grad():
            for p, w in zip(perturbed, saved, strict=True):
                p.copy_(w)
            for p, v, g in zip(parameters, velocities, descent, strict=True):
                v.mul_(0.9).add_(g)
                p -= LR * v
    return [p.detach() for p in parameters]


# ---- ways to spread a network

ALL = ModuleWrapPolicy({nn.Linear})


def _fsdp1(strategy: str = "FULL_SHARD", *, original: bool = True, policy: ModuleWrapPolicy | None = None) -> Wrap:
    def wrap(network: nn.Module) -> nn.Module:
        hybrid = {"device_mesh": init_device_mesh("cpu", (2, 2))} if strategy == "HYBRID_SHARD" else {}
        return FullyShardedDataParallel(
            network,
            sharding_strategy=ShardingStrategy[strategy],
            use_orig_params=original,
            auto_wrap_policy=policy,
            device_id=torch.device("cpu"),
            **hybrid,
        )

    return wrap


def _fsdp2(mesh: tuple[int, ...] | None = None, *, each: bool = False) -> Wrap:
    def wrap(network: nn.Module) -> nn.Module:
        shape = mesh or (dist.get_world_size(),)
        found = init_device_mesh("cpu", shape, mesh_dim_names=("replica", "shard")[-len(shape) :])
        for layer in [layer for layer in network.modules() if isinstance(layer, nn.Linear)] if each else []:
            fully_shard(layer, mesh=found)
        return fully_shard(network, mesh=found)

    return wrap


def _tensor_parallel(network: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(network, mesh, {"0.0": ColwiseParallel(), "0.2": RowwiseParallel()})


WRAPS: dict[str, Wrap] = {
    "ddp": DistributedDataParallel,
    "fsdp1": _fsdp1(),
    "fsdp1 flat": _fsdp1(original=False),
    "fsdp1 each layer": _fsdp1(policy=ALL),
    "fsdp1 gradients only": _fsdp1("SHARD_GRAD_OP", policy=ALL),
    "fsdp1 replicated": _fsdp1("NO_SHARD"),
    "fsdp2": _fsdp2(),
    "fsdp2 each layer": _fsdp2(each=True),
}
HYBRID = {"fsdp1 hybrid": _fsdp1("HYBRID_SHARD"), "fsdp2 hybrid": _fsdp2((2, 2), each=True)}


def _weights(network: nn.Module) -> list[Tensor]:
    """Whole parameters, a copy."""
    with FullyShardedDataParallel.summon_full_params(network, writeback=False):
        return [getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for p in network.parameters()]


# ---- what each process does


def _closure(network: nn.Module, inputs: Tensor, targets: Tensor, *, sign: int = 1) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = sign * nn.functional.cross_entropy(network(inputs), targets)
        loss.backward()
        return loss

    return closure


def _sam(
    wrap: Wrap, *, build: type[SAM] = SAM, two_step: bool = False, maximize: bool = False, **options: object
) -> list[Tensor]:
    network = wrap(_network())
    sam = build(network.parameters(), torch.optim.SGD, rho=RHO, module=network, maximize=maximize, **BASE, **options)
    whole = wrap is _tensor_parallel
    for step in range(N_STEPS):
        closure = _closure(network, *(_batch(step) if whole else _own(step)), sign=-1 if maximize else 1)
        if two_step:
            closure()
            sam.ascent_step()
            closure()
            sam.descent_step()
        else:
            sam.step(closure)
    return _weights(network)


def _failing(wrap: Wrap) -> list[Tensor]:
    """How far the pieces moved in a step whose second pass fails in the middle of its forward, in every process."""
    network = wrap(_network())
    sam = SAM(network.parameters(), torch.optim.SGD, rho=RHO, module=network, lr=LR, foreach=False)
    aliases = [getattr(p, "_local_tensor", p).detach() for p in network.parameters()]
    before = [piece.clone() for piece in aliases]
    calls = []

    def fail(*_: object) -> None:
        calls.append(any(not torch.equal(a, b) for a, b in zip(aliases, before, strict=True)))
        if len(calls) == 2:
            raise RuntimeError("in the second pass")

    next(layer for layer in network.modules() if isinstance(layer, nn.Tanh)).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the second pass"):
        sam.step(_closure(network, *_own(0)))
    return [torch.tensor(calls), *(a - b for a, b in zip(aliases, before, strict=True))]


def _skipping(wrap: Wrap) -> list[Tensor]:
    """How far the weights moved where every process's closure skips its batch."""
    network = wrap(_network())
    before = _weights(network)
    sam = SAM(network.parameters(), torch.optim.SGD, rho=RHO, module=network, lr=LR)
    sam.step(lambda: None)
    with pytest.raises(ValueError, match="no parameter has one"):
        sam.step(lambda: 0.0)
    return [a - b for a, b in zip(_weights(network), before, strict=True)]


def _resumed(wrap: Wrap) -> list[Tensor]:
    """Two steps, a distributed checkpoint, a new network and SAM, the other steps."""
    states: tuple[object, object] | None = None
    for steps in (range(2), range(2, N_STEPS)):
        network = wrap(_network())
        sam = SAM(network.parameters(), torch.optim.SGD, rho=RHO if states is None else 9.0, module=network, **BASE)
        if states is not None:
            set_state_dict(network, sam, model_state_dict=states[0], optim_state_dict=states[1])
        for step in steps:
            sam.step(_closure(network, *_own(step)))
        states = copy.deepcopy(get_state_dict(network, sam))
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
    cases = {f"sam, {name}": functools.partial(_sam, wrap) for name, wrap in wraps.items()}
    for name in ("ddp", "fsdp1 each layer", "fsdp2"):
        cases[f"two steps, {name}"] = functools.partial(_sam, WRAPS[name], two_step=True)
        cases[f"maximize, {name}"] = functools.partial(_sam, WRAPS[name], maximize=True)
        cases[f"unchecked, {name}"] = functools.partial(_sam, WRAPS[name], check_finite=False)
        cases[f"asam, {name}"] = functools.partial(_sam, WRAPS[name], build=ASAM)
    for name in ("ddp", "fsdp1", "fsdp2"):
        cases[f"lsam's trunk, {name}"] = functools.partial(_lsam_trunk, WRAPS[name])
        cases[f"lsam whole, {name}"] = functools.partial(_lsam_whole, WRAPS[name])
    for name in ("ddp", "fsdp1", "fsdp1 each layer", "fsdp2 each layer"):
        cases[f"failing, {name}"] = functools.partial(_failing, WRAPS[name])
        cases[f"skipping, {name}"] = functools.partial(_skipping, WRAPS[name])
        cases[f"resumed, {name}"] = functools.partial(_resumed, WRAPS[name])
    cases["sam, tensor parallel"] = functools.partial(_sam, _tensor_parallel)
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


def _named(*kinds: str, but: bool = False) -> list[str]:
    return [case for case in _cases(4) if case.startswith(kinds) is not but]


@pytest.mark.slow
@pytest.mark.parametrize("case", _named("failing", "skipping", but=True))
def test_every_process_ends_where_one_process_with_the_whole_batch_does(ended, case):
    if len(ended) == 2 and "hybrid" in case:
        pytest.skip("hybrid sharding takes four processes")
    right = _one_process(head_only="lsam" in case, adaptive="asam" in case)
    for found in ended:
        weights = found[case]
        assert not isinstance(weights, str), weights
        joint = torch.cat([w.flatten() for w in weights])
        torch.testing.assert_close(joint, torch.cat([w.flatten() for w in right]), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", _named("failing"))
def test_a_second_pass_that_fails_leaves_every_piece_at_w(ended, case):
    for found in ended:
        moved = found[case]
        assert not isinstance(moved, str), moved
        assert moved[0].tolist() == [False, True]  # the second pass did run at the phantom
        assert not any(bool(each.any()) for each in moved[1:])


@pytest.mark.slow
@pytest.mark.parametrize("case", _named("skipping"))
def test_a_batch_skipped_by_every_process_moves_nothing(ended, case):
    for found in ended:
        assert not isinstance(found[case], str), found[case]
        assert not any(bool(each.any()) for each in found[case])


def test_flattened_parameters_without_their_network_are_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with warnings.catch_warnings(action="ignore"):  # one process shards nothing, says FSDP
            network = _fsdp1()(_network())
        with pytest.raises(TypeError, match="Pass module=network"):
            SAM(network.parameters(), lr=0.1)
        trunk, _ = _network()
        with pytest.raises(
            TypeError, match=r"expects its head to be a plain nn.Linear, .* got FullyShardedDataParallel"
        ):
            LSAM(trunk, network, torch.optim.SGD(network.parameters(), lr=0.1), rho=0.1)
    finally:
        dist.destroy_process_group()
