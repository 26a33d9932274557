"""The network, the data and the loop that each trainer must equal: SAM by hand, with everything that trainers add."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from samlib.optim import SAM

RHO, LR, CLIP, N_EPOCHS, N_BATCHES, BATCH = 0.3, 0.5, 0.4, 3, 4, 6


@dataclass(frozen=True)
class Way:
    """How to train: microbatches a step, whether in bfloat16."""

    accumulate: int = 1
    bf16: bool = False


WAYS = {"plain": Way(), "accumulated": Way(accumulate=2), "bf16": Way(bf16=True), "both": Way(accumulate=2, bf16=True)}


class Rows(torch.utils.data.Dataset):
    """24 examples of 3 numbers and a class of 2."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(N_BATCHES * BATCH, 3, generator=generator)
        self.targets = torch.randint(0, 2, (N_BATCHES * BATCH,), generator=generator)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]


def loader() -> torch.utils.data.DataLoader:
    """The batches, in order."""
    return torch.utils.data.DataLoader(Rows(), batch_size=BATCH)


def network() -> nn.Sequential:
    """A tiny network with batch statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def new_sam(model: nn.Module, rho: float = RHO) -> SAM:
    """SAM around momentum SGD."""
    return SAM(model.parameters(), torch.optim.SGD, rho=rho, lr=LR, momentum=0.9, module=model)


def new_scheduler(sam: SAM) -> torch.optim.lr_scheduler.LRScheduler:
    """A rate that changes with each step."""
    return torch.optim.lr_scheduler.LambdaLR(sam, lambda step: 0.9**step)


def windows(batches: Iterator[object], n: int) -> Iterator[list[object]]:
    """Take n batches at a time."""
    iterator = iter(batches)
    while window := [batch for _, batch in zip(range(n), iterator, strict=False)]:
        yield window


def cast(way: Way) -> contextlib.AbstractContextManager[object]:
    """Autocast, where asked for."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=way.bf16)


def forget(model: nn.Module) -> None:
    """Leave a new process nothing but its checkpoint."""
    for tensor in model.state_dict().values():
        tensor.zero_()


def train_plainly(way: Way, model: nn.Module, rho: float = RHO) -> None:
    """Two passes over the microbatches, clipping, the step, the rate: nobody's trainer."""
    sam = new_sam(model, rho)
    scheduler = new_scheduler(sam)
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


def assert_equals_the_plain_loop(way: Way, train: Callable[[Way, nn.Module], nn.Module]) -> None:
    """Train twice, compare weights and batch statistics; SGD must end elsewhere, or nothing would be shown."""
    right, found, sgd = network(), network(), network()
    train_plainly(way, right)
    train_plainly(way, sgd, rho=0.0)
    found = train(way, found)
    for name, value in right.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=1e-6)
    assert not torch.allclose(right[0].weight, sgd[0].weight, atol=1e-2)
