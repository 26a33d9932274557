"""Which real-image pair runs chapter 1 needs, at each profile."""

from typing import Any


def cifar_mnist(profile: str) -> list[Any]:
    return []
