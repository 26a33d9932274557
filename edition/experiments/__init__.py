"""Experiments: which runs the book needs (one file a chapter family), and how each kind of run is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edition.experiments import controls, domainbed, finetune, pairs, toy
from edition.experiments.toy import PROFILES
from samlib.config import check_choice

__all__ = ["EXPERIMENTS", "PROFILES", "Experiment", "experiment"]


@dataclass(frozen=True)
class Experiment:
    """A named set of runs.

    Attributes:
        name: what the command line and the chapters call it.
        kind: which code trains it; see `edition.runs.kinds`.
        title: one line for the records page.
        configs: profile -> configurations.
    """

    name: str
    kind: str
    title: str
    configs: Callable[[str], list[Any]]


EXPERIMENTS = {
    item.name: item
    for item in (
        Experiment("checkpoints", "toy", "Weights along training (Figures 1, 3, 5, 7, 8)", toy.checkpoints),
        Experiment("complexity", "toy", "Complexity and radius (Figures 2 and 4)", toy.complexity),
        Experiment("interventions", "toy", "Fixed ratios (Figure 6)", toy.interventions),
        Experiment("phantom_terms", "toy", "LSAM's phantom in one term (beyond Figure 6)", toy.phantom_terms),
        Experiment("cifar_mnist", "pair", "CIFAR-MNIST, selected settings (Table 1)", pairs.cifar_mnist),
        Experiment("fmnist_mnist", "pair", "FMNIST-MNIST, selected settings (Table 1)", pairs.fmnist_mnist),
        Experiment("pairs_equal_budget", "pair", "Pairs, SAM with SGD's number of settings", pairs.equal_budget),
        Experiment("cifar_mnist_grid", "pair", "CIFAR-MNIST, the paper's grid, one seed", pairs.cifar_mnist_grid),
        Experiment("cifar_mnist_fixed", "pair", "CIFAR-MNIST, one setting fixed beforehand", pairs.cifar_mnist_fixed),
        Experiment("fmnist_mnist_grid", "pair", "FMNIST-MNIST, the paper's grid, one seed", pairs.fmnist_mnist_grid),
        Experiment(
            "cifar_mnist_confirmatory",
            "pair",
            "CIFAR-MNIST, fresh seeds, analysis fixed beforehand (Table 1)",
            pairs.cifar_mnist_confirmatory,
        ),
        Experiment(
            "fmnist_mnist_confirmatory",
            "pair",
            "FMNIST-MNIST, fresh seeds, analysis fixed beforehand (Table 1)",
            pairs.fmnist_mnist_confirmatory,
        ),
        Experiment(
            "waterbirds_confirmatory_grid",
            "finetune",
            "Waterbirds, ResNet-18 trained whole, the paper's grid",
            finetune.waterbirds_confirmatory_grid,
        ),
        Experiment(
            "celeba_confirmatory_grid",
            "finetune",
            "CelebA, ResNet-18 trained whole, the paper's grid",
            finetune.celeba_confirmatory_grid,
        ),
        Experiment("waterbirds", "finetune", "Waterbirds, selected settings (Table 1)", finetune.waterbirds),
        Experiment("celeba", "finetune", "CelebA, selected settings (Table 1)", finetune.celeba),
        Experiment(
            "photographs_equal_budget",
            "finetune",
            "Photographs, SAM with SGD's number of settings",
            finetune.equal_budget,
        ),
        Experiment("waterbirds_grid", "finetune", "Waterbirds, the paper's grid, short runs", finetune.waterbirds_grid),
        Experiment("celeba_grid", "finetune", "CelebA, the paper's grid, short runs", finetune.celeba_grid),
        Experiment("waterbirds_full", "finetune", "Waterbirds, all trained (GPU)", finetune.waterbirds_full),
        Experiment("celeba_full", "finetune", "CelebA, all trained (GPU)", finetune.celeba_full),
        Experiment(
            "waterbirds_full_grid", "finetune", "Waterbirds, all trained, grid (GPU)", finetune.waterbirds_full_grid
        ),
        Experiment("celeba_full_grid", "finetune", "CelebA, all trained, grid (GPU)", finetune.celeba_full_grid),
        Experiment("pacs", "domainbed", "PACS, every setting and seed (Table 2)", domainbed.pacs),
        Experiment("officehome", "domainbed", "OfficeHome, every setting and seed (Table 2)", domainbed.officehome),
        Experiment("vlcs", "domainbed", "VLCS, every setting and seed (Table 2)", domainbed.vlcs),
        Experiment("pacs_full", "domainbed", "PACS, all trained (GPU)", domainbed.pacs_full),
        Experiment("controls_toy", "control", "Methods on the toy, three settings each", controls.controls_toy),
        Experiment("controls_images", "control", "Methods on CIFAR-MNIST", controls.controls_images),
        Experiment("full_sam_toy", "control", "SAM on all parameters of the toy (Section 5.2)", controls.full_sam_toy),
        Experiment("three_features", "control", "Three mixed features", controls.three_features),
        Experiment("sensitivity", "toy", "One constant at a time", toy.sensitivity),
        Experiment("batch_size", "toy", "Batch size at equal epochs (Figure 10)", toy.batch_size),
        Experiment("noise", "toy", "Noise (Figure 9)", toy.noise),
        Experiment(
            "batch_size_equal_steps", "toy", "Batch size at equal steps (Figure 10)", toy.batch_size_equal_steps
        ),
    )
}


def experiment(name: str) -> Experiment:
    """Look an experiment up.

    Raises:
        ValueError: there is none of this name; the message lists those there are.
    """
    check_choice("experiment", name, tuple(EXPERIMENTS))
    return EXPERIMENTS[name]
