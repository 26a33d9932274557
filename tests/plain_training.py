"""Training written out, one tensor operation after another: what the finetuning loops must equal."""

import copy
import math

import torch
from torch import nn


def train_plainly(network, batches, config, *, n_steps: int) -> None:
    """SGD with momentum and weight decay written out; SAM's ascent too, its pass without new running statistics.

    Args:
        network: in training mode; trained in place.
        batches: (inputs, labels), drawn as they are asked for.
        config: rho, learning_rate, momentum and weight_decay are read.
        n_steps: steps of the half cosine.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    velocity = [torch.zeros_like(p) for p in weights]
    for step, (inputs, labels) in enumerate(batches):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), labels), weights)
        if config.rho:
            norm = math.sqrt(sum((g.double() ** 2).sum().item() for g in gradients))
            there = copy.deepcopy(network)
            moved = [p for p in there.parameters() if p.requires_grad]
            with torch.no_grad():
                for p, g in zip(moved, gradients, strict=True):
                    p += config.rho / norm * g
            gradients = torch.autograd.grad(nn.functional.cross_entropy(there(inputs), labels), moved)
        rate = config.learning_rate * (1 + math.cos(math.pi * step / n_steps)) / 2
        with torch.no_grad():
            for p, g, v in zip(weights, gradients, velocity, strict=True):
                v.mul_(config.momentum).add_(g + config.weight_decay * p)
                p -= rate * v
