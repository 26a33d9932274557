"""A disk that is full, files that were damaged, kills between two operations on files: every record stays as it is."""

import json
import shutil
import subprocess
import sys

import harness
import numpy as np
import pytest
import sweep

from edition.__main__ import main
from edition.experiments import EXPERIMENTS
from edition.records.store import RecordError, Store

# Does the sweep on a disk with ROOM kilobytes left, copies the disk to OUT/full, makes room, and does it again. Only
# this script and its children see the disk, which is gone with them.
ON_A_FULL_DISK = """
set -eu
disk=$1 earlier=$2 room=$3 out=$4
shift 4
mkdir -p "$disk" "$out"
mount -t tmpfs -o size=4096k tmpfs "$disk"
cp -a "$earlier/." "$disk"
used=$(df -k --output=used "$disk" | tail -n 1)
mount -o remount,size=$((used + room))k "$disk"
"$@" 2> "$out/message" && echo 0 > "$out/status" || echo $? > "$out/status"
cp -a "$disk/." "$out/full"
mount -o remount,size=8192k "$disk"
"$@"
cp -a "$disk/." "$out/done"
"""


def private_mounts(folder) -> list[str]:
    """The command that lets a script mount what nobody else sees, tried on a folder; where there is none, skip."""
    for command in (["unshare", "--mount", "--map-root-user"], ["unshare", "--mount"]):
        try:
            mount = [*command, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
            allowed = subprocess.run(mount, capture_output=True).returncode == 0
        except FileNotFoundError:
            break
        if allowed:
            return command
    pytest.skip("needs a small disk: this system allows no mount in a namespace of its own (unshare)")


@pytest.fixture
def earlier(reference, tmp_path):
    """A store with the records of some runs: one short training is missing, and one long."""
    shutil.copytree(reference, tmp_path / "earlier")
    for run in (sweep.RUNS[2], sweep.RUNS[-1]):
        path = Store(tmp_path / "earlier").path(run.kind, run.config)
        path.unlink()
        path.with_suffix(".npz").unlink(missing_ok=True)
    return tmp_path / "earlier"


@pytest.mark.parametrize(
    ("experiment", "room", "advice"),
    [
        ("sweep_toy", 8, "make the folder writable, free some space"),  # for the record's arrays
        ("sweep_pair", 400, "free some space or make the folder writable"),  # for half a checkpoint
    ],
    ids=["record", "checkpoint"],
)
def test_a_full_disk_is_named_and_leaves_earlier_records_intact(experiment, room, advice, reference, earlier, tmp_path):
    disk, out = tmp_path / "disk", tmp_path / "out"
    script = [
        *private_mounts(tmp_path),
        "bash",
        "-c",
        ON_A_FULL_DISK,
        "bash",
        str(disk),
        str(earlier),
        str(room),
        str(out),
    ]
    with harness.running(*script, *harness.start(disk, "--experiment", experiment), folder=tmp_path) as process:
        harness.finish(process)
    assert (out / "status").read_text() == "1\n"
    message = (out / "message").read_text()
    assert message.count("error:") == 1 and "Traceback" not in message
    assert f"error: {disk}" in message and "No space left on device" in message and advice in message
    before = {name: (earlier / name).read_bytes() for name in harness.files(earlier)}
    assert {name: (out / "full" / name).read_bytes() for name in before} == before
    assert harness.contents(out / "full") == harness.contents(earlier)
    missing = {"sweep_toy": sweep.RUNS[-1], "sweep_pair": sweep.RUNS[2]}[experiment]
    expected = {name: value for name, value in harness.contents(reference).items() if name != missing.name}
    assert harness.contents(out / "done") == expected


def test_a_kill_before_any_file_operation_loses_nothing(tmp_path):
    script = [sys.executable, str(harness.FOLDER / "every_step.py"), str(tmp_path / "stores")]
    with harness.running(*script, folder=tmp_path) as process:
        told = harness.finish(process)
    moments, problems = told.split(" moments; problems: ")
    assert problems == "none\n", told
    assert int(moments) > 20


@pytest.fixture
def command(reference, tmp_path, monkeypatch, capsys):
    """The command line in this process, on a copy of the reference's store."""
    store = tmp_path / "store"
    shutil.copytree(reference, store)
    for name, item in sweep.EXPERIMENTS.items():
        monkeypatch.setitem(EXPERIMENTS, name, item)

    def run(name: str, *options: str) -> tuple[int, str]:
        status = main(["runs", name, "--store", str(store), "--experiment", "sweep_toy", *options])
        told = capsys.readouterr()
        return status, told.out + told.err

    return store, run


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path) -> None:
    body = json.loads(path.read_text())
    body["metrics"]["final_hard_error"][0] += 0.01
    path.write_text(json.dumps(body))


def replace(path) -> None:
    """Put valid arrays of the same names and shapes in the place of others."""
    with np.load(path) as file:
        arrays = {name: array + 1 for name, array in file.items()}
    np.savez_compressed(path, **arrays)


DAMAGES = {
    "truncated record": (truncate, ".json"),
    "empty record": (lambda path: path.write_bytes(b""), ".json"),
    "edited record": (edit, ".json"),
    "truncated arrays": (truncate, ".npz"),
    "other arrays": (replace, ".npz"),
    "no arrays": (lambda path: path.unlink(), ".npz"),
}


@pytest.mark.parametrize(("damage", "suffix"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_named_and_refused_and_nothing_is_written(damage, suffix, command):
    store, run = command
    path = Store(store).path(sweep.RUNS[1].kind, sweep.RUNS[1].config).with_suffix(suffix)
    damage(path)
    before = {name: (store / name).read_bytes() for name in harness.files(store)}
    for name in ("status", "list", "verify", "start"):
        status, told = run(name)
        assert status == 1, told
        assert f"error: {path}: expected" in told, told
    assert {name: (store / name).read_bytes() for name in harness.files(store)} == before
    with pytest.raises(RecordError, match=path.name):
        harness.contents(store)


def test_an_undamaged_store_is_accepted_by_every_command(command):
    _, run = command
    assert run("status")[0] == 0
    assert run("start") == (0, "nothing to do\n")
    status, told = run("verify")
    assert status == 0 and "3 of 3 runs as recorded" in told
