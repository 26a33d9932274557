"""The toy network trained by the reader's own browser: one block of HTML with its style and its script inside.

Markup and style stand in `browser_panel.html` and, once a method, `browser_method.html`.
"""

import html
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import NamedTuple

from edition.experiments.toy import base
from edition.figures import style
from samlib.config import check_choice
from samlib.toy.config import ToyConfig

LEARNING_RATES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
RATIOS = (0.25, 0.5, 0.85, 1.0, 1.5, 2.0, 3.0)
TERMS = ("importance weights", "learning rates", "both")
VECTORS = ("fixed", "phantom", "permuted")  # as in samlib.toy.config.Intervention
CHOICES: dict[str, tuple[object, ...]] = {
    "learningRate": LEARNING_RATES,
    "vector": VECTORS,
    "ratio": RATIOS,
    "term": TERMS,
}
SCRIPTS = ("browser_toy.js", "browser_panel.js")
# Slider -> (what it says, lowest, highest, step); those of `CHOICES` slide over the positions of a list.
SLIDERS = {
    "rho": ("radius ρ", 0.0, 2.0, 0.1),
    "complexity": ("complexity", 90.0, 720.0, 15.0),
    "learningRate": ("learning rate", 0.0, len(LEARNING_RATES) - 1.0, 1.0),
    "seed": ("seed", 0.0, 19.0, 1.0),
    "vector": ("v̂ is", 0.0, len(VECTORS) - 1.0, 1.0),
    "ratio": ("fixed ratio c", 0.0, len(RATIOS) - 1.0, 1.0),
    "term": ("in the", 0.0, len(TERMS) - 1.0, 1.0),
}
# Where the sliders stand first. The seed is a typical one: after 3,000 steps its errors lie near the means over twenty.
START = {"rho": 1.0, "complexity": 360.0, "learningRate": 0.01, "seed": 6}
PICTURES = {
    "plane": (
        "LSAM in the plane of v",
        "Plane of v easy and v hard: LSAM's v, the last steps to its phantom, both ratios",
    ),
    "real-weights": ("LSAM: examples by real weight", "Hard feature's examples, each as large as its real weight"),
    "phantom-weights": ("LSAM: by phantom weight", "Hard feature's examples, each as large as its phantom weight"),
    "ratio": ("Ratio of hard to easy", "Line plot: ratio of v hard to v easy along the training"),
    "lorenz": (
        "Lorenz curve, most important first",
        "Lorenz curves of the importance weights, most important first; the dotted diagonal: all equal",
    ),
}


class View(NamedTuple):
    """What one view shows: its sliders, two large pictures ("sgd" and "lsam" are methods), its plots, its legend."""

    sliders: tuple[str, ...]
    large: tuple[str, str]
    plots: tuple[str, ...]
    lines: tuple[str, str] = ("LSAM", "LSAM's phantom")


VIEWS = {
    "toy": View(("rho", "complexity", "learningRate", "seed"), ("sgd", "lsam"), ("ratio", "lorenz")),
    "phantom": View(("rho", "complexity", "seed"), ("plane", "lsam"), ("ratio",)),
    "weights": View(("rho", "complexity", "seed"), ("real-weights", "phantom-weights"), ("lorenz",)),
    "ratio": View(("vector", "ratio", "term", "seed"), ("sgd", "lsam"), ("ratio",), ("intervention's v", "its v̂")),
}


