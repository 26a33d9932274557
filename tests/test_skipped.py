"""A whole test run: which files go first, and the table at its end of what was skipped and why."""

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


def test_files_with_a_slow_test_go_first_and_stay_whole(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow")
    quick, slow = "def test_a(): pass", "import pytest\ndef test_b(): pass\n@pytest.mark.slow\ndef test_c(): pass"
    pytester.makepyfile(test_1=quick, test_2=slow, test_3=quick)
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--collect-only", "-q")
    order = [line for line in run.outlines if "::" in line]
    assert order == ["test_2.py::test_b", "test_2.py::test_c", "test_1.py::test_a", "test_3.py::test_a"]
