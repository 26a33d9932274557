"""What a set's own files say is checked before a pixel is read: each mistake has its error."""

import shutil
from pathlib import Path

import pytest
import tiny_sets

from data_scripts import DataError
from data_scripts.domains import LAYOUTS
from data_scripts.listing import require_folder
from data_scripts.prepare import LISTINGS

COUNT, HEADER, *ROWS = tiny_sets.attribute_lines()
ATTRIBUTES, SPLITS = "list_attr_celeba.txt", "list_eval_partition.txt"


def deeper(folder: Path, name: str) -> Path:
    """Move what a folder holds into a folder inside it."""
    folder.rename(moved := folder.with_name("moved"))
    folder.mkdir()
    return moved.rename(folder / name)


def test_faces_of_a_subset_are_listed_in_kaggles_layout_too(tmp_path):
    folder = tiny_sets.celeba(tmp_path)
    rows = (folder / SPLITS).read_text().splitlines()
    (folder / SPLITS).write_text("\n".join(rows), encoding="utf-8-sig")  # some editors put a mark before the first name
    official = LISTINGS["celeba"](tmp_path)
    assert official.table.to_dict("list") == {
        "split": ["train", "train", "val", "test"],
        "label": [0, 1, 1, 0],
        "attribute": [0, 1, 0, 1],
        "group": [0, 3, 2, 1],
        "file": ["000001.jpg", "000002.jpg", "000004.jpg", "000005.jpg"],
    }
    for name, lines in ((ATTRIBUTES, [f"image_id {HEADER}", *ROWS]), (SPLITS, ["image_id partition", *rows])):
        text = "\n".join(",".join(line.split()) for line in lines) + "\n\n"
        (folder / name).with_suffix(".csv").write_text(text)
        (folder / name).unlink()
    images = deeper(folder / "img_align_celeba", "img_align_celeba")
    found = LISTINGS["celeba"](tmp_path)
    assert found.table.equals(official.table) and found.folder == images


@pytest.mark.parametrize("inner", [None, "PACS", "kfold"])
def test_domains_and_classes_are_the_folders_and_what_is_no_image_is_left_out(tmp_path, inner):
    folder = tiny_sets.pacs(tmp_path)
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "notes.txt"):
        (folder / "photo" / "dog" / name).write_bytes(b"x")
    tiny_sets.save(folder / "photo" / ".cache" / "1.jpg", tiny_sets.picture(0))
    if inner:
        folder = deeper(folder, inner)
        (folder.parent / "extra").mkdir()
    (folder / "readme.txt").write_bytes(b"x")
    (folder / "extra").mkdir()
    listing = LISTINGS["pacs"](tmp_path)
    rows = [(domain, kind, f"{domain}/{kind}/1.jpg") for domain in LAYOUTS["pacs"].domains for kind in ("dog", "horse")]
    assert list(listing.table.columns) == ["domain", "class", "file"]
    assert list(listing.table.itertuples(index=False, name=None)) == rows and listing.folder == folder


@pytest.mark.parametrize("spelled", ["Real World", "Real_World", "RealWorld"])
def test_office_homes_three_spellings_are_one_domain(tmp_path, spelled):
    for domain in ("Art", "Clipart", "Product", spelled):
        tiny_sets.save(tmp_path / "office_home" / domain / "Bed" / "1.png", tiny_sets.picture(0))
    table = LISTINGS["officehome"](tmp_path).table
    assert list(table["domain"]) == ["Art", "Clipart", "Product", "Real World"]
    assert table["file"].iloc[-1] == f"{spelled}/Bed/1.png"


def test_published_totals_are_the_literatures():
    totals = {name: sum(layout.domains.values()) for name, layout in LAYOUTS.items()}
    assert totals == {"pacs": 9_991, "officehome": 15_588, "vlcs": 10_729}


def put(name: str, *lines: str):
    """Write a text file of a set anew."""
    return lambda folder: (folder / name).write_text("\n".join(lines))


def bird(*row):
    """Change the first row of the birds: file, label, split, place."""
    return lambda folder: tiny_sets.waterbirds(folder.parent, rows=(row, *tiny_sets.BIRDS[1:]))


def face(line: str):
    """Change the second row of the faces' attributes."""
    return put(ATTRIBUTES, COUNT, HEADER, ROWS[0], line, *ROWS[2:])


def split(line: str):
    """Change the second row of the faces' splits."""
    return put(SPLITS, "000001.jpg 0", line, "000005.jpg 2")


def without(pattern: str):
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


def classes(*names: str):
    """Add a folder with an image to each domain."""
    return lambda folder: [shutil.copytree(dog, dog.with_name(name)) for dog in folder.glob("*/dog") for name in names]


