"""Configuration of the toy experiments (Section 5, Appendices C, E and H)."""

from dataclasses import dataclass, fields, replace
from typing import Any

from samlib.config import check_choice, check_number, check_seeds


@dataclass(frozen=True)
class ToyData:
    """The distribution of Eqs 39-43: a linear easy feature beside a spiral hard feature.

    Equations 39-42 lost their constants in our copy of the paper: every default here is our choice.

    Attributes:
        complexity: rotation of the spiral's arms, degrees.
        easy_scale, hard_scale: gamma_easy and gamma_hard of Eqs 40 and 42.
        uniform_noise: half-width of the uniform noise on the hard feature (Eq 42).
        flip: probability that a feature's sign is flipped (Eq 43), training data only.
        gaussian_noise: standard deviation of the Gaussian noise (Eq 43), training data only.
        dropout: probability that a feature is replaced by zero (Eq 43), training data only.
        noisy_features: which features Eq 43 touches, "both" or "hard".
        easy_gap: lower end a of the easy feature's range U[a, 1] (Eq 39); zero closes the gap between the labels.
        inner_radius: radius of the spiral's inner end.
        radius_profile: radius of its outer end: 1 at every complexity ("fixed"), or growing with the angle ("angle":
            as the paper's z in Eq 42, in units that make 1 of a full turn).
        n_train, n_test: examples for training and for measuring errors.
    """

    complexity: float = 360.0
    easy_scale: float = 0.5
    hard_scale: float = 4.0
    uniform_noise: float = 0.05
    flip: float = 0.0
    gaussian_noise: float = 0.0
    dropout: float = 0.0
    noisy_features: str = "both"
    easy_gap: float = 0.1
    inner_radius: float = 0.1
    radius_profile: str = "fixed"
    n_train: int = 300
    n_test: int = 2000

    def __post_init__(self) -> None:
        check_number("complexity", self.complexity, low=1, high=3600, advice="degrees of rotation, such as 360")
        for name in ("easy_scale", "hard_scale", "uniform_noise", "gaussian_noise"):
            check_number(name, getattr(self, name), low=0)
        for name in ("flip", "dropout"):
            check_number(name, getattr(self, name), low=0, high=1, advice="a probability")
        check_choice("noisy_features", self.noisy_features, ("both", "hard"))
        check_choice("radius_profile", self.radius_profile, ("fixed", "angle"))
        for name in ("easy_gap", "inner_radius"):
            check_number(name, getattr(self, name), low=0, high=1)
        for name in ("n_train", "n_test"):
            check_number(name, getattr(self, name), low=1, integer=True)


# What v-hat is; each but the first needs LSAM's phantom. Their places are the codes of the compiled engine.
VECTORS = ("fixed", "phantom", "permuted", "mean", "helps", "hurts")


@dataclass(frozen=True)
class Intervention:
    """SGD with one term of Eq 6 computed with another last-layer vector v-hat (Eqs 7-10).

    Attributes:
        term: "none" (plain training), "importance" (Eq 8), "rate" (Eq 9) or "both" (Eq 10).
        vector: v-hat is "fixed", with a constant ratio as in the paper, or made from LSAM's phantom v~ = v + rho u,
            u = g / ||g|| (ours; needs rho > 0):
            "phantom": v~ of the batch itself. In both terms and "weighted" it is LSAM.
            "permuted": v + rho u', u' from the gradient at the current weights on the batch that stands half an epoch
            away in the epoch's order. Each batch lends its u once an epoch: their mean stays, and no u belongs to the
            batch it is used in.
            "mean": v + rho m, m the running mean of u over the earlier steps, about the last `MEMORY`; m = 0 in the
            first step. The mean phantom stays, and it does not vary from batch to batch.
            "helps", "hurts": v~ in the batches in which the hard feature helps, E_B[lambda y v_hard phi_hard] > 0, or
            only in the others; v elsewhere. Where it helps, the ascent step shrinks v_hard, elsewhere it does not.
        ratio: c, the fixed ratio v-hat_hard / v-hat_easy.
        norm: length of v-hat: "matched" (that of the current v) or "initial" (that of v at initialization,
            constant during training). Our copy of the paper lost this choice.
        last_layer: importance weights in v's own gradient: "plain" (real ones) or "weighted" (the
            intervention's). Our copy of the paper lost this choice.
    """

    term: str = "none"
    vector: str = "fixed"
    ratio: float = 1.0
    norm: str = "initial"
    last_layer: str = "plain"

    def __post_init__(self) -> None:
        check_choice("term", self.term, ("none", "importance", "rate", "both"))
        check_choice("vector", self.vector, VECTORS)
        check_number("ratio", self.ratio, low=0)
        check_choice("norm", self.norm, ("initial", "matched"))
        check_choice("last_layer", self.last_layer, ("plain", "weighted"))


