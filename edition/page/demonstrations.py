"""What chapters 1, 4 and 6 show of data sets: pictures, results, live runs where the data are at hand, else a box."""

import dataclasses
import html
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import Markdown, display

from edition import runs
from edition.claims.data_sets import (
    DATA_SETS,
    PHOTOGRAPH_EXPERIMENTS,
    confirmatory_entries,
    frozen_controls,
    trained_control,
)
from edition.claims.domainbed import EXPERIMENTS, OTHER_RADII, WHOLE
from edition.claims.moments import Moment, photograph_moments, reading_changes
from edition.experiments import experiment
from edition.experiments.pairs import RADIUS, demo_config
from edition.figures.domainbed import domain_samples
from edition.figures.table_one import group_samples
from edition.page.chapter import Chapter, Results, new_store, show
from edition.records.store import Record
from edition.runs.results import box, pick
from samlib.images.config import DomainConfig, FinetuneConfig, PairConfig
from samlib.images.image_sets import PreparedSet, load_images
from samlib.images.splits import photograph_splits
from samlib.images.tiles import PairSource, load_pair

HOW_TO = (
    "To see CIFAR-MNIST here, set the environment variable `SAMLIB_DATA`, or pass `-p data_root FOLDER`, where the "
    "folder holds `MNIST/raw/` and `cifar-10-batches-py/` as their official releases lay them out."
)


class AtHand(NamedTuple):
    """The pair that can be shown here: its tiles, and which it is, why, and how to bring the other (Markdown)."""

    source: PairSource
    note: str


def at_hand(data_root: Path | None) -> AtHand:
    """Load CIFAR-MNIST where its files are at hand, else the embedded pair.

    Raises:
        ValueError: a file is there and is damaged.
    """
    reason = "no folder with the real data sets was given"
    if data_root is not None:
        try:
            note = "Shown below: **CIFAR-MNIST**, the paper's own pair, read from the data root."
            return AtHand(load_pair("cifar_mnist", data_root), note)
        except FileNotFoundError as error:
            reason = f"the data root does not hold CIFAR-MNIST ({error})"
    note = (
        "Shown below: **digits over photograph patches**, a stand-in of ours made from scikit-learn's samples, "
        f"not the paper's pair, because {reason}. {HOW_TO}"
    )
    return AtHand(load_pair("digits_patches"), note)


def train_pair_now(chapter: Chapter, pair: str) -> list[Record]:
    """Train SGD and SAM on a pair now, at the demonstration's scale.

    Args:
        chapter: its seed, device and data root are used.
        pair: a key of `samlib.images.catalogue.PAIRS`.
    Returns:
        The two records, SGD first.
    Side effects:
        Writes both into a new folder under results/local, so that every execution trains anew.
    """
    return _train_now(chapter, "pair", [demo_config(pair, rho=rho, seed=chapter.seed) for rho in (0.0, RADIUS)])


def domains_demonstration(chapter: Chapter) -> pd.DataFrame:
    """Return what SGD and SAM reach on digits with one domain left out: at seed 0 from records, at others trained now.

    Args:
        chapter: its seed, profile and device are used.
    Returns:
        One row a representation ("before training", "SGD", "SAM"). Columns, in percent: "probe" and "zero-shot"
        accuracy on the target, "sources' validation" accuracy.
    """
    if chapter.seed == 0:
        records = list(chapter.results("digit_domains").records)
    else:
        configs = experiment("digit_domains").configs(chapter.profile)
        records = _train_now(chapter, "domainbed", [dataclasses.replace(c, seed=chapter.seed) for c in configs])
    rows = {}
    for record in records:
        rho = record.config["rho"]
        name = f"SAM, ρ = {rho:g}" if rho else "SGD" if record.config["n_epochs"] else "before training"
        rows[name] = {
            "probe": 100 * (1 - record.metrics["probe_error"]),
            "zero-shot": 100 * (1 - record.metrics["zero_shot_error"]),
            "sources' validation": 100 * (1 - record.metrics["validation_error"]),
        }
    return pd.DataFrame(rows).T


def _train_now(chapter: Chapter, kind: str, configs: list[Any]) -> list[Record]:
    """Train configurations now, with records in a new folder under results/local."""
    store = new_store("live-")
    options: dict[str, Any] = {"device": chapter.torch_device, "data_root": chapter.data_root}
    return [record for config in configs for record in runs.do([runs.Run(kind, config)], store, **options)]


def full_scale(chapter: Chapter, name: str) -> Results:
    """Return the results of an experiment on images; nothing is trained whose data are not at hand.

    Args:
        chapter: whose parameters decide; see `Chapter.results`.
        name: a key of `edition.experiments.EXPERIMENTS`, of kind "pair", "finetune" or "domainbed".
    Side effects:
        Displays a source line, or a box where there are no results.
    """
    configs = experiment(name).configs(chapter.profile)
    if not configs or _trainable(configs[0], chapter):  # none: their settings are chosen by runs that come first
        return chapter.results(name)
    recorded = chapter.recorded(name)
    display(recorded.source() if recorded else recorded.missing_box())
    if isinstance(configs[0], PairConfig):
        display(Markdown(HOW_TO))
    return recorded


