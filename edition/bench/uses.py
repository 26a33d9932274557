"""Which uses of SAM come out right, wrong or refused in ours and in other implementations: measured, not told.

Each use is a function of an implementation that says whether the result is right; what stops with an error or warns
is "refused". A new row is a function with a docstring, which is its name on the page, and its place in `USES`.
"""

import contextlib
import copy
import functools
import importlib
import importlib.util
import io
import math
import pickle
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import SGD

from edition.bench.step_methods import PEER, TwoStepSAM
from samlib.optim import SAM

RHO, LR = 0.5, 0.1
OUTCOMES = ("right", "wrong", "refused")


@dataclass(frozen=True)
class Implementation:
    """One SAM, as its own documentation has it used.

    Args:
        build: called with parameters, a base class, rho and the base's options.
        ascend, descend: the two steps, of the optimiser.
        closes_twice: whether step(closure) runs the closure twice, or once after a backward by the caller.
        freezes: block for the second pass, of the network, in which its statistics stand still.
    """

    build: Callable[..., Any]
    ascend: Callable[[Any], None]
    descend: Callable[[Any], None]
    closes_twice: bool
    freezes: Callable[[nn.Module], Any] = lambda network: contextlib.nullcontext()

    def by_closure(self, sam: Any, closure: Callable[[], Any]) -> None:
        """Take one step with the closure."""
        if not self.closes_twice:
            closure()
        sam.step(closure)

    def in_two(self, sam: Any, backward: Callable[[], Any], network: nn.Module | None = None) -> None:
        """Take one step in two calls."""
        backward()
        self.ascend(sam)
        with contextlib.nullcontext() if network is None else self.freezes(network):
            backward()
        self.descend(sam)


def implementations() -> dict[str, Implementation]:
    """Return ours, the common two-step code, and pytorch-optimizer's SAM where that is installed."""
    found = {
        "sam": Implementation(SAM, lambda sam: sam.ascent_step(), lambda sam: sam.descent_step(), True),
        "two_step_sam": Implementation(
            TwoStepSAM, lambda sam: sam.first_step(), lambda sam: sam.second_step(), False, _momentum_zero
        ),
    }
    if importlib.util.find_spec("pytorch_optimizer") is not None:
        library = importlib.import_module("pytorch_optimizer")
        found[PEER] = Implementation(
            library.SAM,
            lambda sam: sam.first_step(zero_grad=True),
            lambda sam: sam.second_step(zero_grad=True),
            False,
            lambda network: _between(library.disable_running_stats, library.enable_running_stats, network),
        )
    return found


