"""A panel in JupyterLab that trains one toy network with the library at the press of a button."""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition.experiments.toy import base
from edition.figures.toy_setup import draw_contour
from edition.records.kept import KeptNetworks
from edition.widgets.frames import picture
from samlib.toy.config import ToyConfig
from samlib.toy.network import FEATURES, Weights
from samlib.toy.training import Progress, train_toy

MAX_STEPS = 15_000  # about three seconds on one core
COMPLEXITY = "complexity (degrees)"
STATIC = "<p><em>Opened in JupyterLab, this place holds four sliders and a button that trains.</em></p>"


class Trained(NamedTuple):
    """One toy network after its training: its final state and what was measured (one seed)."""

    point: KeptNetworks
    metrics: dict[str, Any]


def train_networks(configs: Sequence[ToyConfig], *, progress: Progress = lambda steps: None) -> list[Trained]:
    """Train one network per configuration, all together, and keep its last state.

    Args:
        configs: configurations of one shape with one seed each.
        progress: called with the number of steps just done.
    Raises:
        ValueError: a network diverged, or what `train_toy` refuses.
    """
    kept = [config.vary(checkpoints=(config.n_steps,), n_snapshots=1) for config in configs]
    found = []
    for config, result in zip(kept, train_toy(kept, progress=progress), strict=True):
        if result.metrics["diverged"][0]:
            raise ValueError(
                f"training: expected finite weights, got others after {config.n_steps} steps at rho = {config.rho:g}; "
                f"choose a smaller radius"
            )
        weights = Weights(*(torch.from_numpy(result.arrays[name][0]) for name in Weights._fields))
        found.append(Trained(KeptNetworks(config, config.n_steps, weights), result.metrics))
    return found


def quick_network(seed: int, n_steps: int | None = None) -> ToyConfig:
    """Return the quick profile's configuration with one seed, and with other descent steps where they are given."""
    start = base("quick")
    return start.vary(seeds=(seed,), n_snapshots=1, n_steps=start.n_steps if n_steps is None else n_steps)


def train_yourself(*, seed: int = 0, n_steps: int | None = None) -> "TrainingPanel":
    """Make the panel in which the reader trains a network with the library; a page says that it needs JupyterLab.

    Args:
        seed, n_steps: where their sliders stand first; None for the quick profile's steps.
    """
    return TrainingPanel(quick_network(seed, n_steps).vary(complexity=360.0, rho=1.0))


class TrainingPanel:
    """Sliders for one network's training, a button that trains it, and the contours that it gave.

    Args:
        start: constants of every training, and where the sliders stand first.
    Attributes:
        rho, complexity, n_steps, seed: the sliders.
        button, bar, message, picture: what starts the training, shows how far it is, and shows its result.
    """

    def __init__(self, start: ToyConfig) -> None:
        self._start = start
        look: dict[str, Any] = {
            "continuous_update": False,
            "style": {"description_width": "11rem"},
            "layout": {"width": "min(100%, 34rem)"},
        }
        self.rho = widgets.FloatSlider(start.rho, min=0, max=2, step=0.1, description="perturbation radius ρ", **look)
        self.complexity = widgets.FloatSlider(
            start.data.complexity, min=90, max=720, step=15, readout_format=".0f", description=COMPLEXITY, **look
        )
        few, many = min(1000, start.n_steps), max(MAX_STEPS, start.n_steps)
        self.n_steps = widgets.IntSlider(start.n_steps, min=few, max=many, step=500, description="steps", **look)
        self.seed = widgets.IntSlider(start.seeds[0], min=0, max=max(9, start.seeds[0]), description="seed", **look)
        self.button = widgets.Button(description="Train", button_style="primary")
        self.bar = widgets.IntProgress(layout={"width": "min(100%, 24rem)"})
        self.message = widgets.HTML()
        self.picture = widgets.HTML()
        self.button.on_click(self._train)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the live panel, and the line that stands for it in a page, for one output."""
        sliders = (self.rho, self.complexity, self.n_steps, self.seed)
        live = widgets.VBox([*sliders, widgets.HBox([self.button, self.bar]), self.message, self.picture])
        return {**live._repr_mimebundle_(), "text/html": STATIC, "text/plain": "a panel that trains a network"}

    def _train(self, _button: widgets.Button) -> None:
        """Train and show the result, or say in one line why it failed."""
        self.button.disabled, self.message.value = True, ""
        try:
            self.bar.value, self.bar.max = 0, self.n_steps.value
            at = {"rho": self.rho.value, "complexity": self.complexity.value, "n_steps": self.n_steps.value}
            config = self._start.vary(**at, seeds=(self.seed.value,))
            (network,) = train_networks([config], progress=self._advance)
            self.picture.value = picture(lambda: draw_training(network), summary(network)).html()
            self.message.value = f"<p>{html.escape(summary(network))}</p>"
        except (TypeError, ValueError, RuntimeError) as error:
            self.message.value = f'<p role="alert"><strong>{html.escape(" ".join(str(error).split()))}</strong></p>'
        finally:
            self.button.disabled = False

    def _advance(self, n_steps: int) -> None:
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
