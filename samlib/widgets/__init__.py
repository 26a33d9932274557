"""Figures with sliders: live in JupyterLab, precomputed frames in a page without a kernel."""

from samlib.widgets.browser import BrowserToy, train_in_browser
from samlib.widgets.frames import Frames, slider, sliders
from samlib.widgets.from_records import gain_explorer, target_explorer
from samlib.widgets.panels import (
    contour_explorer,
    importance_explorer,
    phantom_explorer,
    ratio_explorer,
)
from samlib.widgets.training import TrainingPanel, train_yourself

__all__ = [
    "BrowserToy",
    "Frames",
    "TrainingPanel",
    "contour_explorer",
    "gain_explorer",
    "importance_explorer",
    "phantom_explorer",
    "ratio_explorer",
    "slider",
    "sliders",
    "target_explorer",
    "train_in_browser",
    "train_yourself",
]
