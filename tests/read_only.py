"""A folder mounted read-only for one process alone: permissions would not bind the superuser."""

import contextlib
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


def private_mounts() -> list[str]:
    """The command that lets a script mount what nobody else sees; where the system has none, the test is skipped."""
    for command in (["unshare", "--mount", "--map-root-user"], ["unshare", "--mount"]):
        with contextlib.suppress(FileNotFoundError):
            mount = [*command, "mount", "-t", "tmpfs", "tmpfs", str(ROOT)]
            if subprocess.run(mount, capture_output=True).returncode == 0:
                return command
    pytest.skip("needs a mount of its own: this system allows none in a namespace of its own (unshare)")


def commands_told(folder: Path, *commands: tuple[str, list[str]], **environment: str) -> list[tuple[int, str]]:
    """Do commands one after the other in a process that cannot write to a folder.

    Args:
        folder: exists.
        commands: a module and what its `main` is given.
        environment: set besides this process's own.
    Returns:
        Exit status and output of each.
    """

    mounted = [*private_mounts(), "sh", "-c", MOUNT, str(folder), sys.executable, "-c", COMMANDS, json.dumps(commands)]
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(mounted, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(status, said) for status, said in json.loads(done.stdout.splitlines()[-1])]
