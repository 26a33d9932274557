"""What holds for all tests: slow files go first; at the end of a run, what was skipped, why, and how to run it."""

from collections import defaultdict
from pathlib import Path

import pytest

# A word of the reason -> what has to be done before the tests can run; the first that fits. The rest needs another
# machine, which the reason names.
FIRST = {
    "SAMLIB_DATA": "export SAMLIB_DATA=FOLDER",
    "make book": "make book",
    "hromium": ".venv/bin/playwright install chromium",
    "samlib[": ".venv/bin/pip install -e '.[benchmark]'",
    ".[trainers]": ".venv/bin/pip install -c requirements.txt -e '.[trainers]'",
    "numba": ".venv/bin/pip install numba",
}


SLOW = ("faults", "trainers")  # folders in which every test is slow


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the slow tests their folders are not even imported: what the trainers bring takes half a minute."""
    return True if config.option.markexpr == "not slow" and collection_path.name in SLOW else None


@pytest.hookimpl(trylast=True)  # when the folders have marked their tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that take minutes first, so that no process of several ends long after the others."""
    slow = {item.path for item in items if item.path.suffix == ".ipynb" or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print for each reason how many tests were skipped, and the command that runs them.

    pytest-xdist's workers have no terminal and print none.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2]  # after file and line
        files[reason.removeprefix("Skipped: ").strip()].append(report.nodeid.partition("::")[0])
    lines = []
    for reason, found in sorted(files.items()):
        before = next((f"{command} && " for word, command in FIRST.items() if word in reason), "")
        command = f"{before}.venv/bin/python -m pytest {' '.join(sorted(set(found)))}"
        lines += [f"{len(found):4}  {reason}", f"      {command}"]
    if terminalreporter.config.option.markexpr == "not slow":
        lines += ["   .. slow: faults, trainers, several processes", "      make test ALL=1"]
    if lines:
        terminalreporter.section("skipped: how many, why, and what runs them")
        terminalreporter.write("\n".join(lines) + "\n")
