"""The public repository, where there is one: its address, the buttons that lead there, the chapters Colab opens."""

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell

from edition.publish.execute import write_notebook
from edition.publish.layout import Layout, chapters

BRANCH = "main"
LAUNCH_BRANCH = "launch"  # holds the chapters with a set-up cell; the workflow that publishes the pages pushes it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
REMOTE = re.compile(rf"(?:https://github\.com/|(?:ssh://)?git@github\.com[:/])({NAME.pattern}?)(?:\.git)?/?")
# Colab's own notebook server stays: replacing it under a running session breaks that session.
SETUP = """\
# Colab opens a chapter without its repository: fetch that, and install the libraries that numbers depend on.
!git clone --quiet --depth 1 https://github.com/{name}
!sed '/^# the book/,$d' {folder}/requirements.txt > numerics.txt
%pip install --quiet -r numerics.txt
%cd {folder}
import sys
sys.path.insert(0, ".")"""


def repository_name(root: Path) -> str | None:
    """Find the GitHub repository that the pages should lead to.

    Returns:
        "owner/name", from the environment variable GITHUB_REPOSITORY, or else from the address of the remote
        `origin` where that is on github.com; None where neither says.
    Raises:
        ValueError: GITHUB_REPOSITORY is set to something else than owner/name.
    """
    if named := os.environ.get("GITHUB_REPOSITORY"):
        if not NAME.fullmatch(named):
            raise ValueError(f"GITHUB_REPOSITORY: expected owner/name, got {named!r}; correct it, or unset it")
        return named
    # `root` may lie inside another checkout, whose address is not the book's.
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    address = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    found = REMOTE.fullmatch(address)
    return found[1] if found else None


def with_buttons(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Add the repository, edit, issue and launch buttons to a book's configuration.

    Args:
        config: what `_config.yml` holds; not changed.
        name: "owner/name" on GitHub.
    """
    buttons = ("use_repository_button", "use_edit_page_button", "use_issues_button")
    return copy.deepcopy(config) | {
        "repository": {"url": f"https://github.com/{name}", "branch": BRANCH},
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
        "html": {**config.get("html", {}), **dict.fromkeys(buttons, True)},
    }


def write_launch_copies(layout: Layout, name: str | None) -> Path | None:
    """Write the staged chapters with a set-up cell in front, for the branch that the Colab buttons lead to.

    Args:
        layout: the folders; its chapters are staged.
        name: "owner/name" on GitHub; None where there is no public repository.
    Returns:
        The folder of the copies, `layout.work / "launch"`, or None where `name` is.
    Side effects: replaces that folder.
    """
    folder = layout.work / "launch"
    shutil.rmtree(folder, ignore_errors=True)
    if name is None:
        return None
    source = SETUP.format(name=name, folder=name.partition("/")[2])
    for chapter in chapters(layout.root):
        notebook: Any = nbformat.read(layout.stage / chapter, as_version=4)
        notebook.cells.insert(0, new_code_cell(source, id="set-up"))
        write_notebook(folder / chapter, notebook)
    return folder
