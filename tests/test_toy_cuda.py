"""The CUDA engines and the choice of an engine: what can be shown without a GPU, and the rest where there is one."""

import functools
import warnings

import pytest
import torch
from samlib.toy.captured import CapturedEnsemble
from samlib.toy.engines import best_engine, make_engine

from samlib.toy import captured, engines
from samlib.toy.compiled import available
from samlib.toy.config import Intervention, ToyConfig
from samlib.toy.engine import Ensemble
from samlib.toy.network import Weights, initial_weights
from samlib.toy.training import train_toy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
MEMBERS = 3
OPTIONS = {
    "learning_rate": [0.05, 0.02, 0.05],
    "rho": [0.7, 0.0, 0.7],
    "interventions": [Intervention(), Intervention("both", ratio=1.5), Intervention("rate", "phantom")],
    "batch_size": 5,
}


def _weights(hidden=10):
    return initial_weights(list(range(MEMBERS)), hidden=hidden, last_layer_init=[1.0, 1.5, 2.0])


def _batches(steps, device="cpu"):
    inputs = torch.randn(steps, MEMBERS, 2, 5, 2, generator=torch.Generator().manual_seed(5))
    return inputs.to(device), torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0).to(device)


def _pairs(first, second, *, calls, device="cpu", hidden=10):
    """Weights and terms of two kinds of engine after the same calls, each of some number of steps."""
    inputs, labels = _batches(sum(calls), device)
    results = []
    for kind in (first, second):
        ensemble = kind(_weights(hidden), **OPTIONS, device=device)
        terms = [ensemble.run(*part) for part in zip(inputs.split(calls), labels.split(calls), strict=True)]
        results.append([*ensemble.weights, *(torch.cat(parts) for parts in zip(*terms, strict=True))])
    return list(zip(*results, strict=True))


@pytest.fixture
def graphless(monkeypatch):
    """A stand-in for the CUDA graph: warms up as it does, and replays by calling the step."""

    def capture(step, device):
        for _ in range(3):
            step()
        return step

    monkeypatch.setattr(captured, "_capture", capture)


@pytest.mark.parametrize("calls", [[1], [60, 60], [3, 64, 130]])
def test_captured_engine_equals_the_batched_one_bit_for_bit_in_calls_of_any_length(graphless, calls):
    for slow, fast in _pairs(Ensemble, CapturedEnsemble, calls=calls):
        assert torch.equal(slow, fast)


def test_capturing_leaves_the_weights_as_they_were_given_and_where_they_are(graphless):
    given = Weights(*(part.float() for part in _weights()))
    ensemble = CapturedEnsemble(given, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(given, ensemble.weights, strict=True))
    storage = [part.data_ptr() for part in ensemble.weights]
    ensemble.run(*_batches(3))
    assert [part.data_ptr() for part in ensemble.weights] == storage


def test_results_of_a_call_are_not_overwritten_by_the_next(graphless):
    ensemble = CapturedEnsemble(_weights(), **OPTIONS)
    first = ensemble.run(*_batches(3))
    before = [part.clone() for part in first]
    ensemble.run(*_batches(5))
    assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True))


@pytest.mark.parametrize("kind", ["batched", "captured"])
def test_batches_and_settings_of_other_sizes_are_refused(graphless, kind):
    engine = {"batched": Ensemble, "captured": CapturedEnsemble}[kind]
    inputs, labels = _batches(3)
    with pytest.raises(ValueError, match=r"expected shapes \(3, 3, 2, 5, 2\).*got \(3, 3, 2, 4, 2\).*batch_size = 5"):
        engine(_weights(), **OPTIONS).run(inputs[:, :, :, :4], labels[:, :, :4])
    with pytest.raises(ValueError, match=r"settings: expected 3, one a member, got \[2, 3\]"):
        engine(_weights(), **OPTIONS | {"rho": [0.0, 0.1]})


@pytest.mark.parametrize("name", ["captured", "fused"])
def test_engines_for_cuda_are_refused_elsewhere(name):
    with pytest.raises(ValueError, match=rf"expected 'batched' on cpu, got '{name}', for cuda"):
        make_engine(name, _weights(), **OPTIONS, device="cpu")


def test_short_runs_on_a_cpu_do_not_wait_for_a_compiler():
    assert best_engine("cpu", 999) == "batched"
    assert best_engine("cpu", 1000) == best_engine("cpu") == ("compiled" if available() else "batched")


