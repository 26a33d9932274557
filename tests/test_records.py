"""Records: written once and atomically, read only if nothing about them is in doubt; their provenance."""

import dataclasses
import json
import math
import os
import subprocess

import numpy as np
import pytest

from edition.records import provenance as origin
from edition.records import store as records
from edition.records.store import RecordError, Store, read_record, record_id
from samlib.config import from_dict
from samlib.images.config import PairConfig
from samlib.toy.config import ToyConfig

CONFIG = ToyConfig().vary(rho=0.5, complexity=540.0, seeds=(0, 1))
OTHER = CONFIG.vary(rho=0.1)
METRICS = {"final_hard_error": [0.25, math.pi / 6], "curves": {"v_hard": [[2.0], [2.25]]}}
ARRAYS = {"v": np.array([[1.0, 2.0]], dtype=np.float32), "b1": np.arange(3)}
PROVENANCE = {"revision": "abc", "device": "somewhere", "wall_seconds": 1.5}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "results")


def write(store: Store, config: ToyConfig = CONFIG, arrays: dict = ARRAYS, metrics: dict = METRICS) -> records.Record:
    return store.write("toy", config, metrics=metrics, arrays=arrays, provenance=PROVENANCE)


def test_a_record_survives_a_round_trip(store):
    written, found = write(store), store.find("toy", CONFIG)
    assert found == written
    assert (found.kind, found.id, found.path) == ("toy", record_id("toy", CONFIG), store.path("toy", CONFIG))
    assert from_dict(ToyConfig, found.config) == CONFIG
    assert (found.metrics, found.provenance) == (METRICS, PROVENANCE)  # every digit
    arrays = found.arrays()
    assert sorted(arrays) == ["b1", "v"]
    assert all((arrays[name] == ARRAYS[name]).all() and arrays[name].dtype == ARRAYS[name].dtype for name in ARRAYS)


def test_numbers_that_are_not_finite_become_null(store):
    metrics = {"x": [math.nan, math.inf, -math.inf, 1.0], "deep": {"y": (np.float64("nan"),)}}
    record = write(store, metrics=metrics, arrays={})
    assert record.metrics == {"x": [None, None, None, 1.0], "deep": {"y": [None]}}
    json.loads(record.path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_all_yields_every_record_by_kind_and_id(store):
    assert store.find("toy", CONFIG) is None and list(store.all()) == []
    toys = sorted(write(store, CONFIG.vary(rho=rho)).id for rho in (0.1, 0.2, 0.3))
    pair = store.write("pair", PairConfig(), metrics={}, arrays={}, provenance={})
    assert [record.id for record in store.all()] == [pair.id, *toys]


def test_writing_twice_is_refused_and_the_first_is_kept(store):
    path = write(store).path
    before = path.read_bytes()
    with pytest.raises(RecordError, match=rf"{path}: expected no record of this run, found one; it was left as it is"):
        write(store, metrics={"other": 1})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("step", "error", "told"),
    [
        ("replace", KeyboardInterrupt(), "^$"),
        ("link", OSError("No space left on device"), "No space left on device.*Earlier records are untouched"),
    ],
    ids=["before the arrays", "between arrays and JSON"],
)
def test_a_crash_leaves_nothing_half_written(store, monkeypatch, step, error, told):
    earlier = write(store, OTHER)

    def crash(source, target):
        raise error

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, RecordError), match=told):
        patch.setattr(os, step, crash)
        write(store)
    assert sorted(path.name for path in earlier.path.parent.iterdir()) == [f"{earlier.id}.json", f"{earlier.id}.npz"]
    assert store.find("toy", OTHER) == earlier and store.find("toy", CONFIG) is None
    assert write(store).arrays()["b1"].tolist() == [0, 1, 2]


def test_a_folder_that_cannot_be_written_is_named_with_advice(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match=r"file.*expected to write a record, got .*make the folder writable"):
        write(Store(tmp_path / "file" / "sub"))


def resealed(text: str, **changes) -> str:
    """A record with other contents and the right checksum: what only code of another version would write."""
    body = json.loads(text)
    body |= {"config": body["config"] | changes.pop("config", {})} | changes
    return json.dumps(body | {"sha256": records.checksum(body)})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: "", r"expected a record \(JSON\), could not read it"),
        (lambda text: text[:200], r"expected a record \(JSON\), could not read it"),
        (lambda text: "[]", "expected a record"),
        (lambda text: '{"kind": "toy"}', "expected a record"),
        (lambda text: text.replace("0.25", "0.24"), ".*own checksum; restore it"),
        (lambda text: text.replace('"metrics": {', '"metrics": {"more": NaN,', 1), ".*it holds what no record does"),
        (lambda text: resealed(text, schema=99), "expected schema 1 of kind 'toy', got schema 99"),
        (lambda text: resealed(text, kind="tabular"), "expected schema None of kind 'tabular'"),
        (lambda text: resealed(text, config={"weight_decay": 0.1}), r".*unknown \['weight_decay'\]"),
        (lambda text: resealed(text, config={"rho": -1.0}), ".*rho: expected a finite number"),
        (lambda text: resealed(text, config={"rho": 0.6}), ".*its configuration's address is"),
    ],
)
def test_a_record_that_is_in_doubt_is_refused_by_name(store, spoil, told):
    path = write(store).path
    path.write_text(spoil(path.read_text()))
    with pytest.raises(RecordError, match=f"{path}: {told}"):
        read_record(path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path, other: path.unlink(), "No such file"),
        (lambda path, other: path.write_bytes(b""), ""),
        (lambda path, other: path.write_bytes(path.read_bytes()[:200]), ""),
        (lambda path, other: path.write_bytes(other.read_bytes()), "do not match the record's checksum"),
    ],
    ids=["missing", "empty", "truncated", "another run's"],
)
def test_arrays_that_are_missing_or_damaged_are_named(store, spoil, told):
    record, other = write(store), write(store, OTHER, arrays=ARRAYS | {"v": np.zeros((1, 2))})
    spoil(record.path.with_suffix(".npz"), other.path.with_suffix(".npz"))
    assert store.find("toy", CONFIG) == record
    with pytest.raises(RecordError, match=rf"{record.id}.npz: expected arrays \['b1', 'v'\], could not read.*{told}"):
        record.arrays()


