"""The check of chapters on other processors: its environments differ, and a page that hangs on them fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "portable.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "status"), [("int(os.environ['OMP_NUM_THREADS']) > 0", 0), ("os.environ['OMP_NUM_THREADS']", 1)]
)
def test_a_chapter_whose_output_hangs_on_the_machine_fails(tmp_path, source, status):
    output = {
        "output_type": "execute_result",
        "execution_count": 1,
        "metadata": {},
        "data": {"text/plain": "True" if not status else "'1'"},
    }
    cell = {"cell_type": "code", "id": "one", "execution_count": 1, "outputs": [output]}
    cell |= {"metadata": {"tags": ["nbval-check-output"]}, "source": f"import os\n{source}"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "chapter.ipynb"
    path.write_text(json.dumps(notebook))
    run = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stdout + run.stderr
    assert run.stdout.count("under OMP_NUM_THREADS") == 2
