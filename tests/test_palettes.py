"""Colours: one meaning each, readable on white, and apart for readers with a common colour blindness."""

import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from edition.claims.space import space
from edition.figures import mechanism
from edition.figures import space as figures
from edition.figures.style import PALETTES
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


def test_contrast_and_distance_are_those_that_can_be_worked_out():
    assert contrast("#000000") == pytest.approx(21) and contrast("#ffffff") == pytest.approx(1)
    assert np.linalg.norm(lab(linear("#ffffff")) - lab(linear("#000000"))) == pytest.approx(100, abs=0.1)


def test_no_two_meanings_share_a_colour():
    assert len({colour.lower() for colour in ALL}) == len(ALL)


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
    axes = [panel for panel in figure.axes if panel.get_legend()]
    found = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, tuple) else handle
            found[label] = to_hex(line.get_color())
    return found


def test_figures_draw_a_meaning_in_its_colour():
    table = read("phantom_terms", "paper").table
    terms = legend_colours(mechanism.phantom_terms(table, read("complexity", "paper").table))
    assert terms["importance weights only"] == PALETTES["factor"]["importance weights"].lower()
    assert terms["learning rates only"] == PALETTES["factor"]["learning rates"].lower()
    assert terms["SGD"] == PALETTES["method"]["SGD"].lower()
    curves = legend_colours(figures.redrawn(space(read("search", "paper").records)))
    for label, meaning in {"phantom": "parameters", "real": "parameters", "easy": "feature", "hard": "feature"}.items():
        assert curves[label] == PALETTES[meaning][label].lower()
    plt.close("all")