ROW, SPLIT = f"{ATTRIBUTES}, line 4: expected a file name and 40 values", f"{SPLITS}, line 2: expected a new file name"
MISTAKES = {  # set: what is wrong -> what makes it so, words
    "waterbirds: label": (bird("a/1.jpg", 2, 0, 0), r"expected label in \[0, 1\], got 2 for a/1.jpg \(1 such row\)"),
    "waterbirds: split": (bird("a/1.jpg", 0, 7, 0), r"expected split in \[0, 1, 2\], got 7"),
    "waterbirds: place": (bird("a/1.jpg", 0, 0, -1), r"expected attribute in \[0, 1\], got -1"),
    "waterbirds: empty value": (bird("a/1.jpg", "", 0, 0), r"label in \[0, 1\], got nan for a/1.jpg \(1 such row\)"),
    "waterbirds: slip": (bird("a/1.jpg", "1?", 0, 0), r"label in \[0, 1\], got 1\? for a/1.jpg \(1 such row\)"),
    "waterbirds: missing image": (bird("a/9.jpg", 0, 0, 0), r"1 are missing \(a/9.jpg\)"),
    "waterbirds: twice, spelt otherwise": (bird("./a/2.jpg", 0, 0, 0), "each image once, got a/2.jpg twice"),
    "waterbirds: no name": (bird("", 0, 0, 0), "expected a row for each image, got no file name in row 1"),
    "waterbirds: outside": (bird("../../x.jpg", 0, 0, 0), r"expected images inside .*, got '\.\./\.\./x.jpg'"),
    "waterbirds: absolute": (bird("/x.jpg", 0, 0, 0), "expected images inside .*, got '/x.jpg'"),
    "waterbirds: no rows": (put("metadata.csv", "img_filename,y,split,place"), "each image, got no rows"),
    "waterbirds: empty table": (put("metadata.csv"), "expected a table.*fetch it again"),
    "waterbirds: no table": (put("metadata.csv", "\x00\xff"), "fetch it again"),
    "waterbirds: columns": (put("metadata.csv", "img_filename,y", "a/1.jpg,0"), "'split', 'place'. are missing; fetch"),
    "celeba: another file": (put(ATTRIBUTES, "no", "names"), f"{ATTRIBUTES}: expected a number of rows and names"),
    "celeba: no text": (lambda folder: (folder / SPLITS).write_bytes(b"\xff"), f"{SPLITS}: expected text, could not"),
    "celeba: fewer rows than said": (put(ATTRIBUTES, "5", HEADER, *ROWS), "expected 5 images, as its first .* got 4"),
    "celeba: no attributes": (put(ATTRIBUTES, "3", HEADER, *ROWS[1:]), r"4 images .*, 1 have none \(000001.jpg\)"),
    "celeba: row cut": (face(ROWS[1][:-3]), ROW),
    "celeba: other values": (face(ROWS[1].replace("-1", "0")), ROW),
    "celeba: empty row": (face(""), ROW),
    "celeba: no split": (split("000002.jpg 0"), rf"{SPLITS}: expected a row .* 1 have none \(000004.jpg\)"),
    "celeba: unknown split": (split("000002.jpg 3"), SPLIT),
    "celeba: split missing in a row": (split("000002.jpg"), SPLIT),
    "celeba: a face's split twice": (split("000001.jpg 0"), SPLIT),
    "celeba: empty row of splits": (split(""), SPLIT),
    "celeba: no file": (without(SPLITS), f"{SPLITS}: expected a file of celeba"),
    "celeba: no pictures": (without("*/*1.jpg"), r"expected the 4 images .*, 1 are missing \(000001.jpg\)"),
    "pacs: missing domain": (lambda folder: (folder / "photo").rename(folder / "old"), "photo is missing, .* old, sk"),
    "pacs: missing class": (without("cartoon/dog/*"), r"cartoon has no image of dog \(dog is in art_painting, photo"),
    "pacs: too many classes": (classes(*"abcdef"), "expected 7 classes, got 8"),
    "pacs: no class": (without("*/*/*"), "expected 7 classes, got 0"),
}
MAKE = {
    "waterbirds": lambda root: tiny_sets.waterbirds(root).parent,
    "celeba": tiny_sets.celeba,
    "pacs": tiny_sets.pacs,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_sets_own_files_is_named(tmp_path, mistake):
    name = mistake.partition(":")[0]
    spoil, message = MISTAKES[mistake]
    spoil(MAKE[name](tmp_path))
    with pytest.raises(DataError, match=message):
        LISTINGS[name](tmp_path)


def test_a_set_that_is_downloaded_names_its_command_and_ones_own_does_not(tmp_path):
    for name, advice in (("pacs", r"run `python -m data_scripts.fetch pacs --root "), ("my_birds", "put it there$")):
        with pytest.raises(DataError, match=f"expected the folder of {name}, found none; {advice}"):
            require_folder([tmp_path / name], name, tmp_path)
