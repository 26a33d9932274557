"""Train disentangled networks one after the other in machine code that numba compiles: the fast path of one CPU core.

A member's weights stay in the core's cache for all steps of a call, and hidden units that are off for the whole batch
cost nothing. The functions below `_train` are plain Python on arrays: numba compiles them when the first
`CompiledEnsemble` of a width and precision is made, never when samlib is imported. Indices use one letter each:
m member, n network (0 easy, 1 hard), b example of the batch, j unit of the second hidden layer, k, p, q
and r units of the first.
"""

import contextlib
import functools
import importlib
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from samlib.toy.config import Intervention
from samlib.toy.engine import StepTerms
from samlib.toy.interventions import Replacement, replacement
from samlib.toy.network import Weights

_LANES = 16  # hidden units are padded to whole vectors of this many numbers
_ROWS = 5  # examples that `_second_layer` and `_descend_second_layer` spell out: the paper's batch
# Sums may be reordered, but NaN and infinity keep their meaning: a network that diverges must show it.
_FASTMATH = frozenset({"reassoc", "contract", "nsz", "arcp"})


def available() -> bool:
    """Whether numba can be imported, which `CompiledEnsemble` needs."""
    with contextlib.suppress(ImportError):
        return bool(importlib.import_module("numba"))
    return False


class CompiledEnsemble:
    """`samlib.toy.engine.Ensemble` on one CPU core, member after member, compiled; equal to it up to rounding.

    Args:
        weights: initial weights; copied. Float64 weights are trained in float64, all others in float32.
        learning_rate: step size of each member.
        rho: perturbation radius of each member, parameter units.
        interventions: one setting per member.
        batch_size: examples a step.
    Raises:
        ImportError: numba is missing.
        ValueError: settings for another number of members than `weights` has.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        learning_rate: list[float],
        rho: list[float],
        interventions: list[Intervention],
        batch_size: int,
    ) -> None:
        members, _, hidden, _ = weights.w2.shape
        counts = {len(learning_rate), len(rho), len(interventions)}
        if counts != {members}:
            raise ValueError(f"settings: expected {members}, one a member, got {sorted(counts)}; give each its own")
        self._batch = batch_size
        padded = -(-(hidden + 1) // _LANES) * _LANES  # at least one unit that is always off
        self._train = _kernel(padded)
        self.weights, self._arrays = _padded_copy(weights, padded)
        self._settings = _settings(self.weights.v.double(), learning_rate, rho, interventions)
        self._work = _work(batch_size, padded, self._arrays.v.dtype)

    def run(
        self, inputs: Float[Tensor, "step member 2 batch 2"], labels: Float[Tensor, "step member batch"]
    ) -> StepTerms:
        """Take one descent step with every member on each batch in turn, in place.

        Args:
            inputs: the batches of each member; third axis (easy, hard), last axis coordinates.
            labels: -1 or +1.
        Returns:
            The steps' last-layer vectors, for statistics (new tensors).
        Raises:
            ValueError: tensors of other sizes than the ensemble was made for.
        Side effects:
            `weights` change in place.
        """
        steps, v = len(inputs), self.weights.v
        expected = (steps, len(v), 2, self._batch, 2), (steps, len(v), self._batch)
        if (tuple(inputs.shape), tuple(labels.shape)) != expected:
            raise ValueError(
                f"inputs, labels: expected shapes {expected[0]} and {expected[1]}, got {tuple(inputs.shape)} and "
                f"{tuple(labels.shape)}; give every member a batch of batch_size = {self._batch} in every step"
            )
        terms = StepTerms(*(v.new_empty(steps, len(v), 2) for _ in StepTerms._fields))
        x, y = (part.to(v).contiguous().numpy() for part in (inputs, labels))
        self._train(x, y, self._arrays, self._settings, self._work, *(part.numpy() for part in terms))
        return terms


class _Settings(NamedTuple):
    """Settings of all members: float64 arrays (member,), and a `Replacement` of arrays, masks (member,)."""

    learning_rate: np.ndarray
    rho: np.ndarray
    replacement: Any


class _Work(NamedTuple):
    """What a step keeps: activations h and gradients d (network, example, unit), which units are on, phi, d_phi."""

    h1: np.ndarray
    h2: np.ndarray
    d1: np.ndarray
    d2: np.ndarray
    active: np.ndarray
    n_active: np.ndarray
    phi: np.ndarray
    d_phi: np.ndarray


def _padded_copy(weights: Weights, padded: int) -> tuple[Weights, Any]:
    """Copy weights into larger zero tensors; return views of the real units, and the whole ones as arrays.

    The arrays have no axes of length one; their padding stays zero through all steps.
    """
    dtype = torch.float64 if weights.v.dtype == torch.float64 else torch.float32
    nets = (len(weights.v), 2)
    layers = (2, padded), (1, padded), (padded, padded), (1, padded), (padded, 1), (1, 1)
    wholes = [torch.zeros(*nets, *layer, dtype=dtype) for layer in layers] + [torch.zeros(nets, dtype=dtype)]
    views = [
        whole[tuple(slice(size) for size in part.shape)].copy_(part)
        for whole, part in zip(wholes, weights, strict=True)
    ]
    w1, b1, w2, b2, w3, b3, v = (whole.numpy() for whole in wholes)
    return Weights(*views), Weights._make((w1, b1[:, :, 0], w2, b2[:, :, 0], w3[..., 0], b3[:, :, 0, 0], v))


def _settings(v: Tensor, learning_rate: list[float], rho: list[float], interventions: list[Intervention]) -> _Settings:
    """Collect the settings of all members; without interventions every member is plain."""
    given = replacement(interventions, v)
    if given is None:
        none = torch.zeros(len(v), dtype=torch.bool)
        given = Replacement(torch.zeros_like(v), v[:, :1], ~none, *[none] * 5)
    arrays = Replacement._make((given.direction.numpy(), *(part.reshape(len(v)).numpy() for part in given[1:])))
    return _Settings(np.array(learning_rate, float), np.array(rho, float), arrays)


def _work(batch: int, padded: int, dtype: np.dtype[Any]) -> _Work:
    """Allocate what a step keeps; rows beyond the batch, up to whole groups of `_ROWS`, stay zero."""
    rows = -(-batch // _ROWS) * _ROWS
    layers = (np.zeros((2, rows, padded), dtype) for _ in range(4))
    scalars = (np.zeros((2, batch)) for _ in range(2))
    return _Work._make((*layers, np.zeros((2, padded), np.uintp), np.zeros(2, np.int64), *scalars))


@functools.cache
def _kernel(padded: int) -> Callable[..., None]:
    """Prepare `_train` for one padded width; each precision is compiled at the first call with it."""
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        raise ImportError(
            "CompiledEnsemble: expected the package numba, but it cannot be imported; install numba, or use Ensemble"
        ) from error
    # A namespace of their own for the functions: numba takes what it finds there as constant, such as loop lengths.
    namespace = {**globals(), "_PADDED": padded}
    for function in _COMPILED:
        copy = FunctionType(function.__code__, namespace, function.__name__)
        # _nrt: no counting of references, as nothing here makes an array. No cache: code that numba loads from its
        # cache was seen to give other last bits than the same code freshly compiled.
        namespace[function.__name__] = numba.njit(fastmath=set(_FASTMATH), error_model="numpy", _nrt=False)(copy)
    kernel: Callable[..., None] = namespace["_train"]
    return kernel


# From here on: compiled code.
_PADDED = _LANES  # hidden units with padding; `_kernel` puts the width in its place


def _train(x: Any, y: Any, arrays: Any, settings: Any, work: Any, v: Any, gradient: Any, rate: Any) -> None:
    """Train member after member on all steps; write each step's vectors into v, gradient and rate."""
    for m in range(x.shape[1]):
        for step in range(x.shape[0]):
            _step(x, y, step, m, arrays, settings, work, v, gradient, rate)


