"""Configuration of the two-feature image experiments (Section 4, Appendix B)."""

from dataclasses import dataclass
from typing import Any

from samlib.config import all_but, check_choice, check_number

PAIRS = ("cifar_mnist", "fmnist_mnist", "digits_patches")
BACKBONES = ("convnet",)
# Images with equal class sizes in the training split: the smaller block's smallest class times the classes.
CLASSES = {"cifar_mnist": 2, "fmnist_mnist": 5, "digits_patches": 2}
AVAILABLE = {"cifar_mnist": 10_000, "fmnist_mnist": 29_210, "digits_patches": 5_936}


@dataclass(frozen=True)
class PairConfig:
    """One network trained from scratch on one two-feature image set, then probed.

    Attributes:
        pair: "cifar_mnist" and "fmnist_mnist" are the paper's; "digits_patches" is ours, without downloads.
        backbone: "convnet", the three convolutions of Appendix B.
        learning_rate: initial step size; it falls to 0 along a half cosine, updated every step. The paper
            sweeps {0.01, 0.05, 0.1}.
        rho: perturbation radius of SAM (Eq 3) in parameter units; 0 is SGD. The paper sweeps
            {0, 0.01, 0.03, 0.05, 0.07, 0.1, 0.2}.
        momentum: of the base optimizer (the paper: 0.9). There is no weight decay.
        batch_size: examples a step (the paper: 100); the last batch of an epoch may be smaller.
        n_epochs: passes over the training set (the paper: 20 for CIFAR-MNIST).
        n_train: training images, a multiple of the number of classes; None is all but the validation share.
        validation_share: validation images as a share of training and validation images (the paper: 0.1).
        n_probe: most examples in each of the two balanced sets, probe training and probe test (our choice).
        probe_each_epoch: whether both features are probed after each epoch too, at one fixed C.
        probe_folds: 0 chooses a probe's C on one held-out quarter, 2 or more by so many folds; with folds, what other
            choices of C give is recorded beside it.
        seed: root seed of pairing, initialization, batch order and probe sets.
    """

    pair: str = "cifar_mnist"
    backbone: str = "convnet"
    learning_rate: float = 0.05
    rho: float = 0.0
    momentum: float = 0.9
    batch_size: int = 100
    n_epochs: int = 20
    n_train: int | None = None
    validation_share: float = 0.1
    n_probe: int = 2000
    probe_each_epoch: bool = False
    probe_folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("pair", self.pair, PAIRS)
        check_choice("backbone", self.backbone, BACKBONES)
        check_number("learning_rate", self.learning_rate, low=0, advice="the paper sweeps 0.01, 0.05 and 0.1")
        check_number("rho", self.rho, low=0, advice="a radius in parameter units; rho = 0 is SGD")
        check_number("momentum", self.momentum, low=0, high=0.9999, advice="the paper uses 0.9")
        for name in ("batch_size", "n_epochs", "n_probe"):
            check_number(name, getattr(self, name), low=1, integer=True)
        if self.n_train is not None:
            check_number("n_train", self.n_train, low=1, integer=True, advice="None is all images")
        check_choice("probe_each_epoch", self.probe_each_epoch, (False, True))
        check_number("probe_folds", self.probe_folds, low=0, integer=True, advice="0 is one held-out quarter")
        check_number("validation_share", self.validation_share, low=0.01, high=0.5, advice="the paper uses 0.1")
        check_number("seed", self.seed, low=0, integer=True)

    @property
    def n_images(self) -> int:
        """Training images an epoch; where `n_train` is None, those of the published data sets."""
        if self.n_train:
            return self.n_train
        per_class = AVAILABLE[self.pair] // CLASSES[self.pair]
        return CLASSES[self.pair] * (per_class - max(1, round(self.validation_share * per_class)))

    @property
    def shape(self) -> tuple[Any, ...]:
        """What networks must share to be trained in one computation: all but learning rate, radius and seed."""
        return all_but(self, "learning_rate", "rho", "seed")


def demo_config(pair: str, *, rho: float, seed: int = 0) -> PairConfig:
    """Return a run small enough to train while a chapter is executed: a few seconds on one core.

    The learning rate is the middle one of the paper's sweep. SGD and SAM together take about ten seconds,
    probes included.

    Args:
        pair: one of `PAIRS`.
        rho: perturbation radius; 0 is SGD.
        seed: root seed.
    Raises:
        ValueError: unknown pair or unusable rho.

    >>> demo_config("digits_patches", rho=0.0).n_train
    2000
    """
    return PairConfig(pair=pair, rho=rho, seed=seed, n_train=2000, n_epochs=3, n_probe=1000)
