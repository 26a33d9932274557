"""What the three protocols share: one training loop with SGD or SAM, and one evaluation."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from samlib.images.backbones import Backbone
from samlib.images.config import DomainConfig, FinetuneConfig, PairConfig
from samlib.images.image_sets import PreparedSet
from samlib.images.views import Views
from samlib.optim import SAM
from samlib.shapes import Float, Int64
from samlib.streams import stream

Log = dict[str, list[Any]]  # what was seen after each epoch, by name
Draw = Callable[[torch.Generator], Sequence[Int64[Tensor, " batch"]]]
Look = Callable[[int], Mapping[str, Any] | None]


class Checkpoint(Protocol):
    """Keeps the state of a run; see `edition.records.checkpoint.Checkpoint`."""

    def load(self) -> dict[str, Any] | None:
        """Return the state to go on from; None begins anew."""

    def save(self, state: dict[str, Any], fraction: float) -> None:
        """Keep the state after an epoch, with the share of the epochs that are done."""


class Result(NamedTuple):
    """What one configuration gave.

    Attributes:
        metrics: plain numbers and lists by name; see the function that trained.
        network: the trained network, on the device it was trained on.
        arrays: larger results by name, such as importance weights by recorded epoch.
    """

    metrics: dict[str, Any]
    network: Backbone
    arrays: dict[str, np.ndarray]


def fit(
    network: Backbone,
    views: Views,
    labels: Int64[Tensor, " image"],
    config: PairConfig | FinetuneConfig | DomainConfig,
    *,
    draw: Draw,
    look: Look,
    checkpoint: Checkpoint | None,
    weight_decay: float = 0.0,
    precision: str = "float32",
) -> Log:
    """Train a network for all epochs with SGD (Eq 2) or SAM (Eq 3), the learning rate falling along a half cosine.

    A run that is resumed equals one that was not interrupted, bit for bit. It stops at a mean loss that is not finite.

    Args:
        network: it is trained in place.
        views: inputs of all images that may be drawn.
        labels: of these images.
        config: learning_rate, rho (0 is SGD), momentum, n_epochs and seed are read.
        draw: makes an epoch's batches, places of images, from the stream "batch order"; the same number each epoch.
        look: measures the network after an epoch, counted from 0, and returns what to log, by name; None stops the run.
        checkpoint: where the state is saved after each epoch and found again; None saves nothing.
        weight_decay: of the base optimizer.
        precision: "float32", or "bfloat16" for the network's computations (autocast).
    Returns:
        train_loss (mean of the batches' losses at w) by epoch, and by name what `look` returned.
    Raises:
        Exception: whatever the checkpoint raises to stop the run.
    """
    optimizer = SAM(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        torch.optim.SGD,
        rho=config.rho,
        module=network,
        check_finite=False,  # the epoch's loss is looked at instead, once
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=weight_decay,
    )
    device = network.head.weight.device
    streams = {purpose: stream(config.seed, purpose) for purpose in ("batch order", "augmentation")}
    log: Log = {"train_loss": [], "validation_error": []}
    state = checkpoint.load() if checkpoint else None
    if state:
        network.trunk.load_state_dict(state["trunk"])
        network.head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        for purpose, generator in streams.items():
            generator.set_state(state["streams"][purpose])
        log = state["log"]

    def forward(inputs: Tensor) -> Tensor:
        # Without autocast's cache, which would keep casts of the weights from w to the phantom.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            return network(inputs).float()

    for epoch in range(len(log["train_loss"]), config.n_epochs):
        batches = draw(streams["batch order"])
        network.train()
        total = torch.zeros((), device=device)
        for i, places in enumerate(batches):
            step, n_steps = epoch * len(batches) + i, config.n_epochs * len(batches)
            optimizer.param_groups[0]["lr"] = learning_rate_at(step, n_steps, config.learning_rate)
            inputs = views.augmented(places, streams["augmentation"])
            total += _take_step(forward, optimizer, inputs, labels[places].to(device))
        loss = total.item() / len(batches)  # read once an epoch: reading waits for a GPU
        log["train_loss"].append(loss)
        seen = look(epoch) if math.isfinite(loss) else None
        if seen is None:
            break
        for name, value in seen.items():
            log.setdefault(name, []).append(value)
        if checkpoint:
            state = {
                "trunk": network.trunk.state_dict(),  # the part below is frozen
                "head": network.head.state_dict(),
                "optimizer": optimizer.state_dict(),
                "streams": {purpose: generator.get_state() for purpose, generator in streams.items()},
                "log": log,
            }
            checkpoint.save(state, (epoch + 1) / config.n_epochs)
    return log


def learning_rate_at(step: int, n_steps: int, initial: float) -> float:
    """Step size of step 0..n_steps-1 on a half cosine from `initial` down to (just before) 0.

    In closed form, so that a run that goes on needs no scheduler's state.

    >>> learning_rate_at(0, 10, 0.1), round(learning_rate_at(5, 10, 0.1), 6)
    (0.1, 0.05)
    """
    return initial * (1 + math.cos(math.pi * step / n_steps)) / 2


def _take_step(forward: Callable[[Tensor], Tensor], optimizer: SAM, inputs: Tensor, labels: Tensor) -> Tensor:
    """Take one step on the cross-entropy of the logits and return the batch's loss at w."""

    def closure() -> Tensor:
        loss = nn.functional.cross_entropy(forward(inputs), labels)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert isinstance(loss, Tensor), "step(closure) returns what the closure returned"
    return loss


@torch.no_grad()
def evaluate(
    network: Backbone, views: Views, places: Int64[Tensor, " row"], *, precision: str = "float32"
) -> tuple[Float[Tensor, "row feature"], Int64[Tensor, " row"]]:
    """Return the trunk's features and the predicted labels of images, in evaluation mode, on the CPU.

    Args:
        network: its mode is put back afterwards.
        views: of all images; the middle crop is used.
        places: which of them.
        precision: "float32" or "bfloat16".
    """
    mode, device = network.training, network.head.weight.device
    network.eval()
    features, answers = [], []
    for chunk in places.split(views.chunk):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            found = network.trunk(views.plain(chunk))
            answers.append(network.head(found).argmax(1).cpu())
        features.append(found.float().cpu())
    network.train(mode)
    return torch.cat(features), torch.cat(answers)


def is_finite(network: nn.Module, features: Tensor) -> bool:
    """Whether a network with these features can be probed: after a finite loss, the last step may have blown it up."""
    return all(bool(tensor.isfinite().all()) for tensor in (features, *network.parameters()))


def has_diverged(network: nn.Module, features: Tensor, log: Log) -> bool:
    """Whether a trained network with these features is of no use: a loss, a weight or a feature is not finite."""
    return not (all(map(math.isfinite, log["train_loss"])) and is_finite(network, features))


def origin(data: PreparedSet, network: Backbone) -> dict[str, Any]:
    """Return metrics that say which images and first weights a run was made from."""
    return {
        "n_features": network.n_features,
        "weights_sha256": network.weights_sha256,
        "images_sha256": data.images_sha256,
        "coverage": data.coverage,
    }
