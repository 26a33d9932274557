"""The steps of `CompiledEngine`: plain Python on arrays, which numba compiles when the first engine is made.

Members and working memory are records (`member_type`, `work_type`): their fields are arrays whose sizes belong to the
type, so that compiled code knows how long every loop is and how far rows are apart. Indices use one letter each:
m member, n network (0 easy, 1 hard), b example of the batch, j unit of the second hidden layer, k, p, q
and r units of the first.
"""

import math
from typing import Any

import numpy as np

from samlib.toy.interventions import FIXED, HELPS, HURTS, MEAN, MEMORY, PERMUTED

LANES = 16  # hidden units are padded to whole vectors of this many numbers
_ROWS = 5  # examples that `_second_layer` and `_descend_second_layer` spell out: the paper's batch


def member_type(units: int, number: type) -> np.dtype[Any]:
    """Layout of one member: the fields of `Weights`, padded to `units`, without their axes of length one.

    Rows are multiples of a cache line, in a record that starts on one: vectors that straddle two lines are slow.
    """
    layers = ("w1", (2, 2, units)), ("b1", (2, units)), ("w2", (2, units, units)), ("b2", (2, units))
    rest = ("w3", (2, units)), ("b3", (LANES,)), ("v", (LANES,))
    return np.dtype([(name, number, shape) for name, shape in (*layers, *rest)])


