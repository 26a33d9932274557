"""A disk that is full: it is named, and every record stays as it is."""

import shutil

import harness
import pytest
import sweep
from read_only import private_mounts

from edition.records.store import Store

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


@pytest.mark.parametrize(
    ("experiment", "room", "advice"),
    [
        ("sweep_toy", 8, "make the folder writable, free some space"),  # for the record's arrays
        ("sweep_pair", 400, "free some space or make the folder writable"),  # for half a checkpoint
    ],
    ids=["record", "checkpoint"],
)
def test_a_full_disk_is_named_and_leaves_earlier_records_intact(experiment, room, advice, reference, tmp_path):
    earlier, disk, out = (tmp_path / name for name in ("earlier", "disk", "out"))
    shutil.copytree(reference, earlier)
    missing = {"sweep_toy": sweep.RUNS[2], "sweep_pair": sweep.RUNS[-1]}
    for run in missing.values():
        path = Store(earlier).path(run.kind, run.config)
        path.unlink()
        path.with_suffix(".npz").unlink(missing_ok=True)
    script = [*private_mounts(), "bash", "-c", ON_A_FULL_DISK, "bash", *map(str, (disk, earlier, room, out))]
    with harness.running(*script, *harness.start(disk, "--experiment", experiment), folder=tmp_path) as process:
        harness.finish(process)
    assert (out / "status").read_text() == "1\n"
    message = (out / "message").read_text()
    assert message.count("error:") == 1 and "Traceback" not in message
    assert f"error: {disk}" in message and "No space left on device" in message and advice in message
    before = {name: (earlier / name).read_bytes() for name in harness.files(earlier)}
    assert {name: (out / "full" / name).read_bytes() for name in before} == before
    assert harness.contents(out / "full") == harness.contents(earlier)
    done = missing[experiment].name
    assert harness.contents(out / "done") == harness.contents(earlier) | {done: harness.contents(reference)[done]}
