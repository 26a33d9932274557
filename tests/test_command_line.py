"""The command line: runs and claims, on a registry of tiny experiments and made-up claims; and once for real."""

import functools
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edition import runs
from edition.__main__ import main
from edition.claims import Effect, ledger
from edition.claims.claim import PAPER, Claim
from edition.claims.rules import STATES
from edition.experiments import EXPERIMENTS, PROFILES, Experiment
from edition.records.kinds import KINDS
from edition.records.store import Store, record_id
from edition.runs.backends import InProcess
from edition.runs.work import Outcome
from samlib.measures.statistics import Estimate
from samlib.toy.config import ToyConfig

TINY = ToyConfig(hidden=4, n_steps=12, n_snapshots=1).vary(n_train=30, n_test=20)
CONFIGS = [TINY, TINY.vary(rho=0.5)]
ORIGIN = {"wall_seconds": 1.0, "device": "elsewhere", "versions": {}}


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """A store in a temporary folder, and a registry of two tiny experiments that share a run."""
    for name in list(EXPERIMENTS):
        monkeypatch.delitem(EXPERIMENTS, name)
    for name, configs in (("one", CONFIGS), ("two", CONFIGS[1:])):
        monkeypatch.setitem(EXPERIMENTS, name, Experiment(name, "toy", name, lambda profile, c=configs: c))
    monkeypatch.setattr(runs, "store_for", lambda profile: Store(tmp_path / profile))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store(tmp_path / "paper")


@pytest.fixture
def call(capsys):
    def call(*arguments: str, code: int = 0, area: str = "runs") -> str:
        try:
            found = main([area, *arguments])
        except SystemExit as stop:
            found = stop.code
        output = capsys.readouterr()
        assert found == code, output
        return output.out + output.err

    return call


def write(store: Store, config: ToyConfig, **arrays: np.ndarray):
    return store.write("toy", config, metrics={}, arrays=arrays, provenance=ORIGIN)


def test_list_shows_every_run_with_state_record_cost_and_configuration(store, call):
    write(store, CONFIGS[1])
    lines = [line.split() for line in call("list", "--profile", "paper").splitlines()]
    assert [line[:4] for line in lines] == [
        ["paper", "one", "pending", f"toy-{record_id('toy', CONFIGS[0])}"],
        ["paper", "one", "recorded", f"toy-{record_id('toy', CONFIGS[1])}"],
        ["paper", "two", "recorded", f"toy-{record_id('toy', CONFIGS[1])}"],
    ]
    assert lines[1][4:6] == ["1.0", "s"]  # its own record took one second
    assert lines[1][6:10] == ["data:", "{n_train:", "30,", "n_test:"] and "rho: 0.5" in " ".join(lines[1])
    assert {line.split()[0] for line in call("list", "--experiment", "two").splitlines()} == set(PROFILES)


def test_status_counts_runs_in_all_and_by_profile_and_experiment(store, call):
    write(store, CONFIGS[1])
    found = json.loads(call("status", "--json"))
    assert {key: found[key] for key in ("recorded", "pending", "stale")} == {"recorded": 1, "pending": 5, "stale": 0}
    one, two = {"recorded": 1, "pending": 1, "stale": 0}, {"recorded": 1, "pending": 0, "stale": 0}
    assert found["profiles"]["paper"] == one | {"experiments": {"one": one, "two": two}}
    assert found["profiles"]["quick"]["pending"] == 2
    words = [line.split() for line in call("status", "--experiment", "one", "--profile", "paper").splitlines()]
    assert words == [
        ["paper", "one", "1", "recorded", "1", "pending", "0", "stale"],
        ["paper", "in", "all", "1", "recorded", "1", "pending", "0", "stale"],
    ]


def test_a_record_of_an_earlier_schema_is_stale_until_the_run_is_done_again(store, call, monkeypatch):
    write(store, CONFIGS[0])
    monkeypatch.setitem(KINDS, "toy", KINDS["toy"]._replace(schema=KINDS["toy"].schema + 1))
    assert json.loads(call("status", "--json", "--profile", "paper"))["stale"] == 1
    assert "stale" in call("list", "--profile", "paper").splitlines()[0]
    call("start", "--device", "cpu")
    assert json.loads(call("status", "--json", "--profile", "paper"))["stale"] == 0


