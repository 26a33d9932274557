"""Appendix F in miniature: four domains made of scikit-learn's digits, and the probe of Eq 44 on each in turn."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from samlib.config import check_choice, check_number
from samlib.optim import SAM
from samlib.probe import FrozenFeatures, probe_error
from samlib.shapes import Float, Int64
from samlib.statistics import estimate
from samlib.streams import stream

DOMAINS = ("plain", "inverted", "thick", "noisy")
TEST_SHARE = 0.3
NOISE = 0.35  # standard deviation, pixels being 0..1
N_FEATURES = 64
BATCH_SIZE = 32
LEARNING_RATE = 0.05
MOMENTUM = 0.9


class Labelled(NamedTuple):
    """Images as vectors, 0..1 but for noise, and their digits."""

    inputs: Float[Tensor, "example 64"]
    labels: Int64[Tensor, " example"]


class Domain(NamedTuple):
    """One domain's two splits."""

    train: Labelled
    test: Labelled


def digit_domains(seed: int) -> dict[str, Domain]:
    """Deal the 1,797 digits into four domains and draw each in its domain's manner; no digit is in two of them.

    Args:
        seed: root seed; decides the dealing and the noise.
    Returns:
        Domains by name; the last 30 % of each are its test split.
    """
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    generator = stream(seed, "data")
    order = torch.randperm(len(digits), generator=generator)
    images, labels = torch.from_numpy(values / 16).float()[order], torch.from_numpy(digits)[order]
    parts = [slice(i, None, len(DOMAINS)) for i in range(len(DOMAINS))]
    domains = {}
    for name, part in zip(DOMAINS, parts, strict=True):
        inputs = draw_in(name, images[part], generator=generator)
        cut = len(inputs) - round(TEST_SHARE * len(inputs))
        splits = (Labelled(inputs[:cut], labels[part][:cut]), Labelled(inputs[cut:], labels[part][cut:]))
        domains[name] = Domain(*splits)
    return domains


def draw_in(
    domain: str, images: Float[Tensor, "example 64"], *, generator: torch.Generator
) -> Float[Tensor, "example 64"]:
    """Redraw 8 x 8 images in a domain's manner: as they are, white for black, thickened, or noisy.

    Args:
        domain: one of `DOMAINS`.
        images: 0..1.
        generator: draws the noise; the other domains do not touch it.
    Returns:
        A new tensor ("plain" gives the images themselves).
    Raises:
        ValueError: another domain.

    >>> draw_in("inverted", torch.zeros(1, 64), generator=torch.Generator()).min().item()
    1.0
    """
    check_choice("domain", domain, DOMAINS)
    if domain == "inverted":
        return 1 - images
    if domain == "thick":  # each pixel takes the largest of its 3 x 3 neighbourhood
        return nn.functional.max_pool2d(images.view(-1, 1, 8, 8), 3, stride=1, padding=1).flatten(1)
    if domain == "noisy":
        return images + NOISE * torch.randn(images.shape, generator=generator)
    return images


def pretrain(domains: dict[str, Domain], target: str, *, rho: float, seed: int, n_epochs: int = 20) -> nn.Sequential:
    """Train a small network with SGD (rho = 0) or SAM on the training splits of all domains but the target.

    Args:
        domains: what `digit_domains` returned.
        target: the domain left out.
        rho: perturbation radius in parameter units.
        seed: root seed of initialization and batch order, shared by SGD and SAM.
        n_epochs: passes over the three training splits.
    Returns:
        The trained network; all but its last layer is the representation.
    Raises:
        ValueError: unknown target, or an unusable number.
    """
    check_choice("target", target, tuple(domains))
    check_number("n_epochs", n_epochs, low=1, integer=True)
    sources = [domain.train for name, domain in domains.items() if name != target]
    inputs, labels = (torch.cat(parts) for parts in zip(*sources, strict=True))
    network = _network(seed)
    optimizer = SAM(network.parameters(), torch.optim.SGD, rho=rho, lr=LEARNING_RATE, momentum=MOMENTUM)
    order = stream(seed, "batch order")
    for _ in range(n_epochs):
        for rows in torch.randperm(len(labels), generator=order).split(BATCH_SIZE):
            _step(network, optimizer, inputs[rows], labels[rows])
    return network


