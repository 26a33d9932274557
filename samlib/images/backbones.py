"""Networks by name, pretrained or not, in a frozen lower part, a trained trunk and a linear head (Appendix B)."""

import hashlib
import http.client
import math
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from samlib.config import check_choice, check_number
from samlib.images.config import TRAINED
from samlib.shapes import Float
from samlib.streams import stream

# Of red, green and blue over ImageNet's training images, pixels in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

WEIGHTS_VARIABLE = "SAMLIB_WEIGHTS"
WEIGHTS_FILE = "{}_imagenet_fp16.safetensors"  # in the folder that the variable names, by backbone
# Of every BatchNorm in Keras' DenseNet, which the file of its weights comes from; torch's is 1e-5.
EPSILONS = {"densenet121": 1.001e-5}

# First layer of the last block; all layers before it may be frozen.
_LAST_BLOCK = {"densenet121": "denseblock4", "resnet18": "layer4", "resnet50": "layer4", "smallnet": "block3"}
_WHOLE_ONLY = ("convnet",)  # has no blocks
# In others an image's channels lie side by side in memory: DenseNet-121 and ResNet-18 are 1.3 to 1.5 times as fast that
# way on a Xeon, with AVX-512 and without; on another processor ResNet-18 was 1.4 times as slow
# (`python -m edition.bench photographs` measures it). Not chosen by the run, whose bits would depend on a clock.
_CHANNELS_APART = ("convnet",)
_COUNTER = "num_batches_tracked"  # in the states of BatchNorm; with a fixed momentum nothing depends on it


class Backbone(nn.Module):
    """A network whose trunk and head are trained; where that is its last block only, the part below is frozen.

    The frozen part stays in evaluation mode, so that its BatchNorm layers use the stored means and variances: its
    outputs are the same at every step and may be computed once (`samlib.images.activations`).

    Args:
        name: what `build_backbone` was asked for.
        lower: the frozen part; nn.Identity() where all is trained.
        trunk: maps the lower part's outputs to features (batch, n_features), pooling included.
        n_features: numbers of an image that are probed, and inputs of the head.
        n_classes: outputs.
        weights_sha256: of lower part and trunk before training, the same whichever part is trained; None for a
            network that is not pretrained.
    Attributes:
        name, lower, trunk, n_features, weights_sha256: the arguments.
        head: the linear layer, made on "meta", where it has no values yet.
        memory_format: of its inputs and weights, the one in which this network is fast.
        frozen_statistics: whether batch normalization keeps its stored means and variances in training mode, too.
    """

    def __init__(
        self,
        name: str,
        lower: nn.Module,
        trunk: nn.Module,
        *,
        n_features: int,
        n_classes: int,
        weights_sha256: str | None,
    ) -> None:
        super().__init__()
        self.name, self.n_features, self.weights_sha256 = name, n_features, weights_sha256
        self.lower = lower.requires_grad_(False).eval()
        self.trunk = trunk
        self.head = nn.Linear(n_features, n_classes, device="meta", dtype=torch.float32)
        apart = name in _CHANNELS_APART
        self.memory_format = torch.contiguous_format if apart else torch.channels_last
        self.frozen_statistics = False

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of trunk and head; the lower part stays in evaluation mode."""
        super().train(mode)
        self.lower.eval()
        if self.frozen_statistics:
            for layer in self.trunk.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Map the lower part's outputs, which are normalized images where all is trained, to logits."""
        return self.head(self.trunk(inputs))


def build_backbone(
    name: str, *, n_classes: int, seed: int, trained: str = "all", device: torch.device | str = "cpu"
) -> Backbone:
    """Build a network with pretrained or newly drawn weights and a new head; its numbers do not depend on the device.

    New weights and biases are uniform on +-1/sqrt(fan-in), torch's default distribution, in the layers' order.

    Args:
        name: "densenet121", "resnet18", "resnet50": weights from the safetensors file that the environment variable
            SAMLIB_WEIGHTS names, or from the folder that holds NAME_imagenet_fp16.safetensors; where it is not set,
            torchvision's (IMAGENET1K_V1). "smallnet": not pretrained, weights from the stream "backbone". "convnet":
            the network of CIFAR-MNIST and FMNIST-MNIST, three convolutions on images of 64 x 32 pixels, not
            pretrained, weights from the stream "initialization", before the head's.
        n_classes: outputs, at least 2.
        seed: root seed; the stream "initialization" draws the head.
        trained: "all"; or "last block", the last dense or residual block and what follows it.
        device: where the network goes.
    Returns:
        A new network in training mode; the parameters to train have requires_grad.
    Raises:
        ValueError: unknown name, fewer than two classes, or weights that are damaged or another network's.
        FileNotFoundError: SAMLIB_WEIGHTS is set, but there are no weights.
        RuntimeError: torchvision's weights could not be downloaded.
    Side effects:
        torchvision's weights are downloaded once, into torch's cache. The global generator is not touched.
    """
    check_choice("backbone", name, (*_WHOLE_ONLY, *_LAST_BLOCK))
    check_choice("trained", trained, TRAINED[:1] if name in _WHOLE_ONLY else TRAINED)
    check_number("n_classes", n_classes, low=2, integer=True)
    digest: str | None = None
    generator = stream(seed, "initialization")
    if name == "convnet":
        layers, n_features = _convnet(generator)
    elif name == "smallnet":
        layers, n_features = _smallnet(stream(seed, "backbone"))
    else:
        layers, n_features, digest = _pretrained(name)
    names = list(layers)
    first = names.index(_LAST_BLOCK[name]) if trained == "last block" else 0
    lower, trunk = (nn.Sequential(OrderedDict((n, layers[n]) for n in part)) for part in (names[:first], names[first:]))
    backbone = Backbone(
        name,
        lower if first else nn.Identity(),
        trunk,
        n_features=n_features,
        n_classes=n_classes,
        weights_sha256=digest,
    )
    backbone.head.to_empty(device="cpu")
    _fill_uniformly(backbone.head, generator)
    backbone.to(device, memory_format=backbone.memory_format)  # type: ignore[call-overload]
    return backbone