def measure_uses(names: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Try every use with every implementation.

    Args:
        names: some of `USES`; None tries all, the last of which start two processes.
    Returns:
        One row a use: `use`, its name; `what`, its words; and an outcome of `OUTCOMES` for each implementation.
    """
    rows = []
    for name in names if names is not None else USES:
        use = USES[name]
        told = {column: _outcome(use, one) for column, one in implementations().items()}
        rows.append({"use": name, "what": (use.__doc__ or name).strip().rstrip("."), **told})
    return rows


def _outcome(use: Callable[[Implementation], bool], one: Implementation) -> str:
    """Try one use; an error or a warning is a refusal."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("error", UserWarning)
        torch.manual_seed(0)
        try:
            return "right" if use(one) else "wrong"
        except Exception:
            return "refused"


# ---- small parts


def _weight(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def _close(found: Tensor, right: Sequence[float] | Tensor, tolerance: float = 1e-5) -> bool:
    return torch.allclose(found.detach().double(), torch.as_tensor(right).double(), rtol=tolerance, atol=tolerance)


def _quadratic(*weights: nn.Parameter) -> Callable[[], Tensor]:
    """Backward of half the squared length, whose gradient is w."""

    def backward() -> Tensor:
        loss = torch.stack([weight.square().sum().double() for weight in weights]).sum() / 2
        loss.backward()
        return loss

    return backward


def _network(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), *(layers or (nn.Tanh(),)), nn.Linear(8, 2))


def _loss(network: nn.Module, seed: int, part: slice = slice(None)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(8, 3, generator=generator), torch.randint(0, 2, (8,), generator=generator)
    return nn.functional.cross_entropy(network(inputs[part]), targets[part])


def _backward(network: nn.Module, seed: int, part: slice = slice(None)) -> None:
    _loss(network, seed, part).backward()


def _at(seed: int) -> Callable[[nn.Module], Tensor]:
    return lambda network: _loss(network, seed)


def _vector(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def _plain(network: nn.Module, losses: Sequence[Callable[[nn.Module], Tensor]], rho: float = RHO) -> Tensor:
    """Equation (3) with plain SGD spelt out on a copy; the weights after one step for each loss."""
    network = copy.deepcopy(network)
    parameters = list(network.parameters())
    for loss in losses:
        at_w = torch.autograd.grad(loss(network), parameters)
        length = math.sqrt(sum(float(g.double().square().sum()) for g in at_w))
        saved = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, g in zip(parameters, at_w, strict=True):
                p.add_(rho * g / length)
        phantom = torch.autograd.grad(loss(network), parameters)
        with torch.no_grad():
            for p, w, g in zip(parameters, saved, phantom, strict=True):
                p.copy_(w - LR * g)
    return _vector(network)


@contextlib.contextmanager
def _momentum_zero(network: nn.Module) -> Any:
    """What users of the two-step code put around the second pass: batch norm's momentum is 0."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@contextlib.contextmanager
def _between(before: Callable[[nn.Module], None], after: Callable[[nn.Module], None], network: nn.Module) -> Any:
    before(network)
    try:
        yield
    finally:
        after(network)


def _build(one: Implementation, network: nn.Module, **options: Any) -> Any:
    """Build with the network told of, where an implementation wants it."""
    if one.build is SAM:
        options["module"] = network
    return one.build(network.parameters(), SGD, rho=RHO, lr=LR, **options)


def _begun(one: Implementation) -> tuple[nn.Module, Any]:
    """A network and its optimiser, with momentum, after one step."""
    network = _network()
    sam = one.build(network.parameters(), SGD, rho=RHO, lr=LR, momentum=0.9)
    one.in_two(sam, lambda: _loss(network, 0).backward())
    return network, sam


def _go_on_alike(one: Implementation, *pairs: tuple[nn.Module, Any]) -> bool:
    """Whether two networks, each with its optimiser, have the same weights after another step."""
    for network, sam in pairs:
        one.in_two(sam, functools.partial(_backward, network, 1))
    first, second = (_vector(network) for network, _ in pairs)
    return _close(first, second)


# ---- uses


def _plain_loop(one: Implementation) -> bool:
    """A plain loop in float32: five steps equal Equation (3) written out."""
    network = _network()
    right = _plain(network, [_at(seed) for seed in range(5)])
    sam = one.build(network.parameters(), SGD, rho=RHO, lr=LR)
    for seed in range(5):
        one.in_two(sam, functools.partial(_backward, network, seed))
    return _close(_vector(network), right)


def _autocast(one: Implementation) -> bool:
    """One autocast block around both passes, in bfloat16."""
    network = _network()

    def loss(net: nn.Module) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return _loss(net, 0)

    right = _plain(network, [loss])
    sam = one.build(network.parameters(), SGD, rho=RHO, lr=LR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one.in_two(sam, lambda: _loss(network, 0).backward())
    return _close(_vector(network), right, 1e-3)


def _accumulated(one: Implementation) -> bool:
    """Gradients accumulated over two microbatches in each pass."""
    network = _network()
    right = _plain(network, [_at(0)])
    sam = one.build(network.parameters(), SGD, rho=RHO, lr=LR)

    def backward() -> None:
        for part in (slice(0, 4), slice(4, 8)):
            (_loss(network, 0, part) / 2).backward()

    one.in_two(sam, backward)
    return _close(_vector(network), right)


def _earlier_gradients(one: Implementation) -> bool:
    """A trainer's accumulation: a microbatch's gradients lie there when step(closure) comes with the last."""
    network = _network()
    right = _plain(network, [_at(0)])
    sam = one.build(network.parameters(), SGD, rho=RHO, lr=LR)
    (_loss(network, 0, slice(0, 4)) / 2).backward()
    one.by_closure(sam, lambda: (_loss(network, 0, slice(4, 8)) / 2).backward())
    return _close(_vector(network), right)


def _maximize(one: Implementation) -> bool:
    """A base with maximize=True equals minimising the negative."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR, maximize=True)
    one.in_two(sam, lambda: (-weight.square().sum() / 2).backward())
    return _close(weight, [2.67, 3.56])  # w - 0.1 (w + 0.5 w / 5)


def _mixed(one: Implementation) -> bool:
    """Parameters of several precisions in one list share one norm."""
    weights = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0], dtype=torch.float64))]
    sam = one.build(weights, SGD, rho=RHO, lr=LR)
    _quadratic(*weights)()
    one.ascend(sam)
    return _close(torch.cat([w.double() for w in weights]), [3.3, 4.4])


