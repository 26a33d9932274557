"""The examples in the docstrings of every module."""

import doctest
import importlib
import pkgutil

import pytest

import data_scripts
import edition
import samlib

MODULES = sorted(
    module.name
    for package in (samlib, edition, data_scripts)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name, capsys):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0, capsys.readouterr().out
