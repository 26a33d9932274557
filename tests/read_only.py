"""A folder mounted read-only for one process alone: permissions would not bind the superuser."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
# Prints the status and the words of each command that its argument names: [module, arguments].
COMMANDS = """
import contextlib, importlib, io, json, sys
told = []
for module, arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        try:
            status = importlib.import_module(module).main(arguments)
        except SystemExit as stop:
            status = stop.code
    told.append((status, said.getvalue()))
print(json.dumps(told))
"""


def commands_told(folder: Path, *commands: tuple[str, list[str]], **environment: str) -> list[tuple[int, str]]:
    """Do commands one after the other in a process that cannot write to a folder.

    Args:
        folder: exists.
        commands: a module and what its `main` is given.
        environment: set besides this process's own.
    Returns:
        Exit status and output of each. Where the system allows no such mount, the test is skipped.
    """

    def run(*command: str) -> subprocess.CompletedProcess:
        mounted = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, str(folder), *command]
        own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(mounted, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False)

    try:
        allowed = run("true").returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs a read-only mount: this system allows none in a namespace of its own (unshare)")
    done = run(sys.executable, "-c", COMMANDS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    return [(status, said) for status, said in json.loads(done.stdout.splitlines()[-1])]