def test_start_writes_what_is_pending_and_a_second_start_finds_nothing_to_do(store, call):
    first = write(store, CONFIGS[1])
    assert "1 left for a larger budget" in call("start", "--device", "cpu", "--budget", "0.001")
    told = call("start", "--device", "cpu")
    assert "1 recorded" in told and "[1/1] " in told
    assert {record.id for record in store.all()} == {record_id("toy", config) for config in CONFIGS}
    assert store.find("toy", CONFIGS[1]) == first
    times = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")}
    assert "nothing to do" in call("start", "--device", "cpu")
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.json")} == times


def test_records_of_several_experiments_go_to_another_folder_on_demand(store, call, tmp_path):
    folder = tmp_path / "elsewhere"
    call("start", "--device", "cpu", "--store", str(folder), "--experiment", "two", "--experiment", "one")
    assert len(list(Store(folder).all())) == len(CONFIGS)
    assert not store.root.exists()


@pytest.mark.parametrize("command", ["status", "list", "verify"])
def test_a_store_that_is_not_there_is_an_error_for_who_reads_it(store, call, tmp_path, command):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        assert f"found none at {tmp_path / name}" in call(command, "--store", str(tmp_path / name), code=1)
    assert not (tmp_path / "nowhere").exists()


def test_the_command_that_makes_records_to_verify_can_be_pasted_whatever_the_folder_is_called(store, call, tmp_path):
    folder = tmp_path / "my records #1 für Vögel's"
    folder.mkdir()
    said = call("verify", "--device", "cpu", "--store", str(folder), code=1)
    assert "expected records to verify, found none" in said
    python, *words = shlex.split(said.partition("`")[2].partition("`")[0], comments=True)
    assert (python, words[:3]) == ("python", ["-m", "edition", "runs"])
    assert "2 recorded" in call(*words[3:], "--device", "cpu")
    assert len(list(Store(folder).all())) == 2


