"""The search on a Dask cluster: real workers, and rates that follow from the seconds."""

import subprocess
import sys

import pytest

from edition.bench import cluster
from edition.figures import performance
from edition.runs.schedule import Summary

# In a process of its own, with the start of a script: workers are started anew and look for one.
SCRIPT = """
from edition.bench.cluster import measure_cluster
from samlib.search import SearchConfig

if __name__ == "__main__":
    chunks = [SearchConfig(first, 1, n_steps=20, n_test=20, seeds=(0, 1)) for first in (0, 1)]
    (row,) = measure_cluster(workers=(1,), chunks=chunks, rounds=1)
    print(row["workers"], row["settings"], row["seconds"] * row["settings_per_s"], row["ratio"])
"""


@pytest.mark.slow
def test_a_search_on_a_real_cluster_is_timed(tmp_path):
    (tmp_path / "measure.py").write_text(SCRIPT)
    told = subprocess.run([sys.executable, str(tmp_path / "measure.py")], capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    workers, settings, product, ratio = map(float, told.stdout.split())
    assert (workers, settings, ratio) == (1, 2, 1) and product == pytest.approx(2)


def test_a_chunk_that_fails_on_the_cluster_is_no_measurement(monkeypatch):
    monkeypatch.setattr(cluster, "Cluster", lambda address: None)
    monkeypatch.setattr(cluster.runs, "start", lambda *_, **__: Summary(failed={"search": OSError("gone")}))
    with pytest.raises(RuntimeError, match=r"expected 8 chunks, got errors: .*gone"):
        cluster._timed("tcp://nowhere", cluster.CHUNKS)


def test_the_table_has_settings_a_minute():
    row = {"workers": 2, "settings": 40, "seconds": 20.0, "settings_per_s": 2.0, "ratio": 1.96}
    assert performance.cluster_table([row]).iloc[0].tolist() == [2, 40, "20.0 s", "120", 1.96]
