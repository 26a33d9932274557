"""Commands whose output goes through a pipe."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edition.console import CLOSED

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    "edition",
    "edition.publish",
    "edition.bench",
    "data_scripts.fetch",
    "data_scripts.prepare",
    "data_scripts.check",
]
PIPED = "import sys; from edition.console import run_piped; sys.exit(run_piped(lambda: {}))"
# Runs each module as `python -m MODULE --help` does, in a child of one process that has done the slow imports.
EACH = """
import os, runpy, sys
import edition.runs, edition.claims.ledger
for module in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv = [module, "--help"]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert os.waitstatus_to_exitcode(os.wait()[1]) in (0, 141), module
"""


def run(*command: str, **options) -> tuple[int, bytes, bytes]:
    """Exit status, output and errors of a Python process; the output goes nowhere else."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    options = {"stdout": subprocess.PIPE} | options
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def closed():
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.slow
def test_every_command_whose_reader_has_gone_ends_quietly(closed):
    assert run("-W", "ignore::DeprecationWarning", "-c", EACH, *MODULES, stdout=closed) == (0, None, b"")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_of_any_length_ends_quietly(lines, closed):
    command = PIPED.format(rf"print('a\n' * {lines})")
    assert run("-c", command, stdout=closed) == (CLOSED, None, b"")


def test_a_command_without_an_output_ends_as_it_would_with_one():
    shell = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, PIPED.format("3")]
    done = subprocess.run(shell, cwd=ROOT, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (3, b"")


def test_the_exit_status_is_the_commands():
    assert run("-c", PIPED.format("3")) == (3, b"", b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_an_encoding_lacks_are_replaced_and_nothing_is_lost(encoding):
    command = PIPED.format("print('a \u03c1 z')")
    assert run("-c", command, env={"PYTHONIOENCODING": encoding}) == (0, b"a ? z\n", b"")


def test_a_broken_pipe_of_the_commands_own_is_not_hidden():
    code = "from edition.console import run_piped\ndef command(): raise BrokenPipeError('a socket')\nrun_piped(command)"
    status, _, told = run("-c", code)
    assert status == 1 and b"a socket" in told


@pytest.mark.parametrize("module", [*MODULES, "edition.figures.overview"])
def test_help_is_shown_and_not_taken_for_an_argument(module, capsys):
    package = importlib.import_module(module)
    command = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert not stop.value.code and capsys.readouterr().out.startswith(f"usage: python -m {module} ")