def _step(
    x: Any, y: Any, step: int, m: int, arrays: Any, settings: Any, work: Any, v: Any, gradient: Any, rate: Any
) -> None:
    """Take one step with one member: `Ensemble._step`, its scalars in float64."""
    for n in range(2):
        _forward(x, step, m, n, arrays, work)
    phi, batch = work.phi, y.shape[2]
    v0, v1 = float(arrays.v[m, 0]), float(arrays.v[m, 1])
    pull0, pull1 = _pull(phi, y, step, m, v0, v1)
    p0, p1 = _phantom(v0, v1, -pull0, -pull1, settings.rho[m])
    importance0, importance1, rate0, rate1, last0, last1 = p0, p1, p0, p1, p0, p1
    given = settings.replacement
    if not given.plain[m]:
        norm = math.sqrt(v0 * v0 + v1 * v1) if given.matched[m] else given.initial_norm[m]
        hat0, hat1 = norm * given.direction[m, 0], norm * given.direction[m, 1]
        if given.phantom[m]:
            hat0, hat1 = p0, p1
        importance0, importance1 = (hat0, hat1) if given.importance[m] else (v0, v1)
        rate0, rate1 = (hat0, hat1) if given.rate[m] else (v0, v1)
        last0, last1 = (importance0, importance1) if given.weighted[m] else (v0, v1)
    v[step, m, 0], v[step, m, 1] = arrays.v[m, 0], arrays.v[m, 1]
    gradient[step, m, 0], gradient[step, m, 1] = -pull0, -pull1
    rate[step, m, 0], rate[step, m, 1] = rate0, rate1
    learning_rate = settings.learning_rate[m]
    for b in range(batch):
        # dL/dphi_k = -lambda y v_k / b (Eq 6), scaled by the learning rate so that updates need no further factor.
        label = y[step, m, b]
        share = learning_rate / batch * label
        share /= 1.0 + math.exp(label * (importance0 * phi[0, b] + importance1 * phi[1, b]))
        work.d_phi[0, b], work.d_phi[1, b] = -share * rate0, -share * rate1
    pull0, pull1 = _pull(phi, y, step, m, last0, last1)
    arrays.v[m, 0], arrays.v[m, 1] = v0 + learning_rate * pull0, v1 + learning_rate * pull1
    for n in range(1, -1, -1):  # the network that is still in the innermost cache first
        _descend(x, step, m, n, arrays, work)