@dataclass(frozen=True)
class ToyConfig:
    """One toy experiment: a data distribution, a network, an optimizer, and the seeds to repeat it with.

    Attributes:
        data: the distribution.
        hidden: width of the two hidden layers of each three-layer feature network (Eq 4).
        last_layer_init: size of the initial v_easy and v_hard.
        last_layer_draw: both start at this size ("equal"), or each is drawn uniformly from 0 to it ("uniform":
            PyTorch's default where the size is 2^-1/2, up to signs. A sign of v_k can be moved into the layer below
            it, whose draws are symmetric: signs are no constant).
        rho: perturbation radius of LSAM (Eq 5) in parameter units; 0 is SGD (Eq 2).
        learning_rate: step size, constant (the paper: constant, no momentum, no weight decay).
        batch_size: examples a step (the paper: 5), drawn by reshuffling every epoch.
        n_steps: descent steps.
        intervention: which term of Eq 6 is replaced, if any; a fixed vector needs rho = 0, the phantom rho > 0.
        n_snapshots: how many times errors and ratios are measured, evenly spaced, the last after the last step.
        checkpoints: steps after which all weights are stored.
        seeds: root seeds, one network each.
    """

    data: ToyData = ToyData()
    hidden: int = 50
    last_layer_init: float = 2.0
    last_layer_draw: str = "equal"
    rho: float = 0.0
    learning_rate: float = 0.01
    batch_size: int = 5
    n_steps: int = 30_000
    intervention: Intervention = Intervention()
    n_snapshots: int = 10
    checkpoints: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_number("rho", self.rho, low=0, advice="rho = 0 is SGD; read rho relative to the norm of v")
        check_number("learning_rate", self.learning_rate, low=0)
        check_number("last_layer_init", self.last_layer_init)
        for name in ("hidden", "batch_size", "n_steps", "n_snapshots"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number("n_snapshots", self.n_snapshots, high=self.n_steps)
        if self.data.n_train % self.batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of n_train = {self.data.n_train}, got {self.batch_size}; "
                f"every batch of an epoch has the same size"
            )
        if self.intervention.vector == "permuted" and self.data.n_train < 2 * self.batch_size:
            raise ValueError(
                f"batch_size: expected two batches an epoch or more to permute, got {self.batch_size} of "
                f"{self.data.n_train} examples; make it smaller"
            )
        check_choice("last_layer_draw", self.last_layer_draw, ("equal", "uniform"))
        if self.intervention.term != "none" and (self.rho > 0) != (self.intervention.vector != "fixed"):
            raise ValueError(
                f"rho: expected 0 with a fixed ratio (Eqs 8-10 use SGD) and more with the phantom, got rho = "
                f"{self.rho} and vector = {self.intervention.vector!r}; change one of them"
            )
        for step in self.checkpoints:
            check_number("checkpoints", step, low=0, high=self.n_steps, integer=True)
        check_seeds(self)

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps after which errors and ratios are measured."""
        return tuple(self.n_steps * (i + 1) // self.n_snapshots for i in range(self.n_snapshots))

    @property
    def shape(self) -> tuple[int, ...]:
        """What networks must share to be trained in one batched computation."""
        return (
            self.hidden,
            self.batch_size,
            self.n_steps,
            self.n_snapshots,
            self.data.n_train,
            self.data.n_test,
        )

    def vary(self, **changes: Any) -> "ToyConfig":
        """Return a copy with fields of this configuration, its data or its intervention replaced.

        A field of the data is changed in `data`, where that is replaced, too.

        Raises:
            ValueError: a name that none of the three has.

        >>> ToyConfig().vary(rho=1.0, complexity=540.0).data.complexity
        540.0
        """
        own = {field.name for field in fields(self)}
        data = {field.name for field in fields(self.data)}
        intervention = {field.name for field in fields(self.intervention)}
        unknown = sorted(set(changes) - own - data - intervention)
        if unknown:
            raise ValueError(f"ToyConfig: expected fields {sorted(own | data | intervention)}, got {unknown}")
        parts = {name: value for name, value in changes.items() if name in own}
        for part, names in (("data", data), ("intervention", intervention)):
            within = {name: value for name, value in changes.items() if name in names}
            parts[part] = replace(parts.get(part, getattr(self, part)), **within)
        return replace(self, **parts)
