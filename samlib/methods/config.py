"""Configuration of one method: one training loop, and what a method does to its gradient."""

from dataclasses import dataclass
from typing import Any

from samlib.config import all_but, check_choice, check_number, check_seeds

TASKS = ("toy", "three_features", "cifar_mnist", "digits_patches")
PERTURBED = ("all", "last layer", "all but last layer", "biases")
SCALES = ("unit", "none", "adaptive")
PARTS = ("both", "logit", "jacobian")
BASES = ("sgd", "adam")
REWEIGHTINGS = ("none", "group dro", "just train twice")
# Training examples that there are; of the toys, which are drawn, where `n_train` is None.
AVAILABLE = {"toy": 300, "three_features": 600, "cifar_mnist": 9000, "digits_patches": 600}


@dataclass(frozen=True)
class ControlConfig:
    """One method on one task. Everything at its default is SGD on the toy.

    Attributes:
        task: "toy" (chapter 2's network and data, 360 degrees), "three_features" (three features of rising difficulty,
            rotated together, one network for all), "cifar_mnist", or "digits_patches" (embedded, for tests).
        rho: perturbation radius in parameter units; 0 is no perturbation.
        perturbed: which parameters the ascent step moves; its norm runs over these alone.
        scale: the step is rho g / |g| ("unit", Eq 3), rho g ("none", Andriushchenko & Flammarion 2022), or that of
            ASAM ("adaptive", Kwon et al. 2021): rho T^2 g / |T g| with T = |w| + 0.01.
        per_perturbation: examples that share a perturbation, m in m-sharpness; None is the whole batch.
        part: which factor of the gradient is taken at the phantom (Baek et al. 2024): the derivative of the loss by the
            outputs, which holds the importance weights ("logit"), the derivative of the outputs by the parameters
            ("jacobian"), or "both", which is SAM.
        start, end: SAM is on from this share of the epochs to that one, a larger one, SGD before and after.
        base: "sgd" or "adam" (betas .9 and .999).
        feature_l2, last_layer_l2: weights of the mean over examples of |features|^2 and of |last layer|^2 in the loss.
        reweighting: "group dro" (Sagawa et al. 2020; groups are those of the training set, which are its classes
            where the features agree perfectly), "just train twice" (Liu et al. 2021; examples that SGD misses after a
            first training of `first_epochs` count `upweight` times), or "none".
        group_step, first_epochs, upweight: constants of the reweightings.
        learning_rate: initial step size; constant on the toys, on images it falls to 0 along a half cosine.
        momentum: of SGD.
        batch_size: examples a step.
        n_epochs: passes over the training set.
        n_train: training examples; None, of the toys alone, is 300 of "toy" and 600 of "three_features".
        seeds: root seeds, one network each. Toys train all of them in one computation, images one.
    """

    task: str = "toy"
    rho: float = 0.0
    perturbed: str = "all"
    scale: str = "unit"
    per_perturbation: int | None = None
    part: str = "both"
    start: float = 0.0
    end: float = 1.0
    base: str = "sgd"
    feature_l2: float = 0.0
    last_layer_l2: float = 0.0
    reweighting: str = "none"
    group_step: float = 0.01
    first_epochs: int = 1
    upweight: float = 5.0
    learning_rate: float = 0.01
    momentum: float = 0.0
    batch_size: int = 5
    n_epochs: int = 250
    n_train: int | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name, choices in (
            ("task", TASKS),
            ("perturbed", PERTURBED),
            ("scale", SCALES),
            ("part", PARTS),
            ("base", BASES),
            ("reweighting", REWEIGHTINGS),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("rho", "feature_l2", "last_layer_l2", "group_step", "learning_rate"):
            check_number(name, getattr(self, name), low=0)
        for name in ("start", "end"):
            check_number(name, getattr(self, name), low=0, high=1, advice="a share of the epochs")
        if self.start >= self.end:
            raise ValueError(f"start: expected less than end = {self.end}, got {self.start}; rho = 0 is SGD throughout")
        check_number("upweight", self.upweight, low=1)
        check_number("momentum", self.momentum, low=0, high=0.9999)
        for name in ("batch_size", "n_epochs", "first_epochs"):
            check_number(name, getattr(self, name), low=1, integer=True)
        if self.n_train is None and not self.stacked:
            raise ValueError(f"n_train: expected a number of images for {self.task!r}, got None; pass it, e.g. 600")
        check_number("n_train", self.n_examples, low=self.batch_size, integer=True, advice="at least one batch")
        if self.per_perturbation is not None:
            check_number(
                "per_perturbation",
                self.per_perturbation,
                low=1,
                high=self.batch_size,
                integer=True,
                advice="None is all",
            )
        check_seeds(self)
        if not self.stacked and len(self.seeds) > 1:
            raise ValueError(f"seeds: expected one seed for {self.task!r}, got {self.seeds}; make a run of each")

    @property
    def stacked(self) -> bool:
        """Whether all seeds train in one computation."""
        return self.task in ("toy", "three_features")

    @property
    def n_examples(self) -> int:
        """Training examples an epoch."""
        return AVAILABLE[self.task] if self.n_train is None else self.n_train

    @property
    def shape(self) -> tuple[Any, ...]:
        """What runs of one cost share."""
        return all_but(self, "seeds", "rho", "learning_rate")
