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
from samlib import config as samlib_config
from samlib.images.config import PairConfig
from samlib.toy.config import ToyConfig

CONFIG = ToyConfig().vary(rho=0.5, complexity=540.0, seeds=(0, 1))
METRICS = {
    "final_hard_error": [0.25, math.pi / 6],
    "phantom_ratio": [float("nan"), 1.5],
    "curves": {"v_hard": [[2.0], [2.25]]},
}
ARRAYS = {"v": np.array([[1.0, 2.0]], dtype=np.float32), "b1": np.arange(3)}
PROVENANCE = {"revision": "abc", "device": "somewhere", "wall_seconds": 1.5}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "results")


def write(store: Store, config: ToyConfig = CONFIG, arrays: dict = ARRAYS) -> records.Record:
    return store.write("toy", config, metrics=METRICS, arrays=arrays, provenance=PROVENANCE)


def reseal(path, **changes) -> None:
    """Change a record's contents and give it the right checksum: what only code of another version would do."""
    body = json.loads(path.read_text()) | changes
    body["sha256"] = records.checksum(body)
    path.write_text(json.dumps(body))


def test_a_record_survives_a_round_trip(store):
    written, found = write(store), store.find("toy", CONFIG)
    assert found == written
    assert (found.kind, found.id, found.path) == ("toy", record_id("toy", CONFIG), store.path("toy", CONFIG))
    assert samlib_config.from_dict(ToyConfig, found.config) == CONFIG
    assert found.metrics["final_hard_error"] == [0.25, math.pi / 6]  # every digit
    assert found.provenance == PROVENANCE
    arrays = found.arrays()
    assert sorted(arrays) == ["b1", "v"]
    assert all((arrays[name] == ARRAYS[name]).all() and arrays[name].dtype == ARRAYS[name].dtype for name in ARRAYS)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_not_finite_become_null(store, bad):
    record = store.write("toy", CONFIG, metrics={"x": [bad, 1.0], "deep": {"y": (bad,)}}, arrays={}, provenance={})
    assert record.metrics == {"x": [None, 1.0], "deep": {"y": [None]}}
    json.loads(record.path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_all_yields_every_record_by_kind_and_id(store):
    assert store.find("toy", CONFIG) is None and list(store.all()) == []
    configs = [CONFIG.vary(rho=rho) for rho in (0.1, 0.2, 0.3)]
    for config in configs:
        write(store, config)
    pair = store.write("pair", PairConfig(), metrics={}, arrays={}, provenance={})
    expected = [pair.id, *sorted(record_id("toy", config) for config in configs)]
    assert [record.id for record in store.all()] == expected


def test_writing_twice_is_refused_and_the_first_is_kept(store):
    path = write(store).path
    before = path.read_bytes()
    with pytest.raises(RecordError, match=rf"{path}: expected no record of this run, found one; it was left as it is"):
        store.write("toy", CONFIG, metrics={"other": 1}, arrays={}, provenance={})
    assert path.read_bytes() == before


@pytest.mark.parametrize("arrays", [ARRAYS, {}])
def test_a_crash_before_the_move_leaves_nothing_half_written(store, monkeypatch, arrays):
    earlier = write(store, CONFIG.vary(rho=0.1))

    def crash(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "link", crash)
        patch.setattr(os, "replace", crash)
        write(store, arrays=arrays)
    assert sorted(path.name for path in earlier.path.parent.iterdir()) == [f"{earlier.id}.json", f"{earlier.id}.npz"]
    assert store.find("toy", CONFIG.vary(rho=0.1)) == earlier
    assert store.find("toy", CONFIG) is None
    assert write(store, arrays=arrays).metrics == earlier.metrics


def test_a_crash_between_arrays_and_json_leaves_no_record(store, monkeypatch):
    def crash_at_json(source, target):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", crash_at_json)
        with pytest.raises(RecordError, match=r"No space left on device.*Earlier records are untouched"):
            write(store)
    assert store.find("toy", CONFIG) is None
    assert not list((store.root / "toy").iterdir())
    assert write(store).arrays()["b1"].tolist() == [0, 1, 2]


def test_a_folder_that_cannot_be_written_is_named_with_advice(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match=r"file.*expected to write a record, got .*make the folder writable"):
        write(Store(tmp_path / "file" / "sub"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:0]), r"expected a record \(JSON\), could not read it"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"expected a record \(JSON\), could not read it"),
        (lambda path: path.write_text("[]"), "expected a record"),
        (lambda path: path.write_text('{"kind": "toy"}'), "expected a record"),
        (
            lambda path: path.write_text(path.read_text().replace("0.25", "0.24")),
            ".*own checksum; restore it",
        ),
        (lambda path: reseal(path, schema=99), "expected schema 1 of kind 'toy', got schema 99"),
        (lambda path: reseal(path, kind="tabular"), "expected schema None of kind 'tabular'"),
        (
            lambda path: reseal(path, config=configuration(path) | {"weight_decay": 0.1}),
            r".*unknown \['weight_decay'\]",
        ),
        (lambda path: reseal(path, config=configuration(path) | {"rho": -1.0}), ".*rho: expected a finite number"),
    ],
)
def test_a_record_that_is_in_doubt_is_refused_by_name(store, spoil, told):
    path = write(store).path
    spoil(path)
    with pytest.raises(RecordError, match=f"{path}: {told}"):
        read_record(path)


