"""Run every chapter under nbval as other processors would: `make portable`, or this file with chapters as arguments.

Each run turns the last bits of what a chapter computes another way: without the wide vectors of torch or of numpy, with
one thread or two. nbval compares both runs with the committed outputs, so with each other.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDE = ("AVX512", "X86_V4")  # how numpy's names of the features of wide vectors begin


def wide_features() -> list[str]:
    """Return the wide vectors that numpy uses on this processor and can do without; it warns of any other."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return [feature for feature in found if feature.startswith(WIDE)]


def environments() -> list[dict[str, str]]:
    """Return what each run sets."""
    narrow = {"ATEN_CPU_CAPABILITY": "default"}
    features = wide_features()
    without = {"NPY_DISABLE_CPU_FEATURES": " ".join(features)} if features else {}
    return [{"OMP_NUM_THREADS": "1"} | narrow | without, {"OMP_NUM_THREADS": "2"} | without]


def main(chapters: list[str]) -> int:
    """Run the chapters once in each environment; return 1 if an output differed, with pytest's report above.

    Args:
        chapters: their files; none means all.
    """
    chapters = chapters or [str(path) for path in sorted((ROOT / "book").glob("*.ipynb"))]
    failed = False
    for changed in environments():
        print("under", " ".join(f"{name}='{value}'" for name, value in changed.items()), flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", *chapters]
        environment = os.environ | {"PYTHONHASHSEED": "0"} | changed
        failed |= subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