def _pull(phi: Any, y: Any, step: int, m: int, v0: float, v1: float) -> tuple[float, float]:
    """Minus the last layer's gradient: E[lambda y phi] with lambda = sigma(-y v . phi)."""
    pull0, pull1, batch = 0.0, 0.0, y.shape[2]
    for b in range(batch):
        label = y[step, m, b]
        weight = label / (1.0 + math.exp(label * (v0 * phi[0, b] + v1 * phi[1, b]))) / batch
        pull0 += weight * phi[0, b]
        pull1 += weight * phi[1, b]
    return pull0, pull1


def _phantom(v0: float, v1: float, g0: float, g1: float, rho: float) -> tuple[float, float]:
    """Take the ascent step v~ = v + rho g / ||g|| (Eq 5); a zero gradient moves nothing."""
    norm = math.sqrt(g0 * g0 + g1 * g1)
    scale = 0.0 if norm == 0.0 else rho / norm
    return v0 + scale * g0, v1 + scale * g1


def _forward(x: Any, step: int, m: int, n: int, arrays: Any, work: Any) -> None:
    """Compute phi of one network on one batch and keep the activations."""
    w1, b1, w2, b2, w3, b3, _ = arrays
    h1, h2, zero = work.h1, work.h2, work.h1.dtype.type(0)
    for b in range(x.shape[3]):
        x0, x1 = x[step, m, n, b, 0], x[step, m, n, b, 1]
        for k in range(_PADDED):
            z = x0 * w1[m, n, 0, k] + x1 * w1[m, n, 1, k] + b1[m, n, k]
            h1[n, b, k] = zero if z <= zero else z
            h2[n, b, k] = b2[m, n, k]
    work.n_active[n] = _active(n, h1, work.d1, work.active)
    for b in range(0, h1.shape[1], _ROWS):
        _second_layer(m, n, b, w2, h1, h2, work.active, work.n_active[n])
    for b in range(x.shape[3]):
        total = zero
        for j in range(_PADDED):
            z = h2[n, b, j]
            z = zero if z <= zero else z
            h2[n, b, j] = z
            total += z * w3[m, n, j]
        work.phi[n, b] = total + b3[m, n]


def _active(n: int, h1: Any, total: Any, active: Any) -> int:
    """List the first layer's units that are on for some example; fill up with the padding unit, always off."""
    for k in range(_PADDED):
        total[n, 0, k] = h1[n, 0, k]
    for b in range(1, h1.shape[1]):
        for k in range(_PADDED):
            total[n, 0, k] += h1[n, b, k]
    count = 0
    for k in range(_PADDED - 1):
        active[n, count] = k
        count += total[n, 0, k] != 0  # NaN counts as on
    for k in range(count, min(count + 4, _PADDED)):
        active[n, k] = _PADDED - 1
    return count


def _second_layer(m: int, n: int, b: int, w2: Any, h1: Any, h2: Any, active: Any, n_active: int) -> None:
    """Add h1 w2 to h2 for `_ROWS` examples from b on, four active units at a time."""
    for i in range(0, n_active, 4):
        k, p, q, r = active[n, i], active[n, i + 1], active[n, i + 2], active[n, i + 3]
        k0, k1, k2, k3, k4 = h1[n, b, k], h1[n, b + 1, k], h1[n, b + 2, k], h1[n, b + 3, k], h1[n, b + 4, k]
        p0, p1, p2, p3, p4 = h1[n, b, p], h1[n, b + 1, p], h1[n, b + 2, p], h1[n, b + 3, p], h1[n, b + 4, p]
        q0, q1, q2, q3, q4 = h1[n, b, q], h1[n, b + 1, q], h1[n, b + 2, q], h1[n, b + 3, q], h1[n, b + 4, q]
        r0, r1, r2, r3, r4 = h1[n, b, r], h1[n, b + 1, r], h1[n, b + 2, r], h1[n, b + 3, r], h1[n, b + 4, r]
        for j in range(_PADDED):
            wk, wp, wq, wr = w2[m, n, k, j], w2[m, n, p, j], w2[m, n, q, j], w2[m, n, r, j]
            h2[n, b, j] += k0 * wk + p0 * wp + q0 * wq + r0 * wr
            h2[n, b + 1, j] += k1 * wk + p1 * wp + q1 * wq + r1 * wr
            h2[n, b + 2, j] += k2 * wk + p2 * wp + q2 * wq + r2 * wr
            h2[n, b + 3, j] += k3 * wk + p3 * wp + q3 * wq + r3 * wr
            h2[n, b + 4, j] += k4 * wk + p4 * wp + q4 * wq + r4 * wr


