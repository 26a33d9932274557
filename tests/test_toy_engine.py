"""The engine: equal to the plain loop, members that never touch each other, on a CPU and on a GPU."""

import pytest
import torch
from plain_toy import INTERVENED, LSAM, needs_numba, train_reference

from samlib.config import to_dict
from samlib.toy.compiled import available
from samlib.toy.config import ToyConfig
from samlib.toy.engine import BatchedEngine
from samlib.toy.network import initial_weights
from samlib.toy.training import best_engine, train_toy

SMALL = ToyConfig(hidden=8, n_steps=100, n_snapshots=2, checkpoints=(100,)).vary(n_test=200)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
ENGINES = ["batched", pytest.param("compiled", marks=needs_numba)]
INTERVENTIONS = [to_dict(settings) | {"rho": rho} for settings, rho in INTERVENED]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "changes",
    [
        {"rho": 0.0},
        {"rho": 0.7},
        {"rho": 0.7, "batch_size": 30},
        {"rho": 0.7, "last_layer_draw": "uniform", "radius_profile": "angle", "complexity": 500.0, "easy_gap": 0.0},
        *INTERVENTIONS,
    ],
)
def test_engine_equals_the_plain_loop_after_100_steps(changes, engine):
    config = SMALL.vary(seeds=(3,), **changes)
    beside = SMALL.vary(seeds=(3, 4), batch_size=config.batch_size, complexity=540.0)
    fast = train_toy([beside, config], dtype=torch.float64, engine=engine)[1].arrays
    slow = train_reference(config, seed=3, n_steps=100).weights()
    for name, values in slow._asdict().items():
        difference = (torch.tensor(fast[name][0]).double() - values).abs().max()
        assert difference < 1e-5, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("hidden", "batch_size"),
    # the compiled engine is compiled anew for each width and batch
    [(50, 5), *(pytest.param(*n, marks=pytest.mark.slow) for n in ((50, 1), (50, 300), (10, 5), (25, 5), (100, 5)))],
)
def test_adding_members_changes_no_bit_of_the_others(hidden, batch_size, engine):
    config = SMALL.vary(hidden=hidden, batch_size=batch_size, rho=0.5, seeds=(0, 1), n_train=300)
    before = torch.random.get_rng_state()
    alone = train_toy([config], engine=engine)[0]
    assert torch.equal(before, torch.random.get_rng_state())
    others = [config.vary(rho=0.1 * i, complexity=200.0 + i) for i in range(11)]
    fixed = config.vary(rho=0.0, term="both", ratio=2.0)
    beside = train_toy([*others, config, fixed], engine=engine)
    for single, grouped in ((alone, beside[11]), (train_toy([fixed], engine=engine)[0], beside[12])):
        assert single.metrics == grouped.metrics
        assert all((single.arrays[name] == grouped.arrays[name]).all() for name in single.arrays)


def test_the_phantom_in_both_terms_is_lsam():
    lsam, both = (
        train_toy([SMALL.vary(rho=0.7, **changes)])[0]
        for changes in ({}, {"term": "both", "vector": "phantom", "last_layer": "weighted"})
    )
    assert lsam.metrics == both.metrics


def test_ratio_rises_exactly_when_the_condition_holds():
    metrics = train_toy([SMALL.vary(rho=rho, seeds=(0, 1, 2)) for rho in (0.05, 0.5)])
    for result in metrics:
        assert result.metrics["agreement_share"] == [1.0, 1.0, 1.0]
        assert result.metrics["raised_share"] == result.metrics["condition_share"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_snapshot_keeps_the_last_layer_of_its_own_step(dtype):
    result, halfway = (train_toy([SMALL.vary(n_steps=n, checkpoints=())], dtype=dtype)[0] for n in (100, 50))
    early, late = result.metrics["curves"]["v_easy"][0]
    assert early == halfway.metrics["curves"]["v_easy"][0][1]
    assert early != late


def test_radius_zero_leaves_the_phantom_at_the_iterate_and_sign_flips_are_left_out_of_ratios():
    metrics = train_toy([SMALL])[0].metrics
    assert metrics["phantom_ratio"] == metrics["real_ratio"]
    assert metrics["easy_rate"] == metrics["hard_rate"] == [1.0]
    assert metrics["raised_share"] == [0.0]
    metrics = train_toy([SMALL.vary(rho=5.0, last_layer_init=0.3)])[0].metrics
    assert metrics["flipped_steps"][0] > 0
    assert metrics["readable_steps"][0] + metrics["flipped_steps"][0] <= 100


def test_divergence_is_reported_and_not_hidden():
    metrics = train_toy([SMALL.vary(learning_rate=1e4)])[0].metrics
    assert metrics["diverged"] == [True]
    assert metrics["final_hard_error"] == [1.0]


@pytest.mark.parametrize(
    ("configs", "options", "message"),
    [
        ([SMALL], {"engine": "fast"}, "engine: expected one of 'batched', 'compiled', got 'fast'"),
        ([SMALL], {"engine": "compiled", "device": "meta"}, "expected 'batched' on meta"),
        ([SMALL, SMALL.vary(hidden=9)], {}, r"of one shape.*group by shape"),
        ([], {}, "one or more"),
    ],
)
def test_engines_and_configurations_that_do_not_fit_are_refused(configs, options, message):
    with pytest.raises(ValueError, match=message):
        train_toy(configs, **options)


def test_a_gpu_and_short_runs_on_a_cpu_do_not_wait_for_a_compiler():
    assert best_engine("cuda", 999) == best_engine("cuda") == best_engine("cpu", 999) == "batched"
    assert best_engine("cpu", 1000) == best_engine("cpu") == ("compiled" if available() else "batched")


@needs_gpu
def test_steps_on_a_gpu_never_wait_for_the_device():
    inputs = torch.randn(70, 3, 2, 5, 2, generator=torch.Generator().manual_seed(5)).cuda()
    labels = torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)
    settings = [LSAM, INTERVENED[-1], INTERVENED[0]]
    engine = BatchedEngine(
        initial_weights([0, 1, 2], hidden=10, last_layer_init=[1.0] * 3),
        learning_rate=[0.05, 0.02, 0.05],
        rho=[rho for _, rho in settings],
        interventions=[intervention for intervention, _ in settings],
        batch_size=5,
        device="cuda",
    )
    engine.run(inputs, labels)
    try:
        torch.cuda.set_sync_debug_mode("error")
        engine.run(inputs, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_training_on_a_gpu_gives_what_the_cpu_gives():
    config = ToyConfig(hidden=20, n_steps=120, n_snapshots=2, checkpoints=(120,), rho=0.5, seeds=(0, 1))
    slow, fast = train_toy([config])[0], train_toy([config], device="cuda")[0]
    for name, values in slow.arrays.items():
        torch.testing.assert_close(torch.tensor(fast.arrays[name]), torch.tensor(values), rtol=0, atol=1e-4)
