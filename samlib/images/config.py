"""Configurations of the three image protocols: pairs, photographs, domains (Section 4, Appendices B and F)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from samlib.config import all_but, check_choice, check_number
from samlib.images.catalogue import DOMAINS, PAIRS, PHOTOGRAPHS, DomainSet, PhotographSet

BACKBONES = ("densenet121", "resnet18", "resnet50", "smallnet")  # of photographs and domains
TRAINED = ("all", "last block")
PRECISIONS = ("float32", "bfloat16")
TEST_SHARE = 0.2  # of a domain, DomainBed's
VALIDATION_SHARE = 0.1  # of a domain's training split (Appendix F)


class _Shape:
    @property
    def shape(self) -> tuple[Any, ...]:
        """All but learning rate, radius and seed: runs of one shape cost the same a step."""
        return all_but(self, "learning_rate", "rho", "seed")


@dataclass(frozen=True)
class PairConfig(_Shape):
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
        check_choice("pair", self.pair, tuple(PAIRS))
        check_choice("backbone", self.backbone, ("convnet",))
        check_number("learning_rate", self.learning_rate, low=0, advice="the paper sweeps 0.01, 0.05 and 0.1")
        check_number("rho", self.rho, low=0, advice="a radius in parameter units; rho = 0 is SGD")
        check_number("momentum", self.momentum, low=0, high=0.9999, advice="the paper uses 0.9")
        for name in ("batch_size", "n_epochs", "n_probe"):
            check_number(name, getattr(self, name), low=1, integer=True)
        if self.n_train is not None:
            check_number("n_train", self.n_train, low=1, integer=True, advice="None is all images")
        check_choice("probe_each_epoch", self.probe_each_epoch, (False, True))
        _check_folds(self.probe_folds)
        check_number("validation_share", self.validation_share, low=0.01, high=0.5, advice="the paper uses 0.1")
        check_number("seed", self.seed, low=0, integer=True)

    @property
    def n_images(self) -> int:
        """Training images an epoch; where `n_train` is None, those of the published data sets."""
        if self.n_train:
            return self.n_train
        row = PAIRS[self.pair]
        per_class = row.n_images // row.n_classes
        return row.n_classes * (per_class - max(1, round(self.validation_share * per_class)))


@dataclass(frozen=True)
class FinetuneConfig(_Shape):
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
            ("image_set", tuple(PHOTOGRAPHS)),
            ("backbone", BACKBONES),
            ("trained", TRAINED),
            ("split", ("official", "drawn")),
            ("precision", PRECISIONS),
            ("statistics", ("batch", "frozen")),
            ("probe_each_epoch", (False, True)),
            ("phantom_readings", (False, True)),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("batch_size", "n_epochs", "image_size", "n_importance"):
            check_number(name, getattr(self, name), low=1, integer=True)
        _check_stored_size(self.stored_size, self.image_size)
        _check_folds(self.probe_folds)
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
    def row(self) -> PhotographSet:
        """What is known of the image set."""
        return PHOTOGRAPHS[self.image_set]

    @property
    def features(self) -> tuple[str, str]:
        """Names of label and attribute."""
        return self.row.features

    @property
    def n_images(self) -> int:
        """Training images an epoch; where `n_train` is None, those of the official release."""
        return self.n_train or self.row.n_train


class Sizes(NamedTuple):
    """Numbers of images in the three parts of a domain."""

    train: int
    validation: int
    test: int


def part_sizes(n: int) -> Sizes:
    """Divide a domain's n images: a fifth to test, rounded down as in DomainBed; of the rest, a tenth to validate.

    >>> part_sizes(2048)
    Sizes(train=1475, validation=164, test=409)
    """
    test = int(n * TEST_SHARE)
    validation = round((n - test) * VALIDATION_SHARE)
    return Sizes(n - test - validation, validation, test)


@dataclass(frozen=True)
class DomainConfig(_Shape):
    """One network trained on all domains of an image set but the target, and probed on the target.

    Attributes:
        image_set: "pacs", "officehome" and "vlcs" are the paper's; "digit_domains" is ours, without downloads.
        target: the domain that is left out.
        stored_size: side of the prepared images that are read, pixels (`python -m data_scripts.prepare`).
        image_size: side of the network's input, pixels, at most `stored_size`.
        backbone: lost in our copy of the paper; DomainBed's default is "resnet50". "smallnet" is for tests.
        trained: "all" parameters, or the "last block" and the head; see `FinetuneConfig`.
        learning_rate: initial step size, falls to 0 along a half cosine, updated every step.
        rho: perturbation radius of SAM (Eq 3) in parameter units; 0 is SGD. The paper's sweep is lost in our copy.
        momentum: of the base optimizer (0.9 in the paper's other experiments).
        weight_decay: of the base optimizer; lost in our copy, 0 is DomainBed's default.
        batch_per_domain: images of each source domain in a step (DomainBed: 32).
        n_epochs: as many steps each as the sources' training images fill; 0 leaves the network as pretrained.
        precision: of the network's computations; see `FinetuneConfig`.
        colour_jitter: whether training images change colours as in DomainBed; only where all is trained.
        probe_folds: 0 chooses the probe's C on a held-out tenth, 2 or more by so many folds; with folds, what other
            choices of C give is recorded beside it.
        seed: root seed of splits, head, batch order, augmentation and probe; SGD and SAM share all of them.
    """

    image_set: str = "pacs"
    target: str = "art_painting"
    stored_size: int = 112
    image_size: int = 96
    backbone: str = "densenet121"
    trained: str = "all"
    learning_rate: float = 0.005
    rho: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_per_domain: int = 32
    n_epochs: int = 20
    precision: str = "float32"
    colour_jitter: bool = False
    probe_folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("image_set", self.image_set, tuple(DOMAINS))
        check_choice("target", self.target, self.domains)
        for name, choices in (("backbone", BACKBONES), ("trained", TRAINED), ("precision", PRECISIONS)):
            check_choice(name, getattr(self, name), choices)
        # Stored activations have no colours to change.
        check_choice("colour_jitter", self.colour_jitter, (False, True) if self.trained == "all" else (False,))
        for name in ("image_size", "batch_per_domain"):
            check_number(name, getattr(self, name), low=1, integer=True)
        _check_stored_size(self.stored_size, self.image_size)
        _check_folds(self.probe_folds)
        for name in ("learning_rate", "rho", "weight_decay"):
            check_number(name, getattr(self, name), low=0)
        check_number("momentum", self.momentum, low=0, high=0.9999, advice="0.9 is usual")
        for name in ("n_epochs", "seed"):
            check_number(name, getattr(self, name), low=0, integer=True)

    @property
    def row(self) -> DomainSet:
        """What is known of the image set."""
        return DOMAINS[self.image_set]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of all domains, in DomainBed's order."""
        return tuple(self.row.domains)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the domains that the network is trained on."""
        return tuple(domain for domain in self.domains if domain != self.target)

    @property
    def n_images(self) -> int:
        """Training images of the sources in the official release."""
        return sum(part_sizes(self.row.domains[source]).train for source in self.sources)


def _check_folds(probe_folds: int) -> None:
    low = 2 if probe_folds else 0
    check_number("probe_folds", probe_folds, low=low, integer=True, advice="0 holds one share out, without folds")


def _check_stored_size(stored_size: int, image_size: int) -> None:
    check_number("stored_size", stored_size, low=image_size, integer=True, advice="images are cut, not enlarged")
