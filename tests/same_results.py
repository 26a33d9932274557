"""Compare what this working copy computes with what another one does: for whoever moves or merges code.

    python tests/same_results.py OTHER

OTHER is a checkout of an earlier revision that gave the right results. Equal must be, byte for byte: the ledger of
claims at every profile, the addresses of all runs, and metrics and arrays of every run of the profile "smoke", which
this working copy does in two parts, killed in between. Takes some ten minutes; ends with status 1 at a difference.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
PROFILES = ("paper", "quick", "smoke")
KILLED_AFTER = 30  # seconds


def command(checkout: Path, *arguments: str) -> dict[str, Any]:
    """Arguments for `subprocess`: one command of a checkout's own code, one thread."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, "-m", "samlib", *arguments], "cwd": checkout, "env": environment}


def printed(checkout: Path, *arguments: str) -> str:
    """What a command prints."""
    return subprocess.run(**command(checkout, *arguments), stdout=subprocess.PIPE, text=True, check=True).stdout


def addresses(checkout: Path) -> list[list[str]]:
    """Profile, experiment and record of every run."""
    lines = printed(checkout, "runs", "list").splitlines()
    return [[words[0], words[1], words[3]] for words in map(str.split, lines)]


def trained(checkout: Path, store: Path, *, killed: bool = False) -> dict[str, Any]:
    """Do all smoke runs; return metrics and checksums of arrays by record."""
    arguments = ("runs", "start", "--profile", "smoke", "--store", str(store))
    if killed:
        process = subprocess.Popen(**command(checkout, *arguments))
        time.sleep(KILLED_AFTER)
        process.kill()
        process.wait()
    printed(checkout, *arguments)
    found = {}
    for path in sorted(store.glob("*/*.json")):
        body = json.loads(path.read_text())
        found[f"{path.parent.name}/{path.name}"] = [body["metrics"], body.get("arrays_sha256")]
    return found


def main() -> int:
    """Compare; return the exit status."""
    other = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        before, now = trained(other, Path(folder) / "before"), trained(HERE, Path(folder) / "now", killed=True)
    different = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    equal = {f"{len(before)} smoke runs{': ' + ', '.join(different) if different else ''}": not different}
    equal["addresses of all runs"] = addresses(other) == addresses(HERE)
    for profile in PROFILES:
        claims = [printed(checkout, "claims", "--json", "--profile", profile) for checkout in (other, HERE)]
        equal[f"claims at {profile}"] = claims[0] == claims[1]
    for what, same in equal.items():
        print(f"{'equal' if same else 'DIFFERENT'}: {what}")
    return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
