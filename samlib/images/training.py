"""One epoch of SGD or SAM on views of images, and what a network makes of them: shared by all finetuned networks."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from samlib.images.backbones import Backbone
from samlib.images.train_pairs import learning_rate_at, take_step
from samlib.images.views import Views
from samlib.optim import SAM
from samlib.shapes import Float, Int64

CHUNK = 250  # images a forward pass without gradients


class Settings(Protocol):
    """What the loop reads of a configuration; see `samlib.images.photograph_config.FinetuneConfig`."""

    @property
    def learning_rate(self) -> float:
        """Initial step size."""

    @property
    def rho(self) -> float:
        """Perturbation radius."""

    @property
    def momentum(self) -> float:
        """Of the base optimizer."""

    @property
    def weight_decay(self) -> float:
        """Of the base optimizer."""

    @property
    def n_epochs(self) -> int:
        """Epochs in all."""

    @property
    def precision(self) -> str:
        """Of the network's computations."""


def make_optimizer(network: Backbone, config: Settings) -> SAM:
    """Return SAM (SGD where rho is 0) with momentum over the parameters that are trained."""
    return SAM(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        torch.optim.SGD,
        rho=config.rho,
        module=network,
        check_finite=False,  # the epoch's loss is looked at instead, once
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def train_epoch(
    network: Backbone,
    optimizer: SAM,
    views: Views,
    labels: Int64[Tensor, " image"],
    batches: Sequence[Int64[Tensor, " batch"]],
    config: Settings,
    *,
    epoch: int,
    generator: torch.Generator,
) -> float:
    """Take one step a batch; return the mean of the batches' losses at w.

    Args:
        network: it is put into training mode.
        optimizer: what `make_optimizer` returned; its learning rate falls along the half cosine of all epochs.
        views: of all images.
        labels: of all images.
        batches: places of each batch's images; every epoch has as many batches.
        config: the run.
        epoch: counted from 0.
        generator: draws the augmentation.
    """
    device = network.head.weight.device

    def forward(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16", cache_enabled=False):
            return network(inputs).float()

    network.train()
    total = torch.zeros((), device=device)
    for i, places in enumerate(batches):
        step, n_steps = epoch * len(batches) + i, config.n_epochs * len(batches)
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, n_steps, config.learning_rate)
        inputs = views.augmented(places, generator)
        total += take_step(forward, optimizer, inputs, labels[places].to(device))
    return total.item() / len(batches)


def snapshot(network: Backbone, optimizer: SAM, streams: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """Return the state of a run after an epoch: trained weights, optimizer, streams of random numbers."""
    return {
        "trunk": network.trunk.state_dict(),
        "head": network.head.state_dict(),
        "optimizer": optimizer.state_dict(),
        "streams": {purpose: generator.get_state() for purpose, generator in streams.items()},
    }


def restore(
    state: Mapping[str, Any], network: Backbone, optimizer: SAM, streams: Mapping[str, torch.Generator]
) -> None:
    """Put back what `snapshot` returned."""
    network.trunk.load_state_dict(state["trunk"])
    network.head.load_state_dict(state["head"])
    optimizer.load_state_dict(state["optimizer"])
    for purpose, generator in streams.items():
        generator.set_state(state["streams"][purpose])


@torch.no_grad()
def predict(
    network: Backbone, views: Views, places: Int64[Tensor, " row"], *, precision: str = "float32"
) -> tuple[Float[Tensor, "row feature"], Int64[Tensor, " row"]]:
    """Return features and predicted labels of images, in evaluation mode, on the CPU.

    Args:
        network: its mode is put back afterwards.
        views: of all images.
        places: which of them.
        precision: "float32" or "bfloat16".
    """
    mode, device = network.training, network.head.weight.device
    network.eval()
    features, answers = [], []
    for chunk in places.split(CHUNK):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            found = network.trunk(views.plain(chunk))
            answers.append(network.head(found).argmax(1).cpu())
        features.append(found.float().cpu())
    network.train(mode)
    return torch.cat(features), torch.cat(answers)
