"""What a CPU core could do at most with the toy engine's shapes, and which part of it an engine reaches."""

from typing import Any

import numpy as np
import torch

from edition.bench.toy import cores, rate

_LARGE = 1536  # rows of the matrix product that shows the peak rate: 28 MB, cut into tiles by the library
_OUT_OF_CACHE = 1 << 26  # bytes of one array that no cache holds together with another
_NUMBER = 4  # bytes of a float32


def step_flop(hidden: int, batch: int) -> int:
    r"""Count the floating-point operations of one model-step, a multiplication and an addition being two.

    A member has two networks with layers 2 -> h -> h -> 1. For b examples every weight is used once forwards (phi),
    once in its own gradient, and, behind the first layer, once to bring the gradient to the layer before: a product
    and a sum each time, the descent step being the sum of its gradient. A bias takes one addition forwards and
    one backwards:

        2 b [ 2 (2h + h^2 + h) + 2 (2h + h^2 + h) + 2 (h^2 + h) + 2 (2h + 1) ].

    With h = 100 and b = 5 that is 0.62 million. The two-number last layer, ReLU and exp are left out.

    Args:
        hidden: h, width of both hidden layers.
        batch: b, examples a step.
    Returns:
        Operations, a whole number.

    >>> step_flop(100, 5)
    618020
    """
    middle = hidden**2
    weights = 2 * hidden + middle + hidden
    return 2 * batch * (4 * weights + 2 * (middle + hidden) + 2 * (2 * hidden + 1))


def step_bytes(hidden: int) -> int:
    """Count the bytes of weights that one model-step moves: each is read forwards, read backwards, and written.

    A member's weights (84 KB at h = 100) do not fit the innermost cache of most cores; activations do.

    >>> step_bytes(100)
    252024
    """
    return 3 * _NUMBER * 2 * (hidden**2 + 5 * hidden + 1)


def measure_limits(hidden: int = 100, batch: int = 5, *, rounds: int = 5, seconds: float = 0.2) -> dict[str, Any]:
    """Measure what one core reaches with library calls: matrix products, and copies in and out of its cache.

    Args:
        hidden, batch: the engine's shapes.
        rounds: measurements of each, in turn; the best are returned, as this is about what is possible.
        seconds: about how long one measurement takes.
    Returns:
        hidden, batch; peak_flop_per_s (a large float32 product), shape_flop_per_s (128 products of batch x hidden by
        hidden x hidden at once), cache_bytes_per_s (copies among as many bytes as a step moves; reading and writing
        both count), memory_bytes_per_s (copies out of every cache).
    Side effects:
        Torch uses one thread meanwhile.
    """
    large, together = torch.rand(_LARGE, _LARGE), torch.rand(128, hidden, hidden)
    product, rows, many = torch.empty_like(large), torch.rand(128, batch, hidden), torch.empty(128, batch, hidden)
    works = {
        "peak_flop_per_s": lambda: 2 * _LARGE**3 * rate(lambda: torch.mm(large, large, out=product), seconds, calls=1),
        "shape_flop_per_s": lambda: (
            2 * rows.numel() * hidden * rate(lambda: torch.bmm(rows, together, out=many), seconds)
        ),
        "cache_bytes_per_s": lambda: copy_rate(step_bytes(hidden) // 2, seconds),
        "memory_bytes_per_s": lambda: copy_rate(_OUT_OF_CACHE, seconds),
    }
    with cores(1):
        measured = [{name: work() for name, work in works.items()} for _ in range(rounds)]
    best = {name: max(one[name] for one in measured) for name in works}
    return {"hidden": hidden, "batch": batch} | best


def copy_rate(size: int, seconds: float) -> float:
    """Measure the bytes a second that copies of an array read and write, without what a call costs.

    Args:
        size: bytes of the array; twice as many are in use.
        seconds: about how long to measure.
    """
    source, target = np.ones(size // _NUMBER, np.float32), np.zeros(size // _NUMBER, np.float32)
    one, other = source[:1].copy(), target[:1].copy()
    call = 1 / rate(lambda: np.copyto(other, one), seconds / 10)
    return 2 * source.nbytes / (1 / rate(lambda: np.copyto(target, source), seconds, calls=1) - call)


def share_of_limit(steps_per_s: float, limits: dict[str, Any]) -> dict[str, float]:
    """Compare an engine's rate with what the arithmetic and the traffic of its steps would allow.

    Args:
        steps_per_s: model-steps a second on one core; an engine that skips units which are off may exceed the limits.
        limits: what `measure_limits` returned.
    Returns:
        arithmetic_steps_per_s (at the peak rate of arithmetic), cache_steps_per_s (weights in the core's own cache),
        memory_steps_per_s (weights out of every cache), and share: steps_per_s over the smaller of the first two.
    """
    moved = step_bytes(limits["hidden"])
    ceilings = {
        "arithmetic_steps_per_s": limits["peak_flop_per_s"] / step_flop(limits["hidden"], limits["batch"]),
        "cache_steps_per_s": limits["cache_bytes_per_s"] / moved,
        "memory_steps_per_s": limits["memory_bytes_per_s"] / moved,
    }
    lowest = min(ceilings["arithmetic_steps_per_s"], ceilings["cache_steps_per_s"])
    return ceilings | {"share": steps_per_s / lowest}