@dataclass(frozen=True)
class BrowserToy:
    """SGD and LSAM trained side by side on the toy by a script in the page; no kernel and no network is needed.

    Jupyter displays it. The same block may stand several times on one page.

    Attributes:
        view: one of `VIEWS`.
    """

    view: str = "toy"

    def html(self) -> str:
        """Return the block as a page takes it: markup, style and script; equal panels give equal bytes."""
        positions = START | {
            "learningRate": LEARNING_RATES.index(START["learningRate"]),
            "vector": VECTORS.index("fixed"),
            "ratio": RATIOS.index(3.0),  # far above LSAM's own, where the learning rates alone do it
            "term": TERMS.index("learning rates"),
        }
        config, view = base("paper"), VIEWS[self.view]
        return Template(_text("browser_panel.html")).substitute(
            settings=html.escape(json.dumps(_settings(config) | {"values": START})),
            sliders="".join(_slider(name, positions[name]) for name in view.sliders),
            n_steps=config.n_steps,
            pictures="".join(map(_large, view.large)),
            plots="\n".join(map(_picture, view.plots)),
            sgd=style.SGD,
            lsam=style.SAM,
            phantom=style.PHANTOM,
            second=view.lines[0],
            third=view.lines[1],
            script=script(),
        )

    def _repr_html_(self) -> str:
        return self.html()


def train_in_browser(*, view: str = "toy") -> BrowserToy:
    """Make a panel in which the reader's browser trains the toy network of chapter 2 with SGD and with LSAM.

    Everything but the sliders is the base setting of the chapter's experiments, and so is where these stand first. The
    browser draws other random numbers than torch from the same distributions: a seed here is not the same seed there.

    Args:
        view: what is shown: "toy" (contours of both methods), "phantom" (the plane of v), "weights" (the examples by
            importance, and Lorenz curves), or "ratio" (Eqs 8-10 in place of LSAM: v-hat at a fixed ratio,
            or the phantom of the batch or of another one).
    Raises:
        ValueError: there is no such view.

    >>> train_in_browser(view="weights")
    BrowserToy(view='weights')
    """
    check_choice("view", view, tuple(VIEWS))
    return BrowserToy(view)


def _large(name: str) -> str:
    """One large picture: a method's contours with its errors, or a canvas alone."""
    methods = {"sgd": ("SGD", style.SGD), "lsam": ("LSAM", style.SAM)}
    if name not in methods:
        return _picture(name)
    title, colour = methods[name]
    return Template(_text("browser_method.html")).substitute(name=name, title=title, colour=colour)


def _picture(name: str) -> str:
    """One canvas below its caption."""
    caption, alt = PICTURES[name]
    return (
        f'<div class="picture"><div class="caption">{caption}</div>'
        f'<canvas data-part="{name}" role="img" aria-label="{alt}"></canvas></div>'
    )


def script() -> str:
    """Return the panel's script: the engine `samlibToy`, then the panel around it."""
    return "".join(_text(name) for name in SCRIPTS)


def _text(name: str) -> str:
    """A file beside this one."""
    return files("edition.widgets").joinpath(name).read_text(encoding="utf-8")


def _settings(config: ToyConfig) -> dict[str, object]:
    """What the script takes from the chapter's base setting, in the script's names."""
    return {
        "hidden": config.hidden,
        "lastLayerInit": config.last_layer_init,
        "batchSize": config.batch_size,
        "nSteps": config.n_steps,
        "nTrain": config.data.n_train,
        "nTest": config.data.n_test,
        "easyScale": config.data.easy_scale,
        "hardScale": config.data.hard_scale,
        "uniformNoise": config.data.uniform_noise,
        "easyRange": (config.data.easy_gap, 1.0),
        "innerRadius": config.data.inner_radius,
        "colours": {"sgd": style.SGD, "lsam": style.SAM, "real": style.REAL, "phantom": style.PHANTOM},
    }


def _slider(name: str, position: float) -> str:
    """One range input inside its label: without an identifier, so that nothing clashes on a page."""
    label, low, high, step = SLIDERS[name]
    values = f' data-values="{html.escape(json.dumps(CHOICES[name]))}"' if name in CHOICES else ""
    return (
        f'<label><span>{label}<output></output></span><input type="range" name="{name}" aria-label="{label}" '
        f'min="{low:g}" max="{high:g}" step="{step:g}" value="{position:g}" autocomplete="off"{values} '
        'data-lm-suppress-shortcuts="true"></label>'  # JupyterLab leaves the arrow keys to the slider
    )
