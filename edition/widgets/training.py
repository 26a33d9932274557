"""A panel that trains one toy network at the press of a button; without a kernel it is a slider over radii."""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.figures.toy_setup import draw_contour
from edition.widgets.frames import Frames, both_forms, picture
from edition.widgets.panels import COMPLEXITY, RHO, Trained, contour_explorer, quick_network, train_networks
from samlib.toy.config import ToyConfig
from samlib.toy.network import FEATURES

MAX_STEPS = 15_000  # about three seconds on one core


def train_yourself(
    rhos: Sequence[float] = (0.0, 0.5, 1.0),
    *,
    complexity: float = 360.0,
    seed: int = 0,
    n_steps: int | None = None,
) -> "TrainingPanel":
    """Make the panel: live, the reader trains a network; in a page, frames over a few radii stand for it.

    Args:
        rhos: radii of the frames.
        complexity: degrees; of the frames, and where the live slider stands first.
        seed: root seed; of the frames, and where the live slider stands first.
        n_steps: descent steps of the frames; None for the quick profile's.
    Returns:
        An object that Jupyter displays.
    """
    frames = contour_explorer(rhos, (complexity,), seed=seed, n_steps=n_steps)
    return TrainingPanel(frames, quick_network(seed, n_steps).vary(complexity=complexity, rho=rhos[0]))


class TrainingPanel:
    """Sliders for one network's training, a button that trains it, and the contours that it gave.

    Args:
        frames: what a page without a kernel shows.
        start: constants of every training, and where the sliders stand first.
    Attributes:
        rho, complexity, n_steps, seed: the sliders.
        button, bar, message, picture: what starts the training, shows how far it is, and shows its result.
    """

    def __init__(self, frames: Frames, start: ToyConfig) -> None:
        self._frames, self._start = frames, start
        look: dict[str, Any] = {
            "continuous_update": False,
            "style": {"description_width": "11rem"},
            "layout": {"width": "min(100%, 34rem)"},
        }
        self.rho = widgets.FloatSlider(start.rho, min=0, max=2, step=0.1, description=RHO, **look)
        self.complexity = widgets.FloatSlider(
            start.data.complexity, min=90, max=720, step=15, readout_format=".0f", description=COMPLEXITY, **look
        )
        self.n_steps = widgets.IntSlider(
            start.n_steps, min=min(1000, start.n_steps), max=MAX_STEPS, step=500, description="steps", **look
        )
        self.seed = widgets.IntSlider(start.seeds[0], min=0, max=9, description="seed", **look)
        self.button = widgets.Button(description="Train", button_style="primary")
        self.bar = widgets.IntProgress(layout={"width": "min(100%, 24rem)"})
        self.message = widgets.HTML()
        self.picture = widgets.HTML(frames.pictures[frames.initial].html())
        self.button.on_click(self._train)

    @property
    def config(self) -> ToyConfig:
        """The training that the sliders ask for.

        Raises:
            ValueError: a slider's value that the configuration refuses.
        """
        return self._start.vary(
            rho=self.rho.value, complexity=self.complexity.value, n_steps=self.n_steps.value, seeds=(self.seed.value,)
        )

    def live(self) -> widgets.VBox:
        """Return the live panel."""
        sliders = (self.rho, self.complexity, self.n_steps, self.seed)
        return widgets.VBox([*sliders, widgets.HBox([self.button, self.bar]), self.message, self.picture])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the live panel and the static frames, for one output."""
        return both_forms(self.live(), self._frames)

    def _train(self, _button: widgets.Button) -> None:
        """Train and show the result, or say in one line why it failed."""
        self.button.disabled, self.message.value = True, ""
        try:
            self.bar.value, self.bar.max = 0, self.n_steps.value
            (network,) = train_networks([self.config], progress=self._advance)
            self.picture.value = picture(lambda: draw_training(network), summary(network)).html()
            self.message.value = f"<p>{html.escape(summary(network))}</p>"
        except (TypeError, ValueError, RuntimeError) as error:
            self.message.value = f'<p role="alert"><strong>{html.escape(" ".join(str(error).split()))}</strong></p>'
        finally:
            self.button.disabled = False

    def _advance(self, n_steps: int) -> None:
        """Move the progress bar."""
        self.bar.value += n_steps


def draw_training(network: Trained) -> Figure:
    """Draw the contours of both features of one trained network."""
    config = network.point.config
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.7))
    for feature, panel in enumerate(axes):
        draw_contour(panel, *network.point.member(config.seeds[0]), feature)
        panel.set_title(f"{FEATURES[feature]} feature")
    figure.suptitle(
        f"ρ = {config.rho:g}, {config.data.complexity:g}°, {config.n_steps:,} steps, seed {config.seeds[0]}"
    )
    return figure


def summary(network: Trained) -> str:
    """Say in one sentence what a training gave: errors, and both ratios averaged over it."""
    config, metrics = network.point.config, network.metrics
    return (
        f"After {config.n_steps:,} steps of {network.point.method} (ρ = {config.rho:g}, {config.data.complexity:g}°, "
        f"seed {config.seeds[0]}): probing error {metrics['final_easy_error'][0]:.1%} for the easy feature and "
        f"{metrics['final_hard_error'][0]:.1%} for the hard one; mean ratio of hard to easy over the training "
        f"{metrics['real_ratio'][0]:.2f} real and {metrics['phantom_ratio'][0]:.2f} phantom."
    )
