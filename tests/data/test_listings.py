"""What a set's own files say is checked before a pixel is read: each mistake has its error."""

from pathlib import Path

import pytest
import tiny_sets

from data_scripts import DataError
from data_scripts.celeba import list_celeba
from data_scripts.domains import LAYOUTS, list_domains
from data_scripts.waterbirds import list_waterbirds


def test_birds_keep_the_order_of_the_metadata(tmp_path):
    tiny_sets.waterbirds(tmp_path)
    table = list_waterbirds(tmp_path).table
    assert list(table["label"]) == [0, 0, 1, 1, 1]
    assert list(table["attribute"]) == [0, 1, 1, 0, 1]


BAD_BIRDS = {
    "label": (("a/1.jpg", 2, 0, 0), r"expected label in \[0, 1\], got 2 for a/1.jpg \(1 such row\)"),
    "split": (("a/1.jpg", 0, 7, 0), r"expected split in \[0, 1, 2\], got 7"),
    "place": (("a/1.jpg", 0, 0, -1), r"expected attribute in \[0, 1\], got -1"),
    "empty value": (("a/1.jpg", "", 0, 0), r"expected label in \[0, 1\], got nan for a/1.jpg \(1 such row\)"),
    "slip": (("a/1.jpg", "1?", 0, 0), r"expected label in \[0, 1\], got 1\? for a/1.jpg \(1 such row\)"),
    "missing image": (("a/9.jpg", 0, 0, 0), r"1 are missing \(a/9.jpg\)"),
    "twice": (("a/2.jpg", 0, 0, 0), "expected each image once, got a/2.jpg twice"),
    "twice, spelt otherwise": (("./a/2.jpg", 0, 0, 0), "expected each image once, got a/2.jpg twice"),
    "no name": (("", 0, 0, 0), "expected a row for each image, got no file name in row 1"),
    "outside": (("../../x.jpg", 0, 0, 0), r"expected images inside .*, got '\.\./\.\./x.jpg'"),
    "absolute": (("/x.jpg", 0, 0, 0), "expected images inside .*, got '/x.jpg'"),
}


@pytest.mark.parametrize(("row", "message"), BAD_BIRDS.values(), ids=BAD_BIRDS)
def test_a_bad_row_of_birds_is_named(tmp_path, row, message):
    tiny_sets.waterbirds(tmp_path, rows=(row, *tiny_sets.BIRDS[1:]))
    with pytest.raises(DataError, match=message):
        list_waterbirds(tmp_path)


def test_a_list_without_images_is_refused(tmp_path):
    tiny_sets.waterbirds(tmp_path, rows=())
    with pytest.raises(DataError, match="expected a row for each image, got no rows"):
        list_waterbirds(tmp_path)


@pytest.mark.parametrize("content", ["", "img_filename,y\na/1.jpg,0\n", "\x00\xff"])
def test_another_table_of_birds_is_refused(tmp_path, content):
    tiny_sets.waterbirds(tmp_path).write_text(content)
    with pytest.raises(DataError, match="fetch it again"):
        list_waterbirds(tmp_path)


def test_faces_of_a_subset_are_listed(tmp_path):
    tiny_sets.celeba(tmp_path)
    listing = list_celeba(tmp_path)
    assert listing.table.to_dict("list") == {
        "split": ["train", "train", "val", "test"],
        "label": [0, 1, 1, 0],
        "attribute": [0, 1, 0, 1],
        "group": [0, 3, 2, 1],
        "file": ["000001.jpg", "000002.jpg", "000004.jpg", "000005.jpg"],
    }


def without_row(folder: Path, *, count: str) -> None:
    """Leave the second face out of the attributes, whose first line says `count`."""
    _, header, *rows = tiny_sets.attribute_lines()
    (folder / "list_attr_celeba.txt").write_text("\n".join([count, header, rows[0], *rows[2:]]))


def without_pictures(folder: Path) -> None:
    for file in ("000001.jpg", "000005.jpg"):
        (folder / "img_align_celeba" / file).unlink()