@pytest.fixture
def pretended(monkeypatch):
    """Pretend that there is a GPU, on which the check of each engine finds what the test says."""

    def check(found):
        def difference(name, device, hidden, batch_size):
            if isinstance(found[name], Exception):
                raise found[name]
            return found[name]

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(engines, "_difference", difference)
        monkeypatch.setattr(engines, "_works", functools.cache(engines._works.__wrapped__))

    return check


def test_fused_engine_is_chosen_where_it_agrees(pretended):
    pretended({"fused": 1e-6})
    assert best_engine("cuda", 100) == best_engine("cuda") == "fused"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (ImportError("expected the package triton"), "ImportError: expected the package triton"),
        (RuntimeError("PTX: too many registers\nand more"), "RuntimeError: PTX: too many registers$"),
        (0.5, "its numbers are 5.0e-01 away from the batched engine's"),
        (float("nan"), "its numbers are nan away"),
    ],
)
def test_engine_that_fails_or_disagrees_is_passed_over_with_one_warning(pretended, found, reason):
    pretended({"fused": found, "captured": 0.0})
    with pytest.warns(RuntimeWarning, match=rf"engine 'fused' is not used on cuda, as {reason}"):
        assert best_engine("cuda") == "captured"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert best_engine("cuda") == "captured"


def test_batched_engine_is_left_where_nothing_else_works(pretended):
    pretended({"fused": RuntimeError("no compiler"), "captured": RuntimeError("no graphs")})
    with pytest.warns(RuntimeWarning) as caught:
        assert best_engine("cuda") == "batched"
    assert len(caught) == 2


def test_without_a_gpu_the_choice_says_nothing_and_is_batched(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_engine("cuda") == "batched"


@pytest.mark.parametrize(("factor", "works"), [(1.0, True), (1.01, False)])
def test_check_sees_a_learning_rate_that_is_one_per_cent_off(monkeypatch, factor, works):
    def make(name, weights, *, device, **settings):
        if name == "fused":
            settings["learning_rate"] = [factor * rate for rate in settings["learning_rate"]]
        return Ensemble(weights, device=device, **settings)

    monkeypatch.setattr(engines, "make_engine", make)
    difference = engines._difference("fused", torch.device("cpu"), 10, 5)
    assert (difference <= engines._TOLERANCE) is works


@needs_gpu
@pytest.mark.parametrize("hidden", [10, 100])
def test_captured_engine_equals_the_batched_one_on_a_gpu(hidden):
    for slow, fast in _pairs(Ensemble, CapturedEnsemble, calls=[3, 100], device="cuda", hidden=hidden):
        torch.testing.assert_close(fast, slow, rtol=0, atol=0)


@needs_gpu
@pytest.mark.parametrize("hidden", [10, 50, 64, 100, 128])
def test_fused_engine_equals_the_batched_one_on_a_gpu_after_100_steps(hidden):
    kinds = (functools.partial(make_engine, name) for name in ("batched", "fused"))
    for slow, fast in _pairs(*kinds, calls=[3, 97], device="cuda", hidden=hidden):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-4)


@needs_gpu
def test_fused_engine_is_the_choice_on_a_gpu():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert best_engine("cuda") == "fused"


@needs_gpu
@pytest.mark.parametrize("engine", ["batched", "captured", "fused"])
def test_steps_on_a_gpu_never_wait_for_the_device(engine):
    batches = _batches(70, "cuda")
    ensemble = make_engine(engine, _weights(), **OPTIONS, device="cuda")
    ensemble.run(*batches)
    try:
        torch.cuda.set_sync_debug_mode("error")
        ensemble.run(*batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.parametrize("engine", ["batched", "captured", "fused"])
def test_training_on_a_gpu_gives_what_the_cpu_gives(engine):
    config = ToyConfig(hidden=20, n_steps=120, n_snapshots=2, checkpoints=(120,), rho=0.5, seeds=(0, 1))
    slow, fast = train_toy([config])[0], train_toy([config], device="cuda", engine=engine)[0]
    for name, values in slow.arrays.items():
        torch.testing.assert_close(torch.tensor(fast.arrays[name]), torch.tensor(values), rtol=0, atol=1e-4)