def configuration(path) -> dict:
    return json.loads(path.read_text())["config"]


def test_a_record_under_another_name_is_refused(store):
    path = write(store).path
    other = store.path("toy", CONFIG.vary(rho=0.6))
    path.rename(other)
    with pytest.raises(RecordError, match=rf"{other}: .*its configuration's address is {path.stem}"):
        store.find("toy", CONFIG.vary(rho=0.6))


def test_a_reformatted_record_is_still_trusted(store):
    record = write(store)
    record.path.write_text(json.dumps(json.loads(record.path.read_text()), indent=7))
    assert store.find("toy", CONFIG) == record


def test_a_number_that_no_record_holds_is_named_with_its_file(store):
    path = write(store).path
    path.write_text(path.read_text().replace('"metrics": {', '"metrics": {"more": NaN,', 1))
    with pytest.raises(RecordError, match=rf"{path}: .*it holds what no record does"):
        store.find("toy", CONFIG)


@pytest.mark.parametrize("keep", [None, 0, 200, -30])
def test_arrays_that_are_missing_or_damaged_are_named(store, keep):
    record = write(store)
    path = record.path.with_suffix(".npz")
    path.write_bytes(path.read_bytes()[:keep]) if keep is not None else path.unlink()
    assert store.find("toy", CONFIG) == record
    with pytest.raises(RecordError, match=rf"{record.id}.npz: expected arrays \['b1', 'v'\], could not read them"):
        record.arrays()


def test_arrays_of_another_run_are_refused(store):
    first, second = write(store), write(store, CONFIG.vary(rho=0.1), arrays=ARRAYS | {"v": np.zeros((1, 2))})
    first.path.with_suffix(".npz").write_bytes(second.path.with_suffix(".npz").read_bytes())
    with pytest.raises(RecordError, match=rf"{first.id}\.npz.*do not match the record's checksum"):
        first.arrays()
    assert second.arrays()["v"].tolist() == [[0.0, 0.0]]


def test_a_record_of_an_earlier_schema_is_stale_and_not_among_the_others(store, monkeypatch):
    old = write(store)
    assert store.stale() == {}
    monkeypatch.setitem(records.KINDS, "toy", records.KINDS["toy"]._replace(schema=2))
    new = write(store, CONFIG.vary(rho=0.1))
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


def test_an_id_depends_on_kind_schema_and_configuration(monkeypatch):
    ids = [record_id("toy", ToyConfig()), record_id("pair", PairConfig()), record_id("toy", CONFIG)]
    monkeypatch.setitem(records.KINDS, "toy", records.KINDS["toy"]._replace(schema=2))
    ids.append(record_id("toy", ToyConfig()))
    assert len(set(ids)) == 4
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in ids)


