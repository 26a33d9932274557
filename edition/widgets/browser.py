"""The toy network trained by the reader's own browser: one block of HTML with its style and its script inside.

Markup and style stand in `browser_panel.html` and, once a method, `browser_method.html`.
"""

import html
import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from edition.experiments.toy import base
from edition.figures import style
from samlib.config import check_choice, check_number
from samlib.toy.config import ToyConfig

LEARNING_RATES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
SCRIPTS = ("browser_toy.js", "browser_panel.js")
# Slider -> (what it says, lowest, highest, step); the learning rate slides over the positions of `LEARNING_RATES`.
SLIDERS = {
    "rho": ("radius ρ", 0.0, 2.0, 0.1),
    "complexity": ("complexity", 90.0, 720.0, 15.0),
    "learningRate": ("learning rate", 0.0, len(LEARNING_RATES) - 1.0, 1.0),
    "seed": ("seed", 0.0, 19.0, 1.0),
}


@dataclass(frozen=True)
class BrowserToy:
    """SGD and LSAM trained side by side on the toy by a script in the page; no kernel and no network is needed.

    Jupyter displays it. The same block may stand several times on one page.

    Attributes:
        rho, complexity, learning_rate, seed: where the sliders stand first.
    """

    rho: float
    complexity: float
    learning_rate: float
    seed: int

    def html(self) -> str:
        """Return the block as a page takes it: markup, style and script; equal panels give equal bytes."""
        positions = {
            "rho": self.rho,
            "complexity": self.complexity,
            "learningRate": LEARNING_RATES.index(self.learning_rate),
            "seed": self.seed,
        }
        config = base("paper")
        methods = (("sgd", "SGD", style.SGD), ("lsam", "LSAM", style.SAM))
        return _template("browser_panel.html").substitute(
            settings=html.escape(json.dumps(_settings(config))),
            sliders="".join(_slider(name, position) for name, position in positions.items()),
            n_steps=config.n_steps,
            methods="".join(
                _template("browser_method.html").substitute(name=name, title=title, colour=colour)
                for name, title, colour in methods
            ),
            sgd=style.SGD,
            lsam=style.SAM,
            script=script(),
        )

    def _repr_html_(self) -> str:
        """Let Jupyter display the block."""
        return self.html()


def train_in_browser(
    *, rho: float = 1.0, complexity: float = 360.0, learning_rate: float = 0.01, seed: int = 6
) -> BrowserToy:
    """Make a panel in which the reader's browser trains the toy network of chapter 2 with SGD and with LSAM.

    Everything but the sliders is the base setting of the chapter's experiments, and so are the defaults. The browser
    draws other random numbers than torch from the same distributions: a seed here is not the same seed there. The
    default seed is a typical one: after 3,000 steps its errors lie near the means over the slider's twenty seeds.

    Args:
        rho: perturbation radius of LSAM, parameter units, 0 to 2 in tenths; 0 is SGD.
        complexity: how far an arm of the spiral turns, degrees, 90 to 720 in steps of 15.
        learning_rate: step size of both methods, one of `LEARNING_RATES`.
        seed: whole number from 0 to 19, of data, initial weights and batch order of both methods.
    Returns:
        An object that Jupyter displays; `html()` is its block for a page.
    Raises:
        TypeError, ValueError: a value at which its slider cannot stand.

    >>> train_in_browser(rho=0.5)
    BrowserToy(rho=0.5, complexity=360.0, learning_rate=0.01, seed=6)
    """
    check_choice("learning_rate", learning_rate, LEARNING_RATES)
    for name, value in {"rho": rho, "complexity": complexity, "seed": seed}.items():
        _, low, high, step = SLIDERS[name]
        check_number(name, value, low=low, high=high, integer=name == "seed")
        if abs(value / step - round(value / step)) > 1e-9:
            raise ValueError(f"{name}: expected a multiple of {step:g}, got {value!r}; the slider stands at these only")
    return BrowserToy(rho, complexity, learning_rate, seed)


def script() -> str:
    """Return the panel's script: the engine `samlibToy`, then the panel around it."""
    return "".join(_text(name) for name in SCRIPTS)


def _text(name: str) -> str:
    """A file beside this one."""
    return files("edition.widgets").joinpath(name).read_text(encoding="utf-8")


def _template(name: str) -> Template:
    """One of the panel's two pieces of markup."""
    return Template(_text(name))


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
        "colours": {"sgd": style.SGD, "lsam": style.SAM},
    }


def _slider(name: str, position: float) -> str:
    """One range input inside its label: without an identifier, so that nothing clashes on a page."""
    label, low, high, step = SLIDERS[name]
    values = f' data-values="{html.escape(json.dumps(LEARNING_RATES))}"' if name == "learningRate" else ""
    return (
        f'<label><span>{label}<output></output></span><input type="range" name="{name}" aria-label="{label}" '
        f'min="{low:g}" max="{high:g}" step="{step:g}" value="{position:g}" autocomplete="off"{values}></label>'
    )
