"""What a network is given: images of a pair, augmented photographs, or stored activations of its frozen part."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samlib.images.activations import stored_activations
from samlib.images.augment import augmented_view, centre_view
from samlib.images.backbones import Backbone
from samlib.images.config import DomainConfig, FinetuneConfig
from samlib.images.image_sets import PreparedSet
from samlib.shapes import Float, Int64, UInt8


def mean_pixel(images: UInt8[Tensor, "example 3 64 32"]) -> float:
    """Mean over all images, channels and pixels, scaled to 0..1, in double precision.

    >>> mean_pixel(torch.full((1, 3, 64, 32), 51, dtype=torch.uint8))
    0.2
    """
    return images.sum(dtype=torch.int64).item() / images.numel() / 255


def normalize(images: UInt8[Tensor, "batch 3 64 32"], mean: float) -> Float[Tensor, "batch 3 64 32"]:
    """Scale images to 0..1 and subtract the training set's mean pixel value, on the images' device.

    Appendix B: "We normalize the images by the mean pixel value"; that this means subtracting one number is
    our reading.

    Args:
        images: 0..255.
        mean: what `mean_pixel` returned.
    Returns:
        A new tensor, single precision.
    """
    return images.float().div_(255).sub_(mean)


class Views(Protocol):
    """Network inputs of some images of a set; places count within those images."""

    @property
    def chunk(self) -> int:
        """Images a forward pass without gradients; another number may change last bits."""

    def plain(self, places: Int64[Tensor, " batch"]) -> Float[Tensor, "batch channel height width"]:
        """Return the middle crop's inputs, on the network's device."""

    def augmented(
        self, places: Int64[Tensor, " batch"], generator: torch.Generator
    ) -> Float[Tensor, "batch channel height width"]:
        """Return inputs of augmented images, each drawn anew."""


class PairViews:
    """Composed images of a pair, normalized by the mean pixel; nothing is drawn.

    Args:
        images: 0..255; kept on the device.
        mean: what `mean_pixel` returned for the training images.
        device: where the network is.
    """

    chunk = 500

    def __init__(
        self, images: UInt8[Tensor, "example 3 64 32"], mean: float, *, device: torch.device | str = "cpu"
    ) -> None:
        self._kept, self._mean = images.to(device), mean

    def plain(self, places: Tensor) -> Tensor:
        """Return the normalized images."""
        return normalize(self._kept[places.to(self._kept.device)], self._mean)

    def augmented(self, places: Tensor, generator: torch.Generator) -> Tensor:
        """Return the same: pairs are not augmented."""
        return self.plain(places)


class ImageViews:
    """Normalized images, for a network that is trained whole.

    Args:
        data: the set.
        rows: which images; on a GPU they are kept there.
        size: side of the input, pixels.
        jitter: whether augmented views change colours.
        memory_format: of the inputs.
        device: where the network is.
    """

    chunk = 250

    def __init__(
        self,
        data: PreparedSet,
        rows: Int64[Tensor, " row"],
        *,
        size: int,
        jitter: bool = False,
        memory_format: torch.memory_format = torch.channels_last,
        device: torch.device | str,
    ) -> None:
        self._size, self._jitter, self._format = size, jitter, memory_format
        self._on_disk = data.images
        self._rows = rows.numpy()
        self._kept = torch.from_numpy(data.images[self._rows]).to(device) if str(device) != "cpu" else None

    def _images(self, places: Tensor) -> Tensor:
        if self._kept is not None:
            return self._kept[places.to(self._kept.device)]
        return torch.from_numpy(np.ascontiguousarray(self._on_disk[self._rows[places.numpy()]]))

    def plain(self, places: Tensor) -> Tensor:
        """Return the middle crops."""
        return _laid_out(centre_view(self._images(places), self._size), self._format)

    def augmented(self, places: Tensor, generator: torch.Generator) -> Tensor:
        """Return random crops, resized, half of them mirrored."""
        view = augmented_view(self._images(places), self._size, generator, jitter=self._jitter)
        return _laid_out(view, self._format)


class ActivationViews:
    """Activations of the frozen part for the middle crop and, for training, its mirror image.

    Args:
        data: the set.
        rows: which images.
        backbone: its lower part is used.
        size: side of the crop, pixels.
        mirrored: whether the mirror images are needed.
        folder: where activations are kept; None keeps none.
        device: where the network is.
    """

    chunk = 250

    def __init__(
        self,
        data: PreparedSet,
        rows: Int64[Tensor, " row"],
        backbone: Backbone,
        *,
        size: int,
        mirrored: bool,
        folder: Path | None,
        device: torch.device | str,
    ) -> None:
        self._format = backbone.memory_format
        self._kept = [
            stored_activations(data, rows, backbone, image_size=size, mirrored=view, folder=folder, device=device).to(
                device
            )
            for view in ((False, True) if mirrored else (False,))
        ]

    def plain(self, places: Tensor) -> Tensor:
        """Return the middle crop's activations."""
        kept = self._kept[0]
        return _laid_out(kept[places.to(kept.device)], self._format)

    def augmented(self, places: Tensor, generator: torch.Generator) -> Tensor:
        """Return the activations of the crop or of its mirror image, with equal chances."""
        plain, mirrored = self._kept
        turned = torch.randint(2, (len(places), 1, 1, 1), generator=generator).to(plain.device, torch.bool)
        rows = places.to(plain.device)
        return _laid_out(torch.where(turned, mirrored[rows], plain[rows]), self._format)


def make_views(
    data: PreparedSet,
    rows: Int64[Tensor, " row"],
    backbone: Backbone,
    config: FinetuneConfig | DomainConfig,
    *,
    mirrored: bool,
    folder: Path | None,
    device: torch.device | str,
) -> Views:
    """Return the views that a configuration asks for.

    Args:
        data: the set.
        rows: which images.
        backbone: the run's network.
        config: trained, image_size and, of domains, colour_jitter are read.
        mirrored: whether augmented views will be needed.
        folder: where activations are kept; None keeps none.
        device: where the network is.
    """
    if config.trained == "all":
        jitter = isinstance(config, DomainConfig) and config.colour_jitter
        memory_format, size = backbone.memory_format, config.image_size
        return ImageViews(data, rows, size=size, jitter=jitter, memory_format=memory_format, device=device)
    return ActivationViews(
        data, rows, backbone, size=config.image_size, mirrored=mirrored, folder=folder, device=device
    )


def _laid_out(inputs: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Single precision in the memory format of the network."""
    return inputs.float().contiguous(memory_format=memory_format)
