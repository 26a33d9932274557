"""Fonts: those that the book brings are licensed, and its figures depend on none of the system's."""

from pathlib import Path

from matplotlib import font_manager, rcParams

from edition.figures import style

STATIC = Path(__file__).resolve().parent.parent / "book/_static"
FILES = sorted((STATIC / "fonts").glob("*.woff2"))


def test_a_licence_stands_beside_each_family():
    licences = {path.name.partition(".")[0] for path in (STATIC / "fonts").glob("*.txt")}
    assert FILES and all(any(path.name.startswith(name) for name in licences) for path in FILES)


def test_figures_use_the_font_that_matplotlib_brings_whatever_the_reader_has_set(monkeypatch):
    monkeypatch.setitem(rcParams, "font.family", ["a font of the system"])
    with style.style():
        found = font_manager.findfont(font_manager.FontProperties(), fallback_to_default=False)
    assert Path(found).name == "DejaVuSans.ttf"
