"""Trainers that may not be installed: a test module that needs one is skipped and says so."""

import importlib
import warnings
from types import ModuleType

import pytest


def required(name: str) -> ModuleType:
    """Import a trainer, past its own warnings, or skip the module that asks."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed ({error}): pip install '.[trainers]'", allow_module_level=True)
