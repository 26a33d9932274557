"""How an ascent step changes the importance weights of its batch: exactly, and to first order (Eqs 12-23)."""

import torch
from torch import Tensor
from torch.nn import functional

from samlib.config import check_choice, check_number
from samlib.shapes import Float
from samlib.theory.network import PERTURBED, Network, hidden_layers, logits, pulled_back

LOSSES = ("exponential", "logistic")


def log_weights(margins: Float[Tensor, "..."], loss: str = "exponential") -> Float[Tensor, "..."]:
    """Return log lambda at margins y f(x): lambda = exp(-y f) (Eq 12), or sigma(-y f) with the logistic loss.

    Args:
        margins: y f(x), of any shape.
        loss: "exponential" (Appendix D) or "logistic" (the rest of the paper).

    >>> log_weights(torch.tensor([2.0]))
    tensor([-2.])
    """
    check_choice("loss", loss, LOSSES)
    return -margins if loss == "exponential" else functional.logsigmoid(-margins)


def weighted_gradient(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    factors: Float[Tensor, "... example"],
    *,
    perturbed: str = "all",
) -> tuple[Tensor, ...]:
    """Return sum_j s_j grad f(x_j): with s_j = -y_j lambda_j the gradient of the batch's summed loss (Eq 12).

    Args:
        network: the network.
        inputs: one batch, or several along leading axes.
        factors: s_j.
        perturbed: "all" gives the parts of v, W_1, ..., W_L; "last layer" that of v alone.
    Returns:
        New tensors shaped as the weights, with the batches' leading axes.
    """
    check_choice("perturbed", perturbed, PERTURBED)
    hidden = hidden_layers(network, inputs)
    last = (factors[..., None] * hidden[-1]).sum(-2)
    if perturbed == "last layer":
        return (last,)
    back = pulled_back(network, hidden)
    return (last, *((factors[..., None] * b).mT @ h for b, h in zip(back, hidden, strict=False)))


def ascent_direction(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    labels: Float[Tensor, "... example"],
    *,
    loss: str = "exponential",
    perturbed: str = "all",
) -> tuple[Tensor, ...]:
    """Return the unit vector along the gradient of the batch's loss: (w~ - w) / rho of Eqs 13-16.

    For a batch of one example it is -y grad f / ||grad f||, whatever the loss (Eq 16).

    Args:
        network: the network.
        inputs: one batch, or several along leading axes; (n, 1, feature) holds n batches of one example.
        labels: -1 or +1.
        loss: "exponential" or "logistic".
        perturbed: "all" weights, as SAM, or the "last layer", as LSAM.
    Returns:
        New tensors shaped as the weights, joint norm 1 for each batch.
    Raises:
        ValueError: labels of another shape or with another value; a batch whose gradient is zero.
    """
    _check_labels(inputs, labels)
    log_weight = log_weights(labels * logits(network, inputs), loss)
    # Only the direction counts, so the largest weight of a batch is set to 1: none overflows.
    factors = -labels * (log_weight - log_weight.amax(-1, keepdim=True)).exp()
    gradient = weighted_gradient(network, inputs, factors, perturbed=perturbed)
    last, *layers = gradient
    squared = last.square().sum(-1) + sum(layer.square().sum((-1, -2)) for layer in layers)
    if (squared == 0).any():
        raise ValueError(
            f"gradient: expected one that is not zero, got zero for {int((squared == 0).sum())} of {squared.numel()} "
            "batches: Eq 13 divides by its norm (all ReLUs off, or examples that cancel); leave these batches out"
        )
    norm = squared.sqrt()
    return (last / norm[..., None], *(layer / norm[..., None, None] for layer in layers))


