"""Experiments: which runs the book needs, one file a family of chapters."""

from dataclasses import dataclass
from typing import Any

from edition.experiments import controls, domainbed, finetune, pairs, toy
from edition.experiments.toy import PROFILES
from edition.experiments.tuned import EQUAL_BUDGET, Configs, equal_budget
from samlib.config import check_choice

__all__ = ["EXPERIMENTS", "PROFILES", "Experiment", "experiment"]


@dataclass(frozen=True)
class Experiment:
    """A named set of runs.

    Attributes:
        name: what the command line and the chapters call it.
        kind: which code trains it; see `edition.records.kinds`.
        title: one line for the records page.
        configs: profile -> configurations.
        waits_for: the experiment whose validation errors choose the settings; "" where they are fixed. Until all its
            runs are on record, there are no configurations at "paper".
    """

    name: str
    kind: str
    title: str
    configs: Configs
    waits_for: str = ""

    @property
    def waiting(self) -> bool:
        """Whether the settings are not chosen yet."""
        return bool(self.waits_for) and not self.configs("paper")


_WATERBIRDS, _CELEBA = finetune.tuned(finetune.WATERBIRDS), finetune.tuned(finetune.CELEBA)
# Of each set the sweep comes first, the others wait for it.
_WHOLE = [
    (
        "_".join(filter(None, [name, "confirmatory", part])),
        "finetune",
        f"{title}, ResNet-18 trained whole, {told}",
        configs,
        "" if part == "grid" else f"{name}_confirmatory_grid",
    )
    for name, title in (("waterbirds", "Waterbirds"), ("celeba", "CelebA"))
    for (part, configs), told in zip(
        finetune.confirmatory(name).items(),
        (
            "the paper's grid",
            "fresh seeds, analysis fixed beforehand (Table 1)",
            "four more seeds, which count together",
            "with frozen batch statistics: a control",
            "with frozen batch statistics, slower: a control that does not diverge",
        ),
        strict=True,
    )
]
_PROBED: dict[str, Any] = {"probe_each_epoch": True, "small": {"probe_each_epoch": True}}
_RATES = "pacs_whole_rates"
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("checkpoints", "toy", "Weights along training (Figures 1, 3, 5, 7, 8)", toy.checkpoints),
    ("complexity", "toy", "Complexity and radius (Figures 2 and 4)", toy.complexity),
    ("interventions", "toy", "Fixed ratios (Figure 6)", toy.interventions),
    ("phantom_terms", "toy", "LSAM's phantom in one term (beyond Figure 6)", toy.phantom_terms),
    ("mechanism", "toy", "Stand-ins for LSAM's phantom (chapter 5)", toy.mechanism),
    ("mechanism_elsewhere", "toy", "Stand-ins in ten settings of the search (chapter 5)", toy.mechanism_elsewhere),
    ("cifar_mnist", "pair", "CIFAR-MNIST, selected settings (Table 1)", pairs.CIFAR_MNIST.selected(**_PROBED)),
    ("fmnist_mnist", "pair", "FMNIST-MNIST, selected settings (Table 1)", pairs.FMNIST_MNIST.selected(**_PROBED)),
    (
        "pairs_equal_budget",
        "pair",
        "Pairs, SAM with SGD's number of settings",
        equal_budget(pairs.CIFAR_MNIST, pairs.FMNIST_MNIST, probe_each_epoch=True),
    ),
    ("cifar_mnist_grid", "pair", "CIFAR-MNIST, the paper's grid, one seed", pairs.CIFAR_MNIST.grid()),
    ("cifar_mnist_fixed", "pair", "CIFAR-MNIST, one setting fixed beforehand", pairs.FIXED.selected()),
    ("fmnist_mnist_grid", "pair", "FMNIST-MNIST, the paper's grid, one seed", pairs.FMNIST_MNIST.grid()),
    (
        "cifar_mnist_confirmatory",
        "pair",
        "CIFAR-MNIST, fresh seeds, analysis fixed beforehand (Table 1)",
        pairs.CIFAR_MNIST.selected(**pairs.CONFIRMATORY),
    ),
    (
        "fmnist_mnist_confirmatory",
        "pair",
        "FMNIST-MNIST, fresh seeds, analysis fixed beforehand (Table 1)",
        pairs.FMNIST_MNIST.selected(("SGD", "SAM", EQUAL_BUDGET), **pairs.CONFIRMATORY),
    ),
    *_WHOLE,
    ("waterbirds", "finetune", "Waterbirds, selected settings (Table 1)", finetune.weighed(_WATERBIRDS)),
    ("celeba", "finetune", "CelebA, selected settings (Table 1)", finetune.weighed(_CELEBA)),
    (
        "photographs_equal_budget",
        "finetune",
        "Photographs, SAM with SGD's number of settings",
        equal_budget(_WATERBIRDS, _CELEBA, probe_each_epoch=True),
    ),
    (
        "waterbirds_grid",
        "finetune",
        "Waterbirds, the paper's grid, short runs",
        _WATERBIRDS.grid(n_epochs=finetune.GRID_EPOCHS),
    ),
    ("celeba_grid", "finetune", "CelebA, the paper's grid, short runs", _CELEBA.grid(n_epochs=finetune.GRID_EPOCHS)),
    ("pacs", "domainbed", "PACS, last block, every setting and seed (Table 2)", domainbed.transfer("pacs")),
    ("pacs_whole_rates", "domainbed", "PACS, ResNet-18 trained whole, learning rates", domainbed.whole_rates),
    ("pacs_whole", "domainbed", "PACS, ResNet-18 trained whole (Table 2)", domainbed.whole("pacs"), _RATES),
    ("pacs_whole_radii", "domainbed", "PACS, ResNet-18 trained whole, other radii", domainbed.whole_radii, _RATES),
    (
        "pacs_whole_sizes",
        "domainbed",
        "PACS, ResNet-18 trained whole, image sizes and epochs",
        domainbed.whole_sizes,
        _RATES,
    ),
    ("officehome", "domainbed", "OfficeHome, last block, every setting (Table 2)", domainbed.transfer("officehome")),
    (
        "officehome_whole",
        "domainbed",
        "OfficeHome, ResNet-18 trained whole (Table 2)",
        domainbed.whole("officehome"),
        _RATES,
    ),
    ("vlcs", "domainbed", "VLCS, last block, every setting and seed (Table 2)", domainbed.transfer("vlcs")),
    ("vlcs_whole", "domainbed", "VLCS, ResNet-18 trained whole (Table 2)", domainbed.whole("vlcs"), _RATES),
    ("digit_domains", "domainbed", "Digits in four domains (chapter 6's demonstration)", domainbed.demonstration),
    ("controls_toy", "control", "Methods on the toy, three settings each", controls.controls_toy),
    ("controls_images", "control", "Methods on CIFAR-MNIST", controls.controls_images),
    ("full_sam_toy", "control", "SAM on all parameters of the toy (Section 5.2)", controls.full_sam_toy),
    ("three_features", "control", "Three mixed features", controls.three_features),
    ("best_settings", "toy", "The settings that satisfy most claims (chapter 8)", toy.best_settings),
    ("search", "search", "The space of the lost constants (chapter 8)", toy.search),
    ("sensitivity", "toy", "One constant at a time", toy.sensitivity),
    ("batch_size", "toy", "Batch size at equal epochs (Figure 10)", toy.batch_size),
    ("noise", "toy", "Noise (Figure 9)", toy.noise),
    ("batch_size_equal_steps", "toy", "Batch size at equal steps (Figure 10)", toy.batch_size_equal_steps),
)
EXPERIMENTS = {row[0]: Experiment(*row) for row in _ROWS}


def experiment(name: str) -> Experiment:
    """Look an experiment up.

    Raises:
        ValueError: there is none of this name; the message lists those there are.
    """
    check_choice("experiment", name, tuple(EXPERIMENTS))
    return EXPERIMENTS[name]
