"""The networks of Appendix D (Eqs 11, 26, 29, 32) and the gradient of their logit, layer by layer, in closed form.

Symbols: v last layer, W_l weight matrices, h_l hidden layers (h_0 = x, h_L = Phi(x)), D_l diagonal 0-1 matrix of the
units of layer l that are on, c_l the squared length of v pulled back to layer l.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samlib.config import check_choice
from samlib.shapes import Float

ACTIVATIONS = ("linear", "relu")
PERTURBED = ("all", "last layer")


@dataclass(frozen=True)
class Network:
    """f(x) = v . h_L(x), h_l = sigma(W_l h_{l-1}), h_0 = x, without biases (Eqs 26, 29, 32).

    All weights may share leading axes: several networks at once, each for its own inputs.

    Attributes:
        v: last layer.
        layers: W_1, ..., W_L, at least one; W_l has the shape (width of l, width of l - 1).
        activation: sigma, "linear" (the identity) or "relu".
    """

    v: Float[Tensor, "... last"]
    layers: tuple[Float[Tensor, "... to from"], ...]
    activation: str = "linear"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ACTIVATIONS)
        if any(weight.dtype != torch.float64 for weight in self.weights):
            found = ", ".join(str(weight.dtype) for weight in self.weights)
            raise TypeError(f"weights: expected torch.float64 throughout, got {found}; convert them with .double()")
        shapes = [tuple(weight.shape) for weight in self.weights]
        if not self.layers or not _chained(shapes):
            raise ValueError(
                "layers: expected v (..., n_L) and at least one W_l (..., n_l, n_{l-1}), in the order of l, with equal "
                f"leading axes, got v {shapes[0]} and {', '.join(map(str, shapes[1:])) or 'no layer'}; check the order"
            )

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """All weights w: v, W_1, ..., W_L."""
        return (self.v, *self.layers)


def _chained(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether every layer takes what the one below gives, v what the last one gives, with equal leading axes."""
    v, *layers = shapes
    if len(v) < 1 or any(len(shape) != len(v) + 1 or shape[:-2] != v[:-1] for shape in layers):
        return False
    above = [*(shape[-1] for shape in layers[1:]), v[-1]]
    return [shape[-2] for shape in layers] == above


def hidden_layers(network: Network, inputs: Float[Tensor, "... example feature"]) -> list[Tensor]:
    """Return h_0, ..., h_L: the inputs, then each layer's output (Eq 32; without sigma in Eq 29).

    Args:
        network: whose leading axes, if any, match those of the inputs.
        inputs: float64.
    Returns:
        L + 1 tensors (..., example, width); the first is `inputs` itself.
    Raises:
        ValueError: the inputs do not have as many columns as W_1.
        TypeError: the inputs are not float64.

    >>> two = torch.tensor([[2.0]], dtype=torch.float64)
    >>> hidden_layers(Network(two[0], (two,), "relu"), -two)[1]
    tensor([[0.]], dtype=torch.float64)
    """
    columns = network.layers[0].shape[-1]
    if inputs.dtype != torch.float64:
        raise TypeError(f"inputs: expected torch.float64, got {inputs.dtype}; convert them with .double()")
    if inputs.ndim < 2 or inputs.shape[-1] != columns:
        raise ValueError(
            f"inputs: expected (..., example, {columns}), as W_1 takes, got {tuple(inputs.shape)}; one example is a row"
        )
    hidden = [inputs]
    for layer in network.layers:
        after = hidden[-1] @ layer.mT
        hidden.append(after.relu() if network.activation == "relu" else after)
    return hidden


def logits(network: Network, inputs: Float[Tensor, "... example feature"]) -> Float[Tensor, "... example"]:
    """Return f(x) = v . Phi(x) (Eq 11), raising as `hidden_layers` does."""
    return (hidden_layers(network, inputs)[-1] * network.v[..., None, :]).sum(-1)


def pulled_back(network: Network, hidden: Sequence[Tensor]) -> list[Tensor]:
    """Return the logit's derivative with respect to W_l h_{l-1}, for l = 1, ..., L.

    d f / d (W_l h_{l-1}) = D_l W_{l+1}^T D_{l+1} ... W_L^T D_L v, with D = I in a linear network. Its product with
    h_{l-1} is the gradient of W_l (Eqs 30, 35); its squared length is c_l (Eqs 31, 37).

    Args:
        network: the network.
        hidden: what `hidden_layers` returned.
    Returns:
        L tensors (..., example, width of l).
    """
    back = network.v[..., None, :].expand_as(hidden[-1])
    vectors = []
    for layer, after in zip(reversed(network.layers), reversed(hidden), strict=False):
        back = back * (after > 0) if network.activation == "relu" else back
        vectors.append(back)
        back = back @ layer
    return vectors[::-1]


def squared_norms(network: Network, inputs: Float[Tensor, "... example feature"]) -> Float[Tensor, "... example part"]:
    """Return the squared norm of the logit's gradient, by layer, from the closed forms (Eqs 25, 27, 31, 37).

    ||grad_v f||^2 = ||h_L||^2 and ||grad_{W_l} f||^2 = c_l ||h_{l-1}||^2; their sum is ||grad_w f||^2.

    Args:
        network: the network.
        inputs: float64.
    Returns:
        New tensor; the last axis is v, W_1, ..., W_L.

    >>> one, two = torch.ones(1, dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64)
    >>> squared_norms(Network(one, (two,)), 3 * one[None])  # v = 1, W = 2, x = 3: h = 6, c = 1
    tensor([[36.,  9.]], dtype=torch.float64)
    """
    hidden = hidden_layers(network, inputs)
    return _weighted_sum(hidden, [_squared(back) for back in pulled_back(network, hidden)])


def gradient_norm(
    network: Network, inputs: Float[Tensor, "... example feature"], *, perturbed: str = "all"
) -> Float[Tensor, "... example"]:
    """Return ||grad f(x)|| over all weights, or over the last layer, where it is ||Phi(x)|| (Eq 25).

    Args:
        network: the network.
        inputs: float64.
        perturbed: "all" or "last layer": which weights count.
    """
    check_choice("perturbed", perturbed, PERTURBED)
    parts = squared_norms(network, inputs)
    return (parts[..., 0] if perturbed == "last layer" else parts.sum(-1)).sqrt()


def linear_estimate(network: Network, inputs: Float[Tensor, "... example feature"]) -> Float[Tensor, "... example"]:
    """Return ||h_L||^2 + sum_l c_l ||h_{l-1}||^2 with the *constant* c_l of a linear network (Eq 31).

    For a ReLU network this is the approximation that the end of Appendix D proposes: its own hidden layers, weighted as
    if every unit were on (D = I), so that no weight depends on the input. For a linear network it is exact.
    """
    hidden = hidden_layers(network, inputs)
    linear = Network(network.v, network.layers)
    return _weighted_sum(hidden, [_squared(back) for back in pulled_back(linear, hidden)]).sum(-1)


def _weighted_sum(hidden: Sequence[Tensor], coefficients: Sequence[Tensor]) -> Tensor:
    """Stack ||h_L||^2, c_1 ||h_0||^2, ..., c_L ||h_{L-1}||^2 along a last axis."""
    below = [c * _squared(h) for c, h in zip(coefficients, hidden, strict=False)]
    return torch.stack([_squared(hidden[-1]), *below], dim=-1)


def _squared(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1)
