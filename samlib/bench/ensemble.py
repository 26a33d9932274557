"""Many small image networks trained together, against one after the other."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from samlib.optim import SAM
from samlib.streams import stream
from samlib.vision.backbones import build_backbone
from samlib.vision.engine import Convolution, Ensemble, convolve
from samlib.vision.pairs import ImageSet
from samlib.vision.train import normalize, take_step

N_CLASSES = 5
MEAN = 0.5


def measure_ensemble(
    members: Sequence[int] = (1, 4, 16),
    *,
    device: str = "cpu",
    batch_size: int = 100,
    n_batches: int = 2,
    rho: float = 0.1,
    rounds: int = 5,
) -> list[dict[str, Any]]:
    """Measure training images a second of the step of `train_pair` and of the ensemble, alternating between them.

    Images and labels are random: only their sizes, 3 x 64 x 32 pixels and five classes, matter.

    Args:
        members: sizes of the ensembles; the one-network path is measured once in each round.
        device: where all of them run.
        batch_size: images a step and member.
        n_batches: steps in one measurement. On a GPU take 50 or more.
        rho: perturbation radius; with 0 there is no second pass.
        rounds: measurements of each; medians are returned.
    Returns:
        For each method and number of members: device, method ("one network", "ensemble": patches times filters,
        "ensemble, grouped": the library's grouped convolution), members, images_per_s (of all members together).
    Side effects:
        Compiles and captures first, untimed. None on global state.
    """
    data = _random_images(batch_size * n_batches, device)
    works: dict[tuple[str, int], Callable[[], object]] = {}
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        works["one network", 1] = _one_network(data, batch_size, rho)
        for n in members:
            for method, convolution in (("ensemble", convolve), ("ensemble, grouped", grouped)):
                works[method, n] = _together(n, data, batch_size, rho, convolution)
        seconds = _interleaved(list(works.values()), rounds)
    return [
        {"device": device, "method": method, "members": n, "images_per_s": n * len(data.labels) / time_taken}
        for (method, n), time_taken in zip(works, seconds, strict=True)
    ]


def grouped(images: Tensor, weight: Tensor, bias: Tensor, *, kernel: int, stride: int, padding: int) -> Tensor:
    """`samlib.vision.engine.convolve` through the library's grouped convolution, one group a member."""
    members, batch, height, width, channels = images.shape
    stacked = images.permute(1, 0, 4, 2, 3).reshape(batch, members * channels, height, width)
    filters = weight.unflatten(1, (kernel, kernel, channels)).permute(0, 4, 3, 1, 2).flatten(0, 1)
    maps = torch.nn.functional.conv2d(stacked, filters, bias.flatten(), stride, padding, groups=members)
    return maps.unflatten(1, (members, -1)).permute(1, 0, 3, 4, 2).contiguous()


def _random_images(n: int, device: str) -> ImageSet:
    """Noise with random labels, both columns equal."""
    generator = stream(0, "benchmark")
    images = torch.randint(256, (n, 3, 64, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(N_CLASSES, (n, 1), generator=generator).expand(-1, 2)
    return ImageSet(images.to(device), labels.to(device))


def _one_network(data: ImageSet, batch: int, rho: float) -> Callable[[], object]:
    """An epoch of `train_pair`."""
    network = build_backbone("convnet", n_classes=N_CLASSES, seed=0, device=data.images.device)
    optimizer = SAM(network.parameters(), torch.optim.SGD, rho=rho, check_finite=False, lr=0.01, momentum=0.9)
    batches = torch.arange(len(data.labels), device=data.images.device).split(batch)

    def epoch() -> object:
        losses = [take_step(network, optimizer, normalize(data.images[b], MEAN), data.labels[b, 0]) for b in batches]
        return torch.stack(losses).tolist()

    return epoch


def _together(n: int, data: ImageSet, batch: int, rho: float, convolution: Convolution) -> Callable[[], object]:
    """An epoch of n members on the same images."""
    networks = [
        build_backbone("convnet", n_classes=N_CLASSES, seed=seed, device=data.images.device) for seed in range(n)
    ]
    ensemble = Ensemble(
        networks, data, mean=[MEAN] * n, rho=[rho] * n, momentum=0.9, batch_size=batch, convolution=convolution
    )
    order = torch.arange(len(data.labels)).expand(n, -1)
    rates = torch.full((len(data.labels) // batch, n), 0.01)
    return lambda: ensemble.run(order, rates)


def _interleaved(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each, all measured in turn after one untimed call; each waits for the device itself."""
    taken: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(rounds):
        for work, seconds in zip(works, taken, strict=True):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
    return [statistics.median(seconds) for seconds in taken]
