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
LONG = "import sys; from edition.console import run_piped; sys.exit(run_piped(lambda: print('a\\n' * {}) or {}))"


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


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    environment = {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, **options
    )


def run_without_reader(command: list[str]) -> subprocess.CompletedProcess:
    """Run a command whose output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return run(command, stdout=writer)
    finally:
        os.close(writer)


@pytest.mark.slow
def test_a_command_whose_reader_has_gone_ends_quietly():
    done = run_without_reader(["-W", "ignore::DeprecationWarning", "-c", EACH, *MODULES])
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_long_list_ends_quietly_too():
    done = run_without_reader(["-m", "edition", "runs", "list"])
    assert (done.returncode, done.stderr) == (CLOSED, b"")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_of_any_length_ends_quietly(lines):
    assert run_without_reader(["-c", LONG.format(lines, 0)]).stderr == b""


def test_the_exit_status_is_the_commands():
    assert run(["-c", LONG.format(1, 3)], stdout=subprocess.DEVNULL).returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_an_encoding_lacks_are_replaced_and_nothing_is_lost(encoding):
    code = "import sys; from edition.console import run_piped; sys.exit(run_piped(lambda: print('a \u03c1 z') or 0))"
    done = run(["-c", code], stdout=subprocess.PIPE, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"a ? z", b"")


def test_a_broken_pipe_of_the_commands_own_is_not_hidden():
    code = (
        "import sys; from edition.console import run_piped\n"
        "def command(): raise BrokenPipeError('a socket')\n"
        "run_piped(command)"
    )
    done = run(["-c", code], stdout=subprocess.DEVNULL)
    assert done.returncode == 1 and b"a socket" in done.stderr


@pytest.mark.parametrize("module", [*MODULES, "edition.figures.overview"])
def test_help_is_shown_and_not_taken_for_an_argument(module, capsys):
    package = importlib.import_module(module)
    command = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert not stop.value.code and capsys.readouterr().out.startswith(f"usage: python -m {module} ")
