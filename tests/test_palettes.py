"""Colours: one meaning each, readable on white, apart for the colour-blind; and fonts, none of the system's."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager, rcParams
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from edition.claims.space import space
from edition.figures import mechanism
from edition.figures import space as figures
from edition.figures.style import NEUTRAL, PALETTES, style
from edition.runs.results import read

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SEEN_AS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all cones": np.eye(3).tolist(),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(1)


def linear(colour: str) -> np.ndarray:
    """Linear RGB of an sRGB colour."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    share = TO_XYZ @ rgb.clip(0, 1) / WHITE
    part = np.where(share > 216 / 24389, np.cbrt(share), share * 841 / 108 + 4 / 29)
    return np.array([116 * part[1] - 16, 500 * (part[0] - part[1]), 200 * (part[1] - part[2])])


def contrast(colour: str) -> float:
    """Contrast with white, 1 to 21."""
    return 1.05 / (float(TO_XYZ[1] @ linear(colour)) + 0.05)


ALL = [colour for palette in PALETTES.values() for colour in palette.values()]


def test_no_two_meanings_share_a_colour():
    assert len({colour.lower() for colour in (*ALL, NEUTRAL)}) == len(ALL) + 1


@pytest.mark.parametrize("colour", ALL)
def test_a_colour_stands_out_from_white(colour):
    assert contrast(colour) >= 3.0


@pytest.mark.parametrize("eyes", SEEN_AS)
@pytest.mark.parametrize("meaning", PALETTES)
def test_the_colours_of_a_palette_are_apart_for_every_reader(meaning, eyes):
    seen = [lab(np.array(SEEN_AS[eyes]) @ linear(colour)) for colour in PALETTES[meaning].values()]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


def legend_colours(figure: Figure) -> dict[str, str]:
    """Label -> colour, of the lines and bars with intervals in a figure's legends."""
    found = {}
    for panel in [panel for panel in figure.axes if panel.get_legend()]:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found[label] = to_hex((handle[0] if isinstance(handle, tuple) else handle).get_color()).upper()
    plt.close(figure)
    return found


def test_figures_draw_a_meaning_in_its_colour():
    table, complexity = (read(name, "paper").table for name in ("phantom_terms", "complexity"))
    found = legend_colours(mechanism.phantom_terms(table, complexity))
    found |= legend_colours(figures.redrawn(space(read("search", "paper").records)))
    factors = {f"{factor} only": colour for factor, colour in PALETTES["factor"].items()}
    expected = factors | PALETTES["parameters"] | PALETTES["feature"] | {"SGD": PALETTES["method"]["SGD"]}
    assert {label: found[label] for label in expected} == expected


def test_a_licence_stands_beside_each_family_of_fonts():
    fonts = Path(__file__).resolve().parent.parent / "book/_static/fonts"
    licences = tuple(path.name.partition(".")[0] for path in fonts.glob("*.txt"))
    files = [path.name for path in fonts.glob("*.woff2")]
    assert files and [name for name in files if not name.startswith(licences)] == []


def test_figures_use_the_font_that_matplotlib_brings_whatever_the_reader_has_set(monkeypatch):
    monkeypatch.setitem(rcParams, "font.family", ["a font of the system"])
    with style():
        found = font_manager.findfont(font_manager.FontProperties(), fallback_to_default=False)
    assert Path(found).name == "DejaVuSans.ttf"
