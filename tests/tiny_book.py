"""The smallest configuration that Jupyter Book builds from, to which tests add their own parts, and its notebooks."""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

CONFIG = """\
title: Tiny
author: nobody
copyright: "2026"
only_build_toc_files: true
execute:
  execute_notebooks: "off"
"""


def write_notebook(path: Path, *cells: NotebookNode, **metadata: object) -> None:
    """Write a notebook for the kernel `python3`."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=list(cells), metadata={"kernelspec": kernel, **metadata}), path)
