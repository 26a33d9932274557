"""Batch statistics under two forward passes: let one named pass update them, and one only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@contextmanager
def normalization_statistics_frozen(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of every normalisation layer in `module` unchanged inside the block.

    Outputs are those of training mode (batch statistics); only running_mean, running_var and
    num_batches_tracked stand still, and the vectors of spectral normalisation. Other state that a forward pass
    changes is not known here and advances in both passes. In SAM the first pass is the one that updates them:
    it runs at the iterate w, where the network is evaluated. Uses may nest, overlap or repeat, and an exception
    inside the block leaves the layers tracking again: a frozen layer is left to the use that froze it first.

    Args:
        module: any module; layers without running statistics, or in evaluation mode, are left alone.

    Returns:
        A context manager.

    Raises:
        Nothing of its own. A layer that torch.jit has scripted cannot be frozen: torch's error, all others track again;
            one that it has traced goes on in both passes.

    Side effects:
        Inside the block `track_running_stats` of the layers is False (and an instance norm's running buffers
        are detached from it); both are put back on leaving. Layers of other libraries count as normalisation
        layers if they carry `track_running_stats` with torch's meaning.

    Example:
        >>> import torch
        >>> layer = torch.nn.BatchNorm1d(2)
        >>> with normalization_statistics_frozen(layer):
        ...     _ = layer(torch.ones(4, 2))
        >>> int(layer.num_batches_tracked)
        0
    """
    updating = [
        each for each in module.modules() if each.training and getattr(each, "track_running_stats", None) is True
    ]
    frozen: list[tuple[nn.Module, dict[str, Tensor]]] = []
    iterating: list[tuple[Any, int]] = []
    try:
        for layer in updating:
            frozen.append(_freeze(layer))
        for part in _power_iterations(module):
            iterating.append((part, part.n_power_iterations))
            part.n_power_iterations = 0
        yield
    finally:
        for part, number in iterating:
            part.n_power_iterations = number
        for layer, buffers in frozen:
            setattr(layer, "track_running_stats", True)  # noqa: B010
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def _power_iterations(module: nn.Module) -> list[Any]:
    """Return what iterates spectral norms' vectors in a forward pass: parametrizations, and hooks of the older kind."""
    training = [layer for layer in module.modules() if layer.training]
    parts: list[Any] = [*training, *(hook for layer in training for hook in layer._forward_pre_hooks.values())]
    return [part for part in parts if getattr(part, "n_power_iterations", 0)]


def _freeze(layer: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """Stop one layer's tracking and return it with the buffers that were taken from it."""
    setattr(layer, "track_running_stats", False)  # noqa: B010 - nn.Module types attributes as tensors
    buffers: dict[str, Tensor] = {}
    if isinstance(layer, _INSTANCE_NORMS):
        # Instance norm hands its buffers to the kernel whatever the flag says.
        for name in ("running_mean", "running_var"):
            buffers[name] = getattr(layer, name)
            setattr(layer, name, None)
    return layer, buffers
