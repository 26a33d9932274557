"""Train disentangled networks in one GPU kernel (Triton): a member's weights stay on chip for all steps of a call.

One program trains one member, whose weights it keeps in registers; a width of 100 takes those of one multiprocessor.
What the layers exchange goes through a few kilobytes of memory of the program's own. `_train` and the functions below
it are Triton's dialect of Python. Axes: n network (0 easy, 1 hard), b example, k unit of a hidden layer.
"""

# Triton's functions take tensors of its own, for which there are no types.
# mypy: disable-error-code="no-untyped-def"

import functools
import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from samlib.shapes import Float
from samlib.toy.engine import Ensemble, StepTerms, check_batches
from samlib.toy.network import Weights

triton: Any
tl: Any
try:
    triton, tl = importlib.import_module("triton"), importlib.import_module("triton.language")
except ImportError:
    triton, tl = None, None

if TYPE_CHECKING:
    from builtins import int as constexpr
else:
    constexpr = tl.constexpr if tl else int

MAX_HIDDEN, MAX_BATCH = 128, 32  # wider second layers do not fit into the registers of one multiprocessor


def _jit(function: Any) -> Any:
    """Hand a function to Triton, which compiles it when it is first launched; without Triton it stays as it is."""
    # Calls differ in their number of steps and members; one kernel serves them all.
    return triton.jit(function, do_not_specialize=["steps", "members"]) if triton else function


class FusedEnsemble(Ensemble):
    """`samlib.toy.engine.Ensemble` with all steps of a call in one kernel; equal to it up to rounding.

    Args:
        weights: initial weights, at most 128 hidden units; copied to the device.
        settings: those of `Ensemble`; single precision, at most 32 examples a step, and a CUDA device. The CPU works
            where Triton interprets (TRITON_INTERPRET=1), which is for tests.
    Raises:
        ImportError: Triton is missing.
        ValueError: a width, batch size or precision that the kernel is not written for.
    """

    def __init__(self, weights: Weights, **settings: Any) -> None:
        if triton is None:
            raise ImportError(
                "FusedEnsemble: expected the package triton, but it cannot be imported; install triton, or use Ensemble"
            )
        super().__init__(weights, **settings)
        members, _, hidden, _ = self.weights.w2.shape
        if hidden > MAX_HIDDEN or self._batch > MAX_BATCH or self.weights.v.dtype != torch.float32:
            raise ValueError(
                f"FusedEnsemble: expected at most {MAX_HIDDEN} hidden units, batches of at most {MAX_BATCH} and "
                f"float32, got {hidden}, {self._batch} and {self.weights.v.dtype}; use another engine"
            )
        padded = max(16, 1 << (hidden - 1).bit_length())
        self._settings = self._table()
        self._scratch = self.weights.v.new_empty(members, 3, self._batch, 2, padded)
        self._launch = functools.partial(
            _train[(members,)],
            HIDDEN=hidden,
            BATCH=self._batch,
            PADDED=padded,
            ROWS=1 << (self._batch - 1).bit_length(),
            num_warps=8 if padded == MAX_HIDDEN else 4,  # all the registers of a multiprocessor, or half of them
            enable_fp_fusion=True,
        )

    def run(
        self, inputs: Float[Tensor, "step member 2 batch 2"], labels: Float[Tensor, "step member batch"]
    ) -> StepTerms:
        """Take one descent step with every member on each batch in turn, in place; see `Ensemble.run`."""
        v = self.weights.v
        steps, members = len(inputs), len(v)
        check_batches(inputs, labels, members=members, batch_size=self._batch)
        terms = StepTerms(*(v.new_empty(steps, members, 2) for _ in StepTerms._fields))
        x, y = (part.to(v).contiguous() for part in (inputs, labels))
        self._launch(x, y, *self.weights, self._settings, self._scratch, *terms, steps, members)
        return terms

    def _table(self) -> Tensor:
        """All members' settings, (member, 11), in the order in which `_last_layer` reads them; masks are 0 or 1."""
        v = self.weights.v
        columns = [self._learning_rate[:, None], self._rho[:, None]]
        if self._replacement is not None:
            columns += [part.to(v.dtype) for part in self._replacement]
        else:
            columns += [torch.zeros_like(v), *(torch.full_like(v[:, :1], value) for value in (0, 1, 0, 0, 0, 0, 0))]
        return torch.cat(columns, dim=1).contiguous()


