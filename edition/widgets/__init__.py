"""Figures with sliders: live in JupyterLab, precomputed frames in a page without a kernel."""

from edition.widgets.browser import BrowserToy, train_in_browser
from edition.widgets.frames import Frames, sliders
from edition.widgets.from_records import gain_explorer, measure_explorer, setting_explorer, target_explorer
from edition.widgets.panels import (
    contour_explorer,
    importance_explorer,
    phantom_explorer,
    ratio_explorer,
)
from edition.widgets.training import TrainingPanel, train_yourself

__all__ = [
    "BrowserToy",
    "Frames",
    "TrainingPanel",
    "contour_explorer",
    "gain_explorer",
    "importance_explorer",
    "measure_explorer",
    "phantom_explorer",
    "ratio_explorer",
    "setting_explorer",
    "sliders",
    "target_explorer",
    "train_in_browser",
    "train_yourself",
]
