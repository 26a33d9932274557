"""Networks that split into a trunk (the features that are probed) and a linear head."""

import math

import torch
from torch import Tensor, nn

from samlib.config import check_choice, check_number
from samlib.images.pair_config import BACKBONES
from samlib.shapes import Float
from samlib.streams import stream


class ConvNet(nn.Module):
    """The network of CIFAR-MNIST and FMNIST-MNIST (Appendix B): three convolutions and a linear layer.

    Args:
        n_classes: outputs.
        device: where the parameters are made; torch draws them from its global generator, unless on "meta".

    >>> ConvNet(2, device="meta")(torch.empty(1, 3, 64, 32, device="meta")).shape
    torch.Size([1, 2])
    """

    n_features = 4096

    def __init__(self, n_classes: int, *, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2, device=device),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1, device=device),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1, device=device),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(self.n_features, n_classes, device=device)

    def forward(self, images: Float[Tensor, "batch 3 64 32"]) -> Float[Tensor, "batch class"]:
        """Map normalized images to logits."""
        return self.head(self.trunk(images))


def build_backbone(name: str, *, n_classes: int, seed: int, device: torch.device | str = "cpu") -> ConvNet:
    """Build a network with torch's default distribution of weights, drawn from the run's own stream.

    Weights and biases are uniform on +-1/sqrt(fan-in), which is what nn.Conv2d and nn.Linear do by default.

    Args:
        name: one of `BACKBONES`.
        n_classes: outputs, at least 2.
        seed: root seed; the stream's purpose is "initialization".
        device: where the network goes; the numbers are drawn on the CPU and do not depend on it.
    Returns:
        A new network; the global generator is not touched.
    Raises:
        ValueError: unknown name or fewer than two classes.
    """
    check_choice("backbone", name, BACKBONES)
    check_number("n_classes", n_classes, low=2, integer=True)
    network = ConvNet(n_classes, device="meta").to_empty(device="cpu")  # "meta" draws no numbers
    _initialize(network, stream(seed, "initialization"))
    return network.to(device)


@torch.no_grad()
def _initialize(network: nn.Module, generator: torch.Generator) -> None:
    """Fill all layers in their order, weight before bias."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=generator)
            assert layer.bias is not None, "every layer of the backbones has a bias"
            layer.bias.uniform_(-bound, bound, generator=generator)
