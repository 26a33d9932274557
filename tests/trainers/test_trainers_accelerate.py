"""SAM in an Accelerate loop: prepare, accumulate, clip, rates by step, precision, save_state and load_state."""

from pathlib import Path

import pytest
from plain_loop import (
    CLIP,
    N_EPOCHS,
    WAYS,
    Way,
    assert_equals_the_plain_loop,
    forget,
    loader,
    network,
    new_sam,
    new_scheduler,
    windows,
)
from torch import nn
from torch.nn.functional import cross_entropy
from trainer import required

accelerate = required("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(autouse=True)
def _fresh():
    """Forget the precision of the last test: Accelerate keeps one state a process."""
    accelerate.state.AcceleratorState._reset_state(True)
    yield
    accelerate.state.AcceleratorState._reset_state(True)


def train(way: Way, model: nn.Module, folder: Path, *, stop: int, two_step: bool) -> nn.Module:
    """Train some epochs, then go on from the saved state with everything new."""
    for first, last in ((0, stop), (stop, N_EPOCHS)):
        accelerate.state.AcceleratorState._reset_state(True)
        accelerator = accelerate.Accelerator(
            cpu=True, mixed_precision="bf16" if way.bf16 else "no", gradient_accumulation_steps=way.accumulate
        )
        sam = new_sam(model)
        prepared, optimizer, batches, scheduler = accelerator.prepare(model, sam, loader(), new_scheduler(sam))
        if first:
            accelerator.load_state(folder)
        for _ in range(first, last):
            for window in windows(batches, way.accumulate):

                def closure(window=window, accelerator=accelerator, prepared=prepared, optimizer=optimizer):
                    optimizer.zero_grad()
                    for inputs, targets in window:
                        accelerator.backward(cross_entropy(prepared(inputs), targets))  # divides by the microbatches
                    accelerator.clip_grad_norm_(prepared.parameters(), CLIP)

                if two_step:
                    closure()
                    sam.ascent_step()
                    closure()
                    optimizer.step()
                else:
                    optimizer.step(closure)
                scheduler.step()
        accelerator.save_state(folder)
        if last < N_EPOCHS:
            model = network()
            forget(model)
    return model


@pytest.mark.parametrize("two_step", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_accelerate_equals_the_plain_loop(name, two_step, tmp_path):
    run = lambda way, model: train(way, model, tmp_path, stop=1, two_step=two_step)  # noqa: E731
    assert_equals_the_plain_loop(WAYS[name], run)
