"""The image set of four domains that needs no download: handwritten digits, drawn in four manners."""

import hashlib

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from samlib.config import check_choice
from samlib.domainbed.config import DOMAINS
from samlib.finetune.prepared import PreparedSet
from samlib.shapes import Float
from samlib.streams import stream

ENLARGED = 4  # pixels a side of one of scikit-learn's 8 x 8
NOISE = 0.35  # standard deviation, pixels being 0..1


def digit_domains() -> PreparedSet:
    """Deal scikit-learn's 1,797 digits into four domains and draw each in its domain's manner. Always the same images.

    Returns:
        Images of 32 x 32 pixels, no digit in two domains; columns domain, class ("0" to "9") and file (empty), sorted.

    >>> digit_domains().images.shape
    (1797, 32, 32, 3)
    """
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    generator = stream(0, "digit domains")
    order = torch.randperm(len(digits), generator=generator)
    images, labels = torch.from_numpy(values / 16).float().view(-1, 8, 8)[order], digits[order.numpy()]
    parts, tables = [], []
    for i, domain in enumerate(DOMAINS["digit_domains"]):
        part = slice(i, None, len(DOMAINS["digit_domains"]))
        by_class = np.argsort(labels[part], kind="stable")
        parts.append(draw_in(domain, images[part][torch.from_numpy(by_class)], generator=generator))
        tables.append(pd.DataFrame({"domain": domain, "class": labels[part][by_class].astype(str), "file": ""}))
    pixels = (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)
    array = pixels[..., None].expand(-1, -1, -1, 3).contiguous().numpy()
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return PreparedSet("digit_domains", array, pd.concat(tables, ignore_index=True), digest, "full")


def draw_in(
    domain: str, images: Float[Tensor, "example 8 8"], *, generator: torch.Generator
) -> Float[Tensor, "example 8 8"]:
    """Redraw images in a domain's manner: as they are, white for black, thickened, or noisy.

    Args:
        domain: one of `DOMAINS["digit_domains"]`.
        images: 0..1.
        generator: draws the noise; the other domains do not touch it.
    Returns:
        A new tensor ("plain" gives the images themselves); noise may leave 0..1.
    Raises:
        ValueError: another domain.

    >>> draw_in("inverted", torch.zeros(1, 8, 8), generator=torch.Generator()).min().item()
    1.0
    """
    check_choice("domain", domain, tuple(DOMAINS["digit_domains"]))
    if domain == "inverted":
        return 1 - images
    if domain == "thick":  # each pixel takes the largest of its 3 x 3 neighbourhood
        return nn.functional.max_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]
    if domain == "noisy":
        return images + NOISE * torch.randn(images.shape, generator=generator)
    return images
