"""The toy data of Appendix E (Eqs 39-43): a linear easy feature beside a spiral hard feature."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from samlib.config import check_choice
from samlib.shapes import Float
from samlib.streams import stream
from samlib.toy.config import ToyData


class Examples(NamedTuple):
    """Inputs and labels.

    Attributes:
        inputs: columns (easy, easy, hard, hard).
        labels: -1 or +1.
    """

    inputs: Float[Tensor, "example 4"]
    labels: Float[Tensor, " example"]


def sample(data: ToyData, *, seed: int, split: str) -> Examples:
    """Draw the training or test examples of one run (Eqs 39-43).

    Easy feature (Eqs 39-40, reconstructed): z ~ U[easy_gap, 1] with the label's sign, x_easy = gamma_easy (z, 0).
    Hard feature (Eqs 41-42, reconstructed): angle t ~ U[0, complexity], x_hard = gamma_hard y r (cos t, sin t)
    plus uniform noise, with radius r rising from inner_radius as `spiral` says, to 1 at the "fixed" profile. A form
    (z cos z, z sin z) with negative z makes the two arms cross, and lets the norm grow with complexity; there this
    one does neither.
    Noise (Eq 43) is added to the training split only: errors are measured on clean examples.

    All draws are made whatever the settings, so that runs that differ only in complexity or noise level share
    their labels, latent variables and noise draws.

    Args:
        data: the distribution.
        seed: root seed of the run.
        split: "train" or "test".
    Returns:
        New float64 tensors on the CPU.
    Raises:
        ValueError: another split.

    >>> sample(ToyData(), seed=0, split="train").inputs.shape
    torch.Size([300, 4])
    """
    check_choice("split", split, ("train", "test"))
    n = data.n_train if split == "train" else data.n_test
    generator = stream(seed, f"{split} data")
    uniform = torch.rand(n, 5, generator=generator, dtype=torch.float64)
    labels = torch.where(uniform[:, 0] < 0.5, -1.0, 1.0).to(torch.float64)
    easy = data.easy_scale * labels * (data.easy_gap + (1 - data.easy_gap) * uniform[:, 1])
    turns = data.complexity / 360 if data.radius_profile == "angle" else 1.0
    hard = data.hard_scale * spiral(uniform[:, 2], labels, data.complexity, inner=data.inner_radius, growth=turns)
    hard = hard + data.uniform_noise * (2 * uniform[:, 3:] - 1)
    inputs = torch.cat([torch.stack([easy, torch.zeros_like(easy)], dim=1), hard], dim=1)
    if split == "train":
        inputs = add_noise(inputs, data, seed=seed)
    return Examples(inputs, labels)


def spiral(
    position: Float[Tensor, " example"],
    labels: Float[Tensor, " example"],
    complexity: float,
    *,
    inner: float = 0.1,
    growth: float = 1.0,
) -> Float[Tensor, "example 2"]:
    """Place points along the two arms of the spiral (Eqs 41-42, reconstructed).

    Args:
        position: where on the arm, 0 (inner end) to 1 (outer end).
        labels: +1 for one arm, -1 for its mirror through the origin.
        complexity: rotation from the inner to the outer end, degrees.
        inner: radius of the inner end.
        growth: how much the radius grows from end to end, in units of 1 - inner; 1 makes the outer radius 1.
    Returns:
        Coordinates y r (cos t, sin t) with t = complexity * position, r = inner + (1 - inner) growth position.

    >>> spiral(torch.tensor([0.0]), torch.tensor([-1.0]), 360.0)
    tensor([[-0.1000, -0.0000]])
    """
    angle = math.radians(complexity) * position
    radius = inner + (1 - inner) * growth * position
    return (labels * radius)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def add_noise(inputs: Float[Tensor, "example 4"], data: ToyData, *, seed: int) -> Float[Tensor, "example 4"]:
    """Apply Eq 43 to each noisy feature: x' = keep * (sign * x + Gaussian), with sign and keep per example.

    The order of the three noises is reconstructed. Feature by feature and example by example, `sign` is -1 with
    probability `flip`, `keep` is 0 with probability `dropout`.

    Args:
        inputs: clean inputs.
        data: noise levels and which features they touch.
        seed: root seed; the draws come from the stream "noise".
    Returns:
        A new tensor; equal to `inputs` where every level is zero.
    """
    generator = stream(seed, "noise")
    n = len(inputs)
    gaussian = torch.randn(n, 2, 2, generator=generator, dtype=inputs.dtype)
    sign = torch.where(torch.rand(n, 2, 1, generator=generator, dtype=inputs.dtype) < data.flip, -1.0, 1.0)
    keep = torch.where(torch.rand(n, 2, 1, generator=generator, dtype=inputs.dtype) < data.dropout, 0.0, 1.0)
    features = inputs.reshape(n, 2, 2)  # (example, feature, coordinate)
    noisy = keep * (sign * features + data.gaussian_noise * gaussian)
    if data.noisy_features == "hard":
        noisy = torch.stack([features[:, 0], noisy[:, 1]], dim=1)
    return noisy.reshape(n, 4)


def batch_order(n_examples: int, n_epochs: int, *, seed: int) -> torch.Tensor:
    """Return the order of examples of each epoch: a fresh permutation per epoch from the stream "batch order".

    Returns:
        Indices, shape (epoch, example), int64. A longer training starts with the same epochs.
    """
    generator = stream(seed, "batch order")
    return torch.stack([torch.randperm(n_examples, generator=generator) for _ in range(n_epochs)])


def linear_baseline_error(examples: Examples) -> float:
    """Error of the best line through the origin on the hard feature alone, of 720 directions; see `best_line_error`.

    Args:
        examples: inputs and labels; only the hard coordinates are used.
    Returns:
        Share of examples on the wrong side, 0 to 1.
    """
    angles = torch.arange(720, dtype=torch.float64) * (2 * math.pi / 720)
    directions = torch.stack([angles.cos(), angles.sin()])
    signed = examples.labels[:, None].double() * examples.inputs[:, 2:].double()
    right = (signed @ directions > 0).count_nonzero(0)
    return (len(signed) - int(right.max())) / len(signed)


def best_line_error(examples: Examples) -> float:
    """Error of the best straight line on the hard feature alone, wherever it lies, of 180 directions.

    The probe of a network that computes a linear function of the spiral, with an offset, can do no better on these
    examples.

    Args:
        examples: inputs and labels; only the hard coordinates are used.
    Returns:
        Share of examples on the wrong side, 0 to 1/2.

    >>> points = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 3.0, 3.0]])
    >>> best_line_error(Examples(points, torch.tensor([-1.0, 1.0, 1.0])))  # between 1 and 2: through no origin
    0.0
    """
    angles = torch.arange(180, dtype=torch.float64) * (math.pi / 180)
    along = examples.inputs[:, 2:].double() @ torch.stack([angles.cos(), angles.sin()])
    labels = examples.labels.double()
    passed = labels[along.argsort(0)].cumsum(0)  # labels on the near side of a line behind each example
    # With +1 on the far side, right are the +1 there and the -1 here: n_positive - passed; turned round, the others.
    right = int((labels > 0).sum()) - torch.cat([torch.zeros(1, len(angles), dtype=torch.float64), passed])
    n = len(labels)
    return (n - int(torch.maximum(right, n - right).max())) / n
