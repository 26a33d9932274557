"""The training steps that `edition.bench.step` compares, and the networks it compares them on."""

import copy
import functools
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from edition.bench.timing import Work
from samlib.config import check_choice
from samlib.images.backbones import build_backbone
from samlib.optim import LSAM, SAM
from samlib.streams import stream

RHO = 0.05
PEER = "pytorch_optimizer_sam"
Batches = Iterator[tuple[Tensor, Tensor]]
Method = Callable[[nn.Sequential, Batches], Work]
BASE: dict[str, Any] = {"lr": 0.001, "momentum": 0.9}
INPUTS = {"mlp": (5, 4), "convnet": (100, 3, 64, 32), "resnet18": (32, 3, 64, 64)}


@dataclass(frozen=True)
class Workload:
    """A network, split into trunk and linear head, and a few batches for it.

    Args:
        network: the trunk, which maps inputs to features, then the head.
        batches: (inputs, class indices), used in turn.
    """

    network: nn.Sequential
    batches: tuple[tuple[Tensor, Tensor], ...]

    def fresh(self) -> tuple[nn.Sequential, Batches]:
        """Return a copy of the network and the batches from the first on."""
        return copy.deepcopy(self.network), itertools.cycle(self.batches)


def build_workload(name: str, device: str = "cpu") -> Workload:
    """Build a network with four random batches and two classes.

    Args:
        name: "mlp" (4-100-100-2, batch 5), "convnet" (the paper's, 3x64x32 images, batch 100) or "resnet18"
            (torchvision's, untrained, 3x64x64 images, batch 32).
        device: where network and batches go.
    Raises:
        ValueError: unknown name.
    """
    check_choice("workload", name, tuple(INPUTS))
    generator, batches = stream(0, "data"), []
    for _ in range(4):
        inputs = torch.randn(INPUTS[name], generator=generator)
        targets = torch.randint(2, (len(inputs),), generator=generator)
        batches.append((inputs.to(device), targets.to(device)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Workload(_network(name).to(device), tuple(batches))


def methods() -> dict[str, Method]:
    """Return what is compared, by name: each takes a network and batches and returns one training step.

    pytorch-optimizer's SAM is left out where the library is not installed.
    """
    found: dict[str, Method] = {"sgd": _sgd, "floor": _floor, "sam": _sam, "lsam": _lsam, "two_step_sam": _two_step}
    return found if importlib.util.find_spec("pytorch_optimizer") is None else {**found, PEER: _peer}


class TwoStepSAM(Optimizer):
    """SAM as most code has it: two calls with two backward passes between, tensor by tensor, unchecked.

    epsilon = rho g / (||g|| + 1e-12), as Equation (3) but for the small number against a zero gradient.

    Args:
        params: tensors.
        base: class of the optimiser that takes the step at w.
        rho: perturbation radius, L2.
        **options: the base optimiser's.
    """

    def __init__(self, params: Any, base: type[Optimizer], *, rho: float, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)

    @torch.no_grad()
    def first_step(self) -> None:
        """Move to w + epsilon and clear the gradients."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in parameters]))
        scale = self.defaults["rho"] / (norm + 1e-12)
        for parameter in parameters:
            self.state[parameter]["old"] = parameter.data.clone()
            parameter.add_(parameter.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        """Return to w, step the base optimiser and clear the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data = self.state[parameter]["old"]
        self.base.step()
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take both steps; the caller has run backward, the closure does the second pass."""
        if closure is None:
            raise TypeError("TwoStepSAM.step() expects a closure for the second pass")
        self.first_step()
        torch.enable_grad()(closure)()
        self.second_step()


def forward_backward(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Run one forward and one backward pass and return the loss."""
    inputs, targets = batch
    loss = F.cross_entropy(network(inputs), targets)
    loss.backward()
    return loss


def new_sam(network: nn.Sequential) -> SAM:
    """Build our SAM, told of the network where that has normalisation statistics to stand still."""
    normalized = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    return SAM(network.parameters(), SGD, rho=RHO, module=network if normalized else None, **BASE)


def _network(name: str) -> nn.Sequential:
    """Trunk and head."""
    if name == "convnet":
        network = build_backbone("convnet", n_classes=2, seed=0)
        return nn.Sequential(network.trunk, network.head)
    if name == "mlp":
        trunk: nn.Module = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU())
        return nn.Sequential(trunk, nn.Linear(100, 2))
    trunk = importlib.import_module("torchvision.models").resnet18()
    trunk.fc = nn.Identity()
    return nn.Sequential(trunk, nn.Linear(512, 2))


def _sgd(network: nn.Sequential, batches: Batches) -> Work:
    """The ordinary step."""
    optimizer = SGD(network.parameters(), **BASE)

    def step() -> None:
        optimizer.zero_grad()
        forward_backward(network, next(batches))
        optimizer.step()

    return step


def _floor(network: nn.Sequential, batches: Batches) -> Work:
    """Two passes and one update: what is left of SAM without a perturbation."""
    optimizer = SGD(network.parameters(), **BASE)

    def step() -> None:
        batch = next(batches)
        for _ in range(2):
            optimizer.zero_grad()
            forward_backward(network, batch)
        optimizer.step()

    return step


def _sam(network: nn.Sequential, batches: Batches) -> Work:
    """Our SAM, with a closure."""
    sam = new_sam(network)
    return lambda: sam.step(functools.partial(forward_backward, network, next(batches)))


def _lsam(network: nn.Sequential, batches: Batches) -> Work:
    """Our LSAM."""
    trunk, head = network
    assert isinstance(head, nn.Linear), "every workload ends in a linear head"
    lsam = LSAM(trunk, head, SGD(network.parameters(), **BASE), rho=RHO)
    return lambda: lsam.step(*next(batches))


def _two_step(network: nn.Sequential, batches: Batches) -> Work:
    """The widespread SAM."""
    sam = TwoStepSAM(network.parameters(), SGD, rho=RHO, **BASE)

    def step() -> None:
        batch = next(batches)
        forward_backward(network, batch)
        sam.first_step()
        forward_backward(network, batch)
        sam.second_step()

    return step


def _peer(network: nn.Sequential, batches: Batches) -> Work:
    """pytorch-optimizer's SAM, in its cheaper use, two steps."""
    library = importlib.import_module("pytorch_optimizer")
    sam = library.SAM(network.parameters(), SGD, rho=RHO, **BASE)

    def step() -> None:
        batch = next(batches)
        forward_backward(network, batch)
        sam.first_step(zero_grad=True)
        forward_backward(network, batch)
        sam.second_step(zero_grad=True)

    return step
