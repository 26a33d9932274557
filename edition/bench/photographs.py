"""Images a second while a whole ResNet-18 is finetuned on photographs, beside a bare loop of the same network."""

from collections import OrderedDict
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import SGD

from edition.bench.timing import Work, interleave, quartiles, ratios
from samlib.images.augment import augmented_view
from samlib.images.backbones import Backbone, repeatable
from samlib.images.config import FinetuneConfig
from samlib.images.image_sets import PreparedSet
from samlib.images.training import fit
from samlib.images.views import make_views
from samlib.streams import stream

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
PASSES = {"sgd": 1, "sam": 2}  # forwards and backwards a step


def measure_photographs(
    *, rounds: int = 3, device: str = "cpu", batch_size: int = 128, image_size: int = 96
) -> list[dict[str, Any]]:
    """Measure one step of training, crops included, of `samlib.images.training.fit` and of a bare PyTorch loop.

    The bare loop takes the same random crops of the same stored images, torchvision's network (untrained), torch's SGD
    with momentum and weight decay, and, for SAM, two passes and one update, without an ascent. It is measured in both
    memory formats; ours has the one of `Backbone.memory_format`.

    Args:
        rounds: interleaved measurements of each.
        device: "cpu" or "cuda".
        batch_size: images a step.
        image_size: side of the crops, pixels; stored images are a seventh larger.
    Returns:
        One row a method ("sgd", "sam") and loop ("samlib", "bare, contiguous", "bare, channels last"): "method",
        "loop", "images_per_s" (median), and "ratio" of that to the faster bare loop's in the same round, median.
    """
    side = image_size * 8 // 7
    images = torch.randint(256, (batch_size, side, side, 3), dtype=torch.uint8, generator=stream(0, "data"))
    labels = torch.arange(batch_size) % 2
    works: dict[tuple[str, str], Work] = {}
    for method, n_passes in PASSES.items():
        config = FinetuneConfig(
            stored_size=side,
            image_size=image_size,
            backbone="resnet18",
            batch_size=batch_size,
            n_epochs=1,
            rho=0.05 * (n_passes > 1),
        )
        _, works[method, "samlib"] = ours(config, images, labels, device)
        for name, memory_format in FORMATS.items():
            _, works[method, f"bare, {name}"] = bare(config, images, labels, device, memory_format, n_passes)
    times = interleave({" ".join(key): work for key, work in works.items()}, rounds=rounds, device=device)
    rows = []
    for (method, loop), seconds in zip(works, times.values(), strict=True):
        loops = zip(*(times[f"{method} bare, {name}"] for name in FORMATS), strict=True)
        ratio = quartiles(ratios([min(pair) for pair in loops], seconds))[1]
        rate = batch_size / quartiles(seconds)[1]
        rows.append({"method": method, "loop": loop, "images_per_s": rate, "ratio": ratio})
    return rows


def _resnet18(device: str) -> nn.Module:
    """torchvision's network with two classes, the same first weights each time."""
    from torchvision import models  # slow to import

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = models.resnet18(num_classes=2)
    return network.to(device)


def ours(config: FinetuneConfig, images: Tensor, labels: Tensor, device: str) -> tuple[nn.Module, Work]:
    """Return a network and one epoch of one batch by the loop that trains on photographs."""
    layers = OrderedDict(_resnet18(device).named_children())
    head = layers.pop("fc")
    trunk = nn.Sequential(layers | {"flatten": nn.Flatten()})
    network = Backbone("resnet18", nn.Identity(), trunk, n_features=512, n_classes=2, weights_sha256=None)
    network.head.to_empty(device=device).load_state_dict(head.state_dict())
    network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
    data = PreparedSet(config.image_set, images.numpy(), pd.DataFrame({"label": labels.numpy()}), "", "full")
    everything = torch.arange(len(labels))
    views = make_views(data, everything, network, config, mirrored=True, folder=None, device=device)

    def step() -> None:
        with repeatable():
            fit(
                network,
                views,
                labels,
                config,
                draw=lambda generator: [everything],
                look=lambda epoch: {},
                checkpoint=None,
                weight_decay=config.weight_decay,
            )

    return network, step


def bare(
    config: FinetuneConfig,
    images: Tensor,
    labels: Tensor,
    device: str,
    memory_format: torch.memory_format,
    n_passes: int,
) -> tuple[nn.Module, Work]:
    """Return the same by hand."""
    network = _resnet18(device).to(memory_format=memory_format)  # type: ignore[call-overload]
    network.train()
    optimizer = SGD(
        network.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    generator = stream(0, "augmentation")
    stored, targets = images.to(device), labels.to(device)
    rows = torch.arange(len(labels))

    def step() -> None:
        inputs = augmented_view(stored[rows], config.image_size, generator).contiguous(memory_format=memory_format)
        for _ in range(n_passes):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()

    return network, step
