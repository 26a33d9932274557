"""Train on all domains but one with SGD or SAM, and probe the representation on the one left out (Appendix F)."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samlib.images.backbones import Backbone, build_backbone, repeatable
from samlib.images.config import VALIDATION_SHARE, DomainConfig
from samlib.images.image_sets import PreparedSet
from samlib.images.probing import CHOICES
from samlib.images.splits import DomainSplits, class_labels, domain_splits
from samlib.images.training import Checkpoint, Result, evaluate, fit, has_diverged, origin
from samlib.images.views import Views, make_views
from samlib.measures.probe import FrozenFeatures, ProbeResult, probe_error
from samlib.measures.rank import effective_rank, n_components, principal_variances
from samlib.shapes import Int64
from samlib.streams import stream

MEASURED = (
    "probe_error",
    "probe_held_out_error",
    "probe_strength",
    "zero_shot_error",
    "validation_error",
    "source_test_errors",
    "source_effective_rank",
    "source_components",
    "target_effective_rank",
    "target_components",
)


class Images(NamedTuple):
    """An image set as a network sees it: views and labels of all its images, and their splits."""

    views: Views
    labels: Int64[Tensor, " image"]
    splits: DomainSplits


def train_domains(
    config: DomainConfig,
    data: PreparedSet,
    *,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Train one network on the sources' training splits, freeze it, and probe it on the target (Eq 44).

    Args:
        config: the run.
        data: what `samlib.images.image_sets.load_images` returned for it.
        folder: where activations of a frozen lower part are kept; None computes them anew.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again.
    Returns:
        Metrics, errors as shares of 1:
            probe_error: of a linear probe trained on the target's training split, on its test split;
                probe_held_out_error, probe_strength: error at the chosen C on the images that chose it, a tenth of
                that training split or all folds of it, and C; with folds, probe_sensitivity: the probing error under
                each of `samlib.images.probing.CHOICES`.
            zero_shot_error: of the network's own answers on the target's test split.
            validation_error: of its own answers on the held-out tenths of the sources' training splits, mean over
                sources; source_test_errors: on the sources' test splits, in the order of `config.sources`.
            source_effective_rank, source_components, target_effective_rank, target_components: of the features of the
                sources' training images and of the target's training split; see `samlib.measures.rank`.
            n_train, n_validation, n_probe_train, n_test (of the target), n_classes, n_features, weights_sha256,
                images_sha256, coverage: what was used.
            curves: by epoch, train_loss and validation_error.
            diverged: whether training stopped at a loss that is not finite; all errors and ranks are then None.
    Raises:
        ValueError: the set does not fit the configuration.
        Exception: whatever the checkpoint raises to stop the run.
    """
    splits = domain_splits(data, config)
    classes, labels = class_labels(data.table)
    network = build_backbone(
        config.backbone, n_classes=len(classes), trained=config.trained, seed=config.seed, device=device
    )
    # Of all images: activations that are stored once serve all targets, splits and seeds.
    everything = torch.arange(len(data.table))
    views = make_views(data, everything, network, config, mirrored=True, folder=folder, device=device)
    images = Images(views, labels, splits)
    with repeatable():
        curves = fit(
            network,
            views,
            labels,
            config,
            draw=lambda generator: draw_batches(splits.train, config.batch_per_domain, generator),
            look=lambda epoch: {
                "validation_error": statistics.fmean(_errors(network, images, splits.validation, config))
            },
            checkpoint=checkpoint,
            weight_decay=config.weight_decay,
            precision=config.precision,
        )
        probed, _ = evaluate(network, views, splits.probe_train, precision=config.precision)
        diverged = has_diverged(network, probed, curves)
        measured = (*MEASURED, "probe_sensitivity") if config.probe_folds else MEASURED
        metrics = dict.fromkeys(measured) if diverged else measure(network, images, config, probed)
    metrics |= {
        "n_train": sum(map(len, splits.train.values())),
        "n_validation": sum(map(len, splits.validation.values())),
        "n_probe_train": len(splits.probe_train),
        "n_test": len(splits.test[config.target]),
        "n_classes": len(classes),
    } | origin(data, network)
    return Result(metrics | {"diverged": diverged, "curves": curves}, network, {})


def measure(network: Backbone, images: Images, config: DomainConfig, probed: Tensor) -> dict[str, Any]:
    """Return all errors and ranks (`MEASURED`) of a network; see `train_domains`.

    Args:
        network: as trained.
        images: of the run.
        config: the run.
        probed: features of the target's training split.
    """
    views, labels, splits = images
    source, _ = evaluate(network, views, torch.cat(list(splits.train.values())), precision=config.precision)
    rows = splits.test[config.target]
    tested, answers = evaluate(network, views, rows, precision=config.precision)
    train = FrozenFeatures(probed, labels[splits.probe_train], torch.zeros_like(splits.probe_train))
    test = FrozenFeatures(tested, labels[rows], torch.zeros_like(rows))

    def read(**options: Any) -> ProbeResult:
        return probe_error(train, test, n_groups=1, generator=stream(config.seed, "probe"), **options)

    probe = read(held_out_share=VALIDATION_SHARE, n_folds=config.probe_folds)
    others = {way: read(strengths=values).error for way, values in CHOICES.items()} if config.probe_folds else {}
    spectra = [principal_variances(features) for features in (source, probed)]
    of_sources = {source: splits.test[source] for source in config.sources}
    return {
        "probe_error": probe.error,
        "probe_held_out_error": probe.held_out_error,
        "probe_strength": probe.strength,
        **({"probe_sensitivity": others} if others else {}),
        "zero_shot_error": (answers != labels[rows]).double().mean().item(),
        "validation_error": statistics.fmean(_errors(network, images, splits.validation, config)),
        "source_test_errors": _errors(network, images, of_sources, config),
        "source_effective_rank": effective_rank(spectra[0]),
        "source_components": n_components(spectra[0]),
        "target_effective_rank": effective_rank(spectra[1]),
        "target_components": n_components(spectra[1]),
    }


def draw_batches(
    rows: Mapping[str, Int64[Tensor, " row"]], per_domain: int, generator: torch.Generator
) -> list[Int64[Tensor, " batch"]]:
    """Draw an epoch's batches: from each domain the same number, as DomainBed does.

    There are as many batches as all images together fill, at least one. A domain's images are shuffled and gone
    through as often as needed: a small domain's images return within the epoch, a large one's are not all used.

    Args:
        rows: by domain.
        per_domain: images of each domain in a batch.
        generator: it is advanced.
    """
    n = max(1, sum(map(len, rows.values())) // (per_domain * len(rows)))
    parts = []
    for domain_rows in rows.values():
        rounds = math.ceil(n * per_domain / len(domain_rows))
        order = torch.cat([torch.randperm(len(domain_rows), generator=generator) for _ in range(rounds)])
        parts.append(domain_rows[order[: n * per_domain]].view(n, per_domain))
    return list(torch.cat(parts, dim=1))


def _errors(
    network: Backbone, images: Images, parts: Mapping[str, Int64[Tensor, " row"]], config: DomainConfig
) -> list[float]:
    """Errors of the network's own answers, a number a domain."""
    found = []
    for rows in parts.values():
        _, answers = evaluate(network, images.views, rows, precision=config.precision)
        found.append((answers != images.labels[rows]).double().mean().item())
    return found
