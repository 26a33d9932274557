"""Train disentangled networks by replaying one captured step (CUDA graph): launches no longer bound the rate."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from samlib.shapes import Float
from samlib.toy.engine import Ensemble, StepTerms, check_batches
from samlib.toy.network import Weights

_BLOCK = 64  # steps whose batches are copied to where the graph reads them at once


class CapturedEnsemble(Ensemble):
    """`samlib.toy.engine.Ensemble` whose step is recorded once and replayed; equal to it bit for bit.

    A step is some fifty small kernels, which a GPU runs faster than Python launches them. The graph reads its batch
    from a fixed block of `_BLOCK` steps and counts them on the device, so that a step costs one launch.

    Args:
        weights: initial weights; copied to the device.
        settings: those of `Ensemble`; the device must be a CUDA device.
    Raises:
        RuntimeError: the device cannot capture.
    """

    def __init__(self, weights: Weights, **settings: Any) -> None:
        super().__init__(weights, **settings)
        v, members = self.weights.v, len(self.weights.v)
        self._inputs = v.new_zeros(_BLOCK, members, 2, self._batch, 2)
        self._labels = v.new_zeros(_BLOCK, members, self._batch)
        self._terms = StepTerms(*(v.new_zeros(_BLOCK, members, 2) for _ in StepTerms._fields))
        self._at = torch.zeros(1, dtype=torch.int64, device=v.device)
        before = [part.clone() for part in self.weights]
        self._replay = _capture(self._advance, v.device)
        for part, value in zip(self.weights, before, strict=True):
            part.copy_(value)

    def run(
        self, inputs: Float[Tensor, "step member 2 batch 2"], labels: Float[Tensor, "step member batch"]
    ) -> StepTerms:
        """Take one descent step with every member on each batch in turn, in place; see `Ensemble.run`."""
        check_batches(inputs, labels, members=len(self.weights.v), batch_size=self._batch)
        terms = StepTerms(*(part.new_empty(len(inputs), *part.shape[1:]) for part in self._terms))
        for low in range(0, len(inputs), _BLOCK):
            n = min(_BLOCK, len(inputs) - low)
            self._inputs[:n] = inputs[low : low + n]
            self._labels[:n] = labels[low : low + n]
            self._at.zero_()
            for _ in range(n):
                self._replay()
            for kept, block in zip(terms, self._terms, strict=True):
                kept[low : low + n] = block[:n]
        return terms

    def _advance(self) -> None:
        """Take the step that `_at` points to, and point to the next."""
        terms = self._step(self._inputs.index_select(0, self._at)[0], self._labels.index_select(0, self._at)[0])
        for block, value in zip(self._terms, terms, strict=True):
            block.index_copy_(0, self._at, value[None])
        self._at.add_(1)


def _capture(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record a step that reads and writes fixed places; return what replays it. Runs it three times to warm up."""
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return graph.replay
