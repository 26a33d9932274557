"""Train one method on one task and measure what chapter 7 compares."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samlib.images.training import learning_rate_at
from samlib.measures.importance import importance
from samlib.methods.config import ControlConfig
from samlib.methods.gradient import Batch, cross_entropy, descent
from samlib.methods.measure import ginis, largest_curvature, ranks
from samlib.methods.networks import MemberNetwork
from samlib.methods.tasks import Task, errors, make_task
from samlib.shapes import Float, Int64
from samlib.streams import stream

SHARES = (0.1, 0.3, 0.6, 1.0)  # of the epochs after which importance weights are looked at
N_SHARPNESS = 300  # training examples whose mean loss has its curvature measured
N_RANK = 2000  # training examples whose features have their rank measured
CHUNK = 500  # examples a forward pass without gradients


def train_method(
    config: ControlConfig, *, root: Path | None = None, report: Callable[[float], None] = lambda share: None
) -> dict[str, Any]:
    """Train every seed of a configuration and return its metrics, lists by seed.

    Args:
        config: the run.
        root: folder of the real data sets, for "cifar_mnist".
        report: called with the share of the epochs that are done, 0..1.
    Returns:
        test_error, <feature>_probe_error: see `samlib.methods.tasks.errors`; train_loss: mean over the last epoch.
        effective_rank, components: of the features of training examples (of the toy: of its hidden layers).
        sharpness: largest eigenvalue of the Hessian of the mean loss.
        gini_used: Gini coefficient of the importance weights in the gradients that were followed, over an epoch;
            gini_real: of those at the real parameters after that epoch. Means over the epochs at `SHARES`.
        missed: share of training examples that "just train twice" counts more often (0 for the others).
        diverged: whether the last epoch's loss, a weight or an output is not finite; a seed's other numbers are then
            None.
    Raises:
        FileNotFoundError, ValueError: the task's data are not there.
    """
    task = make_task(config, root)
    weights = _counts(config, task)
    seen = _fit(config, task, weights, report)
    # All parameters with a member axis first, in their own memory.
    parts = [p.detach() if task.mean is None else p.detach()[None] for p in task.network.parameters()]
    fine = torch.stack([part.flatten(1).isfinite().all(1) for part in parts]).all(0)
    fine &= seen["train_loss"].isfinite() & _importance(task).isfinite().all(1)
    for part in parts:
        part[~fine] = 0.0  # finite, so that one computation can measure the others
    few, more = _chunks(task, N_SHARPNESS)[0], _chunks(task, N_RANK)[0]
    sharpness = largest_curvature(task.network, task.inputs(few), task.classes(few))
    found = errors(config, task) | {"sharpness": sharpness} | ranks(task.network, task.inputs(more))
    found |= {"train_loss": seen["train_loss"].tolist(), "missed": ((weights > 1).double().mean(1)).tolist()}
    found |= {name: seen[name] for name in ("gini_used", "gini_real")}
    told = {name: [value if ok else None for ok, value in zip(fine, found[name], strict=True)] for name in found}
    return told | {"diverged": (~fine).tolist()}


def _fit(
    config: ControlConfig, task: Task, counts: Float[Tensor, "member example"], report: Callable[[float], None]
) -> dict[str, Any]:
    """Run all epochs; return the last epoch's losses and the Gini coefficients on the way."""
    network = task.network
    parameters = list(network.parameters())
    optimizer = (  # it works element by element, so members do not meet
        torch.optim.Adam(parameters, lr=config.learning_rate)
        if config.base == "adam"
        else torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
    )
    orders = [stream(seed, "batch order") for seed in config.seeds]
    groups = _Groups(config, task.labels)
    looks = {max(1, math.ceil(share * config.n_epochs)) for share in SHARES}
    used, real, loss = [], [], torch.zeros(len(config.seeds))
    n = task.labels.shape[1]
    for epoch in range(config.n_epochs):
        order = torch.stack([torch.randperm(n, generator=generator) for generator in orders])
        active = config.start * config.n_epochs <= epoch < config.end * config.n_epochs
        batches = order.split(config.batch_size, dim=1)
        weights, loss = torch.zeros(task.labels.shape), torch.zeros(len(config.seeds))
        for i, rows in enumerate(batches):
            if not config.stacked:
                rate = learning_rate_at(epoch * len(batches) + i, config.n_epochs * len(batches), config.learning_rate)
                optimizer.param_groups[0]["lr"] = rate
            labels, inputs = task.classes(rows), task.inputs(rows)
            batch = Batch(inputs, labels, groups.weights(network, inputs, labels) * counts.gather(1, rows))
            found = descent(network, batch, config, active=active)
            for parameter, gradient in zip(parameters, found.gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            weights.scatter_(1, rows, found.weights)
            loss += found.losses.mean(1) / len(batches)
        if epoch + 1 in looks:
            used.append(ginis(weights))
            real.append(ginis(_importance(task)))
        report((epoch + 1) / config.n_epochs)
    return {"train_loss": loss, "gini_used": _means(used), "gini_real": _means(real)}


class _Groups:
    """Group DRO's weights of examples: q_g grows with exp(step x loss of group g) (Sagawa et al. 2020)."""

    def __init__(self, config: ControlConfig, labels: Int64[Tensor, "member example"]) -> None:
        self._step = config.group_step
        n = int(labels.max()) + 1
        on = config.reweighting == "group dro"
        self._shares = torch.full((len(labels), n), 1 / n) if on else None

    @torch.no_grad()
    def weights(self, network: MemberNetwork, inputs: Tensor, labels: Tensor) -> Float[Tensor, "member example"]:
        """Update the groups' shares by a batch and return its examples' weights, whose mean weights the loss by q."""
        if self._shares is None:
            return torch.ones(labels.shape)
        inside = torch.nn.functional.one_hot(labels, self._shares.shape[1]).float()  # (member, example, group)
        counts = inside.sum(1).clamp(min=1)
        losses = (inside * cross_entropy(network(inputs), labels)[..., None]).sum(1) / counts
        shares = self._shares * (self._step * losses).exp()
        self._shares = shares / shares.sum(1, keepdim=True)
        return labels.shape[1] * (self._shares / counts).gather(1, labels)


def _counts(config: ControlConfig, task: Task) -> Float[Tensor, "member example"]:
    """How often examples count: Just Train Twice counts those more often that a first training misses."""
    ones = torch.ones(task.labels.shape)
    if config.reweighting != "just train twice":
        return ones
    first = ControlConfig(
        task=config.task,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        batch_size=config.batch_size,
        n_epochs=config.first_epochs,
        n_train=config.n_train,
        seeds=config.seeds,
    )
    trial = task._replace(network=copy.deepcopy(task.network))
    _fit(first, trial, ones, report=lambda share: None)
    answers = torch.cat([trial.network(trial.inputs(rows)).argmax(2) for rows in _chunks(task)], dim=1)
    return torch.where(answers == task.labels, 1.0, config.upweight)


@torch.no_grad()
def _importance(task: Task) -> Float[Tensor, "member example"]:
    """Importance weights of all training examples at the parameters as they are."""
    parts = [importance(task.network(task.inputs(rows)), task.classes(rows)) for rows in _chunks(task)]
    return torch.cat(parts, dim=1)


def _chunks(task: Task, size: int = CHUNK) -> tuple[Tensor, ...]:
    """Rows of all training examples, some at a time."""
    return torch.arange(task.labels.shape[1]).expand(task.labels.shape).split(size, dim=1)


def _means(values: list[list[float | None]]) -> list[float | None]:
    """Mean over the looks, seed by seed; None where one look gave none."""
    return [
        None if None in each else math.fsum(v for v in each if v is not None) / len(each)
        for each in zip(*values, strict=True)
    ]
