"""Configuration of the transfer experiments (PACS, OfficeHome, VLCS; Appendix F)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from samlib.config import all_but, check_choice, check_number
from samlib.images.photograph_config import BACKBONES, PRECISIONS, TRAINED

# Images of each domain in the official releases, in DomainBed's order; those of the embedded set are all that it has.
DOMAINS = {
    "pacs": {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929},
    "officehome": {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
    "vlcs": {"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376},
    "digit_domains": {"plain": 450, "inverted": 449, "thick": 449, "noisy": 449},
}
TEST_SHARE = 0.2  # DomainBed's
VALIDATION_SHARE = 0.1  # of a training split (Appendix F)


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
class DomainConfig:
    """One network trained on all domains of an image set but the target, and probed on the target.

    Attributes:
        image_set: "pacs", "officehome" and "vlcs" are the paper's; "digit_domains" is ours, without downloads.
        target: the domain that is left out.
        stored_size: side of the prepared images that are read, pixels (`python -m data_scripts.prepare`).
        image_size: side of the network's input, pixels, at most `stored_size`.
        backbone: lost in our copy of the paper; DomainBed's default is "resnet50". "smallnet" is for tests.
        trained: "all" parameters, or the "last block" and the head; see `FinetuneConfig`.
        learning_rate: initial step size, falls to 0 along a half cosine, updated every step.
        rho: perturbation radius of SAM (Eq 3) in parameter units; 0 is SGD. The paper's sweep is lost in our copy;
            {0, .03, .05, .1} is known second-hand.
        momentum: of the base optimizer (0.9 in the paper's other experiments).
        weight_decay: of the base optimizer; lost in our copy, 0 is DomainBed's default.
        batch_per_domain: images of each source domain in a step (DomainBed: 32).
        n_epochs: as many steps each as the sources' training images fill; 0 leaves the network as pretrained.
        precision: of the network's computations; see `samlib.images.photograph_config.FinetuneConfig`.
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
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("image_set", self.image_set, tuple(DOMAINS))
        check_choice("target", self.target, self.domains)
        for name, choices in (("backbone", BACKBONES), ("trained", TRAINED), ("precision", PRECISIONS)):
            check_choice(name, getattr(self, name), choices)
        for name in ("image_size", "batch_per_domain"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number(
            "stored_size", self.stored_size, low=self.image_size, integer=True, advice="images are cut, not enlarged"
        )
        for name in ("learning_rate", "rho", "weight_decay"):
            check_number(name, getattr(self, name), low=0)
        check_number("momentum", self.momentum, low=0, high=0.9999, advice="0.9 is usual")
        for name in ("n_epochs", "seed"):
            check_number(name, getattr(self, name), low=0, integer=True)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of all domains, in DomainBed's order."""
        return tuple(DOMAINS[self.image_set])

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the domains that the network is trained on."""
        return tuple(domain for domain in self.domains if domain != self.target)

    @property
    def n_images(self) -> int:
        """Training images of the sources in the official release."""
        return sum(part_sizes(DOMAINS[self.image_set][source]).train for source in self.sources)

    @property
    def shape(self) -> tuple[Any, ...]:
        """All but learning rate, radius and seed: runs of one shape cost the same a step."""
        return all_but(self, "learning_rate", "rho", "seed")
