"""Views of stored images: the middle crop, or a random crop, flip and colours of each image (Appendices B and F)."""

import math

import torch
from torch import Tensor

from samlib.config import check_number
from samlib.images.backbones import IMAGENET_MEAN, IMAGENET_STD
from samlib.shapes import Bool, Float, Int64, UInt8

SCALE = (0.7, 1.0)  # area of a random crop, as a share of the image's
RATIO = (3 / 4, 4 / 3)  # its width / height
TRIES = 10
JITTER = 0.3  # DomainBed's: brightness, contrast and saturation by up to this share, hue by this much of the circle
GREY = 0.1  # of the images are made grey


def centre_view(images: UInt8[Tensor, "batch side side 3"], size: int) -> Float[Tensor, "batch 3 size size"]:
    """Cut out the middle and normalize by ImageNet's means and standard deviations, on the images' device.

    Args:
        images: 0..255.
        size: side of the crop, pixels, at most the images' side; the odd pixel of a difference is cut from the end.
    Returns:
        A new tensor, single precision.
    Raises:
        ValueError: size is larger than the images, or these are not square.

    >>> centre_view(torch.full((1, 5, 5, 3), 255, dtype=torch.uint8), 2).shape
    torch.Size([1, 3, 2, 2])
    """
    side = _side(images)
    check_number("size", size, low=1, high=side, integer=True, advice="images are cut, not enlarged")
    start = (side - size) // 2
    return _normalized(images[:, start : start + size, start : start + size].permute(0, 3, 1, 2).float())


def augmented_view(
    images: UInt8[Tensor, "batch side side 3"], size: int, generator: torch.Generator, *, jitter: bool = False
) -> Float[Tensor, "batch 3 size size"]:
    """Cut a random box out of each image, resize it to size x size, and flip it with probability 1/2.

    RandomResizedCrop and RandomHorizontalFlip of torchvision with the settings of Izmailov et al. (2022), which
    Appendix B follows: see `random_boxes`. Bilinear, without antialiasing: stored images are hardly larger than `size`.

    Args:
        images: 0..255.
        size: side of the view, pixels.
        generator: on the CPU, so that the boxes do not depend on the images' device; it is advanced.
        jitter: whether colours are changed, too; see `jittered`.
    Returns:
        A new tensor, single precision, normalized like `centre_view`'s.
    Raises:
        ValueError: images that are not square.
    """
    n, side = len(images), _side(images)
    boxes = random_boxes(n, side, generator)
    flipped = torch.rand(n, generator=generator, dtype=torch.float32) < 0.5
    pixels = resized_boxes(images, boxes, flipped, size)
    return _normalized(255 * jittered(pixels / 255, generator) if jitter else pixels)


def jittered(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Change each image's brightness, contrast, saturation and hue, in an order of its own; make some grey.

    ColorJitter(.3, .3, .3, .3) and RandomGrayscale of torchvision, as in DomainBed, but in single precision, where
    DomainBed rounds to 256 levels after each change.

    Args:
        images: 0..1.
        generator: on the CPU; it is advanced.
    Returns:
        A new tensor, 0..1, on the images' device.
    """
    from torchvision.transforms import functional as change  # slow to import

    changes = (change.adjust_brightness, change.adjust_contrast, change.adjust_saturation, change.adjust_hue)
    amounts = JITTER * (2 * torch.rand(len(images), 4, generator=generator, dtype=torch.float64) - 1)
    amounts[:, :3] += 1  # factors; the hue's is a shift
    orders = torch.rand(len(images), 4, generator=generator, dtype=torch.float32).argsort(1)
    grey = torch.rand(len(images), generator=generator, dtype=torch.float32) < GREY
    found = []
    for image, own, order, colourless in zip(images, amounts.tolist(), orders.tolist(), grey.tolist(), strict=True):
        for i in order:
            image = changes[i](image, own[i])
        found.append(change.rgb_to_grayscale(image, 3) if colourless else image)
    return torch.stack(found)


def random_boxes(n: int, side: int, generator: torch.Generator) -> Int64[Tensor, "box 4"]:
    """Draw boxes like torchvision's RandomResizedCrop, for a whole batch: uniform area and log-ratio, until one fits.

    After ten tries that do not fit the box is the whole image, which happens to one box in some thousands, fewer the
    smaller the image.

    Args:
        n: boxes.
        side: of the square images, pixels.
        generator: on the CPU; it is advanced.
    Returns:
        top, left, height, width of each box, pixels.
    """
    draws = torch.rand(2, TRIES, n, generator=generator, dtype=torch.float64)
    area = (SCALE[0] + (SCALE[1] - SCALE[0]) * draws[0]) * side**2
    low, high = map(math.log, RATIO)
    root = torch.exp((low + (high - low) * draws[1]) / 2)  # of the ratio
    width, height = (area.sqrt() * root).round(), (area.sqrt() / root).round()
    fits = (width <= side) & (height <= side)
    first = fits.int().argmax(0, keepdim=True)  # argmax gives the first of equal ones
    sizes = [torch.where(fits.any(0), s.gather(0, first)[0], side) for s in (height, width)]
    places = torch.rand(2, n, generator=generator, dtype=torch.float64)
    corners = [(place * (side - s + 1)).floor() for place, s in zip(places, sizes, strict=True)]
    return torch.stack([*corners, *sizes], dim=1).long()


def resized_boxes(
    images: UInt8[Tensor, "batch side side 3"],
    boxes: Int64[Tensor, "batch 4"],
    flipped: Bool[Tensor, " batch"],
    size: int,
) -> Float[Tensor, "batch 3 size size"]:
    """Resize one box of each image to size x size, bilinearly, and flip some of the results left to right.

    Args:
        images: 0..255.
        boxes: top, left, height, width, pixels, inside the images; on any device.
        flipped: which images to flip; on any device.
        size: side of the results, pixels.
    Returns:
        A new tensor, 0..255, single precision, on the images' device.
    """
    side = images.shape[1]
    top, left, height, width = boxes.to(images.device).float()[:, :, None].unbind(1)
    middles = torch.arange(size, device=images.device) + 0.5  # of the result's pixels
    # Clamped so that pixels beyond the box, which the image has, do not enter.
    rows = ((middles * height / size - 0.5).clamp(min=0).minimum(height - 1)) + top
    columns = ((middles * width / size - 0.5).clamp(min=0).minimum(width - 1)) + left
    columns = torch.where(flipped.to(images.device)[:, None], columns.flip(1), columns)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=-1
    )  # (batch, row, column, 2), pixels from the middle of the first
    grid = (2 * grid + 1) / side - 1  # grid_sample's -1..1 from edge to edge
    pixels = images.permute(0, 3, 1, 2).float()
    return torch.nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _side(images: UInt8[Tensor, "batch side side 3"]) -> int:
    """Return the side of square images; refuse others, whose boxes would be drawn for a square."""
    n, height, width, _ = images.shape
    if height != width:
        raise ValueError(f"images: expected square ones, got {n} of {height} x {width} pixels; crop or squash them")
    return int(height)


def _normalized(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Scale 0..255 to 0..1, subtract ImageNet's means and divide by its standard deviations."""
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std