@torch.no_grad()
def target_accuracy(network: nn.Sequential, target: Domain, *, seed: int) -> float:
    """Train a linear probe on frozen features of the target's training split (Eq 44); return its test accuracy.

    Args:
        network: what `pretrain` returned.
        target: the domain it has not seen.
        seed: root seed; decides what the probe holds out while its penalty is chosen.
    Returns:
        Share of the target's test examples classified correctly, 0 to 1.
    """
    trunk = network[:-1]
    frozen = [FrozenFeatures(trunk(x), y, torch.zeros_like(y)) for x, y in target]
    return 1 - probe_error(*frozen, n_groups=1, generator=stream(seed, "probe")).error


def miniature(*, rho: float, seeds: Iterable[int], n_epochs: int = 20) -> pd.DataFrame:
    """Run Appendix F's protocol on the digit domains: every target, SGD against SAM.

    Args:
        rho: SAM's radius, fixed in advance.
        seeds: root seeds.
        n_epochs: passes over the source domains.
    Returns:
        One row per (target, seed): columns domain, seed, sgd, sam (accuracies, 0 to 1).
    """
    rows = []
    for seed in seeds:
        domains = digit_domains(seed)
        for target in DOMAINS:
            row: dict[str, object] = {"domain": target, "seed": seed}
            for method, radius in (("sgd", 0.0), ("sam", rho)):
                network = pretrain(domains, target, rho=radius, seed=seed, n_epochs=n_epochs)
                row[method] = target_accuracy(network, domains[target], seed=seed)
            rows.append(row)
    return pd.DataFrame(rows)


def by_domain(table: pd.DataFrame) -> pd.DataFrame:
    """Average `miniature`'s rows over seeds: one row a domain, columns domain, sgd, sam."""
    return table.groupby("domain", sort=False)[["sgd", "sam"]].mean().reset_index()


def accuracy_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies and their difference as text in percent, one row a domain.

    Args:
        table: columns sgd, sam (0 to 1) and whichever name the domain.
    """
    names = [name for name in table if name not in ("sgd", "sam")]
    shown = {name.replace("_", " "): table[name] for name in names}
    shown |= {"SGD, %": [f"{100 * x:.1f}" for x in table.sgd], "SAM, %": [f"{100 * x:.1f}" for x in table.sam]}
    shown["SAM − SGD, points"] = [f"{100 * x:+.1f}".replace("-", "−") for x in gains(table)]
    return pd.DataFrame(shown)


def gains(table: pd.DataFrame) -> np.ndarray:
    """Return SAM's accuracy minus SGD's, row by row, rounded to 12 digits so that equal ones give exactly 0."""
    return (table.sam - table.sgd).to_numpy(dtype=float).round(12)


def gain_sentence(table: pd.DataFrame) -> str:
    """Say on how many domains SAM's accuracy exceeds SGD's, and by how much, with a 95 % interval (Markdown).

    Args:
        table: one row a domain: columns sgd, sam.
    """
    differences = 100 * gains(table)
    mean = estimate(differences)
    ends = [f"{value:+.2f}".replace("-", "−") for value in (mean.mean, mean.low, mean.high)]
    return (
        f"SAM's accuracy is higher on **{int((differences > 0).sum())} of {len(differences)}** domains; the "
        f"mean difference is **{ends[0]}** points, 95 % interval over domains [{ends[1]}, {ends[2]}]"
    )


def _network(seed: int) -> nn.Sequential:
    """Build 64 -> 64 -> 64 -> 10 with ReLU, weights uniform on +-1/sqrt(fan-in) from the run's own stream."""
    with torch.device("meta"):  # draws no numbers
        layers = [nn.Linear(64, N_FEATURES), nn.ReLU(), nn.Linear(N_FEATURES, N_FEATURES), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(N_FEATURES, 10)).to_empty(device="cpu")
    generator = stream(seed, "initialization")
    with torch.no_grad():
        for parameter in network.parameters():  # every layer has 64 inputs
            parameter.uniform_(-1 / 8, 1 / 8, generator=generator)
    return network


def _step(network: nn.Module, optimizer: SAM, inputs: Tensor, labels: Tensor) -> None:
    """Take one step on one batch."""

    def closure() -> Tensor:
        loss = nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
