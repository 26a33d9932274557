"""The data sets, one row each.

To add a set of photographs or domains: its row here, and for photographs a file in `data_scripts` that says what its
official release looks like on the disk (`list_NAME`). Configurations, splits, preparation and pictures read the row.
"""

from typing import NamedTuple


class Pair(NamedTuple):
    """Two features that are put above each other (`samlib.images.tiles.load_pair`).

    Attributes:
        n_classes: of either feature.
        n_images: images with equal class sizes in the training split: the smaller block's smallest class times the
            classes.
    """

    n_classes: int
    n_images: int


class PhotographSet(NamedTuple):
    """Photographs with two annotations, a label and an attribute, each 0 or 1.

    Attributes:
        features: names of the two features: the label, which is trained on, and the attribute.
        n_train: training images of the official release; those of an embedded set are all that it has.
        groups: names of the groups 0 to 3; group = 2 label + attribute.
        published: whether its terms allow single images to be shown in the book.
        embedded: whether it is drawn from scikit-learn's samples, without files.
    """

    features: tuple[str, str]
    n_train: int
    groups: tuple[str, str, str, str]
    published: bool = True
    embedded: bool = False


class DomainSet(NamedTuple):
    """Images of the same classes in several domains.

    Attributes:
        title: its name in print.
        domains: images of each domain in the official release, in DomainBed's order; those of an embedded set are all
            that it has.
        n_classes: classes, the same in each domain.
        folders: names that its folder may have, DomainBed's first; none where the set is embedded.
    """

    title: str
    domains: dict[str, int]
    n_classes: int
    folders: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether it is drawn from scikit-learn's digits, without files."""
        return not self.folders


PAIRS = {"cifar_mnist": Pair(2, 10_000), "fmnist_mnist": Pair(5, 29_210), "digits_patches": Pair(2, 5_936)}
PHOTOGRAPHS = {
    "waterbirds": PhotographSet(
        ("bird", "background"),
        4795,
        ("land bird on land", "land bird on water", "water bird on land", "water bird on water"),
    ),
    "celeba": PhotographSet(
        ("hair", "gender"),
        162_770,
        ("dark hair, female", "dark hair, male", "blond, female", "blond, male"),
        published=False,  # its images are not to be published or passed on
    ),
    "digits_on_patches": PhotographSet(
        ("digit", "patch"),
        1200,
        ("0 on first photograph", "0 on second", "1 on first photograph", "1 on second"),
        embedded=True,
    ),
}
DOMAINS = {
    "pacs": DomainSet("PACS", {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}, 7, ("PACS",)),
    "officehome": DomainSet(
        "OfficeHome",
        {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
        65,
        ("office_home", "OfficeHomeDataset_10072016"),
    ),
    "vlcs": DomainSet("VLCS", {"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376}, 5, ("VLCS",)),
    "digit_domains": DomainSet("digits", {"plain": 450, "inverted": 449, "thick": 449, "noisy": 449}, 10),
}
