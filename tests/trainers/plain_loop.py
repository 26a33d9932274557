"""The network, the data and the loop that each trainer must equal: SAM by hand, with everything that trainers add."""

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from samlib.optim import SAM

RHO, LR, CLIP, N_EPOCHS, N_BATCHES, BATCH = 0.3, 0.5, 0.4, 3, 4, 6


@dataclass(frozen=True)
class Way:
    """How to train: microbatches a step, whether in bfloat16."""

    accumulate: int = 1
    bf16: bool = False


WAYS = {"plain": Way(), "accumulated": Way(accumulate=2), "bf16": Way(bf16=True), "both": Way(accumulate=2, bf16=True)}
Train = Callable[[Way, nn.Module, Path, int, int], None]  # from an epoch to another, over a checkpoint in the folder


def required(name: str) -> ModuleType:
    """Import a trainer, past its own warnings, or skip the module that asks."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed ({error}): pip install '.[trainers]'", allow_module_level=True)


def rows() -> torch.utils.data.TensorDataset:
    """24 examples of 3 numbers and a class of 2."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N_BATCHES * BATCH, 3, generator=generator)
    return torch.utils.data.TensorDataset(inputs, torch.randint(0, 2, (len(inputs),), generator=generator))


def loader() -> torch.utils.data.DataLoader:
    """The batches, in order."""
    return torch.utils.data.DataLoader(rows(), batch_size=BATCH)


def network() -> nn.Sequential:
    """A tiny network with batch statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def new_sam(model: nn.Module, rho: float = RHO) -> tuple[SAM, torch.optim.lr_scheduler.LRScheduler]:
    """SAM around momentum SGD, and a rate that changes with each step."""
    sam = SAM(model.parameters(), rho=rho, lr=LR, momentum=0.9, module=model)
    return sam, torch.optim.lr_scheduler.LambdaLR(sam, lambda step: 0.9**step)


def windows(batches: Iterator[object], n: int) -> Iterator[list[object]]:
    """Take n batches at a time."""
    iterator = iter(batches)
    while window := [batch for _, batch in zip(range(n), iterator, strict=False)]:
        yield window


def cast(way: Way) -> contextlib.AbstractContextManager[object]:
    """Autocast, where asked for."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=way.bf16)


def train_plainly(way: Way, rho: float = RHO) -> nn.Sequential:
    """Two passes over the microbatches, clipping, the step, the rate: nobody's trainer."""
    model = network()
    sam, scheduler = new_sam(model, rho)
    for _ in range(N_EPOCHS):
        for window in windows(loader(), way.accumulate):
            for move in (sam.ascent_step, sam.descent_step):
                for inputs, targets in window:
                    with cast(way):
                        loss = cross_entropy(model(inputs), targets) / len(window)
                    loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                move()
            scheduler.step()
    return model


def assert_equals_the_plain_loop(way: Way, train: Train, folder: Path, stop: int) -> None:
    """Train up to an epoch, then go on from the checkpoint with everything new; compare weights and batch statistics.

    SGD must end elsewhere, or nothing would be shown.
    """
    right, sgd = train_plainly(way), train_plainly(way, rho=0.0)
    for first, last in ((0, stop), (stop, N_EPOCHS)):
        found = network()
        if first:  # a new process has nothing but the checkpoint
            for tensor in found.state_dict().values():
                tensor.zero_()
        train(way, found, folder, first, last)
    torch.testing.assert_close(found.state_dict(), right.state_dict(), rtol=0, atol=1e-6)
    assert not torch.allclose(right[0].weight, sgd[0].weight, atol=1e-2)