def test_verify_finds_records_as_they_are_and_differences_with_exit_status_1(store, call):
    call("start", "--device", "cpu")
    assert "2 of 2 runs as recorded" in call("verify", "--device", "cpu")
    assert "1 of 1 runs as recorded" in call("verify", "--device", "cpu", "--sample", "1")
    record = store.find("toy", CONFIGS[0])
    record.path.unlink()
    changed = record.metrics | {"final_hard_error": [2.0] * len(record.metrics["final_hard_error"])}
    store.write("toy", CONFIGS[0], metrics=changed, arrays={}, provenance=record.provenance)
    output = call("verify", "--device", "cpu", code=1)
    assert "final_hard_error[0] 2.0" in " ".join(output.split()) and "1 of 2 runs as recorded" in output


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("command", ["status", "list", "start", "verify"])
def test_a_damaged_record_stops_a_command_with_its_name_and_nothing_is_written(store, call, command, suffix):
    path = write(store, CONFIGS[0], v=np.zeros(3)).path.with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:50])
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    output = call(command, code=1)
    assert output.startswith(f"error: {path}: expected") and len(output.splitlines()) == 1
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        *((f"runs {name} --experiment x", "choose from") for name in ("list", "status", "start", "verify")),
        *((f"runs {name} --profile x", "choose from") for name in ("list", "status", "start", "verify")),
        *((f"claims {option} x", "choose from") for option in ("--state", "--profile")),
        *((f"runs start --workers {value}", "argument --workers: expected a whole number") for value in ("0", "two")),
        *((f"runs start --budget {value}", "argument --budget: expected a number") for value in ("-1", "nan", "soon")),
        ("runs start --workers 2 --scheduler tcp://nowhere:1", "argument --scheduler: not allowed with"),
        ("runs start --device tpu", "argument --device: expected auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can_before_anything_runs(store, call, line, told):
    area, *words = line.split()
    assert told in " ".join(call(*words, area=area, code=2).split())
    assert not store.root.exists()


def test_a_gpu_that_is_not_here_may_be_a_clusters(store, call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "expected cpu, since there is no GPU here" in call("start", "--device", "cuda", code=1)
    assert not store.root.exists()
    asked = []
    monkeypatch.setattr("edition.runs.cluster.Cluster", lambda address: asked.append(address) or InProcess())
    monkeypatch.setattr("edition.runs.backends.train", lambda job, report: [Outcome({}, {}, ORIGIN)] * len(job.runs))
    call("start", "--device", "cuda", "--scheduler", "tcp://there:1", "--experiment", "two")
    assert asked == ["tcp://there:1"] and len(list(store.all())) == 1


@pytest.fixture
def claims(store, call, monkeypatch):
    """The command `claims` on five claims, one a state; the last needs runs of "one"."""
    effects = {side: Effect(side, Estimate(1.0, 0.5, 1.5, 3), side, 0.25) for side in ("above", "below")}
    effects["nothing"] = Effect("nothing", Estimate(1.0, -9.0, 11.0, 3), "above")
    sides = {"a": ("above",), "b": ("below",), "c": ("above", "below"), "d": ("nothing",), "e": ()}

    def claim(name: str, needs: tuple[str, ...]) -> Claim:
        words = (name, "Section 5", "Words.", "mean", "c", "", needs, (), PAPER, "in general", "")
        return Claim(*words, lambda *results: [effects[side] for side in sides[name]])

    monkeypatch.setattr(ledger, "PARTS", {"part": [claim(name, ("one",) if name == "e" else ()) for name in sides]})
    return functools.partial(call, area="claims")


def test_claims_are_printed_as_the_ledgers_text_and_nothing_is_trained(claims, store):
    assert claims() == ledger.text(ledger.ledger("paper")) + "\n"
    assert not store.root.exists()


def test_claims_as_json_are_a_list_with_the_promised_keys(claims):
    found = json.loads(claims("--json"))
    keys = ["id", "place", "claim", "statistic", "value", "low", "high", "n"]
    new = {"state", "held", "reversed", "effects", "scaled_down", "detectable"}
    assert all(list(item)[: len(keys)] == keys and new <= item.keys() for item in found)
    assert [(item["state"], item["value"]) for item in found] == list(zip(STATES, (1, 1, 1, 1, None), strict=True))
    assert "--experiment one --profile paper" in found[-1]["why"]
    assert "--experiment one --profile quick" in claims("--profile", "quick")


@pytest.mark.parametrize(("state", "id"), [*zip(STATES, "abcde", strict=True), ("not-tested", "e")])
def test_claims_of_one_state(claims, state, id):
    assert [item["id"] for item in json.loads(claims("--json", "--state", state))] == [id]


def test_a_damaged_record_stops_the_claims_with_one_line(claims, store):
    path = write(store, CONFIGS[0]).path
    path.write_text("{")
    output = claims(code=1)
    assert output.startswith("error: ") and path.name in output and len(output.splitlines()) == 1


# What pip installs with torch, torchvision, numpy, pandas and scikit-learn.
BARE = {
    "torch", "torchvision", "numpy", "pandas", "scikit-learn", "scipy", "joblib", "narwhals", "threadpoolctl",
    "python-dateutil", "six", "pytz", "tzdata", "pillow", "filelock", "typing-extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools", "triton",
}  # fmt: skip
TOLD = """
import sys
from edition.__main__ import main
status = main(sys.argv[1:])
print(*(name for name in ("tqdm", "numba", "jaxtyping", "matplotlib", "IPython") if name in sys.modules))
sys.exit(status)
"""


def bare(site: Path, *arguments: str, more: set[str] = frozenset()) -> str:
    """Call the command line where there is nothing but the packages of `BARE` and more; return what it printed."""
    site.mkdir()
    owners = importlib.metadata.packages_distributions()
    for entry in Path(torch.__file__).parent.parent.iterdir():
        found = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(entry.name.partition(".")[0], ())}
        if found & (BARE | more) or any(owner.startswith("nvidia") for owner in found) or entry.suffix == ".libs":
            (site / entry.name).symlink_to(entry)
    path = f"{Path(__file__).resolve().parent.parent}{os.pathsep}{site}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", TOLD, *arguments],
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *told, imported = done.stdout.splitlines()
    assert imported == ""  # none of what `TOLD` looks for was there
    return "\n".join(told)


def test_runs_are_done_where_only_torch_and_scikit_learn_are_installed(tmp_path):
    store = tmp_path / "store"
    options = ["--profile", "smoke", "--experiment", "checkpoints", "--store", str(store), "--device", "cpu"]
    bare(tmp_path / "site", "runs", "start", *options)
    assert {record.provenance["engine"] for record in Store(store).all()} == {"batched"}


@pytest.mark.slow
def test_the_real_claims_are_judged_there_too_from_the_committed_records(tmp_path):
    found = json.loads(bare(tmp_path / "site", "claims", "--json"))
    assert [item["id"] for item in found] == [claim.id for claims in ledger.PARTS.values() for claim in claims]
    assert set(STATES) == {item["state"] for item in found}
