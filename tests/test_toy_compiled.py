"""The compiled engine: equal to the batched one, in place, members that never touch each other."""

import sys

import pytest
import torch
from plain_toy import INTERVENED, LSAM, SGD, needs_numba

from samlib.toy import compiled
from samlib.toy.compiled import CompiledEngine, available
from samlib.toy.config import Intervention
from samlib.toy.engine import BatchedEngine
from samlib.toy.network import Weights, initial_weights

SETTINGS = [SGD, LSAM, *INTERVENED]


def _options(settings, batch_size=5, learning_rate=0.05):
    return {
        "learning_rate": [learning_rate] * len(settings),
        "rho": [rho for _, rho in settings],
        "interventions": [intervention for intervention, _ in settings],
        "batch_size": batch_size,
    }


def _weights(members, hidden=10, dtype=torch.float32):
    init = [1.0 + m / 8 for m in range(members)]
    weights = initial_weights(list(range(members)), hidden=hidden, last_layer_init=init)
    return Weights(*(part.to(dtype) for part in weights))


def _batches(steps, members, batch_size=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(steps, members, 2, batch_size, 2, generator=generator, dtype=torch.float64)
    labels = torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)
    return inputs.to(dtype), labels.to(dtype)


def _engine(members=1, **options):
    return CompiledEngine(_weights(members), **_options([LSAM] * members) | options)


def _equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _both(*, hidden, batch_size, steps, dtype):
    """What the batched and the compiled engine made of the same steps: their weights and what the steps returned."""
    weights, batches = _weights(len(SETTINGS), hidden, dtype), _batches(steps, len(SETTINGS), batch_size, dtype)
    lent, options = tuple(part.roll(1, 0) for part in batches), _options(SETTINGS, batch_size)
    engines = BatchedEngine(weights, **options, dtype=dtype), CompiledEngine(weights, **options)
    return zip(*([*engine.run(*batches, lent), *engine.weights] for engine in engines), strict=True)


@needs_numba
@pytest.mark.parametrize(  # the engine is compiled anew for each width and batch
    ("hidden", "batch_size"),
    [(8, 5), (50, 30), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((15, 1), (100, 5)))],
)
def test_every_setting_equals_the_batched_engine_after_100_steps(hidden, batch_size):
    for slow, fast in _both(hidden=hidden, batch_size=batch_size, steps=100, dtype=torch.float64):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


@needs_numba
@pytest.mark.parametrize(("hidden", "batch_size"), [(50, 5), pytest.param(8, 300, marks=pytest.mark.slow)])
def test_single_precision_equals_the_batched_engine_after_50_steps(hidden, batch_size):
    for slow, fast in _both(hidden=hidden, batch_size=batch_size, steps=50, dtype=torch.float32):
        assert fast.dtype == torch.float32
        assert (fast - slow).norm() <= 1e-4 * slow.norm()


@needs_numba
@pytest.mark.parametrize("threads", [2, 3, 9])
def test_the_number_of_threads_changes_no_bit(threads):
    weights, batches = _weights(7, 50), _batches(40, 7)
    one, many = (CompiledEngine(weights, **_options(SETTINGS[1:8]), threads=n) for n in (1, threads))
    assert _equal(one.run(*batches), many.run(*batches)) and _equal(one.weights, many.weights)


@needs_numba
def test_weights_change_in_place_alike_in_one_call_or_many_and_the_given_ones_do_not():
    given = _weights(2)
    before = Weights(*(part.clone() for part in given))
    once, often = (CompiledEngine(given, **_options([LSAM] * 2)) for _ in range(2))
    weights, storage = once.weights, [part.data_ptr() for part in once.weights]
    assert _equal(weights, before)
    inputs, labels = _batches(6, 2)
    once.run(inputs, labels)
    for step in range(6):
        often.run(inputs[step : step + 1], labels[step : step + 1])
    assert [part.data_ptr() for part in once.weights] == storage
    assert not any(torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    assert _equal(weights, often.weights) and _equal(given, before)


@needs_numba
def test_divergence_shows_in_the_member_that_diverges_and_in_no_other():
    engine = _engine(2, learning_rate=[1e30, 0.05])
    terms = engine.run(*_batches(60, 2))
    assert not any(part[0].isfinite().all() for part in engine.weights)
    assert all(part[1].isfinite().all() for part in engine.weights)
    assert terms.v[:, 1].isfinite().all()


@needs_numba
def test_nan_in_an_input_reaches_every_layer_of_its_network():
    inputs, labels = _batches(1, 1)
    inputs[0, 0, 1, 3, 0] = float("nan")
    engine = _engine()
    engine.run(inputs, labels)
    assert all(part[0, 1].isnan().any() for part in engine.weights)


@needs_numba
@pytest.mark.parametrize("rho", [0.7, 50.0])
def test_a_zero_gradient_leaves_the_last_layer_where_it_is(rho):
    weights = Weights(*(torch.zeros_like(part) for part in _weights(1)[:6]), torch.tensor([[1.0, 2.0]]))
    engine = CompiledEngine(weights, **_options([(Intervention(), rho)]))
    terms = engine.run(*_batches(1, 1))
    assert terms.gradient.tolist() == [[[0.0, 0.0]]]
    assert terms.v.tolist() == terms.rate.tolist() == [engine.weights.v.tolist()] == [[[1.0, 2.0]]]


@needs_numba
def test_large_margins_give_finite_steps():
    engine = _engine(learning_rate=[1e-9])
    engine.weights.v.mul_(1e6)
    terms = engine.run(*_batches(2, 1))
    assert all(part.isfinite().all() for part in (*terms, *engine.weights))
    assert (terms.gradient != 0).all()


@needs_numba
def test_no_thread_is_refused():
    with pytest.raises(ValueError, match=r"threads: expected a whole number.*got 0"):
        _engine(threads=0)


@pytest.mark.parametrize("engine", [BatchedEngine, pytest.param(CompiledEngine, marks=needs_numba)])
def test_tensors_and_settings_of_other_sizes_are_refused(engine):
    weights, options = _weights(2), _options([LSAM] * 2)
    with pytest.raises(ValueError, match=r"expected shapes \(3, 2, 2, 5, 2\).*got \(3, 2, 2, 4, 2\).*batch_size = 5"):
        engine(weights, **options).run(*_batches(3, 2, 4))
    with pytest.raises(ValueError, match=r"settings: expected 2, one a member, got \[1, 2\]"):
        engine(weights, **options | {"rho": [0.7]})


def test_missing_numba_is_reported_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled._compiled.cache_clear()
    assert not available()
    with pytest.raises(ImportError, match=r"expected the package numba.*cannot be imported; install numba, or use"):
        _engine()
