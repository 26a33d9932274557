"""The disentangled network of Eq 4, one network as an ordinary torch module: the reference for the engine."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from samlib.shapes import Float
from samlib.streams import stream

FEATURES = ("easy", "hard")


class Weights(NamedTuple):
    """Weights of many disentangled networks, member axis first; the second axis is (easy, hard).

    The layers act on row vectors: h1 = relu(x w1 + b1), h2 = relu(h1 w2 + b2), phi = h2 w3 + b3.
    """

    w1: Float[Tensor, "member 2 2 hidden"]
    b1: Float[Tensor, "member 2 1 hidden"]
    w2: Float[Tensor, "member 2 hidden hidden"]
    b2: Float[Tensor, "member 2 1 hidden"]
    w3: Float[Tensor, "member 2 hidden 1"]
    b3: Float[Tensor, "member 2 1 1"]
    v: Float[Tensor, "member 2"]


class DisentangledNetwork(nn.Module):
    """f(x) = v_easy phi_easy(x_easy) + v_hard phi_hard(x_hard), each phi a three-layer ReLU network (Eq 4).

    Widths, activation and the missing last-layer bias are our choice: our copy of the paper lost them.

    Args:
        hidden: width of both hidden layers.
        last_layer_init: size of the initial v_easy and v_hard.
        last_layer_draw: "equal" or "uniform"; see `ToyConfig`.
        seed: root seed; layers are drawn as PyTorch draws nn.Linear, from the stream "initialization", and a uniform v
            from the stream "last layer".

    >>> DisentangledNetwork(hidden=8, last_layer_init=2.0, seed=0)(torch.zeros(3, 4, dtype=torch.float64)).shape
    torch.Size([3])
    """

    def __init__(self, *, hidden: int, last_layer_init: float, seed: int, last_layer_draw: str = "equal") -> None:
        super().__init__()
        self.easy, self.hard = _three_layers(hidden), _three_layers(hidden)
        v = torch.full((2,), float(last_layer_init), dtype=torch.float64)
        if last_layer_draw == "uniform":
            v = v * torch.rand(2, generator=stream(seed, "last layer"), dtype=torch.float64)
        self.v = nn.Parameter(v)
        self.double()
        generator = stream(seed, "initialization")
        with torch.no_grad():
            for layer in cast(list[nn.Linear], [*self.easy[::2], *self.hard[::2]]):
                bound = layer.in_features**-0.5
                for parameter in (layer.weight, layer.bias):
                    uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.copy_(bound * (2 * uniform - 1))

    def features(self, inputs: Float[Tensor, "example 4"]) -> Float[Tensor, "example 2"]:
        """Return Phi(x) = [phi_easy(x_easy), phi_hard(x_hard)] (Eq 4)."""
        return torch.cat([self.easy(inputs[:, :2]), self.hard(inputs[:, 2:])], dim=1)

    def forward(self, inputs: Float[Tensor, "example 4"]) -> Float[Tensor, " example"]:
        """Return the logit f(x) = v . Phi(x)."""
        return self.features(inputs) @ self.v

    def weights(self) -> Weights:
        """Return copies of all weights in the engine's layout, with a member axis of length one."""
        parts = []
        for index in (0, 2, 4):
            pair = [cast(nn.Linear, net[index]) for net in (self.easy, self.hard)]
            parts.append(torch.stack([layer.weight.detach().T for layer in pair])[None].clone())
            parts.append(torch.stack([layer.bias.detach()[None] for layer in pair])[None].clone())
        return Weights._make((*parts, self.v.detach()[None].clone()))


def initial_weights(
    seeds: list[int], *, hidden: int, last_layer_init: list[float], last_layer_draw: str = "equal"
) -> Weights:
    """Stack the initial weights of one network per seed.

    Args:
        seeds: root seed of each member.
        hidden: width shared by all members.
        last_layer_init: size of each member's initial v.
        last_layer_draw: "equal" or "uniform", shared by all members; see `ToyConfig`.
    Returns:
        New float64 tensors on the CPU.
    """
    networks = [
        DisentangledNetwork(hidden=hidden, last_layer_init=init, seed=seed, last_layer_draw=last_layer_draw).weights()
        for seed, init in zip(seeds, last_layer_init, strict=True)
    ]
    return Weights(*(torch.cat(parts) for parts in zip(*networks, strict=True)))


def feature_values(weights: Weights, inputs: Float[Tensor, "member example 4"]) -> Float[Tensor, "member 2 example"]:
    """Evaluate phi_easy and phi_hard of every member on its own inputs (Eq 4); no gradient, a new tensor."""
    members, n = inputs.shape[:2]
    x = inputs.reshape(members, n, 2, 2).transpose(1, 2)
    h1 = (x @ weights.w1 + weights.b1).relu_()
    h2 = (h1 @ weights.w2 + weights.b2).relu_()
    return (h2 @ weights.w3 + weights.b3).squeeze(-1)


def _three_layers(hidden: int) -> nn.Sequential:
    """Build 2 -> hidden -> hidden -> 1 with ReLU between; values are left for the caller's own stream to draw."""
    sizes = ((2, hidden), (hidden, hidden), (hidden, 1))
    first, second, third = (torch.nn.utils.skip_init(nn.Linear, *size) for size in sizes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
