"""What moves: a slider over precomputed frames, the toy trained in the browser, and a panel for JupyterLab."""

from edition.widgets.browser import BrowserToy, train_in_browser
from edition.widgets.frames import Frames, slider
from edition.widgets.from_records import gain_explorer, measure_explorer, setting_explorer, target_explorer
from edition.widgets.training import TrainingPanel, train_yourself

__all__ = [
    "BrowserToy",
    "Frames",
    "TrainingPanel",
    "gain_explorer",
    "measure_explorer",
    "setting_explorer",
    "slider",
    "target_explorer",
    "train_in_browser",
    "train_yourself",
]
