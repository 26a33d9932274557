"""Configuration of the experiments on annotated photographs (CelebA and Waterbirds; Section 4, Appendix B)."""

from dataclasses import dataclass
from typing import Any

from samlib.config import all_but, check_choice, check_number

# Names of the two features: the label that is trained on, and the annotated attribute.
FEATURES = {
    "waterbirds": ("bird", "background"),
    "celeba": ("hair", "gender"),
    "digits_on_patches": ("digit", "patch"),
}
BACKBONES = ("densenet121", "resnet18", "resnet50", "smallnet")
TRAINED = ("all", "last block")
SPLITS = ("official", "drawn")
PRECISIONS = ("float32", "bfloat16")
# Training images of the official releases; those of the embedded set are all that it has.
AVAILABLE = {"waterbirds": 4795, "celeba": 162_770, "digits_on_patches": 1200}


@dataclass(frozen=True)
class FinetuneConfig:
    """One pretrained network finetuned on one annotated image set, then probed for both features.

    Attributes:
        image_set: "waterbirds" and "celeba" are the paper's; "digits_on_patches" is ours, without downloads.
        stored_size: side of the prepared images that are read, pixels (`python -m data_scripts.prepare`).
        image_size: side of the network's input, pixels, at most `stored_size`.
        backbone: "resnet18" is the paper's; "densenet121" and "resnet50" are pretrained too; "smallnet" is not, for
            tests.
        trained: "all" parameters, or the "last block" and the head on the frozen, stored activations below them, with
            the middle crop and its mirror image for augmentation: a scaled-down setting for machines without a GPU.
        split: "official", or "drawn" anew from all images, where a subset lacks images of a group.
        n_train: training images drawn at the training split's group frequencies; None is all of them.
        per_group: most images of a group in the validation and in the test set; None is all.
        learning_rate: initial step size, falls to 0 along a half cosine, updated every step. The paper sweeps
            {0.0005, 0.001, 0.005, 0.01}.
        rho: perturbation radius of SAM (Eq 3) in parameter units; 0 is SGD. The paper sweeps {0, .01, .02, .05, .07}.
        momentum: of the base optimizer (the paper: 0.9).
        statistics: of batch normalization while training: "batch", or "frozen" at the pretrained ones, so that training
            and evaluation mode agree.
        weight_decay: of the base optimizer; the value is lost in our copy, 1e-4 is that of Izmailov et al. (2022).
        batch_size: examples a step (the paper: 128); a last, smaller batch of an epoch is left out.
        n_epochs: passes over the training set (the paper: 20 for CelebA, 100 for Waterbirds).
        precision: of the network's computations. "bfloat16" (autocast; weights and updates stay in float32) is fast on
            GPUs and unfit for small radii: rounding moves large networks' weights farther than the ascent does.
        probe_each_epoch: whether both features are probed after each epoch too.
        probe_folds: 0 chooses a probe's C on one held-out quarter, 2 or more by so many folds; with folds, what other
            choices of C give is recorded beside it.
        importance_epochs: epochs, counted from 1, after which importance weights are recorded (Figures 3, 5, 7, 8).
        importance_rho: radius of the phantom at which they are recorded, the same for SGD and SAM.
        phantom_readings: whether they are recorded under every reading of "the phantom" and at several radii
            (`samlib.images.importance.READINGS`), in half precision, in place of the one of `importance_rho`.
        n_importance: training images that are weighed, the first of a fixed random order, in batches of `batch_size`.
        seed: root seed of head, batch order, augmentation and probes; all seeds share images and split.
    """

    image_set: str = "waterbirds"
    stored_size: int = 110
    image_size: int = 96
    backbone: str = "densenet121"
    trained: str = "all"
    split: str = "official"
    n_train: int | None = None
    per_group: int | None = None
    learning_rate: float = 0.005
    rho: float = 0.0
    momentum: float = 0.9
    statistics: str = "batch"
    weight_decay: float = 1e-4
    batch_size: int = 128
    n_epochs: int = 20
    precision: str = "float32"
    probe_each_epoch: bool = False
    probe_folds: int = 0
    importance_epochs: tuple[int, ...] = ()
    importance_rho: float = 0.05
    phantom_readings: bool = False
    n_importance: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("image_set", tuple(FEATURES)),
            ("backbone", BACKBONES),
            ("trained", TRAINED),
            ("split", SPLITS),
            ("precision", PRECISIONS),
            ("statistics", ("batch", "frozen")),
            ("probe_each_epoch", (False, True)),
            ("phantom_readings", (False, True)),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("batch_size", "n_epochs", "image_size", "n_importance"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number(
            "stored_size", self.stored_size, low=self.image_size, integer=True, advice="images are cut, not enlarged"
        )
        check_number("probe_folds", self.probe_folds, low=0, integer=True, advice="0 is one held-out quarter")
        for name in ("n_train", "per_group"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), low=4, integer=True, advice="None is all images")
        for name in ("learning_rate", "rho", "weight_decay", "importance_rho"):
            check_number(name, getattr(self, name), low=0)
        check_number("momentum", self.momentum, low=0, high=0.9999, advice="the paper uses 0.9")
        for epoch in self.importance_epochs:
            check_number("importance_epochs", epoch, low=1, high=self.n_epochs, integer=True)
        check_number("seed", self.seed, low=0, integer=True)

    @property
    def features(self) -> tuple[str, str]:
        """Names of label and attribute."""
        return FEATURES[self.image_set]

    @property
    def n_images(self) -> int:
        """Training images an epoch; where `n_train` is None, those of the official release."""
        return self.n_train or AVAILABLE[self.image_set]

    @property
    def shape(self) -> tuple[Any, ...]:
        """All but learning rate, radius and seed: runs of one shape cost the same a step."""
        return all_but(self, "learning_rate", "rho", "seed")
