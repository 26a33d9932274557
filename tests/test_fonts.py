"""The fonts that the book brings: light, licensed, found from the pages, and in charge of text, code and figures."""

import re
from pathlib import Path

from matplotlib import font_manager, rcParams

from edition.figures import style

STATIC = Path(__file__).resolve().parent.parent / "book/_static"
CSS = (STATIC / "custom.css").read_text()
FILES = sorted((STATIC / "fonts").glob("*.woff2"))


def test_every_font_is_named_by_a_relative_address_and_none_is_left_over():
    named = re.findall(r"url\(\"([^\"]*)\"\)", CSS)
    assert sorted({STATIC / address for address in named}) == FILES


def test_each_of_the_themes_families_begins_with_a_font_of_the_book():
    own = set(re.findall(r"font-family: (\"[^\"]*\");", CSS))
    families = dict(re.findall(r"--pst-font-family-(\w+): ([^,;]*)", CSS))
    assert families.pop("heading") == "var(--pst-font-family-base)"
    assert set(families) == {"base", "monospace"} and set(families.values()) <= own


def test_a_licence_stands_beside_each_family():
    licences = {path.name.partition(".")[0] for path in (STATIC / "fonts").glob("*.txt")}
    assert all(any(path.name.startswith(name) for name in licences) for path in FILES)


def test_figures_use_the_font_that_matplotlib_brings_whatever_the_reader_has_set(monkeypatch):
    monkeypatch.setitem(rcParams, "font.family", ["a font of the system"])
    with style.style():
        found = font_manager.findfont(font_manager.FontProperties(), fallback_to_default=False)
    assert Path(found).name == "DejaVuSans.ttf"