@pytest.fixture
def later(monkeypatch):
    """Change the row of toy runs, as a later version of the code might."""
    return lambda **changes: monkeypatch.setitem(records.KINDS, "toy", records.KINDS["toy"]._replace(**changes))


def test_a_record_of_an_earlier_schema_is_stale_and_not_among_the_others(store, later):
    old = write(store)
    assert store.stale() == {}
    later(schema=2)
    new = write(store, OTHER)
    assert store.stale() == {("toy", CONFIG): old.path}
    assert store.find("toy", CONFIG) is None
    assert list(store.all()) == [new]


def test_ids_are_pinned():
    """An id is the file name of a committed record.

    If this test fails, every committed record of the kind is orphaned: its runs count as pending, and days of
    computing are lost. Give a new field a default that keeps the old behaviour instead, or, where the meaning of
    results really changed, raise the kind's schema in KINDS and run everything again.
    """
    assert record_id("toy", ToyConfig()) == "486c7335eaf0"
    assert record_id("toy", ToyConfig().vary(rho=1.0, complexity=540.0)) == "be6fa5059043"
    assert record_id("toy", ToyConfig().vary(rho=1, complexity=540)) == "be6fa5059043"


@dataclasses.dataclass(frozen=True)
class WithNewField(ToyConfig):
    """The configuration of a later version of the code."""

    weight_decay: float = 0.0


def test_a_new_field_with_a_default_leaves_ids_and_records_as_they_are(store, later):
    before = write(store)
    later(config=WithNewField)
    same = WithNewField(**{field.name: getattr(CONFIG, field.name) for field in dataclasses.fields(CONFIG)})
    assert store.find("toy", same) == before
    assert record_id("toy", same.vary(weight_decay=0.1)) != before.id


def test_a_changed_default_makes_old_records_untrusted(store, later):
    path = write(store, ToyConfig()).path
    field = ("rho", float, dataclasses.field(default=0.5))
    later(config=dataclasses.make_dataclass("Changed", [field], bases=(ToyConfig,), frozen=True))
    with pytest.raises(RecordError, match="its configuration's address is"):
        read_record(path)


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match=r"kind: expected one of .*'toy'.*, got 'tabular'"):
        record_id("tabular", ToyConfig())
    with pytest.raises(TypeError, match=r"config: expected a PairConfig for kind 'pair', got ToyConfig"):
        record_id("pair", ToyConfig())


@pytest.mark.parametrize("name", ["._{}.json", ".DS_Store", "{} (1).json", ".{}.json.swp", "{}.json~"])
def test_what_systems_and_editors_leave_beside_records_is_left_alone(store, name):
    record = write(store)
    litter = record.path.with_name(name.format(record.id))
    litter.write_bytes(b"\x00\x05")
    assert list(store.all()) == [record] and store.stale() == {}
    write(store, OTHER)
    assert litter.read_bytes() == b"\x00\x05"


def test_provenance_says_where_a_result_came_from_in_plain_values():
    found = origin.provenance(device="cpu", wall_seconds=1.23456)
    assert found["wall_seconds"] == 1.235
    assert found["utc"].endswith("+00:00")
    assert {"python", "torch", "numpy"} <= set(found["versions"])
    assert " of " in found["device"] and found["threads"] >= 1
    assert json.loads(json.dumps(found)) == found


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one module in place of this one, and a function that commits everything in it."""

    def commit() -> None:
        git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@example.org"]
        for arguments in (["init", "-q"], ["add", "samlib"], ["commit", "-q", "-m", "a commit"]):
            subprocess.run([*git, *arguments], check=True)

    (tmp_path / "samlib").mkdir()
    (tmp_path / "samlib" / "code.py").write_text("x = 1\n")
    (tmp_path / "notes.md").write_text("what lies beside the library does not count")
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "SOURCES", (tmp_path / "samlib",))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    origin.loaded_revision.cache_clear()
    yield tmp_path, commit
    origin.loaded_revision.cache_clear()


def test_the_revision_of_a_record_is_the_one_that_was_loaded_and_changes_of_the_library_are_noticed(checkout):
    root, commit = checkout
    commit()
    (root / "samlib" / "code.py").write_text("x = 2\n")
    first, dirty = origin.loaded_revision.__wrapped__()
    assert len(first) == 12 and dirty is True
    assert origin.loaded_revision() == (first, True)
    commit()
    second, dirty = origin.loaded_revision.__wrapped__()
    assert second != first and dirty is False
    assert origin.provenance(device="cpu", wall_seconds=1.0)["revision"] == first


def test_outside_a_checkout_of_its_own_code_has_no_revision(checkout, monkeypatch):
    root, commit = checkout
    assert origin.loaded_revision.__wrapped__() == (None, None)
    commit()
    (root / "site-packages").mkdir()  # installed below somebody's checkout
    monkeypatch.setattr(origin, "ROOT", root / "site-packages")
    assert origin.loaded_revision.__wrapped__() == (None, None)
