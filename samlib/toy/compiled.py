"""Train disentangled networks one after the other in machine code that numba compiles: the fast path of a CPU.

A member's weights stay in the core's cache for all steps of a call, and hidden units that are off for the whole batch
cost nothing. What is compiled is `samlib.toy.kernel`.
"""

import contextlib
import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.config import check_number
from samlib.shapes import Float
from samlib.toy import kernel
from samlib.toy.config import Intervention
from samlib.toy.engine import Batches, StepTerms, check_batches, check_settings
from samlib.toy.interventions import Replacement, replacement
from samlib.toy.network import Weights

# Sums may be reordered, but NaN and infinity keep their meaning: a network that diverges must show it.
_FASTMATH = frozenset({"reassoc", "contract", "nsz", "arcp"})


def available() -> bool:
    """Whether numba can be imported, which `CompiledEngine` needs."""
    with contextlib.suppress(ImportError):
        return bool(importlib.import_module("numba"))
    return False


class CompiledEngine:
    """`samlib.toy.engine.BatchedEngine` on CPU cores, member after member, compiled; equal to it up to rounding.

    Args:
        weights: initial weights; copied. Float64 weights are trained in float64, all others in float32.
        learning_rate: step size of each member.
        rho: perturbation radius of each member, parameter units.
        interventions: one setting per member.
        batch_size: examples a step.
        threads: cores to use, at least 1: each trains its share of the members. No bit of a result depends on it.
    Raises:
        ImportError: numba is missing.
        ValueError: settings for another number of members than `weights` has, or no thread.
    Side effects:
        The first engine of a width, batch size and precision compiles, for about five seconds, at its first `run`.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        learning_rate: list[float],
        rho: list[float],
        interventions: list[Intervention],
        batch_size: int,
        threads: int = 1,
    ) -> None:
        check_number("threads", threads, low=1, integer=True)
        members, _, hidden, _ = weights.w2.shape
        check_settings(members, learning_rate, rho, interventions)
        self._batch = batch_size
        self._train = _compiled()
        units = -(-(hidden + 1) // kernel.LANES) * kernel.LANES  # at least one unit that is always off
        number = np.float64 if weights.v.dtype == torch.float64 else np.float32
        self._nets = _zeros(kernel.member_type(units, number), members)
        self.weights = _copy_into(self._nets, weights)
        self._settings = _settings(self.weights.v.double(), learning_rate, rho, interventions)
        self._works = [_zeros(kernel.work_type(units, batch_size, number), 1) for _ in range(threads)]
        self._shares = [(members * t // threads, members * (t + 1) // threads) for t in range(threads)]
        self._threads = ThreadPoolExecutor(threads)

    def run(
        self,
        inputs: Float[Tensor, "step member 2 batch 2"],
        labels: Float[Tensor, "step member batch"],
        elsewhere: Batches | None = None,
    ) -> StepTerms:
        """Take one descent step with every member on each batch in turn, in place.

        Args:
            inputs: the batches of each member; third axis (easy, hard), last axis coordinates.
            labels: -1 or +1.
            elsewhere: as `BatchedEngine.run` takes it.
        Returns:
            The steps' last-layer vectors, for statistics (new tensors).
        Raises:
            ValueError: tensors of other sizes than the engine was made for.
        Side effects:
            `weights` change in place.
        """
        steps, v = len(inputs), self.weights.v
        lenders = elsewhere or (inputs, labels)
        for batches in ((inputs, labels), lenders):
            check_batches(*batches, members=len(v), batch_size=self._batch)
        terms = StepTerms(*(v.new_empty(steps, len(v), 2) for _ in StepTerms._fields))
        parts = [part.to(v).contiguous().numpy() for part in (inputs, labels, *lenders)]
        arrays = StepTerms._make(part.numpy() for part in terms)

        def train(share: tuple[int, int], work: np.ndarray) -> None:
            self._train(*parts, share, self._nets, self._settings, work, arrays)

        others = [self._threads.submit(train, *one) for one in zip(self._shares[1:], self._works[1:], strict=True)]
        train(self._shares[0], self._works[0])
        for other in others:
            other.result()  # waits, and raises what the thread raised
        return terms


class _Settings(NamedTuple):
    """Settings of all members: float64 arrays (member,), and a `Replacement` of arrays, masks (member,)."""

    learning_rate: np.ndarray
    rho: np.ndarray
    replacement: Any


def _zeros(record: np.dtype[Any], count: int) -> np.ndarray:
    """Make records of zeros that start on a cache line, as torch's memory does and numpy's need not."""
    return torch.zeros(count * record.itemsize, dtype=torch.uint8).numpy().view(record)


def _copy_into(nets: np.ndarray, weights: Weights) -> Weights:
    """Copy weights into the members' records; return views of the real units, their padding left zero."""
    w1, b1, w2, b2, w3, b3, v = (torch.from_numpy(nets[name]) for name in Weights._fields)
    wholes = w1, b1[:, :, None], w2, b2[:, :, None], w3[..., None], b3[..., None, None], v
    return Weights(
        *(
            whole[tuple(slice(size) for size in part.shape)].copy_(part)
            for whole, part in zip(wholes, weights, strict=True)
        )
    )


def _settings(v: Tensor, learning_rate: list[float], rho: list[float], interventions: list[Intervention]) -> _Settings:
    """Collect the settings of all members; without interventions every member is plain."""
    given = replacement(interventions, v)
    if given is None:
        none = torch.zeros(len(v), dtype=torch.bool)
        given = Replacement(
            torch.zeros_like(v), v[:, :1], ~none, none, none, none.long(), none, none, v * 0, v[:, :1] * 0
        )
    arrays = Replacement._make(part.numpy() if part.shape == v.shape else part.reshape(-1).numpy() for part in given)
    return _Settings(np.array(learning_rate, float), np.array(rho, float), arrays)


@functools.cache
def _compiled() -> Callable[..., None]:
    """Prepare the kernel; every layout of records is compiled at the first call with it."""
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        raise ImportError(
            "CompiledEngine: expected the package numba, but it cannot be imported; install numba, or use BatchedEngine"
        ) from error
    # A namespace of their own for the functions, in which they find each other compiled.
    namespace = dict(vars(kernel))
    for function in kernel.COMPILED:
        copy = FunctionType(function.__code__, namespace, function.__name__)
        # _nrt: no counting of references, as nothing here makes an array. nogil: threads run side by side. No cache:
        # code that numba loads from its cache was seen to give other last bits than the same code freshly compiled.
        options = {"fastmath": set(_FASTMATH), "error_model": "numpy", "_nrt": False, "nogil": True}
        namespace[function.__name__] = numba.njit(**options)(copy)
    train: Callable[..., None] = namespace["_train"]
    return train
