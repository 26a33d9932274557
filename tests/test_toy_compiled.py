"""The compiled engine: equal to the batched one, in place, members that never touch each other."""

import sys

import pytest
import torch
from toy_settings import INTERVENED, LSAM, SGD, needs_numba

from samlib.toy import compiled
from samlib.toy.compiled import CompiledEngine, available
from samlib.toy.config import Intervention
from samlib.toy.engine import BatchedEngine
from samlib.toy.network import Weights, initial_weights

SETTINGS = [SGD, LSAM, *INTERVENED]


def _options(settings, batch_size, learning_rate=0.05):
    return {
        "learning_rate": [learning_rate] * len(settings),
        "rho": [rho for _, rho in settings],
        "interventions": [intervention for intervention, _ in settings],
        "batch_size": batch_size,
    }


def _weights(members, hidden, dtype=torch.float64):
    weights = initial_weights(
        list(range(members)), hidden=hidden, last_layer_init=[1.0 + m / 8 for m in range(members)]
    )
    return Weights(*(part.to(dtype) for part in weights))


def _batches(steps, members, batch_size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(steps, members, 2, batch_size, 2, generator=generator, dtype=torch.float64)
    labels = torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)
    return inputs.to(dtype), labels.to(dtype)


def _both(settings, *, hidden, batch_size, steps, dtype):
    """The batched and the compiled ensemble after the same steps, each with what its steps returned."""
    weights, batches = _weights(len(settings), hidden, dtype), _batches(steps, len(settings), batch_size, dtype)
    batched = BatchedEngine(weights, **_options(settings, batch_size), dtype=dtype)
    fast = CompiledEngine(weights, **_options(settings, batch_size))
    lent = tuple(part.roll(1, 0) for part in batches)
    return (batched.weights, batched.run(*batches, lent)), (fast.weights, fast.run(*batches, lent))