def _descend(x: Any, step: int, m: int, n: int, arrays: Any, work: Any) -> None:
    """Back-propagate d_phi (learning rate included) through one network and subtract from every layer."""
    w1, b1, w2, b2, w3, b3, _ = arrays
    h1, h2, d1, d2, zero = work.h1, work.h2, work.d1, work.d2, work.h1.dtype.type(0)
    for b in range(x.shape[3]):
        d_phi = d2.dtype.type(work.d_phi[n, b])
        b3[m, n] -= d_phi
        for j in range(_PADDED):
            d2[n, b, j] = zero if h2[n, b, j] <= zero else d_phi * w3[m, n, j]
    for b in range(x.shape[3]):
        d_phi = d2.dtype.type(work.d_phi[n, b])
        for j in range(_PADDED):
            w3[m, n, j] -= d_phi * h2[n, b, j]
            b2[m, n, j] -= d2[n, b, j]
    _descend_second_layer(m, n, w2, h1, d1, d2, work.active, work.n_active[n])
    for b in range(x.shape[3]):
        x0, x1 = x[step, m, n, b, 0], x[step, m, n, b, 1]
        for k in range(_PADDED):
            d = zero if h1[n, b, k] <= zero else d1[n, b, k]
            w1[m, n, 0, k] -= x0 * d
            w1[m, n, 1, k] -= x1 * d
            b1[m, n, k] -= d


def _descend_second_layer(m: int, n: int, w2: Any, h1: Any, d1: Any, d2: Any, active: Any, n_active: int) -> None:
    """Write d2 w2^T into d1 and subtract h1^T d2 from w2, two active units at a time."""
    zero = w2.dtype.type(0)
    for i in range(0, n_active, 2):
        k, p = active[n, i], active[n, i + 1]
        for b in range(0, h1.shape[1], _ROWS):
            k0 = k1 = k2 = k3 = k4 = p0 = p1 = p2 = p3 = p4 = zero
            for j in range(_PADDED):
                wk, wp = w2[m, n, k, j], w2[m, n, p, j]
                e0, e1, e2, e3, e4 = d2[n, b, j], d2[n, b + 1, j], d2[n, b + 2, j], d2[n, b + 3, j], d2[n, b + 4, j]
                k0, k1, k2, k3, k4 = k0 + e0 * wk, k1 + e1 * wk, k2 + e2 * wk, k3 + e3 * wk, k4 + e4 * wk
                p0, p1, p2, p3, p4 = p0 + e0 * wp, p1 + e1 * wp, p2 + e2 * wp, p3 + e3 * wp, p4 + e4 * wp
            d1[n, b, k], d1[n, b + 1, k], d1[n, b + 2, k], d1[n, b + 3, k], d1[n, b + 4, k] = k0, k1, k2, k3, k4
            d1[n, b, p], d1[n, b + 1, p], d1[n, b + 2, p], d1[n, b + 3, p], d1[n, b + 4, p] = p0, p1, p2, p3, p4
        for b in range(0, h1.shape[1], _ROWS):
            k0, k1, k2, k3, k4 = h1[n, b, k], h1[n, b + 1, k], h1[n, b + 2, k], h1[n, b + 3, k], h1[n, b + 4, k]
            p0, p1, p2, p3, p4 = h1[n, b, p], h1[n, b + 1, p], h1[n, b + 2, p], h1[n, b + 3, p], h1[n, b + 4, p]
            for j in range(_PADDED):
                e0, e1, e2, e3, e4 = d2[n, b, j], d2[n, b + 1, j], d2[n, b + 2, j], d2[n, b + 3, j], d2[n, b + 4, j]
                w2[m, n, k, j] -= k0 * e0 + k1 * e1 + k2 * e2 + k3 * e3 + k4 * e4
                w2[m, n, p, j] -= p0 * e0 + p1 * e1 + p2 * e2 + p3 * e3 + p4 * e4


# Callees first.
_COMPILED: tuple[Any, ...] = (_second_layer, _descend_second_layer, _active, _forward, _descend)
_COMPILED += (_pull, _phantom, _step, _train)