def phantom(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    labels: Float[Tensor, "... example"],
    *,
    rho: float,
    loss: str = "exponential",
    perturbed: str = "all",
) -> Network:
    """Return the network at w~ = w + rho grad L_B / ||grad L_B|| (Eqs 3, 13), one phantom for each batch.

    Args:
        network: the network.
        inputs, labels, loss, perturbed: as for `ascent_direction`.
        rho: perturbation radius, parameter units.
    Returns:
        A new network with the leading axes of the batches.
    Raises:
        ValueError, TypeError: as `ascent_direction`; a negative radius.
    """
    check_number("rho", rho, low=0)
    direction = ascent_direction(network, inputs, labels, loss=loss, perturbed=perturbed)
    v = network.v + rho * direction[0]
    # Layers that stay get the batches' leading axes too: the phantom is one network a batch.
    layers = [layer.expand(*v.shape[:-1], *layer.shape[-2:]) for layer in network.layers]
    for index, part in enumerate(direction[1:]):
        layers[index] = layers[index] + rho * part
    return Network(v, tuple(layers), network.activation)


def log_ratio(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    labels: Float[Tensor, "... example"],
    *,
    rho: float,
    loss: str = "exponential",
    perturbed: str = "all",
) -> Float[Tensor, "... example"]:
    """Return log(lambda~ / lambda) of every example at the phantom of its own batch, exactly.

    With exponential loss it is -y (f~(x) - f(x)) (Eq 19).

    Args:
        network, inputs, labels, rho, loss, perturbed: as for `phantom`.
    Raises:
        ValueError, TypeError: as `phantom`.

    >>> one, two = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64)
    >>> net = Network(one[0], (two,))  # f = 6 at x = 3, and v~ = 1 - 6 / 6 if only v moves
    >>> log_ratio(net, 3 * one, one[0], rho=1.0, perturbed="last layer")
    tensor([6.], dtype=torch.float64)
    """
    moved = phantom(network, inputs, labels, rho=rho, loss=loss, perturbed=perturbed)
    here, there = (log_weights(labels * logits(net, inputs), loss) for net in (network, moved))
    return there - here


def first_order(
    network: Network,
    inputs: Float[Tensor, "... example feature"],
    labels: Float[Tensor, "... example"],
    *,
    rho: float,
    loss: str = "exponential",
    perturbed: str = "all",
) -> Float[Tensor, "... example"]:
    """Return the first-order law of the log ratio; for one example and exponential loss rho ||grad f|| (Eq 23).

    For a batch (derived here): rho y_i <grad f_i, G> / ||G|| with G = sum_j lambda_j y_j grad f_j. The logistic loss
    multiplies it by 1 - lambda_i, since d log sigma(-y f) / d f = -y (1 - lambda).

    Args:
        network, inputs, labels, rho, loss, perturbed: as for `phantom`.
    Raises:
        ValueError, TypeError: as `phantom`.
    """
    check_number("rho", rho, low=0)
    direction = ascent_direction(network, inputs, labels, loss=loss, perturbed=perturbed)
    hidden = hidden_layers(network, inputs)
    along = (hidden[-1] * direction[0][..., None, :]).sum(-1)  # <grad f(x_i), direction>
    for back, below, part in zip(pulled_back(network, hidden), hidden, direction[1:], strict=False):
        along = along + ((back @ part) * below).sum(-1)
    slope = -labels * along
    if loss == "logistic":
        slope = slope * torch.sigmoid(labels * logits(network, inputs))
    return rho * slope


def _check_labels(inputs: Tensor, labels: Tensor) -> None:
    if labels.shape != inputs.shape[:-1]:
        raise ValueError(
            f"labels: expected one an example, {tuple(inputs.shape[:-1])}, got {tuple(labels.shape)}; a batch of one "
            "example has inputs (1, feature) and labels (1)"
        )
    if not labels.dtype.is_signed:  # minus a byte is a byte
        raise ValueError(f"labels: expected a type that holds -1, got {labels.dtype}; map class 0 to -1")
    if not ((labels == 1) | (labels == -1)).all():
        raise ValueError(f"labels: expected -1 or +1, got {labels.unique()[:5].tolist()}; map class 0 to -1")
