"""Chapter 6's live run, and pictures of the domains where their prepared images are at hand."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import display

from edition.claims.domainbed import EXPERIMENTS
from edition.experiments import experiment
from edition.experiments.domainbed import DEMO
from edition.figures.domainbed import domain_samples
from edition.page.chapter import Chapter, Results, show
from edition.page.photographs import images_or_box
from samlib.images.domain_config import DomainConfig
from samlib.images.embedded import digit_domains
from samlib.images.train_domains import load_domains, train_domains


def demonstrate(*, seed: int) -> pd.DataFrame:
    """Train SGD and SAM now on three of the four digit domains and probe them on the fourth.

    Args:
        seed: root seed.
    Returns:
        One row a representation ("untrained", "SGD", "SAM"). Columns, in percent: "probe" and "zero-shot" accuracy on
        the target, "sources' validation" accuracy.
    """
    base = dataclasses.replace(DEMO, target="thick", seed=seed)
    changes: dict[str, dict[str, Any]] = {"untrained": {"n_epochs": 0}, "SGD": {}, "SAM, ρ = 0.05": {"rho": 0.05}}
    data, rows = digit_domains(), {}
    for name, values in changes.items():
        metrics = train_domains(dataclasses.replace(base, **values), data).metrics
        rows[name] = {
            "probe": 100 * (1 - metrics["probe_error"]),
            "zero-shot": 100 * (1 - metrics["zero_shot_error"]),
            "sources' validation": 100 * (1 - metrics["validation_error"]),
        }
    return pd.DataFrame(rows).T


def transfer_results(chapter: Chapter) -> dict[str, Results]:
    """Return the results of the paper's three data sets; nothing is trained on a set that is not prepared here.

    Args:
        chapter: its profile, data root and parameters decide.
    Returns:
        Title -> results, complete or not.
    Side effects:
        Displays a source line or a box for each.
    """
    found = {}
    for title, name in EXPERIMENTS.items():
        config = experiment(name).configs(chapter.profile)[0]
        folder = Path(chapter.data_root or "") / "prepared" / f"{config.image_set}-{config.stored_size}"
        if chapter.profile != "paper" or folder.is_dir():
            found[title] = chapter.results(name)
        else:
            found[title] = chapter.recorded(name)
            display(found[title].source() if found[title] else found[title].missing_box())
    return found


def show_domains(config: DomainConfig, root: Path | None) -> None:
    """Show an image of every class in every domain, or say how to get them.

    The book shows the embedded set alone: many of PACS's images are others' work under no free licence.

    Args:
        config: image set and stored size are read.
        root: folder of the real data sets, None where there is none.
    Raises:
        ValueError: the prepared set is there and damaged.
    Side effects:
        Displays a figure, or a box where the prepared images are not at hand.
    """
    data = images_or_box(lambda: load_domains(config, root), root, "Not drawn")
    if data is not None:
        show(lambda: domain_samples(data.images, data.table, config.domains), photographs=True)
