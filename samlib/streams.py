"""Independent random streams: one generator per (root seed, purpose), so that no stream can disturb another."""

import hashlib

import torch

from samlib.config import check_number


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return a fresh CPU generator for one purpose of one run.

    The generator's seed is the first eight bytes of SHA-256("seed/purpose"), so that adding a purpose, or a
    network with another seed, leaves every existing stream as it was.

    Args:
        seed: root seed of the run, a whole number >= 0.
        purpose: what the numbers are for, such as "data", "initialization", "batch order" or "noise".
    Returns:
        A new generator; the global generator is not touched.
    Raises:
        TypeError, ValueError: seed is not a whole number >= 0.

    >>> torch.equal(torch.rand(2, generator=stream(0, "data")), torch.rand(2, generator=stream(0, "data")))
    True
    """
    check_number("seed", seed, low=0, integer=True)
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % (1 << 63))
