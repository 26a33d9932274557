"""Networks kept along the training, and what can be read off them: importance weights and contours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from edition.records.store import Record
from samlib.config import from_dict
from samlib.measures.importance import Importance, importance_weights
from samlib.shapes import Float
from samlib.toy.config import ToyConfig
from samlib.toy.data import Examples, batch_order, sample
from samlib.toy.network import Weights, feature_values
from samlib.toy.training import stack_examples


@dataclass(frozen=True)
class KeptNetworks:
    """All seeds of one configuration at one step.

    Attributes:
        config: how they were trained.
        step: after how many steps.
        weights: one member a seed.
    """

    config: ToyConfig
    step: int
    weights: Weights

    @property
    def method(self) -> str:
        """The optimizer's name: "LSAM", or "SGD" where rho is 0."""
        return "LSAM" if self.config.rho > 0 else "SGD"

    def examples(self, split: str) -> Examples:
        """Return the examples of every seed, inputs (seed, example, 4) and labels (seed, example)."""
        members = [(self.config, seed) for seed in self.config.seeds]
        return stack_examples(members, split, like=self.weights.v)

    def importance(self, rho: float) -> Importance:
        """Weigh the training examples at the real parameters and at the phantom ones of radius `rho`."""
        n = self.config.data.n_train
        order = torch.cat([batch_order(n, 1, seed=seed) for seed in self.config.seeds])
        return importance_weights(
            self.weights, self.examples("train"), order, rho=rho, batch_size=self.config.batch_size
        )

    def member(self, seed: int) -> tuple[Weights, Examples]:
        """Return one seed's weights (member axis of length one) and its test examples.

        Raises:
            ValueError: the seed is not among the configuration's.
        """
        if seed not in self.config.seeds:
            raise ValueError(f"seed: expected one of {list(self.config.seeds)}, got {seed}; pick a recorded one")
        row = self.config.seeds.index(seed)
        weights = Weights(*(part[row : row + 1] for part in self.weights))
        return weights, sample(self.config.data, seed=seed, split="test")


def checkpoints(record: Record) -> list[KeptNetworks]:
    """Read the networks that a toy record kept, in the order of their steps.

    Raises:
        RecordError: the arrays are missing or damaged.
        ValueError: the record's configuration kept no checkpoint.
    """
    config = from_dict(ToyConfig, record.config)
    if not config.checkpoints:
        raise ValueError(f"{record.path}: expected a run with checkpoints, got none; use the experiment 'checkpoints'")
    arrays = {name: torch.from_numpy(values) for name, values in record.arrays().items()}
    return [
        KeptNetworks(config, step, Weights(*(arrays[name][index] for name in Weights._fields)))
        for index, step in enumerate(sorted(set(config.checkpoints)))
    ]


def contribution_grid(weights: Weights, feature: int, *, radius: float, n_points: int) -> Float[Tensor, "point point"]:
    """Evaluate one member's v_k phi_k on a square grid of its feature's plane (Figure 1).

    Args:
        weights: one member.
        feature: 0 for easy, 1 for hard.
        radius: half the side of the square.
        n_points: points a side.
    Returns:
        Values with the second coordinate along the rows, as `matplotlib`'s contour functions want them.
    """
    line = torch.linspace(-radius, radius, n_points, dtype=weights.v.dtype)
    second, first = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([first.flatten(), second.flatten()], dim=1)
    inputs = torch.cat([points, points], dim=1)[None]
    values = weights.v[0, feature] * feature_values(weights, inputs)[0, feature]
    return values.view(n_points, n_points)
