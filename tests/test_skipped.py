"""The table at the end of a test run: what was skipped, why, and the command that runs it."""

from pathlib import Path

pytest_plugins = ["pytester"]

SKIPS = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_data(n):
    pytest.skip("SAMLIB_DATA points at no folder")

def test_gpu():
    pytest.skip("no CUDA device on this machine")

def test_passes():
    pass
"""


def test_a_run_ends_with_what_was_skipped_by_reason_and_the_command_for_each(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(test_some=SKIPS)
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    table = run.stdout.str().partition("skipped: how many, why, and what runs them")[2].splitlines()[1:5]
    assert table == [
        "   3  SAMLIB_DATA points at no folder",
        "      export SAMLIB_DATA=FOLDER && .venv/bin/python -m pytest test_some.py",
        "   1  no CUDA device on this machine",
        "      .venv/bin/python -m pytest test_some.py",
    ]


def test_a_run_without_skips_ends_without_a_table(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile("def test_passes(): pass")
    assert "skipped" not in pytester.runpytest_subprocess("-p", "no:cacheprovider").stdout.str()