# From here on: Triton. Padding is zero and stays zero: its units are off, and its examples have no label.


@_jit
def _train(
    x, y, w1, b1, w2, b2, w3, b3, v, settings, scratch, before, gradient, rate, steps, members,
    HIDDEN: constexpr, BATCH: constexpr, PADDED: constexpr, ROWS: constexpr,
):  # fmt: skip
    """Train one member on all steps; write each step's vectors into before, gradient and rate."""
    m = tl.program_id(0).to(tl.int64)  # wide, as the offsets of many members outgrow 32 bits
    n, k = tl.arange(0, 2), tl.arange(0, PADDED)
    real = (k < HIDDEN)[None, :]
    inside = real[:, :, None] & real[:, None, :]
    unit = n[:, None] * HIDDEN + k[None, :]
    w1 += m * 4 * HIDDEN + n[:, None] * HIDDEN + unit
    w2 += m * 2 * HIDDEN * HIDDEN + unit[:, :, None] * HIDDEN + k[None, None, :]
    b1, b2, w3 = b1 + m * 2 * HIDDEN + unit, b2 + m * 2 * HIDDEN + unit, w3 + m * 2 * HIDDEN + unit
    b3, v = b3 + m * 2 + n, v + m * 2 + n
    first = tl.load(w1, real, 0.0), tl.load(w1 + HIDDEN, real, 0.0), tl.load(b1, real, 0.0)
    second = tl.load(w2, inside, 0.0), tl.load(b2, real, 0.0)
    third = tl.load(w3, real, 0.0), tl.load(b3)
    v_ = tl.load(v)
    scratch += m * (3 * BATCH * 2 * PADDED)
    for step in range(steps):
        row = step * members + m
        tl.store(before + row * 2 + n, v_)
        out = settings + m * 11, gradient + row * 2, rate + row * 2
        batch = x + row * 4 * BATCH, y + row * BATCH
        first, second, third, v_ = _step(batch, first, second, third, v_, out, scratch, BATCH, PADDED, ROWS)
    tl.store(w1, first[0], real)
    tl.store(w1 + HIDDEN, first[1], real)
    tl.store(b1, first[2], real)
    tl.store(w2, second[0], inside)
    tl.store(b2, second[1], real)
    tl.store(w3, third[0], real)
    tl.store(b3, third[1])
    tl.store(v, v_)