def work_type(units: int, batch: int, number: type) -> np.dtype[Any]:
    """Layout of what a step keeps: activations h and gradients d (network, example, unit), which units are on, phi.

    Rows beyond the batch, up to whole groups of `_ROWS`, stay zero.
    """
    rows = -(-batch // _ROWS) * _ROWS
    layers = [(name, number, (2, rows, units)) for name in ("h1", "h2", "d1", "d2")]
    active = [("active", np.uintp, (2, units)), ("n_active", np.intp, (2,))]
    return np.dtype([*layers, *active, ("phi", np.float64, (2, batch)), ("d_phi", np.float64, (2, batch))])


def _train(
    x: Any, y: Any, other_x: Any, other_y: Any, members: Any, nets: Any, settings: Any, work: Any, terms: Any
) -> None:
    """Train the members from members[0] up to members[1] on all steps, one after the other."""
    for m in range(members[0], members[1]):
        for step in range(x.shape[0]):
            lent = 0.0, 0.0
            if settings.replacement.vector[m] == PERMUTED:
                lent = _lent(other_x, other_y, step, m, nets[m], work[0])
            _step(x, y, step, m, nets[m], settings, work[0], terms, lent)


def _lent(x: Any, y: Any, step: int, m: int, net: Any, work: Any) -> tuple[float, float]:
    """Minus the last layer's gradient on the batch that lends its direction; overwrites the activations."""
    for n in range(2):
        _forward(x, step, m, n, net, work)
    return _pull(work.phi, y, step, m, float(net.v[0]), float(net.v[1]))


def _step(x: Any, y: Any, step: int, m: int, net: Any, settings: Any, work: Any, terms: Any, lent: Any) -> None:
    """Take one step with one member: `BatchedEngine._step`, its scalars in float64."""
    for n in range(2):
        _forward(x, step, m, n, net, work)
    phi, batch = work.phi, y.shape[2]
    v0, v1 = float(net.v[0]), float(net.v[1])
    pull0, pull1 = _pull(phi, y, step, m, v0, v1)
    p0, p1 = _phantom(v0, v1, -pull0, -pull1, settings.rho[m])
    importance0, importance1, rate0, rate1, last0, last1 = p0, p1, p0, p1, p0, p1
    given = settings.replacement
    if not given.plain[m]:
        norm = math.sqrt(v0 * v0 + v1 * v1) if given.matched[m] else given.initial_norm[m]
        hat0, hat1 = norm * given.direction[m, 0], norm * given.direction[m, 1]
        if given.vector[m] != FIXED:
            hat0, hat1 = _stand_in(v0, v1, pull0, pull1, lent, m, settings)
        importance0, importance1 = (hat0, hat1) if given.importance[m] else (v0, v1)
        rate0, rate1 = (hat0, hat1) if given.rate[m] else (v0, v1)
        last0, last1 = (importance0, importance1) if given.weighted[m] else (v0, v1)
    terms.v[step, m, 0], terms.v[step, m, 1] = v0, v1
    terms.gradient[step, m, 0], terms.gradient[step, m, 1] = -pull0, -pull1
    terms.rate[step, m, 0], terms.rate[step, m, 1] = rate0, rate1
    learning_rate = settings.learning_rate[m]
    for b in range(batch):
        # dL/dphi_k = -lambda y v_k / b (Eq 6), scaled by the learning rate so that updates need no further factor.
        label = y[step, m, b]
        share = learning_rate / batch * label
        share /= 1.0 + math.exp(label * (importance0 * phi[0, b] + importance1 * phi[1, b]))
        work.d_phi[0, b], work.d_phi[1, b] = -share * rate0, -share * rate1
    pull0, pull1 = _pull(phi, y, step, m, last0, last1)
    net.v[0], net.v[1] = v0 + learning_rate * pull0, v1 + learning_rate * pull1
    for n in range(1, -1, -1):  # the network that is still in the innermost cache first
        _descend(x, step, m, n, net, work)


def _stand_in(
    v0: float, v1: float, pull0: float, pull1: float, lent: Any, m: int, settings: Any
) -> tuple[float, float]:
    """What is made from LSAM's phantom: `samlib.toy.interventions.stand_in`."""
    given, rho = settings.replacement, settings.rho[m]
    kind, helps = given.vector[m], pull1 * v1 > 0
    hat0, hat1 = _phantom(v0, v1, -pull0, -pull1, rho)
    if kind == PERMUTED:
        hat0, hat1 = _phantom(v0, v1, -lent[0], -lent[1], rho)
    if kind == MEAN:
        mean0, mean1 = given.mean[m, 0], given.mean[m, 1]
        hat0, hat1 = v0 + rho * mean0, v1 + rho * mean1
        given.steps[m] += 1
        share, (u0, u1) = 1 / min(given.steps[m], MEMORY), _phantom(0.0, 0.0, -pull0, -pull1, 1.0)
        given.mean[m, 0], given.mean[m, 1] = mean0 + share * (u0 - mean0), mean1 + share * (u1 - mean1)
    if (kind == HELPS and not helps) or (kind == HURTS and helps):
        hat0, hat1 = v0, v1
    return hat0, hat1


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


def _forward(x: Any, step: int, m: int, n: int, net: Any, work: Any) -> None:
    """Compute phi of one network on one batch and keep the activations."""
    w1, b1, b2, w3 = net.w1, net.b1, net.b2, net.w3
    h1, h2, zero = work.h1, work.h2, work.h1.dtype.type(0)
    units, batch = b1.shape[1], work.phi.shape[1]
    for b in range(batch):
        x0, x1 = x[step, m, n, b, 0], x[step, m, n, b, 1]
        for k in range(units):
            z = x0 * w1[n, 0, k] + x1 * w1[n, 1, k] + b1[n, k]
            h1[n, b, k] = zero if z <= zero else z
            h2[n, b, k] = b2[n, k]
    _active(n, work)
    for b in range(0, h1.shape[1], _ROWS):
        _second_layer(n, b, net, work)
    for b in range(batch):
        total = zero
        for j in range(units):
            z = h2[n, b, j]
            z = zero if z <= zero else z
            h2[n, b, j] = z
            total += z * w3[n, j]
        work.phi[n, b] = total + net.b3[n]


def _active(n: int, work: Any) -> None:
    """List the first layer's units that are on for some example; fill up with the padding unit, always off."""
    h1, total, active = work.h1, work.d1, work.active
    units = h1.shape[2]
    for k in range(units):
        total[n, 0, k] = h1[n, 0, k]
    for b in range(1, h1.shape[1]):
        for k in range(units):
            total[n, 0, k] += h1[n, b, k]
    count = 0
    for k in range(units - 1):
        active[n, count] = k
        count += total[n, 0, k] != 0  # NaN counts as on
    for k in range(count, min(count + 4, units)):
        active[n, k] = units - 1
    work.n_active[n] = count


def _second_layer(n: int, b: int, net: Any, work: Any) -> None:
    """Add h1 w2 to h2 for `_ROWS` examples from b on, four active units at a time."""
    h1, h2, w2, active = work.h1, work.h2, net.w2, work.active
    for i in range(0, work.n_active[n], 4):
        k, p, q, r = active[n, i], active[n, i + 1], active[n, i + 2], active[n, i + 3]
        k0, k1, k2, k3, k4 = h1[n, b, k], h1[n, b + 1, k], h1[n, b + 2, k], h1[n, b + 3, k], h1[n, b + 4, k]
        p0, p1, p2, p3, p4 = h1[n, b, p], h1[n, b + 1, p], h1[n, b + 2, p], h1[n, b + 3, p], h1[n, b + 4, p]
        q0, q1, q2, q3, q4 = h1[n, b, q], h1[n, b + 1, q], h1[n, b + 2, q], h1[n, b + 3, q], h1[n, b + 4, q]
        r0, r1, r2, r3, r4 = h1[n, b, r], h1[n, b + 1, r], h1[n, b + 2, r], h1[n, b + 3, r], h1[n, b + 4, r]
        for j in range(h2.shape[2]):
            wk, wp, wq, wr = w2[n, k, j], w2[n, p, j], w2[n, q, j], w2[n, r, j]
            h2[n, b, j] += k0 * wk + p0 * wp + q0 * wq + r0 * wr
            h2[n, b + 1, j] += k1 * wk + p1 * wp + q1 * wq + r1 * wr
            h2[n, b + 2, j] += k2 * wk + p2 * wp + q2 * wq + r2 * wr
            h2[n, b + 3, j] += k3 * wk + p3 * wp + q3 * wq + r3 * wr
            h2[n, b + 4, j] += k4 * wk + p4 * wp + q4 * wq + r4 * wr


def _descend(x: Any, step: int, m: int, n: int, net: Any, work: Any) -> None:
    """Back-propagate d_phi (learning rate included) through one network and subtract from every layer."""
    w1, b1, b2, w3 = net.w1, net.b1, net.b2, net.w3
    h1, h2, d1, d2, zero = work.h1, work.h2, work.d1, work.d2, work.h1.dtype.type(0)
    units, batch = b1.shape[1], work.phi.shape[1]
    for b in range(batch):
        d_phi = d2.dtype.type(work.d_phi[n, b])
        net.b3[n] -= d_phi
        for j in range(units):
            d2[n, b, j] = zero if h2[n, b, j] <= zero else d_phi * w3[n, j]
    for b in range(batch):
        d_phi = d2.dtype.type(work.d_phi[n, b])
        for j in range(units):
            w3[n, j] -= d_phi * h2[n, b, j]
            b2[n, j] -= d2[n, b, j]
    _descend_second_layer(n, net, work)
    for b in range(batch):
        x0, x1 = x[step, m, n, b, 0], x[step, m, n, b, 1]
        for k in range(units):
            d = zero if h1[n, b, k] <= zero else d1[n, b, k]
            w1[n, 0, k] -= x0 * d
            w1[n, 1, k] -= x1 * d
            b1[n, k] -= d


def _descend_second_layer(n: int, net: Any, work: Any) -> None:
    """Write d2 w2^T into d1 and subtract h1^T d2 from w2, two active units at a time."""
    h1, d1, d2, w2, active = work.h1, work.d1, work.d2, net.w2, work.active
    units, zero = h1.shape[2], h1.dtype.type(0)
    for i in range(0, work.n_active[n], 2):
        k, p = active[n, i], active[n, i + 1]
        for b in range(0, h1.shape[1], _ROWS):
            k0 = k1 = k2 = k3 = k4 = p0 = p1 = p2 = p3 = p4 = zero
            for j in range(units):
                wk, wp = w2[n, k, j], w2[n, p, j]
                e0, e1, e2, e3, e4 = d2[n, b, j], d2[n, b + 1, j], d2[n, b + 2, j], d2[n, b + 3, j], d2[n, b + 4, j]
                k0, k1, k2, k3, k4 = k0 + e0 * wk, k1 + e1 * wk, k2 + e2 * wk, k3 + e3 * wk, k4 + e4 * wk
                p0, p1, p2, p3, p4 = p0 + e0 * wp, p1 + e1 * wp, p2 + e2 * wp, p3 + e3 * wp, p4 + e4 * wp
            d1[n, b, k], d1[n, b + 1, k], d1[n, b + 2, k], d1[n, b + 3, k], d1[n, b + 4, k] = k0, k1, k2, k3, k4
            d1[n, b, p], d1[n, b + 1, p], d1[n, b + 2, p], d1[n, b + 3, p], d1[n, b + 4, p] = p0, p1, p2, p3, p4
        for b in range(0, h1.shape[1], _ROWS):
            k0, k1, k2, k3, k4 = h1[n, b, k], h1[n, b + 1, k], h1[n, b + 2, k], h1[n, b + 3, k], h1[n, b + 4, k]
            p0, p1, p2, p3, p4 = h1[n, b, p], h1[n, b + 1, p], h1[n, b + 2, p], h1[n, b + 3, p], h1[n, b + 4, p]
            for j in range(units):
                e0, e1, e2, e3, e4 = d2[n, b, j], d2[n, b + 1, j], d2[n, b + 2, j], d2[n, b + 3, j], d2[n, b + 4, j]
                w2[n, k, j] -= k0 * e0 + k1 * e1 + k2 * e2 + k3 * e3 + k4 * e4
                w2[n, p, j] -= p0 * e0 + p1 * e1 + p2 * e2 + p3 * e3 + p4 * e4


# All that is compiled, callees first.
COMPILED: tuple[Any, ...] = (_second_layer, _descend_second_layer, _active, _forward, _descend)
COMPILED += (_pull, _phantom, _stand_in, _lent, _step, _train)