@needs_numba
@pytest.mark.parametrize(  # the engine is compiled anew for each width and batch
    ("hidden", "batch_size"),
    [(8, 5), (50, 30), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((15, 1), (100, 5)))],
)
def test_every_setting_equals_the_batched_engine_after_100_steps(hidden, batch_size):
    expected, got = _both(SETTINGS, hidden=hidden, batch_size=batch_size, steps=100, dtype=torch.float64)
    for name, slow, fast in zip(Weights._fields, expected[0], got[0], strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
    for slow, fast in zip(expected[1], got[1], strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-10)


@needs_numba
@pytest.mark.parametrize(("hidden", "batch_size"), [(50, 5), pytest.param(8, 300, marks=pytest.mark.slow)])
def test_single_precision_equals_the_batched_engine_after_50_steps(hidden, batch_size):
    expected, got = _both(SETTINGS, hidden=hidden, batch_size=batch_size, steps=50, dtype=torch.float32)
    for slow, fast in zip([*expected[0], *expected[1]], [*got[0], *got[1]], strict=True):
        assert fast.dtype == torch.float32
        assert (fast - slow).norm() <= 1e-4 * slow.norm()


@needs_numba
@pytest.mark.parametrize("threads", [2, 3, 9])
def test_the_number_of_threads_changes_no_bit(threads):
    weights, batches = _weights(7, 50, torch.float32), _batches(40, 7, 5, torch.float32)
    one, many = (CompiledEngine(weights, **_options(SETTINGS[1:8], 5), threads=n) for n in (1, threads))
    for first, second in zip(one.run(*batches), many.run(*batches), strict=True):
        assert torch.equal(first, second)
    assert all(
        torch.equal(a, b) and not torch.equal(a, c) for a, b, c in zip(one.weights, many.weights, weights, strict=True)
    )


@needs_numba
def test_no_thread_is_refused():
    with pytest.raises(ValueError, match=r"threads: expected a whole number.*got 0"):
        CompiledEngine(_weights(1, 8), **_options([LSAM], 5), threads=0)


@needs_numba
def test_steps_in_one_call_or_in_many_give_the_same_bits():
    weights, (inputs, labels) = _weights(2, 10, torch.float32), _batches(6, 2, 5, torch.float32)
    once, often = (CompiledEngine(weights, **_options([LSAM] * 2, 5)) for _ in range(2))
    once.run(inputs, labels)
    for step in range(6):
        often.run(inputs[step : step + 1], labels[step : step + 1])
    assert all(torch.equal(a, b) for a, b in zip(once.weights, often.weights, strict=True))


@needs_numba
def test_weights_change_in_place_and_the_given_ones_do_not():
    given = _weights(2, 10, torch.float32)
    before = Weights(*(part.clone() for part in given))
    ensemble = CompiledEngine(given, **_options([LSAM] * 2, 5))
    weights, storage = ensemble.weights, [part.data_ptr() for part in ensemble.weights]
    assert all(torch.equal(a, b) and a.shape == b.shape for a, b in zip(weights, before, strict=True))
    ensemble.run(*_batches(3, 2, 5, torch.float32))
    assert [part.data_ptr() for part in ensemble.weights] == storage
    assert all(not torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@needs_numba
def test_divergence_shows_in_the_member_that_diverges_and_in_no_other():
    options = _options([LSAM] * 2, 5) | {"learning_rate": [1e30, 0.05]}
    ensemble = CompiledEngine(_weights(2, 10, torch.float32), **options)
    terms = ensemble.run(*_batches(60, 2, 5, torch.float32))
    finite = [[bool(part[m].isfinite().all()) for part in ensemble.weights] for m in range(2)]
    assert not any(finite[0])
    assert all(finite[1])
    assert terms.v[:, 1].isfinite().all()


@needs_numba
def test_nan_in_an_input_reaches_every_layer_of_its_network():
    inputs, labels = _batches(1, 1, 5, torch.float32)
    inputs[0, 0, 1, 3, 0] = float("nan")
    ensemble = CompiledEngine(_weights(1, 10, torch.float32), **_options([LSAM], 5))
    ensemble.run(inputs, labels)
    assert all(part[0, 1].isnan().any() for part in ensemble.weights)


@needs_numba
@pytest.mark.parametrize("rho", [0.7, 50.0])
def test_a_zero_gradient_leaves_the_last_layer_where_it_is(rho):
    weights = Weights(*(torch.zeros_like(part) for part in _weights(1, 10)[:6]), torch.tensor([[1.0, 2.0]]))
    ensemble = CompiledEngine(weights, **_options([(Intervention(), rho)], 5))
    terms = ensemble.run(*_batches(1, 1, 5, torch.float32))
    assert terms.gradient.tolist() == [[[0.0, 0.0]]]
    assert terms.v.tolist() == terms.rate.tolist() == [[[1.0, 2.0]]]
    assert ensemble.weights.v.tolist() == [[1.0, 2.0]]


@needs_numba
def test_large_margins_give_finite_steps():
    weights = _weights(1, 10, torch.float32)
    weights.v.mul_(1e6)
    ensemble = CompiledEngine(weights, **_options([LSAM], 5, learning_rate=1e-9))
    terms = ensemble.run(*_batches(2, 1, 5, torch.float32))
    assert all(part.isfinite().all() for part in (*terms, *ensemble.weights))
    assert (terms.gradient != 0).all()


@pytest.mark.parametrize("engine", [BatchedEngine, pytest.param(CompiledEngine, marks=needs_numba)])
def test_tensors_and_settings_of_other_sizes_are_refused(engine):
    weights, options = _weights(2, 10), _options([LSAM] * 2, 5)
    with pytest.raises(ValueError, match=r"expected shapes \(3, 2, 2, 5, 2\).*got \(3, 2, 2, 4, 2\).*batch_size = 5"):
        engine(weights, **options).run(*_batches(3, 2, 4))
    with pytest.raises(ValueError, match=r"settings: expected 2, one a member, got \[1, 2\]"):
        engine(weights, **options | {"rho": [0.7]})


def test_missing_numba_is_reported_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled._compiled.cache_clear()
    assert not available()
    with pytest.raises(ImportError, match=r"expected the package numba.*cannot be imported; install numba, or use"):
        CompiledEngine(_weights(1, 8), **_options([LSAM], 5))