@dataclasses.dataclass(frozen=True)
class WithNewField(ToyConfig):
    """The configuration of a later version of the code."""

    weight_decay: float = 0.0


def test_a_new_field_with_a_default_leaves_ids_and_records_as_they_are(store, monkeypatch):
    before = write(store)
    monkeypatch.setitem(records.KINDS, "toy", records.KINDS["toy"]._replace(config=WithNewField))
    values = {field.name: getattr(CONFIG, field.name) for field in dataclasses.fields(CONFIG)}
    assert record_id("toy", WithNewField(**values)) == before.id
    assert store.find("toy", WithNewField(**values)) == before
    assert record_id("toy", WithNewField(**values, weight_decay=0.1)) != before.id


def test_a_changed_default_makes_old_records_untrusted(store, monkeypatch):
    path = write(store, ToyConfig()).path
    changed = dataclasses.make_dataclass(
        "Changed", [("rho", float, dataclasses.field(default=0.5))], bases=(ToyConfig,), frozen=True
    )
    monkeypatch.setitem(records.KINDS, "toy", records.KINDS["toy"]._replace(config=changed))
    with pytest.raises(RecordError, match="its configuration's address is"):
        read_record(path)


def test_equal_configurations_have_one_id_and_one_record(store):
    whole, decimal = ToyConfig(rho=1), ToyConfig(rho=1.0)
    assert whole == decimal
    assert record_id("toy", whole) == record_id("toy", decimal)
    assert write(store, whole) == store.find("toy", decimal)


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match=r"kind: expected one of .*'toy'.*, got 'tabular'"):
        record_id("tabular", ToyConfig())
    with pytest.raises(TypeError, match=r"config: expected a PairConfig for kind 'pair', got ToyConfig"):
        record_id("pair", ToyConfig())


def test_provenance_says_where_a_result_came_from_in_plain_values():
    found = origin.provenance(device="cpu", wall_seconds=1.23456)
    assert found["wall_seconds"] == 1.235
    assert found["utc"].endswith("+00:00")
    assert {"python", "torch", "numpy"} <= set(found["versions"])
    assert " of " in found["device"] and found["threads"] >= 1
    assert json.loads(json.dumps(found)) == found


def test_outside_a_checkout_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert origin.source_revision() == (None, None)


def test_a_copy_that_was_installed_below_somebodys_checkout_has_no_revision(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(origin, "ROOT", tmp_path / "site-packages")
    assert origin.source_revision() == (None, None)


def test_the_revision_of_a_record_is_the_one_that_was_loaded(monkeypatch):
    revisions = iter(["first", "second"])
    origin.loaded_revision.cache_clear()
    monkeypatch.setattr(origin, "source_revision", lambda: (next(revisions), False))
    try:
        assert origin.loaded_revision() == ("first", False)
        assert (
            origin.provenance(device="cpu", wall_seconds=1.0)["revision"] == "first"
        )  # another was committed meanwhile
    finally:
        origin.loaded_revision.cache_clear()


def test_changes_of_the_library_are_noticed(tmp_path, monkeypatch):
    library = tmp_path / "samlib"
    library.mkdir()
    (library / "code.py").write_text("x = 1\n")
    (tmp_path / "notes.md").write_text("x")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for arguments in (["init", "-q"], ["add", "samlib"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "SOURCES", (library,))
    revision, dirty = origin.source_revision()
    assert len(revision) == 12 and dirty is False  # what lies beside the library does not count
    (library / "code.py").write_text("x = 2\n")
    assert origin.source_revision() == (revision, True)


@pytest.mark.parametrize("name", ["._{}.json", ".DS_Store", "{} (1).json", ".{}.json.swp", "{}.json~", "#{}.json#"])
def test_what_is_no_records_name_is_left_alone(store, name):
    record = write(store)
    litter = record.path.with_name(name.format(record.id))
    litter.write_bytes(b"\x00\x05")
    assert list(store.all()) == [record] and store.stale() == {}
    write(store, CONFIG.vary(rho=0.1))
    assert litter.read_bytes() == b"\x00\x05"