@_jit
def _step(batch, first, second, third, v, out, scratch, BATCH: constexpr, PADDED: constexpr, ROWS: constexpr):
    """Take one step; return the layers after it. `scratch`: h1, d2, and h1 w2, which d2 w2^T overwrites."""
    n, k, b = tl.arange(0, 2), tl.arange(0, PADDED), tl.arange(0, ROWS)
    area = 2 * BATCH * PADDED
    one = scratch + n[:, None] * PADDED + k[None, :]
    every = one[None, :, :] + b[:, None, None] * (2 * PADDED)
    some = (b < BATCH)[:, None]
    x = batch[0] + b[:, None] * 2 + n[None, :] * (2 * BATCH)
    x0, x1 = tl.load(x, some, 0.0)[:, :, None], tl.load(x + 1, some, 0.0)[:, :, None]
    labels = tl.load(batch[1] + b, b < BATCH, 0.0)
    w1_0, w1_1, b1 = first
    w2, b2 = second
    w3, b3 = third
    some = some[:, :, None]
    h1 = _relu(b1[None, :, :] + x0 * w1_0[None, :, :] + x1 * w1_1[None, :, :])
    tl.store(every, h1, some)
    tl.debug_barrier()
    _multiply(w2, one, one + 2 * area, 1, BATCH, PADDED)
    tl.debug_barrier()
    h2 = _relu(tl.load(every + 2 * area, some, 0.0) + b2[None, :, :])
    v, d_phi = _last_layer(v, tl.sum(h2 * w3[None, :, :], 2) + b3[None, :], labels, out, BATCH)
    d2 = tl.where(h2 <= 0, 0.0, d_phi[:, :, None] * w3[None, :, :])
    tl.store(every + area, d2, some)
    tl.debug_barrier()
    _multiply(w2, one + area, one + 2 * area, 2, BATCH, PADDED)
    for i in range(BATCH):
        w2 -= tl.load(one + i * 2 * PADDED)[:, :, None] * tl.load(one + area + i * 2 * PADDED)[:, None, :]
    tl.debug_barrier()
    d1 = tl.where(h1 <= 0, 0.0, tl.load(every + 2 * area, some, 0.0))
    first = w1_0 - tl.sum(x0 * d1, 0), w1_1 - tl.sum(x1 * d1, 0), b1 - tl.sum(d1, 0)
    third = w3 - tl.sum(h2 * d_phi[:, :, None], 0), b3 - tl.sum(d_phi, 0)
    return first, (w2, b2 - tl.sum(d2, 0)), third, v


@_jit
def _multiply(w2, source, target, AXIS: constexpr, BATCH: constexpr, PADDED: constexpr):
    """Multiply each example's row of `source` by w2, or by its transpose where AXIS is 2; write into `target`."""
    for i in range(BATCH):
        row = tl.load(source + i * 2 * PADDED)
        tl.store(target + i * 2 * PADDED, tl.sum(w2 * tl.expand_dims(row, 3 - AXIS), AXIS))


@_jit
def _last_layer(v, phi, labels, out, BATCH: constexpr):
    """Return v after the step and d_phi, learning rate included: `Ensemble._step` for one member."""
    settings, gradient, rate = out
    n = tl.arange(0, 2)
    learning_rate, rho, norm = tl.load(settings), tl.load(settings + 1), tl.load(settings + 4)
    signed = labels[:, None] * phi
    g = _gradient(v, signed, BATCH)
    length = tl.sqrt_rn(tl.sum(g * g, 0))
    moved = v + rho * (g / tl.where(length < 1.1754944e-38, 1.1754944e-38, length))
    matched = tl.load(settings + 9) > 0
    fixed = tl.where(matched, tl.sqrt_rn(tl.sum(v * v, 0)), norm) * tl.load(settings + 2 + n)
    hat = tl.where(tl.load(settings + 8) > 0, moved, fixed)
    left = tl.where(tl.load(settings + 5) > 0, moved, v)
    importance = tl.where(tl.load(settings + 6) > 0, hat, left)
    rated = tl.where(tl.load(settings + 7) > 0, hat, left)
    last = tl.where(tl.load(settings + 10) > 0, importance, left)
    tl.store(gradient + n, g)
    tl.store(rate + n, rated)
    scale = learning_rate / BATCH
    d_phi = (scale * _importance(importance, signed) * labels)[:, None] * -rated[None, :]
    return v - learning_rate * _gradient(last, signed, BATCH), d_phi


@_jit
def _gradient(v, signed, BATCH: constexpr):
    """Gradient of the batch loss with respect to v: -E[lambda y phi]."""
    return -tl.sum(_importance(v, signed)[:, None] * signed, 0) / BATCH


@_jit
def _importance(v, signed):
    """lambda = sigma(-y f) of every example (Eq 6)."""
    return 1 / (1 + tl.exp(tl.sum(v[None, :] * signed, 1)))


@_jit
def _relu(z):
    """max(z, 0), but NaN stays NaN: a network that diverges must show it."""
    return tl.where(z <= 0, 0.0, z)
