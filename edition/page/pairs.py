"""Chapter 1's own steps: which pair can be shown, and one SGD and one SAM run trained while the page is executed."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from IPython.display import Markdown, display

from edition import runs
from edition.experiments import experiment
from edition.experiments.pairs import RADIUS
from edition.page.chapter import Chapter, Results
from edition.records.store import Record, Store
from samlib.images.pair_config import PairConfig, demo_config
from samlib.images.tiles import PairSource, load_pair

HOW_TO = (
    "To see CIFAR-MNIST here, set the environment variable `SAMLIB_DATA`, or pass `-p data_root FOLDER`, where the "
    "folder holds `MNIST/raw/` and `cifar-10-batches-py/` as their official releases lay them out."
)


class AtHand(NamedTuple):
    """The pair that can be shown here.

    Attributes:
        source: its tiles.
        note: which pair it is, why, and how to bring the other (Markdown).
    """

    source: PairSource
    note: str

    @property
    def is_papers(self) -> bool:
        """Whether it is the paper's CIFAR-MNIST."""
        return self.source.name == "cifar_mnist"


def at_hand(data_root: Path | None) -> AtHand:
    """Load CIFAR-MNIST where its files are at hand, else the embedded pair.

    Args:
        data_root: folder of the real data sets, None where there is none.
    Raises:
        ValueError: a file is there and is damaged.
    """
    if data_root is None:
        reason = "no folder with the real data sets was given"
    else:
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


def demonstrate(chapter: Chapter, pair: str) -> list[Record]:
    """Train SGD and SAM on a pair now, at the demonstration's scale.

    Args:
        chapter: its seed, device and data root are used.
        pair: one of `samlib.images.pair_config.PAIRS`.
    Returns:
        The two records, SGD first.
    Side effects:
        Writes both into a new folder under results/local, so that every execution trains anew.
    """
    local = runs.store_for("quick").root
    local.mkdir(parents=True, exist_ok=True)
    store = Store(tempfile.mkdtemp(prefix="live-", dir=local))
    live = [runs.Run("pair", demo_config(pair, rho=rho, seed=chapter.seed)) for rho in (0.0, RADIUS)]
    return [
        record
        for run in live
        for record in runs.do([run], store, device=chapter.torch_device, data_root=chapter.data_root)
    ]


def full_scale(chapter: Chapter, name: str) -> Results:
    """Return the results of an experiment; at profile "quick" without its data, none.

    Args:
        chapter: whose parameters decide; see `Chapter.results`.
        name: a key of `edition.experiments.EXPERIMENTS`, of kind "pair" or "finetune".
    Returns:
        The results. Only "quick" needs the check: "paper" draws from records, "smoke" and all finetuning below
        "paper" train embedded sets.
    Side effects:
        Displays a box where there are no results.
    """
    configs = experiment(name).configs(chapter.profile)
    if chapter.profile == "quick" and isinstance(configs[0], PairConfig) and not _trainable(configs[0], chapter):
        absent = Results(name, chapter.profile, (), len(configs))
        display(absent.missing_box(), Markdown(HOW_TO))
        return absent
    return chapter.results(name)


def _trainable(config: PairConfig, chapter: Chapter) -> bool:
    """Whether the files of a pair are at hand."""
    try:
        load_pair(config.pair, chapter.data_root)
    except (FileNotFoundError, ValueError):
        return False
    return True
