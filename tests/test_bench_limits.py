"""The machine's limits: what a model-step counts as, and shares worked out by hand. No rate is tested."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edition.bench.limits import copy_rate, measure_limits, share_of_limit, step_bytes, step_flop
from samlib.toy.network import DisentangledNetwork


def test_the_smallest_step_counted_by_hand():
    # One unit a layer, one example: a network has 2 + 1 + 1 = 4 weights and 3 biases. Forwards 4 products and sums
    # and 3 additions, 11 in all; gradients the same; back through the last and the middle weight another 4.
    assert step_flop(1, 1) == 2 * (11 + 11 + 4)
    assert step_bytes(1) == 3 * 4 * 2 * 7  # moved three times, four bytes each, seven in each of two networks


def test_flop_is_what_autograd_does_in_matrix_products_and_one_addition_a_bias_each_way():
    hidden, batch = 100, 5
    network = DisentangledNetwork(hidden=hidden, last_layer_init=1.0, seed=0)
    layers = [*network.easy.parameters(), *network.hard.parameters()]
    with FlopCounterMode(display=False) as counter:
        phi = network.features(torch.ones(batch, 4, dtype=torch.float64))
        torch.autograd.grad(phi.sum(), layers)
    biases = 2 * batch * 2 * (2 * hidden + 1)
    assert step_flop(hidden, batch) == counter.get_total_flops() + biases


def test_share_is_the_rate_over_the_lowest_ceiling():
    limits = {"hidden": 100, "batch": 5, "peak_flop_per_s": 618_020e5}
    limits |= {"cache_bytes_per_s": 252_024 * 2e5, "memory_bytes_per_s": 252_024 * 1e4}
    shares = share_of_limit(80_000, limits)
    ceilings = {"arithmetic_steps_per_s": 1e5, "cache_steps_per_s": 2e5, "memory_steps_per_s": 1e4}
    assert shares == pytest.approx(ceilings | {"share": 0.8})
    slow_cache = limits | {"cache_bytes_per_s": 252_024 * 4e4}
    assert share_of_limit(80_000, slow_cache)["share"] == pytest.approx(2)


def test_limits_name_their_shapes_and_leave_the_number_of_threads_alone(monkeypatch):
    monkeypatch.setattr("edition.bench.limits._LARGE", 64)
    monkeypatch.setattr("edition.bench.limits._OUT_OF_CACHE", 1 << 20)

    def rate(work, seconds: float, calls: int | None = None) -> float:  # no clock: other programs may hold this one up
        work()
        return 500.0 if calls else 1000.0

    monkeypatch.setattr("edition.bench.limits.rate", rate)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        limits = measure_limits(20, 3, rounds=1, seconds=0.005)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert limits == pytest.approx(
        {
            "hidden": 20,
            "batch": 3,
            "peak_flop_per_s": 2 * 64**3 * 500,
            "shape_flop_per_s": 2 * 128 * 3 * 20**2 * 1000,
            "cache_bytes_per_s": 2 * (step_bytes(20) // 2) / 0.001,
            "memory_bytes_per_s": 2 * (1 << 20) / 0.001,
        }
    )


def test_a_copy_counts_what_is_read_and_what_is_written(monkeypatch):
    # One element: 1,000 calls a second; the array: 500 calls a second, so that it takes 1 ms longer.
    rates = iter([1000.0, 500.0])
    monkeypatch.setattr("edition.bench.limits.rate", lambda *_, **__: next(rates))
    assert copy_rate(4000, 0.1) == pytest.approx(8000 / 0.001)
