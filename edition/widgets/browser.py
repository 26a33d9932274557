"""The toy network trained by the reader's own browser: one block of HTML with its style and its script inside."""

import html
import json
from dataclasses import dataclass
from importlib.resources import files

from edition.experiments.toy import base
from edition.figures import style
from samlib.config import check_choice, check_number
from samlib.toy.data import EASY_RANGE, INNER_RADIUS

LEARNING_RATES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
SCRIPTS = ("browser_toy.js", "browser_panel.js")
# Slider -> (what it says, lowest, highest, step); the learning rate slides over the positions of `LEARNING_RATES`.
SLIDERS = {
    "rho": ("radius ρ", 0.0, 2.0, 0.1),
    "complexity": ("complexity", 90.0, 720.0, 15.0),
    "learningRate": ("learning rate", 0.0, len(LEARNING_RATES) - 1.0, 1.0),
    "seed": ("seed", 0.0, 19.0, 1.0),
}

_STYLE = """<style>
.browser-toy { container-type: inline-size; margin: 1rem 0; line-height: 1.35; font-size: 0.95em; }
.browser-toy .controls, .browser-toy .pictures { display: grid; gap: 0.5rem 1rem; }
.browser-toy .controls { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.browser-toy label { display: block; }
.browser-toy label span { display: flex; justify-content: space-between; gap: 0.5rem; }
.browser-toy output { font-variant-numeric: tabular-nums; font-weight: 600; }
.browser-toy input { width: 100%; min-height: 1.75rem; margin: 0; accent-color: #0072b2; }
.browser-toy .buttons { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem; margin: 0.35rem 0 0.5rem; }
.browser-toy button { font: inherit; min-width: 5.5rem; min-height: 2rem; padding: 0 0.75rem; cursor: pointer; }
.browser-toy button { border: 1px solid; border-radius: 4px; }
.browser-toy progress { flex: 1 1 8rem; accent-color: #0072b2; }
.browser-toy button:focus-visible, .browser-toy input:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
.browser-toy .pictures { grid-template-columns: 1fr 1fr; align-items: end; }
.browser-toy .picture { min-width: 0; }
.browser-toy .caption { margin: 0 0 0.2rem; font-size: 0.9em; }
.browser-toy canvas { display: block; width: 100%; aspect-ratio: 1; background: #fff; border-radius: 4px; }
.browser-toy .small { display: grid; grid-template-columns: 1fr 2fr; gap: 0.5rem; margin-top: 0.5rem; }
.browser-toy dl { display: grid; grid-template-columns: auto auto; gap: 0 0.5rem; margin: 0; align-content: center; }
.browser-toy :is(dt, dd) { margin: 0; padding: 0; font-weight: 400; font-size: 0.85em; }
.browser-toy dd { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.browser-toy .key { display: inline-block; width: 1.4em; border-top: 3px solid; vertical-align: 0.25em; }
.browser-toy .key.dashed { border-top-style: dashed; }
.browser-toy .legend { grid-column: 1 / -1; margin: 0; font-size: 0.9em; }
.browser-toy .plots { grid-column: 1 / -1; display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem 1.25rem; }
.browser-toy .plots { align-items: end; }
.browser-toy .status { margin: 0.75rem 0 0; font-size: 0.9em; min-height: 4em; }
@container (min-width: 34rem) {
  .browser-toy .pictures { grid-template-columns: 1fr 1fr 1fr; align-items: start; }
  .browser-toy .plots { grid-column: auto; grid-template-columns: 1fr; }
  .browser-toy .plots canvas { aspect-ratio: 1.8; }
}
</style>"""


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
        controls = "".join(_slider(name, position) for name, position in positions.items())
        settings = html.escape(json.dumps(_settings()))
        return (
            f'{_STYLE}<div class="browser-toy" data-settings="{settings}"><div class="controls">{controls}</div>'
            f"{_buttons()}{_pictures()}"
            '<p class="status" data-part="status" role="status" aria-live="polite">'
            "This panel trains both networks in your browser; it needs JavaScript.</p></div>"
            f"<script>\n{script()}</script>"
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
    folder = files("edition.widgets")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)


def _settings() -> dict[str, object]:
    """What the script takes from the chapter's base setting, in the script's names."""
    config = base("paper")
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
        "easyRange": EASY_RANGE,
        "innerRadius": INNER_RADIUS,
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


def _buttons() -> str:
    """The two buttons and how far the training is."""
    return (
        '<div class="buttons"><button type="button" data-part="train">Train</button>'
        '<button type="button" data-part="restart">Restart</button>'
        f'<progress data-part="progress" max="{base("paper").n_steps}" value="0" aria-label="steps done"></progress>'
        "</div>"
    )


def _pictures() -> str:
    """The canvases: both features of both methods, the ratios and the Lorenz curves."""
    methods = "".join(_method(*names) for names in (("sgd", "SGD", style.SGD), ("lsam", "LSAM", style.SAM)))
    sgd, lsam, dashed = (
        f'<span class="key{kind}" style="color:{colour}"></span>'
        for kind, colour in (("", style.SGD), ("", style.SAM), (" dashed", style.SAM))
    )
    return (
        f'<div class="pictures">{methods}<div class="plots">'
        f'<p class="legend">{sgd} SGD, {dashed} LSAM, {lsam} LSAM\'s phantom</p>'
        '<div class="picture"><div class="caption">Ratio of hard to easy</div>'
        f"{_canvas('ratio', 'Line plot: ratio of v hard to v easy along the training')}</div>"
        '<div class="picture"><div class="caption">Lorenz curve of importance</div>'
        f"{_canvas('lorenz', 'Lorenz curves of the importance weights; the dotted diagonal: all equal')}</div>"
        "</div></div>"
    )


def _method(name: str, title: str, colour: str) -> str:
    """One method's column: the hard feature, the easy one below it, and the errors beside that."""
    errors = "".join(
        f'<dt>{label}</dt><dd data-part="{name}-{part}-error">–</dd>'
        for part, label in (("hard", "hard error"), ("easy", "easy error"), ("label", "label error"))
    )
    hard, easy = (
        _canvas(f"{name}-{feature}", f"Contour of the {feature} feature's probe, trained by {title}, with the data")
        for feature in ("hard", "easy")
    )
    return (
        f'<div class="picture"><div class="caption"><span class="key" style="color:{colour}"></span> '
        f'<strong data-part="{name}-title">{title}</strong>, hard feature</div>{hard}'
        f'<div class="small">{easy}<dl>{errors}</dl></div></div>'
    )


def _canvas(part: str, description: str) -> str:
    """One canvas with a description; what it shows at the moment stands in the line below the panel."""
    return f'<canvas data-part="{part}" role="img" aria-label="{description}"></canvas>'