class Weighed(NamedTuple):
    """Importance weights on the sets of photographs, by experiment of the exploratory runs.

    Attributes:
        moments: as `edition.claims.moments.photograph_moments` returns them.
        readings: title of the networks -> change of the Gini coefficient under every reading of the phantom.
    """

    moments: dict[str, list[Moment]]
    readings: dict[str, dict[str, pd.DataFrame]]


def weighed_photographs(chapter: Chapter) -> Weighed:
    """Return the importance weights that chapter 4 shows: of the whole networks where their runs are complete.

    Args:
        chapter: whose parameters decide about the last block's runs; the whole networks' are read, never trained.
    Side effects:
        Displays a source line for each set, or a box where there are no results.
    """
    found = Weighed({}, {})
    for title, name in PHOTOGRAPH_EXPERIMENTS.items():
        names = DATA_SETS[title]
        parts = {part: chapter.recorded(part) for part in (names.confirmatory, names.more)}
        entry = confirmatory_entries(parts).get(title)
        if entry is None:
            last_block = chapter.results(name)
            found.moments[name] = photograph_moments(last_block.records) if last_block else []
            continue
        display(Results(names.confirmatory, chapter.profile, tuple(entry.records), 0).source())
        found.moments[name] = photograph_moments(entry.records, entry.roles)
        tables = {"": reading_changes(entry.records)}
        if control := trained_control(map(chapter.recorded, frozen_controls(title))):
            display(control.source())
            rates = sorted({record.config["learning_rate"] for record in control.records})
            told = f", frozen statistics, learning rate {' and '.join(f'{rate:g}' for rate in rates)}"
            tables[told] = reading_changes(control.records)
        found.readings[name] = {
            f"{method}-trained{told}": pick(table, method=method)
            for told, table in tables.items()
            for method in ("SGD", "SAM")
        }
    return found


def transfer_results(chapter: Chapter) -> dict[str, Results]:
    """Return chapter 6's results by experiment; see `full_scale`.

    The last block of a set that was not run stands for nothing and asks for nothing: the whole network's box does.
    """
    own = [WHOLE["PACS"], OTHER_RADII, "pacs_whole_sizes", EXPERIMENTS["PACS"]]
    others = [title for title in EXPERIMENTS if title != "PACS"]
    found = {name: full_scale(chapter, name) for name in (*own, *(WHOLE[title] for title in others))}
    return found | {EXPERIMENTS[title]: chapter.recorded(EXPERIMENTS[title]) for title in others}


def _trainable(config: Any, chapter: Chapter) -> bool:
    """Whether a run's data are at hand. Some of the profiles train embedded sets, and pairs at "paper" are recorded."""
    if isinstance(config, DomainConfig) and chapter.profile == "paper":
        folder = Path(chapter.data_root or "") / "prepared" / f"{config.image_set}-{config.stored_size}"
        return folder.is_dir()
    if isinstance(config, PairConfig) and chapter.profile == "quick":
        try:
            load_pair(config.pair, chapter.data_root)
        except (FileNotFoundError, ValueError):
            return False
    return True


def show_groups(config: FinetuneConfig, root: Path | None) -> None:
    """Show images of all four groups, of the training and the probes' test images, or say how to get them.

    Args:
        config: image set and split are read.
        root: folder of the real data sets, None where there is none.
    Raises:
        ValueError: the prepared set is there and damaged.
    Side effects:
        Displays a figure, or a box where the prepared images are not at hand.
    """
    data = _images_or_box(config, root, f"No images of {config.image_set} at hand")
    if data is None:
        return
    splits = photograph_splits(data, config)
    rows = {"training": splits.train.tolist(), "probe test": splits.test.tolist()}
    row = config.row
    show(lambda: group_samples(data, rows, row.features, row.groups, averaged=not row.published), photographs=True)


def show_domains(config: DomainConfig, root: Path | None) -> None:
    """Show an image of every class in every domain, or say how to get them; see `show_groups`.

    The book shows the embedded set alone: many of PACS's images are others' work under no free licence.
    """
    data = _images_or_box(config, root, "Not drawn")
    if data is not None:
        show(lambda: domain_samples(data.images, data.table, config.domains), photographs=True)


def _images_or_box(config: FinetuneConfig | DomainConfig, root: Path | None, words: str) -> PreparedSet | None:
    """Load a prepared set; where it is not at hand, display a box that says how to get it; the root is not shown."""
    try:
        return load_images(config, root)
    except (FileNotFoundError, ValueError) as error:
        if root is not None and not isinstance(error, FileNotFoundError):
            raise
        told = (str(error).replace(str(root), "the data folder") if root else str(error)).removeprefix("root: ")
        display(box(f"{words}:", html.escape(told)))
        return None
