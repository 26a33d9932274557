"""SAM in an Accelerate loop: prepare, accumulate, clip, rates by step, precision, save_state and load_state."""

from functools import partial
from pathlib import Path

import plain_loop
import pytest
from torch import nn
from torch.nn.functional import cross_entropy

accelerate = plain_loop.required("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture(autouse=True)
def _fresh():
    """Leave the next test no precision of this one: Accelerate keeps one state a process."""
    yield
    accelerate.state.AcceleratorState._reset_state(True)


def train(way: plain_loop.Way, model: nn.Module, folder: Path, first: int, last: int, *, two_step: bool) -> None:
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision="bf16" if way.bf16 else "no", gradient_accumulation_steps=way.accumulate
    )
    sam, scheduler = plain_loop.new_sam(model)
    prepared, optimizer, batches, scheduler = accelerator.prepare(model, sam, plain_loop.loader(), scheduler)
    if first:
        accelerator.load_state(folder)
    for _ in range(first, last):
        for window in plain_loop.windows(batches, way.accumulate):

            def closure(window=window):
                optimizer.zero_grad()
                for inputs, targets in window:
                    accelerator.backward(cross_entropy(prepared(inputs), targets))  # divides by the microbatches
                accelerator.clip_grad_norm_(prepared.parameters(), plain_loop.CLIP)

            if two_step:
                closure()
                sam.ascent_step()
                closure()
                optimizer.step()
            else:
                optimizer.step(closure)
            scheduler.step()
    accelerator.save_state(folder)


@pytest.mark.parametrize("two_step", [False, True])
@pytest.mark.parametrize("way", plain_loop.WAYS.values(), ids=plain_loop.WAYS)
def test_accelerate_equals_the_plain_loop(way, two_step, tmp_path):
    plain_loop.assert_equals_the_plain_loop(way, partial(train, two_step=two_step), tmp_path, stop=1)
