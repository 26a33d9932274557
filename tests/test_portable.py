"""The check of chapters on other processors: its environments differ, and a page that hangs on them fails."""

import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_output
from tiny_book import write_notebook

SCRIPT = Path(__file__).parent / "portable.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "status"), [("int(os.environ['OMP_NUM_THREADS']) > 0", 0), ("os.environ['OMP_NUM_THREADS']", 1)]
)
def test_a_chapter_whose_output_hangs_on_the_machine_fails(tmp_path, source, status):
    shown = new_output("execute_result", {"text/plain": "True" if not status else "'1'"}, execution_count=1)
    metadata = {"tags": ["nbval-check-output"]}
    cell = new_code_cell(f"import os\n{source}", execution_count=1, outputs=[shown], metadata=metadata)
    path = tmp_path / "chapter.ipynb"
    write_notebook(path, cell)
    run = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stdout + run.stderr
    assert run.stdout.count("under OMP_NUM_THREADS") == 2
