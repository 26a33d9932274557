"""Which runs are needed and pending, how they are grouped, what one leaves, and the tables of their records."""

from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from edition.experiments import EXPERIMENTS, PROFILES, Experiment, experiment
from edition.experiments import toy as toy_experiments
from edition.records.kinds import KINDS
from edition.records.store import RecordError, Store, record_id
from edition.runs import Run, do, needed, plan, store_for
from edition.runs.plan import groups, soonest_first
from edition.runs.results import by_seed, curve_table, pick, seed_table
from edition.runs.work import Job, train
from samlib.images.config import FinetuneConfig, PairConfig
from samlib.methods.config import ControlConfig
from samlib.toy.config import ToyConfig

TINY = ToyConfig(hidden=4, n_steps=60, n_snapshots=2, seeds=(0, 1)).vary(n_train=30, n_test=50)
RUNS = [Run("toy", TINY.vary(**change)) for change in ({}, {"rho": 0.5}, {"hidden": 5}, {"rho": 1.0})]


def test_paper_records_are_committed_and_the_others_may_be_kept_outside_a_repository(tmp_path, monkeypatch):
    root = Path(__file__).resolve().parent.parent / "results"
    monkeypatch.delenv("SAMLIB_RESULTS", raising=False)
    assert [store_for(profile).root for profile in PROFILES] == [root, root / "local", root / "local"]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SAMLIB_RESULTS", "~/a blank")
    assert [store_for(profile).root for profile in PROFILES] == [root, tmp_path / "a blank", tmp_path / "a blank"]


def test_a_file_where_records_are_to_be_kept_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMLIB_RESULTS", str(tmp_path / "file"))
    with pytest.raises(RecordError, match="expected a folder for records, found a file; name another"):
        store_for("quick")


def test_without_committed_records_beside_the_code_a_reader_is_sent_to_a_clone(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "REPOSITORY", tmp_path)
    with pytest.raises(RecordError, match=r"expected the committed records there, .*run this in a clone"):
        store_for("paper")


def test_needed_lists_each_run_once_in_the_order_of_the_experiments():
    first, second, third = TINY, TINY.vary(rho=0.5), TINY.vary(rho=1.0)
    experiments = [Experiment("tiny", "toy", "", lambda profile, c=c: c) for c in ([second, first], [first, third])]
    assert [run.config for run in needed(experiments, "paper")] == [second, first, third]


def test_what_takes_least_is_done_first_and_shared_runs_count_once():
    a, b, c, d = RUNS
    cost = {a: 6.0, b: 4.0, c: 3.0, d: 2.0}
    # {b, c} costs 7 and {d, c} 5; once c is listed, {b, c} costs 4 and {a} 6.
    assert soonest_first([[a], [b, c], [d, c]], cost.__getitem__) == [d, c, b, a]
    assert soonest_first([], cost.__getitem__) == []


def test_on_a_gpu_toy_runs_of_one_shape_are_grouped_and_all_others_are_alone():
    images = [Run("pair", PairConfig(seed=seed)) for seed in (0, 1)]
    images += [Run("finetune", FinetuneConfig(seed=seed)) for seed in (0, 1)]
    found = groups([images[0], *RUNS, *images[1:]], "cuda")
    assert found == [[images[0]], [RUNS[0], RUNS[1], RUNS[3]], [RUNS[2]], *([run] for run in images[1:])]
    assert groups(RUNS, "cpu") == [[run] for run in RUNS]


