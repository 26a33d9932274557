"""Chapter 1's pictures of the annotated photographs, where their prepared images are at hand."""

import html
from collections.abc import Callable
from pathlib import Path

from IPython.display import HTML, Image, display

from edition.figures.table_one import group_samples
from edition.widgets.frames import photograph
from samlib.images.photograph_config import FinetuneConfig
from samlib.images.photograph_splits import attribute_splits
from samlib.images.prepared import PreparedSet
from samlib.images.train_photographs import load_images

# Of group = 2 label + attribute.
GROUP_NAMES = {
    "waterbirds": ("land bird on land", "land bird on water", "water bird on land", "water bird on water"),
    "celeba": ("dark hair, female", "dark hair, male", "blond, female", "blond, male"),
    "digits_on_patches": ("0 on first photograph", "0 on second", "1 on first photograph", "1 on second"),
}
# CelebA's terms: its images are not to be published or passed on.
AVERAGED = ("celeba",)


def images_or_box(load: Callable[[], PreparedSet], root: Path | None, words: str) -> PreparedSet | None:
    """Load a prepared set; where it is not at hand, display a box that says how to get it and return None.

    Args:
        load: loads it.
        root: folder of the real data sets, None where there is none; its path is not shown.
        words: what the box begins with.
    Raises:
        ValueError: the prepared set is there and damaged.
    """
    try:
        return load()
    except (FileNotFoundError, ValueError) as error:
        if root is not None and not isinstance(error, FileNotFoundError):
            raise
        told = (str(error).replace(str(root), "the data folder") if root else str(error)).removeprefix("root: ")
        display(HTML(f'<div class="missing-record"><p><strong>{words}:</strong> {html.escape(told)}</p></div>'))
        return None


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
    data = images_or_box(lambda: load_images(config, root), root, f"No images of {config.image_set} at hand")
    if data is None:
        return
    splits = attribute_splits(data, config)
    rows = {"training": splits.train.tolist(), "probe test": splits.test.tolist()}
    averaged = config.image_set in AVERAGED
    names = GROUP_NAMES[config.image_set]
    display(Image(photograph(lambda: group_samples(data, rows, config.features, names, averaged=averaged))))
