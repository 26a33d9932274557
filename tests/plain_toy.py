"""The toy training as a plain loop over one network, what the engines must equal; settings that reach all of them."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from samlib.toy.compiled import available
from samlib.toy.config import VECTORS, Intervention, ToyConfig
from samlib.toy.data import Examples, batch_order, sample
from samlib.toy.interventions import MEMORY
from samlib.toy.network import DisentangledNetwork
from samlib.toy.reference import lsam_step

needs_numba = pytest.mark.skipif(not available(), reason="numba is not installed")
SGD = (Intervention(), 0.0)
LSAM = (Intervention(), 0.7)
# (intervention, rho): every term with every length, gradient of v and vector.
INTERVENED = [
    *(
        (Intervention(term=term, ratio=1.5, norm=norm, last_layer=last_layer), 0.0)
        for term in ("importance", "rate", "both")
        for norm in ("initial", "matched")
        for last_layer in ("plain", "weighted")
    ),
    *(
        (Intervention(term=term, vector=vector, last_layer=last_layer), 0.7)
        for vector in VECTORS[1:]
        for term in ("importance", "rate", "both")
        for last_layer in ("plain", "weighted")
    ),
]


def train_reference(config: ToyConfig, *, seed: int, n_steps: int) -> DisentangledNetwork:
    """Train one network of a toy configuration the slow, obvious way, in double precision."""
    v = {"last_layer_init": config.last_layer_init, "last_layer_draw": config.last_layer_draw}
    network = DisentangledNetwork(hidden=config.hidden, seed=seed, **v).double()
    start = float(network.v.detach().norm())
    inputs, labels = sample(config.data, seed=seed, split="train")
    per_epoch = config.data.n_train // config.batch_size
    order = batch_order(config.data.n_train, 1 + n_steps // per_epoch, seed=seed).view(-1, config.batch_size)
    directions: list[Tensor] = []
    for step, batch in enumerate(order[:n_steps]):
        if config.intervention.term == "none":
            lsam_step(network, inputs[batch], labels[batch], rho=config.rho, learning_rate=config.learning_rate)
            continue
        examples = Examples(inputs[batch], labels[batch])
        if config.intervention.vector == "fixed":
            hat = _fixed_vector(network.v.detach(), config.intervention, initial_norm=start)
        else:
            epoch, place = divmod(step, per_epoch)
            other = order[epoch * per_epoch + (place - per_epoch // 2) % per_epoch]
            lender = Examples(inputs[other], labels[other])
            hat = _from_phantom(network, examples, lender, directions, config)
        intervention_step(network, *examples, config, hat)
    return network


def intervention_step(
    network: DisentangledNetwork, inputs: Tensor, labels: Tensor, config: ToyConfig, hat: Tensor
) -> None:
    """Take one SGD step with terms of Eq 6 computed with another last-layer vector (Eqs 8-10), in place."""
    settings, v = config.intervention, network.v.detach().clone()
    importance_v = hat if settings.term in ("importance", "both") else v
    rate_v = hat if settings.term in ("rate", "both") else v
    phi = network.features(inputs)
    importance = torch.sigmoid(-labels * (phi.detach() @ importance_v))
    real = torch.sigmoid(-labels * (phi.detach() @ v))
    # A surrogate whose gradient in the feature networks is exactly g_theta of Eqs 8-10, averaged over the batch.
    surrogate = (-labels * importance * (phi @ rate_v)).mean()
    layers = [*network.easy.parameters(), *network.hard.parameters()]
    gradients = torch.autograd.grad(surrogate, layers)
    weight = importance if settings.last_layer == "weighted" else real
    with torch.no_grad():
        for parameter, gradient in zip(layers, gradients, strict=True):
            parameter.sub_(config.learning_rate * gradient)
        network.v.add_(config.learning_rate * (weight * labels) @ phi / len(labels))


def _from_phantom(
    network: DisentangledNetwork, examples: Examples, lender: Examples, earlier: list[Tensor], config: ToyConfig
) -> Tensor:
    """v-hat made from LSAM's phantom; the batch's own direction is appended to the earlier ones."""
    v, kind = network.v.detach().clone(), config.intervention.vector
    own, lent = (_direction(network, batch) for batch in (examples, lender))
    mean = torch.zeros_like(v)
    for count, direction in enumerate(earlier, start=1):
        mean = mean + (direction - mean) / min(count, MEMORY)
    earlier.append(own)
    helps = -own[1] * v[1] > 0
    taken = {"helps": helps, "hurts": not helps}.get(kind, True)
    return v + config.rho * {"permuted": lent, "mean": mean}.get(kind, own) * (1.0 if taken else 0.0)


def _direction(network: DisentangledNetwork, examples: Examples) -> Tensor:
    """g / ||g||, g the gradient of the batch loss with respect to v."""
    loss = softplus(-examples.labels * network(examples.inputs)).mean()
    (gradient,) = torch.autograd.grad(loss, network.v)
    return gradient / gradient.norm()


def _fixed_vector(v: Tensor, settings: Intervention, *, initial_norm: float) -> Tensor:
    """v-hat with v-hat_hard / v-hat_easy = c and the length that the setting asks for."""
    direction = torch.tensor([1.0, settings.ratio], dtype=v.dtype)
    norm = v.norm() if settings.norm == "matched" else initial_norm
    return norm * direction / direction.norm()