BAD_FACES = {
    "fewer rows than the first line says": (
        lambda folder: without_row(folder, count="4"),
        r"list_attr_celeba.txt: expected 4 images, as its first line says, got 3",
    ),
    "no attributes": (
        lambda folder: without_row(folder, count="3"),
        r"a row for each of the 4 images .*, 1 have none \(000002.jpg\)",
    ),
    "no split": (
        lambda folder: (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 0\n000005.jpg 2\n"),
        r"list_eval_partition.txt: expected a row .* 1 have none \(000004.jpg\)",
    ),
    "no pictures": (without_pictures, r"expected the 4 images .*, 2 are missing \(000001.jpg, 000005.jpg\)"),
    "no file": (
        lambda folder: (folder / "list_eval_partition.txt").unlink(),
        r"list_eval_partition.txt: expected a file of celeba",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_FACES.values(), ids=BAD_FACES)
def test_what_is_missing_of_the_faces_is_named(tmp_path, spoil, message):
    spoil(tiny_sets.celeba(tmp_path))
    with pytest.raises(DataError, match=message):
        list_celeba(tmp_path)


@pytest.mark.parametrize("change", [lambda line: line[:-3], lambda line: line.replace("-1", "0"), lambda line: ""])
def test_a_malformed_row_of_attributes_is_named_by_its_number(tmp_path, change):
    folder = tiny_sets.celeba(tmp_path)
    lines = tiny_sets.attribute_lines()
    (folder / "list_attr_celeba.txt").write_text("\n".join([*lines[:3], change(lines[3]), *lines[4:]]))
    with pytest.raises(DataError, match=r"list_attr_celeba.txt, line 4: expected a file name and 40 values"):
        list_celeba(tmp_path)


@pytest.mark.parametrize("line", ["000002.jpg 3", "000002.jpg", "000001.jpg 0", ""])
def test_a_malformed_row_of_splits_is_named_by_its_number(tmp_path, line):
    folder = tiny_sets.celeba(tmp_path)
    (folder / "list_eval_partition.txt").write_text(f"000001.jpg 0\n{line}\n000004.jpg 1\n")
    with pytest.raises(DataError, match=r"list_eval_partition.txt, line 2: expected a new file name and 0, 1 or 2"):
        list_celeba(tmp_path)


def test_domains_and_classes_are_the_folders_and_nothing_is_split(tmp_path):
    tiny_sets.pacs(tmp_path)
    table = list_domains("pacs", tmp_path).table
    assert list(table.columns) == ["domain", "class", "file"]
    assert len(table) == 8
    assert table.iloc[0].tolist() == ["art_painting", "dog", "art_painting/dog/1.jpg"]
    assert list(table["domain"].unique()) == list(LAYOUTS["pacs"].domains)


def test_what_is_no_image_is_left_out(tmp_path):
    folder = tiny_sets.pacs(tmp_path)
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "notes.txt"):
        (folder / "photo" / "dog" / name).write_bytes(b"x")
    (folder / "photo" / ".cache").mkdir()
    (folder / "readme.txt").write_bytes(b"x")
    (folder / "extra").mkdir()
    assert len(list_domains("pacs", tmp_path).table) == 8


@pytest.mark.parametrize("spelled", ["Real World", "Real_World", "RealWorld"])
def test_office_homes_three_spellings_are_one_domain(tmp_path, spelled):
    for domain in ("Art", "Clipart", "Product", spelled):
        tiny_sets.save(tmp_path / "office_home" / domain / "Bed" / "1.png", tiny_sets.picture(0))
    table = list_domains("officehome", tmp_path).table
    assert list(table["domain"]) == ["Art", "Clipart", "Product", "Real World"]
    assert table["file"].iloc[-1] == f"{spelled}/Bed/1.png"


BAD_DOMAINS = {  # classes, what happens to the folder, words
    "missing domain": (
        ("dog", "horse"),
        lambda folder: (folder / "sketch").rename(folder / "sketches"),
        "sketch is missing, found art_painting, cartoon, photo, sketches",
    ),
    "missing class": (
        ("dog", "horse"),
        lambda folder: (folder / "cartoon" / "dog" / "1.jpg").unlink(),
        r"but cartoon has no image of dog \(dog is in art_painting, photo, sketch\)",
    ),
    "too many classes": (tuple("abcdefgh"), lambda folder: None, "expected 7 classes, got 8"),
    "no class": (
        (),
        lambda folder: [(folder / domain).mkdir(parents=True) for domain in LAYOUTS["pacs"].domains],
        "expected 7 classes, got 0",
    ),
}


@pytest.mark.parametrize(("classes", "spoil", "message"), BAD_DOMAINS.values(), ids=BAD_DOMAINS)
def test_domains_with_other_folders_than_the_sets_are_refused(tmp_path, classes, spoil, message):
    spoil(tiny_sets.pacs(tmp_path, classes=classes))
    with pytest.raises(DataError, match=message):
        list_domains("pacs", tmp_path)


def test_published_totals_are_the_literatures():
    totals = {name: sum(layout.domains.values()) for name, layout in LAYOUTS.items()}
    assert totals == {"pacs": 9_991, "officehome": 15_588, "vlcs": 10_729}


def test_faces_in_kaggles_layout_are_those_of_the_official_one(tmp_path):
    official = list_celeba(tiny_sets.celeba(tmp_path / "official").parent)
    folder = tiny_sets.celeba(tmp_path / "kaggle")
    for name, first in (("list_attr_celeba", None), ("list_eval_partition", "image_id,partition")):
        lines = (folder / f"{name}.txt").read_text().split("\n")
        lines = [first, *lines] if first else ["image_id " + lines[1], *lines[2:]]
        text = "\n".join(",".join(line.split()) for line in lines) + "\n\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8-sig")
        (folder / f"{name}.txt").unlink()
    images = folder / "img_align_celeba"
    images.rename(folder / "moved")
    images.mkdir()
    (folder / "moved").rename(images / "img_align_celeba")
    found = list_celeba(tmp_path / "kaggle")
    assert found.table.equals(official.table)
    assert all((found.folder / file).is_file() for file in found.table["file"])


@pytest.mark.parametrize("inner", ["PACS", "kfold"])
def test_domains_one_folder_too_deep_are_read(tmp_path, inner):
    folder = tiny_sets.pacs(tmp_path)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    (tmp_path / "moved").rename(folder / inner)
    (folder / "readme").mkdir()
    listing = list_domains("pacs", tmp_path)
    assert listing.folder == folder / inner
    assert len(listing.table) == 8
