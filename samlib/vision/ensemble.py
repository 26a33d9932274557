"""Train the configurations of a sweep together: what `samlib.vision.train` does one by one, on one GPU at once."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from samlib.streams import stream
from samlib.vision.backbones import build_backbone
from samlib.vision.config import PairConfig
from samlib.vision.engine import Ensemble
from samlib.vision.pairs import ImageSet, PairSets, pair_sets
from samlib.vision.sources import PairSource
from samlib.vision.train import (
    Checkpointer,
    PairResult,
    learning_rate_at,
    mean_pixel,
    pair_metrics,
)

Curves = dict[str, list[list[float]]]  # name, epoch, member


def train_pairs(
    configs: Sequence[PairConfig],
    source: PairSource,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Checkpointer | None = None,
) -> list[PairResult]:
    """Train one network per configuration (Eq 2 or 3), all in one computation, and measure each.

    Equal to `train_pair` for each configuration up to rounding: the same images, initialization, batch order, step
    sizes and measurements, but sums run in another order. A member's numbers may differ as much with the members
    beside it. A member that diverges disturbs no other. On a GPU a step on a full batch is one CUDA graph, and
    nothing moves between host and device within an epoch.

    Args:
        configs: runs of one `PairConfig.shape`, i.e. different in `learning_rate`, `rho` and `seed` alone.
        source: what `load_pair` returned for the configurations' pair.
        device: where to train; meant for "cuda". On a CPU `train_pair`, one process per network, is faster.
        checkpoint: where the state is saved after each epoch and found again. None saves nothing.
    Returns:
        Results in the order of the configurations, with the metrics of `train_pair`. The network of a member that
        diverged holds no finite numbers.
    Raises:
        ValueError: no configurations, several shapes, another pair's source, or another group's checkpoint.
        Exception: whatever the checkpoint raises to stop the run.
    """
    _check_shapes(configs)
    sets = {config.seed: pair_sets(source, config) for config in {c.seed: c for c in configs}.values()}
    means = {seed: mean_pixel(part.train.images) for seed, part in sets.items()}
    networks = [build_backbone(c.backbone, n_classes=source.n_classes, seed=c.seed, device=device) for c in configs]
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        with _full_precision():
            ensemble = Ensemble(
                networks,
                _joined([part.train for part in sets.values()], device),
                mean=[means[c.seed] for c in configs],
                rho=[c.rho for c in configs],
                momentum=configs[0].momentum,
                batch_size=configs[0].batch_size,
            )
            curves = _fit(ensemble, configs, sets, checkpoint)
        ensemble.fill(networks)
        return [
            PairResult(
                pair_metrics(network, sets[c.seed], _finite_part(curves, member), mean=means[c.seed], seed=c.seed),
                network,
            )
            for member, (c, network) in enumerate(zip(configs, networks, strict=True))
        ]


def _check_shapes(configs: Sequence[PairConfig]) -> None:
    """Refuse what cannot be trained together."""
    if not configs:
        raise ValueError("configs: expected one or more configurations, got none; leave out an empty group")
    if configs[0].probe_each_epoch:
        raise ValueError(
            "configs: expected runs that are probed at the end alone, got probe_each_epoch = True; "
            "train such networks one by one with train_pair"
        )
    for config in configs[1:]:
        if config.shape != configs[0].shape:
            first, other = dataclasses.asdict(configs[0]), dataclasses.asdict(config)
            free = ("learning_rate", "rho", "seed")
            differing = {n: (first[n], other[n]) for n in first if n not in free and first[n] != other[n]}
            raise ValueError(
                f"configs: expected runs that differ in {', '.join(free)} alone, got {differing}; "
                f"group them by PairConfig.shape"
            )


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep matrix products in single precision whatever the process allows, as convolutions are."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _joined(parts: list[ImageSet], device: torch.device | str) -> ImageSet:
    """The sets of all seeds one after the other, on the device."""
    images = torch.cat([part.images.to(device) for part in parts])
    return ImageSet(images, torch.cat([part.labels.to(device) for part in parts]))


def _fit(
    ensemble: Ensemble, configs: Sequence[PairConfig], sets: dict[int, PairSets], checkpoint: Checkpointer | None
) -> Curves:
    """Run all epochs; return the curves, of members that diverged too."""
    seeds, n_epochs = list(sets), configs[0].n_epochs
    slots = torch.tensor([seeds.index(config.seed) for config in configs])
    n = len(sets[seeds[0]].train.labels)
    rates = _rates(configs, n_epochs, math.ceil(n / configs[0].batch_size))
    validation = _joined([part.validation for part in sets.values()], ensemble.weights.device)
    n_validation = len(validation.labels) // len(seeds)
    validation_rows = slots[:, None] * n_validation + torch.arange(n_validation)
    orders = [stream(seed, "batch order") for seed in seeds]
    curves = _resumed(ensemble, configs, orders, checkpoint)
    for epoch in range(len(curves["train_loss"]), n_epochs):
        rows = torch.stack([torch.randperm(n, generator=order) + k * n for k, order in enumerate(orders)])
        curves["train_loss"].append(ensemble.run(rows[slots], rates[epoch]))
        misses = ensemble.misses(validation, validation_rows)
        curves["validation_error"].append([count / n_validation for count in misses])
        if checkpoint:
            checkpoint.save(_state(ensemble, configs, orders, curves), (epoch + 1) / n_epochs)
    return curves


def _rates(configs: Sequence[PairConfig], n_epochs: int, n_batches: int) -> Tensor:
    """Step sizes on the half cosine: (epoch, batch, member)."""
    n_steps = n_epochs * n_batches
    factors = torch.tensor([learning_rate_at(step, n_steps, 1.0) for step in range(n_steps)], dtype=torch.float64)
    initial = torch.tensor([config.learning_rate for config in configs], dtype=torch.float64)
    return (factors[:, None] * initial).float().view(n_epochs, n_batches, -1)


def _state(
    ensemble: Ensemble, configs: Sequence[PairConfig], orders: list[torch.Generator], curves: Curves
) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "configs": [dataclasses.asdict(config) for config in configs],
        "weights": ensemble.weights.to("cpu", copy=True),
        "velocity": ensemble.velocity.to("cpu", copy=True),
        "orders": [order.get_state() for order in orders],
        "curves": {name: list(curve) for name, curve in curves.items()},
    }


def _resumed(
    ensemble: Ensemble, configs: Sequence[PairConfig], orders: list[torch.Generator], checkpoint: Checkpointer | None
) -> Curves:
    """Put a checkpoint's state in place and return its curves; without one, empty curves."""
    state = checkpoint.load() if checkpoint else None
    if state is None:
        return {"train_loss": [], "validation_error": []}
    if state.get("configs") != [dataclasses.asdict(config) for config in configs]:
        raise ValueError(
            f"checkpoint: expected the state of these {len(configs)} configurations in this order, got another "
            f"group's; give each group a checkpoint of its own"
        )
    ensemble.weights.copy_(state["weights"])
    ensemble.velocity.copy_(state["velocity"])
    for order, saved in zip(orders, state["orders"], strict=True):
        order.set_state(saved)
    return {name: list(curve) for name, curve in state["curves"].items()}


def _finite_part(curves: Curves, member: int) -> dict[str, list[float]]:
    """One member's curves, up to its first loss that is not finite."""
    own = {name: [epoch[member] for epoch in curve] for name, curve in curves.items()}
    n_finite = next((i for i, loss in enumerate(own["train_loss"]) if not math.isfinite(loss)), len(own["train_loss"]))
    return {name: curve[: n_finite + 1] for name, curve in own.items()}
