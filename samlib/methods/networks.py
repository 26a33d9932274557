"""The networks of the methods: many small ones in one computation, or one convolutional one, behind one interface."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samlib.images.backbones import Backbone
from samlib.shapes import Float
from samlib.streams import stream
from samlib.toy.network import Weights, initial_weights

LAST_LAYER_INIT = 2.0  # as in chapter 2


class MemberNetwork(nn.Module):
    """Networks of m members with features and a last layer. Outputs are logits (member, example, class)."""

    last_layer: tuple[str, ...] = ("v",)  # names of its parameters
    biases: tuple[str, ...] = ()
    v: nn.Parameter

    def features(self, inputs: Tensor) -> Float[Tensor, "member example feature"]:
        """Return what the last layer reads."""
        raise NotImplementedError

    def read(self, features: Float[Tensor, "member example feature"]) -> Float[Tensor, "member example class"]:
        """Apply the last layer: logits (0, v . Phi), whose cross-entropy is the logistic loss."""
        margin = (features * self.v[:, None]).sum(2)
        return torch.stack([torch.zeros_like(margin), margin], dim=2)

    def representation(self, inputs: Tensor) -> Float[Tensor, "member example feature"]:
        """Return the features whose rank is measured."""
        return self.features(inputs)

    def forward(self, inputs: Tensor) -> Float[Tensor, "member example class"]:
        """Return the logits."""
        return self.read(self.features(inputs))

    def chosen(self, perturbed: str) -> list[nn.Parameter]:
        """Return the parameters that an ascent step moves; see `samlib.methods.config.ControlConfig.perturbed`."""
        named = dict(self.named_parameters())
        names = {
            "all": list(named),
            "last layer": list(self.last_layer),
            "all but last layer": [name for name in named if name not in self.last_layer],
            "biases": list(self.biases),
        }[perturbed]
        return [named[name] for name in names]

    @staticmethod
    def squared(tensor: Tensor) -> Float[Tensor, " member"]:
        """Return every member's sum of squares; the first axis of a parameter is the member's."""
        return tensor.flatten(1).square().sum(1)

    @staticmethod
    def spread(values: Float[Tensor, " member"], tensor: Tensor) -> Tensor:
        """Return one number a member in a shape that multiplies a parameter."""
        return values.view(-1, *[1] * (tensor.ndim - 1))


class ToyNetworks(MemberNetwork):
    """Chapter 2's disentangled networks (Eq 4), one a seed, with chapter 2's initial weights."""

    biases = ("b1", "b2", "b3")
    w1: nn.Parameter
    b1: nn.Parameter
    w2: nn.Parameter
    b2: nn.Parameter
    w3: nn.Parameter
    b3: nn.Parameter

    def __init__(self, seeds: Sequence[int], *, hidden: int = 50) -> None:
        super().__init__()
        weights = initial_weights(list(seeds), hidden=hidden, last_layer_init=[LAST_LAYER_INIT] * len(seeds))
        for name, value in weights._asdict().items():
            self.register_parameter(name, nn.Parameter(value.float()))

    def weights(self) -> Weights:
        """Return the parameters in the toy engine's layout."""
        return Weights(*(getattr(self, name).detach() for name in Weights._fields))

    def _hidden(self, inputs: Float[Tensor, "member example 4"]) -> Float[Tensor, "member 2 example hidden"]:
        x = inputs.unflatten(2, (2, 2)).transpose(1, 2)
        return ((x @ self.w1 + self.b1).relu() @ self.w2 + self.b2).relu()

    def features(self, inputs: Tensor) -> Tensor:
        """Return [phi_easy, phi_hard]."""
        return (self._hidden(inputs) @ self.w3 + self.b3).squeeze(3).transpose(1, 2)

    def representation(self, inputs: Tensor) -> Tensor:
        """Return the second hidden layers of both halves: two features alone have no rank to speak of."""
        return self._hidden(inputs).transpose(1, 2).flatten(2)


class MixedNetworks(MemberNetwork):
    """Networks that see all coordinates at once: three hidden ReLU layers, the third of them the features, and v."""

    def __init__(self, seeds: Sequence[int], *, inputs: int, widths: Sequence[int] = (100, 100, 50)) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        self.biases = tuple(f"b{i}" for i in range(len(widths)))
        drawn = [_layers(seed, sizes) for seed in seeds]
        for name in drawn[0]:
            self.register_parameter(name, nn.Parameter(torch.stack([layers[name] for layers in drawn])))

    def features(self, inputs: Tensor) -> Tensor:
        """Return the third hidden layer."""
        for i in range(len(self.biases)):
            inputs = torch.baddbmm(getattr(self, f"b{i}"), inputs, getattr(self, f"w{i}")).relu()
        return inputs


class ImageNetwork(MemberNetwork):
    """One convolutional network as the only member; its parameters have no member axis.

    Args:
        network: with its first weights; it is trained in place.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        self.last_layer = ("network.head.weight", "network.head.bias")
        self.biases = tuple(name for name, _ in self.named_parameters() if name.endswith("bias"))

    def features(self, inputs: Tensor) -> Tensor:
        """Return the trunk's outputs; inputs are (1, example, 3, 64, 32), normalized."""
        return self.network.trunk(inputs[0])[None]

    def read(self, features: Tensor) -> Tensor:
        """Apply the linear head."""
        return self.network.head(features)

    @staticmethod
    def squared(tensor: Tensor) -> Tensor:
        """Return the sum of squares of the only member."""
        return tensor.square().sum()[None]

    @staticmethod
    def spread(values: Tensor, tensor: Tensor) -> Tensor:
        """Return the only member's number."""
        return values[0]


def _layers(seed: int, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Draw one network's layers, uniform on +-1/sqrt(fan-in), and v at +-1/sqrt(fan-in) too."""
    generator = stream(seed, "initialization")
    drawn = {}

    def uniform(*shape: int, fan_in: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1) * fan_in**-0.5

    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        drawn[f"w{i}"] = uniform(fan_in, fan_out, fan_in=fan_in)
        drawn[f"b{i}"] = uniform(1, fan_out, fan_in=fan_in)
    drawn["v"] = uniform(sizes[-1], fan_in=sizes[-1])
    return drawn