def test_no_group_takes_another_run_once_it_holds_enough_members():
    seeds = tuple(range(KINDS["toy"].at_once // 2))
    runs = [Run("toy", TINY.vary(rho=0.1 * index, seeds=seeds)) for index in range(5)]
    assert groups(runs, "cuda") == [runs[:2], runs[2:4], runs[4:]]


def test_training_reports_its_progress_on_one_thread_and_leaves_their_number_as_it_was():
    before, told, threads = torch.get_num_threads(), [], set()

    def report(done: float) -> None:
        told.append(done)
        threads.update(pool["num_threads"] for pool in threadpool_info())  # numpy's and scipy's, too

    torch.set_num_threads(3)
    try:
        [outcome] = train(Job((RUNS[0],)), report)
        assert outcome.provenance["threads"] == 1 and threads == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert told == [pytest.approx(i / 10) for i in range(1, 11)]  # ten epochs


def test_a_method_that_trains_on_the_cpu_says_so_whatever_it_was_told(monkeypatch):
    monkeypatch.setattr("samlib.methods.train.train_method", lambda config, **options: {})
    [outcome] = train(Job((Run("control", ControlConfig()),), device="cuda"))
    assert "of" in outcome.provenance["device"] and outcome.provenance["device"].endswith("cores")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_lists_runs_and_different_ones_have_different_ids(name, profile):
    found = needed([experiment(name)], profile)
    assert found or experiment(name).waiting
    assert len({record_id(run.kind, run.config) for run in found}) == len(found)


def test_every_toy_experiment_compares_with_sgd_at_equal_settings():
    for name in ("complexity", "checkpoints", "sensitivity", "noise", "batch_size", "batch_size_equal_steps"):
        configs = set(experiment(name).configs("paper"))
        assert any(config.rho > 0 for config in configs), name
        assert all(config.vary(rho=0.0) in configs for config in configs), name


def test_batch_sizes_are_compared_at_equal_epochs_and_at_equal_steps():
    epochs = {c.n_steps * c.batch_size for c in toy_experiments.batch_size("paper")}
    steps = {c.n_steps for c in toy_experiments.batch_size_equal_steps("paper")}
    assert epochs == {toy_experiments.scale("paper").n_epochs * 300}
    assert len(steps) == 1


def test_an_unknown_experiment_or_profile_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"experiment: expected one of .*'complexity'.*got 'complexety'"):
        experiment("complexety")
    for name in ("complexity", "cifar_mnist_fixed"):
        with pytest.raises(ValueError, match=r"profile: expected one of 'paper', 'quick', 'smoke', got 'full'"):
            needed([experiment(name)], "full")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def records(store):
    return do([Run("toy", TINY.vary(flip=0.1)), Run("toy", TINY.vary(rho=0.5, complexity=180.0))], store)


def test_doing_runs_writes_one_record_each_with_its_share_of_the_time(store, records):
    assert sorted(records, key=lambda record: record.id) == list(store.all())
    assert records[0].provenance["wall_seconds"] == records[1].provenance["wall_seconds"] > 0


def test_the_seed_table_has_one_row_a_seed_with_settings_and_metrics_side_by_side(records):
    table = seed_table(records)
    assert table.rho.tolist() == [0.0, 0.0, 0.5, 0.5]
    assert table.seed.tolist() == [0, 1, 0, 1]
    assert table.flip.tolist() == [0.1, 0.1, 0.0, 0.0]
    assert table.record.tolist() == [records[0].id] * 2 + [records[1].id] * 2
    assert table.final_hard_error.tolist() == [v for r in records for v in r.metrics["final_hard_error"]]
    assert not {"curves", "seeds", "checkpoints", "data"} & set(table.columns)


def test_the_curve_table_has_one_row_a_seed_and_snapshot(records):
    table = curve_table(records)
    assert table.step.tolist() == [30, 60] * 4
    assert table.v_hard.tolist() == [v for r in records for seed in r.metrics["curves"]["v_hard"] for v in seed]


def test_picking_and_pivoting_keep_seeds_apart(records):
    table = seed_table(records)
    assert pick(table, rho=0.5, seed=1).record.tolist() == [records[1].id]
    wide = by_seed(table, "final_hard_error", "rho")
    assert wide.index.tolist() == [0, 1] and wide.columns.tolist() == [0.0, 0.5]
    assert wide[0.5].tolist() == records[1].metrics["final_hard_error"]
    with pytest.raises(KeyError, match="rhoo"):
        pick(table, rhoo=0.5)
    with pytest.raises(ValueError, match="duplicate"):
        by_seed(table, "final_hard_error", "hidden")
