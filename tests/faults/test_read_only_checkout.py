"""A copy of the repository that cannot be written to: reading works, and what writes says in one message what to do."""

from pathlib import Path

from read_only import ROOT, commands_told

START = ["runs", "start", "--profile", "smoke", "--device", "cpu", "--experiment", "checkpoints"]


def test_reading_works_and_each_command_that_writes_says_what_to_do(tmp_path: Path) -> None:
    status, start, elsewhere, bench, book = commands_told(
        ROOT,
        ("edition.__main__", ["runs", "status", "--profile", "smoke"]),
        ("edition.__main__", START),
        ("edition.__main__", [*START, "--store", str(tmp_path)]),
        ("edition.bench.__main__", ["all", "--record"]),
        ("edition.publish.__main__", ["book"]),
        SAMLIB_RESULTS="",
    )
    assert (status[0], elsewhere[0]) == (0, 0) and "2 recorded" in elsewhere[1]
    advice = {start: "SAMLIB_RESULTS", bench: "copy the repository", book: "copy the repository"}
    for (code, said), word in advice.items():
        (message,) = said.strip().splitlines()
        assert code == 1 and "Read-only file system" in message and word in message