def _empty(one: Implementation) -> bool:
    """A parameter of size zero in the list."""
    weights = [_weight(3.0, 4.0), nn.Parameter(torch.empty(0))]
    sam = one.build(weights, SGD, rho=RHO, lr=LR)
    one.in_two(sam, _quadratic(*weights))
    return _close(weights[0], [2.67, 3.56])


def _tiny(one: Implementation) -> bool:
    """A gradient of length 1e-15 still gives a perturbation of length rho."""
    weight = _weight(0.0, 0.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    (weight * torch.tensor([3e-16, 4e-16])).sum().backward()
    one.ascend(sam)
    return _close(weight, [0.3, 0.4])


def _half(one: Implementation) -> bool:
    """Parameters in float16 with a gradient of 1e-6."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float16))
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    weight.grad = torch.full_like(weight, 1e-6)
    one.ascend(sam)
    return _close(weight, [0.35355, 0.35355], 2e-3)


def _zero(one: Implementation) -> bool:
    """A gradient of zero: no NaN, and the base step (weight decay) is taken."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR, weight_decay=0.5)
    one.in_two(sam, lambda: (0 * weight).sum().backward())
    return _close(weight, [2.85, 3.8])


def _not_finite(one: Implementation) -> bool:
    """A loss that is not a number: an error, the weights unharmed."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    try:
        one.in_two(sam, lambda: (weight * math.nan).sum().backward())
    except ValueError:
        return _close(weight, [3.0, 4.0])
    return False


def _scaler(one: Implementation) -> bool:
    """A GradScaler whose second pass overflows: back at w, the step skipped, the next one right."""
    weight = _weight(3.0, 4.0)
    sam, scaler = one.build([weight], SGD, rho=RHO, lr=LR), torch.amp.GradScaler("cpu", init_scale=8.0)
    for factors in ((1.0, math.inf), (1.0, 1.0)):
        scaler.scale(weight.square().sum() / 2 * factors[0]).backward()
        if one.build is SAM:
            sam.ascent_step(allow_overflow=True)
        else:
            scaler.unscale_(sam)
            one.ascend(sam)
            scaler.update()
        scaler.scale(weight.square().sum() / 2 * factors[1]).backward()
        if one.build is SAM:
            scaler.step(sam)
        else:
            scaler.unscale_(sam)
            one.descend(sam)
        scaler.update()
        if factors[1] != 1 and not _close(weight, [3.0, 4.0]):
            return False
    return _close(weight, [2.67, 3.56])


def _unused(one: Implementation) -> bool:
    """A parameter that only the first pass used is back at w."""
    used, other = _weight(3.0), _weight(4.0)
    sam = one.build([used, other], SGD, rho=RHO, lr=LR)
    _quadratic(used, other)()
    one.ascend(sam)
    _quadratic(used)()
    one.descend(sam)
    return _close(torch.cat([used, other]), [2.67, 4.0])


def _views(one: Implementation) -> bool:
    """Parameters that are views of one flat buffer stay views of it."""
    buffer = torch.tensor([3.0, 4.0])
    weight = nn.Parameter(buffer[:])
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    one.in_two(sam, _quadratic(weight))
    return _close(buffer, [2.67, 3.56]) and _close(weight, [2.67, 3.56])


def _failing(one: Implementation) -> bool:
    """A closure that fails in the second pass leaves the weights at w."""
    weight, calls = _weight(3.0, 4.0), []
    sam = one.build([weight], SGD, rho=RHO, lr=LR)

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("no such file")
        return _quadratic(weight)()

    with contextlib.suppress(KeyError):
        one.by_closure(sam, closure)
    return _close(weight, [3.0, 4.0])


def _skipped(one: Implementation) -> bool:
    """A closure that returns None, a skipped batch, takes no step, and the next one is right."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    one.by_closure(sam, lambda: None)
    one.by_closure(sam, _quadratic(weight))
    return _close(weight, [2.67, 3.56])


def _statistics(one: Implementation) -> bool:
    """Batch norm's running statistics advance once a step, by the implementation's own means."""
    network = _network(nn.BatchNorm1d(8))
    twin = copy.deepcopy(network)
    one.in_two(_build(one, network), lambda: _loss(network, 0).backward(), network)
    _loss(twin, 0)
    return _close(network.get_buffer("1.running_mean"), twin.get_buffer("1.running_mean"))


def _spectral(one: Implementation) -> bool:
    """The vectors of spectral normalisation advance once a step."""
    network = _network()
    nn.utils.parametrizations.spectral_norm(network[0])
    twin = copy.deepcopy(network)
    one.in_two(_build(one, network), lambda: _loss(network, 0).backward(), network)
    _loss(twin, 0)
    names = [name for name, _ in network.named_buffers()]
    return all(_close(dict(network.named_buffers())[n], dict(twin.named_buffers())[n]) for n in names)


def _saved_at_phantom(one: Implementation) -> bool:
    """A checkpoint between the two steps: the weights in it are not w, which somebody must say."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    _quadratic(weight)()
    one.ascend(sam)
    sam.state_dict()
    return False


def _resumed(one: Implementation) -> bool:
    """State saved and loaded into a new optimiser, radius and momentum included: the run goes on the same."""
    network, sam = _begun(one)
    file, other = io.BytesIO(), copy.deepcopy(network)
    torch.save(sam.state_dict(), file)
    file.seek(0)
    new = one.build(other.parameters(), SGD, rho=0.01, lr=0.7, momentum=0.9)
    new.load_state_dict(torch.load(file, weights_only=True))
    return _go_on_alike(one, (network, sam), (other, new))


def _copied(one: Implementation) -> bool:
    """Network and optimiser pickled together go on the same."""
    begun = _begun(one)
    return _go_on_alike(one, begun, pickle.loads(pickle.dumps(begun)))


def _scheduled(one: Implementation) -> bool:
    """A scheduler for the learning rate reaches the base."""
    weight = _weight(3.0, 4.0)
    sam = one.build([weight], SGD, rho=RHO, lr=LR)
    scheduler = torch.optim.lr_scheduler.LambdaLR(sam, lambda step: float(step == 0))
    for _ in range(2):
        one.by_closure(sam, _quadratic(weight))
        scheduler.step()
    return _close(weight, [2.67, 3.56])  # the second step has rate 0


def _added(one: Implementation) -> bool:
    """A parameter group added later is perturbed and stepped."""
    first, second = _weight(3.0), _weight(4.0)
    sam = one.build([first], SGD, rho=RHO, lr=LR)
    sam.add_param_group({"params": [second]})
    one.in_two(sam, _quadratic(first, second))
    return _close(torch.cat([first, second]), [2.67, 3.56])


def _group_radius(one: Implementation) -> bool:
    """A radius of a group's own, 0 in one group: that group is not moved, and not in the norm."""
    first, second = _weight(3.0), _weight(4.0)
    groups = [{"params": [first]}, {"params": [second], "rho": 0.0}]
    sam = one.build(groups, SGD, rho=RHO, lr=LR)
    _quadratic(first, second)()
    one.ascend(sam)
    return _close(torch.cat([first, second]), [3.5, 4.0])


def _lbfgs(one: Implementation) -> bool:
    """LBFGS as base, which evaluates the loss itself: nobody can be right."""
    weight = _weight(3.0, 4.0)
    one.by_closure(one.build([weight], torch.optim.LBFGS, rho=RHO, lr=LR), _quadratic(weight))
    return False


def _checkpoint_functions(one: Implementation) -> bool:
    """torch's distributed checkpoint functions on a new optimiser."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    network, sam = _begun(one)
    saved, other = copy.deepcopy(get_optimizer_state_dict(network, sam)), copy.deepcopy(network)
    new = one.build(other.parameters(), SGD, rho=0.01, lr=0.7, momentum=0.9)
    set_optimizer_state_dict(other, new, saved)
    return _go_on_alike(one, (network, sam), (other, new))


def _ddp(one: Implementation) -> bool:
    """DistributedDataParallel, two processes: the steps of one on the whole batch."""
    return _in_processes(one, "ddp")


def _fsdp1(one: Implementation) -> bool:
    """FullyShardedDataParallel, two processes: the steps of one on the whole batch."""
    return _in_processes(one, "fsdp1")


def _fsdp2(one: Implementation) -> bool:
    """fully_shard (FSDP2), two processes: the steps of one on the whole batch."""
    return _in_processes(one, "fsdp2")


def _in_processes(one: Implementation, kind: str) -> bool:
    """Train two steps in two processes that talk by gloo."""
    name = next(name for name, each in implementations().items() if each.build is one.build)
    torch.manual_seed(0)
    right = _plain(_network(), [_at(seed) for seed in range(2)])
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_process, (folder, name, kind), nprocs=2)
        found = torch.load(Path(folder, "found"))
    return _close(found, right)


def _process(rank: int, folder: str, name: str, kind: str) -> None:
    """Do one process's part of `_in_processes`; the first writes the weights."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    one = implementations()[name]
    network: nn.Module = _network()
    if kind == "ddp":
        network = nn.parallel.DistributedDataParallel(network)
    elif kind == "fsdp1":
        network = FullyShardedDataParallel(network, use_orig_params=True, device_id=torch.device("cpu"))
    else:
        fully_shard(network, mesh=init_device_mesh("cpu", (2,)))
    sam = _build(one, network)
    for seed in range(2):
        one.in_two(sam, functools.partial(_backward, network, seed, slice(4 * rank, 4 * rank + 4)))
    with FullyShardedDataParallel.summon_full_params(network, writeback=False):
        pieces = [_whole(parameter).flatten() for parameter in network.parameters()]
        whole = torch.cat(pieces)  # here, a copy: outside the block the storages are gone
    if rank == 0:
        torch.save(whole, Path(folder, "found"))
    dist.destroy_process_group()


def _whole(parameter: Tensor) -> Tensor:
    gather = getattr(parameter, "full_tensor", None)
    return parameter.detach() if gather is None else gather().detach()


USES: dict[str, Callable[[Implementation], bool]] = {
    function.__name__.strip("_"): function
    for function in (
        _plain_loop, _autocast, _accumulated, _earlier_gradients, _maximize, _mixed, _empty, _tiny, _half, _zero,
        _not_finite, _scaler, _unused, _views, _failing, _skipped, _statistics, _spectral, _saved_at_phantom, _resumed,
        _copied, _scheduled, _added, _group_radius, _lbfgs, _checkpoint_functions, _ddp, _fsdp1, _fsdp2,
    )
}  # fmt: skip