def repeatable() -> AbstractContextManager[None]:
    """Let cuDNN use algorithms that give the same numbers each time, in full single precision."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all names, dtypes, shapes and values in the order of the names, but of no batch counter.

    >>> state_sha256({"bias": torch.zeros(2)})[:8], state_sha256({"bias": torch.ones(2)})[:8]
    ('ba0b6774', 'a41fdfa5')
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not name.endswith(_COUNTER):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _fill_uniformly(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Draw the weight, then the bias, on +-1/sqrt(fan-in)."""
    assert layer.bias is not None, "both kinds of layers are made with a bias"
    bound = 1 / math.sqrt(layer.weight[0].numel())
    layer.weight.uniform_(-bound, bound, generator=generator)
    layer.bias.uniform_(-bound, bound, generator=generator)


def _convolution(inputs: int, outputs: int, size: int, generator: torch.Generator) -> nn.Conv2d:
    """A convolution of stride 2 with its first weights; made on "meta", where torch draws no numbers of its own."""
    layer = nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2, device="meta", dtype=torch.float32)
    _fill_uniformly(layer.to_empty(device="cpu"), generator)
    return layer


def _convnet(generator: torch.Generator) -> tuple[dict[str, nn.Module], int]:
    layers: dict[str, nn.Module] = {}
    for i, (inputs, outputs, size) in enumerate(((3, 32, 5), (32, 64, 3), (64, 128, 3)), start=1):
        layers |= {f"conv{i}": _convolution(inputs, outputs, size, generator), f"relu{i}": nn.ReLU()}
    return layers | {"flatten": nn.Flatten()}, 128 * 8 * 4


def _smallnet(generator: torch.Generator) -> tuple[dict[str, nn.Module], int]:
    layers: dict[str, nn.Module] = {}
    for i, (inputs, outputs) in enumerate(((3, 8), (8, 16), (16, 32)), start=1):
        norm = nn.BatchNorm2d(outputs, dtype=torch.float32)
        layers[f"block{i}"] = nn.Sequential(_convolution(inputs, outputs, 3, generator), norm, nn.ReLU(inplace=True))
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}, outputs


def _pretrained(name: str) -> tuple[dict[str, nn.Module], int, str]:
    """Return the layers with their weights, the number of features, and the weights' digest."""
    from torchvision import models  # slow to import

    with torch.device("meta"):  # draws no numbers
        network = getattr(models, name)()
    head = "classifier" if name == "densenet121" else "fc"  # for ImageNet's classes
    n_features = getattr(network, head).in_features
    setattr(network, head, nn.Identity())
    _load(network, name, head)
    digest = state_sha256(network.state_dict())
    if name != "densenet121":
        layers = dict(network.named_children())
        return {n: layers[n] for n in layers if n != head} | {"flatten": nn.Flatten()}, n_features, digest
    # torchvision's class has what follows the last norm in its forward function.
    pooling = {"relu": nn.ReLU(inplace=True), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return dict(network.features.named_children()) | pooling, n_features, digest


def _load(network: nn.Module, name: str, head: str) -> None:
    """Fill a network on "meta" with weights in single precision from the file of the variable or from torchvision."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _weights_path(name)
    try:
        state = load_file(path) if path else _download(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got {error}; copy it again") from error
    state = {key: value.float() for key, value in state.items() if not key.startswith(f"{head}.")}
    # Not every file has the counters.
    state |= {key: torch.tensor(0) for key in network.state_dict() if key.endswith(_COUNTER)}
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:  # its text lists what is missing (BatchNorm's, too), unexpected or of another shape
        raise ValueError(
            f"{path or 'torchvision'}: expected the weights of torchvision's {name}, got other ones; "
            f"use {WEIGHTS_FILE.format(name)} or unset {WEIGHTS_VARIABLE}. {error}"
        ) from error
    for layer in network.modules():
        if path and isinstance(layer, nn.BatchNorm2d):
            layer.eps = EPSILONS.get(name, layer.eps)


def _weights_path(name: str) -> Path | None:
    """Return the file of this backbone that the environment variable names; None if it is not set."""
    value = os.environ.get(WEIGHTS_VARIABLE)
    if not value:
        return None
    place, file = Path(value).expanduser(), WEIGHTS_FILE.format(name)
    path = place / file if place.is_dir() else place
    if not path.is_file():
        raise FileNotFoundError(
            f"{WEIGHTS_VARIABLE}: expected the file {file} or the folder that holds it, got {value!r}, where "
            f"there is none; set it to where the file is, or unset it to have torchvision's weights downloaded"
        )
    return path


def _download(name: str) -> dict[str, Tensor]:
    """Return torchvision's weights, from torch's cache if they are there."""
    from torchvision import models

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state = weights.get_state_dict(check_hash=True, progress=False)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, http.client.HTTPException) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        ways = f"with a network, or after copying {weights.url} into {folder}, or with {WEIGHTS_VARIABLE} set to the "
        ways += f"place of {WEIGHTS_FILE.format(name)}"
        raise RuntimeError(f"{name}: expected torchvision's weights, got {error!r}; run again {ways}") from error
    # Its DenseNet file has the names of old versions: denselayer1.norm.1.weight is denselayer1.norm1.weight now.
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): state[key] for key in state}
