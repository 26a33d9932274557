"""PACS, Office-Home and VLCS in DomainBed's layout: a folder a domain, in it a folder a class, in it images."""

from pathlib import Path

import pandas as pd

from data_scripts import DataError
from data_scripts.listing import Listing, require_folder
from data_scripts.sources import plain_name
from samlib.images.catalogue import DOMAINS, DomainSet

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}  # as torchvision does


LAYOUTS = {name: row for name, row in DOMAINS.items() if not row.embedded}


def list_domains(name: str, root: Path) -> Listing:
    """Read which image is of which domain and class, from the folders' names; nothing is split.

    Copies that lie one folder deeper (PACS/PACS, PACS/kfold) are read, too.

    Args:
        name: one of `LAYOUTS`.
        root: the data folder.
    Returns:
        Columns domain, class, file; sorted by domain, class and file name.
    Raises:
        DataError: a domain is missing, or a class is in some domains only.
    """
    layout = LAYOUTS[name]
    folder = require_folder((root / path for path in layout.folders), name, root)
    folder = _one_deeper(folder, layout)
    there = {plain_name(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    if missing := [domain for domain in layout.domains if plain_name(domain) not in there]:
        found = ", ".join(path.name for path in there.values()) or "nothing"
        raise DataError(
            f"{folder}: expected a folder for each domain of {', '.join(layout.domains)}; {', '.join(missing)} is "
            f"missing, found {found}; move the folder away and fetch {name} again"
        )
    rows = [row for domain in layout.domains for row in _rows(domain, there[plain_name(domain)])]
    table = pd.DataFrame(rows, columns=["domain", "class", "file"])
    _same_classes(folder, table, layout)
    return Listing(folder, table, ("domain",), layout.domains, "squash", 256)


def _one_deeper(folder: Path, layout: DomainSet) -> Path:
    """Return the one folder inside that holds all domains, as in PACS/PACS or PACS/kfold; else the folder itself."""
    wanted = {plain_name(domain) for domain in layout.domains}

    def holds_them(place: Path) -> bool:
        return wanted <= {plain_name(path.name) for path in place.iterdir() if path.is_dir()}

    if holds_them(folder):
        return folder
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and holds_them(path)]
    return inside[0] if len(inside) == 1 else folder


def _rows(domain: str, folder: Path) -> list[tuple[str, str, str]]:
    """List a domain's images; hidden files and files of other kinds are no images."""
    return [
        (domain, path.parent.name, path.relative_to(folder.parent).as_posix())
        for kind in sorted(folder.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for path in sorted(kind.iterdir())
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]


def _same_classes(folder: Path, table: pd.DataFrame, layout: DomainSet) -> None:
    """Refuse a class that has no image in one of the domains."""
    classes = {domain: set(table["class"][table["domain"] == domain]) for domain in layout.domains}
    everywhere = set().union(*classes.values())
    for domain, found in classes.items():
        if absent := sorted(everywhere - found):
            others = [other for other in classes if absent[0] in classes[other]]
            raise DataError(
                f"{folder}: expected the same classes in each domain, but {domain} has no image of "
                f"{', '.join(absent)} ({absent[0]} is in {', '.join(others)}); fetch the set again"
            )
    if len(everywhere) > layout.n_classes or not everywhere:
        raise DataError(
            f"{folder}: expected {layout.n_classes} classes, got {len(everywhere)} ({', '.join(sorted(everywhere))}); "
            f"remove the folders that are no classes"
        )
