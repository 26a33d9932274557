"""Train on all domains but one with SGD or SAM, and probe the representation on the one left out (Appendix F)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samlib.images.backbones import Backbone, build_backbone
from samlib.images.domain_config import VALIDATION_SHARE, DomainConfig
from samlib.images.domain_splits import COLUMNS, DomainSplits, class_labels, domain_splits
from samlib.images.embedded import digit_domains
from samlib.images.prepared import PreparedSet, load_prepared
from samlib.images.train_pairs import Checkpointer, is_finite
from samlib.images.training import make_optimizer, predict, restore, snapshot, train_epoch
from samlib.images.views import Views, make_views
from samlib.measures.probe import FrozenFeatures, probe_error
from samlib.measures.rank import effective_rank, n_components, principal_variances
from samlib.shapes import Int64
from samlib.streams import stream

Curves = dict[str, list[float]]
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


class DomainResult(NamedTuple):
    """What one configuration gave: metrics (see `train_domains`) and the trained network."""

    metrics: dict[str, Any]
    network: Backbone


def load_domains(config: DomainConfig, root: Path | None) -> PreparedSet:
    """Return the configuration's image set: the embedded one, or ROOT/prepared/NAME-SIZE.

    Raises:
        FileNotFoundError, ValueError: it is not there, or damaged; see `samlib.images.prepared.load_prepared`.
    """
    if config.image_set == "digit_domains":
        return digit_domains()
    return load_prepared(config.image_set, config.stored_size, root, columns=COLUMNS)


def train_domains(
    config: DomainConfig,
    data: PreparedSet,
    *,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Checkpointer | None = None,
) -> DomainResult:
    """Train one network on the sources' training splits, freeze it, and probe it on the target (Eq 44).

    Args:
        config: the run.
        data: what `load_domains` returned for it.
        folder: where activations of a frozen lower part are kept; None computes them anew.
        device: where to train.
        checkpoint: where the state is saved after each epoch and found again.
    Returns:
        Metrics, errors as shares of 1:
            probe_error: of a linear probe trained on the target's training split, on its test split;
                probe_held_out_error, probe_strength: error at the chosen C on the tenth of that training split that
                chose it, and C.
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
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU 1.7 times as fast
    # Of all images: activations that are stored once serve all targets, splits and seeds.
    everything = torch.arange(len(data.table))
    views = make_views(data, everything, network, config, mirrored=True, folder=folder, device=device)
    images = Images(views, labels, splits)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        curves = _fit(network, images, config, checkpoint)
        probed, _ = predict(network, images.views, splits.probe_train, precision=config.precision)
        diverged = not (all(map(math.isfinite, curves["train_loss"])) and is_finite(network, probed))
        metrics = dict.fromkeys(MEASURED) if diverged else measure(network, images, config, probed)
    metrics |= _origin(data, splits, network, config, len(classes))
    return DomainResult(metrics | {"diverged": diverged, "curves": curves}, network)


def measure(network: Backbone, images: Images, config: DomainConfig, probed: Tensor) -> dict[str, Any]:
    """Return all errors and ranks (`MEASURED`) of a network; see `train_domains`.

    Args:
        network: as trained.
        images: of the run.
        config: the run.
        probed: features of the target's training split.
    """
    views, labels, splits = images
    source, _ = predict(network, views, torch.cat(list(splits.train.values())), precision=config.precision)
    rows = splits.test[config.target]
    tested, answers = predict(network, views, rows, precision=config.precision)
    probe = probe_error(
        FrozenFeatures(probed, labels[splits.probe_train], torch.zeros_like(splits.probe_train)),
        FrozenFeatures(tested, labels[rows], torch.zeros_like(rows)),
        n_groups=1,
        generator=stream(config.seed, "probe"),
        held_out_share=VALIDATION_SHARE,
    )
    spectra = [principal_variances(features) for features in (source, probed)]
    of_sources = {source: splits.test[source] for source in config.sources}
    return {
        "probe_error": probe.error,
        "probe_held_out_error": probe.held_out_error,
        "probe_strength": probe.strength,
        "zero_shot_error": (answers != labels[rows]).double().mean().item(),
        "validation_error": _mean(_errors(network, images, splits.validation, config)),
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


def _fit(network: Backbone, images: Images, config: DomainConfig, checkpoint: Checkpointer | None) -> Curves:
    """Run all epochs, stopping early at a loss that is not finite; return the curves."""
    optimizer = make_optimizer(network, config)
    streams = {purpose: stream(config.seed, purpose) for purpose in ("batch order", "augmentation")}
    curves: Curves = {"train_loss": [], "validation_error": []}
    state = checkpoint.load() if checkpoint else None
    if state:
        restore(state, network, optimizer, streams)
        curves = state["curves"]
    for epoch in range(len(curves["train_loss"]), config.n_epochs):
        batches = draw_batches(images.splits.train, config.batch_per_domain, streams["batch order"])
        generator = streams["augmentation"]
        loss = train_epoch(
            network, optimizer, images.views, images.labels, batches, config, epoch=epoch, generator=generator
        )
        curves["train_loss"].append(loss)
        if not math.isfinite(loss):
            break
        curves["validation_error"].append(_mean(_errors(network, images, images.splits.validation, config)))
        if checkpoint:
            checkpoint.save(snapshot(network, optimizer, streams) | {"curves": curves}, (epoch + 1) / config.n_epochs)
    return curves


def _errors(
    network: Backbone, images: Images, parts: Mapping[str, Int64[Tensor, " row"]], config: DomainConfig
) -> list[float]:
    """Errors of the network's own answers, a number a domain."""
    found = []
    for rows in parts.values():
        _, answers = predict(network, images.views, rows, precision=config.precision)
        found.append((answers != images.labels[rows]).double().mean().item())
    return found


def _mean(values: list[float]) -> float:
    """Mean, exactly rounded."""
    return math.fsum(values) / len(values)


def _origin(
    data: PreparedSet, splits: DomainSplits, network: Backbone, config: DomainConfig, n_classes: int
) -> dict[str, Any]:
    """What the run was made from."""
    return {
        "n_train": sum(map(len, splits.train.values())),
        "n_validation": sum(map(len, splits.validation.values())),
        "n_probe_train": len(splits.probe_train),
        "n_test": len(splits.test[config.target]),
        "n_classes": n_classes,
        "n_features": network.n_features,
        "weights_sha256": network.weights_sha256,
        "images_sha256": data.images_sha256,
        "coverage": data.coverage,
    }
