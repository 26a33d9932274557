"""The step benchmark: what it reports, that the methods it compares do equal work, and how it times them."""

import functools
import gc
import importlib.util
import itertools

import networks
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from edition.bench import step as bench
from edition.bench.step import Laps, measure_steps, step_profile, step_table
from edition.bench.step_methods import BASE, PEER, RHO, Workload, build_workload, methods
from edition.bench.timing import interleave

OURS = ["sgd", "floor", "sam", "lsam", "two_step_sam"]
peer = pytest.mark.skipif(importlib.util.find_spec("pytorch_optimizer") is None, reason="needs samlib[benchmark]")


def _after(method: str, n_steps: int) -> Tensor:
    """The MLP's weights after some steps of one method."""
    network, batches = build_workload("mlp").fresh()
    step = methods()[method](network, batches)
    for _ in range(n_steps):
        step()
    return networks.weights(network)


def _loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(network(inputs), targets)


def _reference(n_steps: int, *, head_only: bool = False) -> Tensor:
    """SAM's weights, or LSAM's, on the MLP: two passes written out, and SGD's step."""
    network, batches = build_workload("mlp").fresh()
    parameters = list(network.parameters())
    perturbed = list(network[1].parameters()) if head_only else None
    optimizer = SGD(parameters, **BASE)
    for inputs, targets in itertools.islice(batches, n_steps):
        loss = functools.partial(_loss, network, inputs, targets)
        networks.take_step(optimizer, networks.phantom_gradients(loss, parameters, rho=RHO, perturbed=perturbed))
    return networks.weights(network)


# ---- the methods do equal work


@pytest.mark.parametrize(
    "method, head_only",
    [("sam", False), ("two_step_sam", False), pytest.param(PEER, False, marks=peer), ("lsam", True)],
)
def test_sam_and_lsam_take_the_reference_steps(method, head_only):
    expected = _reference(20, head_only=head_only)
    torch.testing.assert_close(_after(method, 20), expected, rtol=0, atol=1e-6)
    assert (_after("sgd", 20) - expected).abs().max() > 1e-5


def test_the_floor_takes_sgd_steps():
    assert torch.equal(_after("floor", 5), _after("sgd", 5))


def test_sam_counts_batch_statistics_once_and_takes_the_two_step_sams_step_all_the_same():
    whole = build_workload("resnet18")
    workload = Workload(whole.network, tuple((inputs[:4], targets[:4]) for inputs, targets in whole.batches))
    trained = [workload.fresh() for _ in range(2)]
    for method, (network, batches) in zip(("sam", "two_step_sam"), trained, strict=True):
        methods()[method](network, batches)()
    ours, common = (network for network, _ in trained)
    torch.testing.assert_close(networks.weights(ours), networks.weights(common), rtol=0, atol=1e-5)
    assert [int(network[0].bn1.num_batches_tracked) for network in (ours, common)] == [1, 2]


@pytest.mark.parametrize("method", ["sgd", "sam", "lsam"])
def test_a_profiled_step_is_the_step(method):
    network, batches = build_workload("mlp").fresh()
    laps = Laps()
    step = laps.step(bench.PROFILED[method](network, batches, laps))
    for _ in range(5):
        step()
    assert torch.equal(networks.weights(network), _after(method, 5))
    assert len(laps.steps) == 5


# ---- what is reported


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WORKLOADS", {"mlp": 2})


def test_rows_name_every_method_sgd_first_and_the_table_says_where_the_other_library_is_missing(small, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = measure_steps(rounds=1, workloads=["mlp"])
    assert [row["method"] for row in rows] == OURS
    keys = {"workload", "method", "median_ms", "low_ms", "high_ms", "ratio_to_sgd", "ratio_low", "ratio_high"}
    assert all(set(row) == keys and row["workload"] == "mlp" for row in rows)
    assert rows[0]["ratio_to_sgd"] == 1
    *_, told = step_table(rows).splitlines()
    assert "pip install 'samlib[benchmark]'" in told
    assert told not in step_table([*rows, rows[0] | {"method": PEER}])


def test_ratio_is_the_median_of_the_rounds_ratios():
    rows = bench._rows("mlp", {"sgd": [1.0, 2.0, 4.0], "sam": [2.0, 6.0, 8.0]})
    # Rounds: 2, 3, 2. The ratio of the medians would be 3.
    assert rows[1]["ratio_to_sgd"] == 2 and (rows[1]["ratio_low"], rows[1]["ratio_high"]) == (2, 2.5)
    assert (rows[1]["low_ms"], rows[1]["median_ms"], rows[1]["high_ms"]) == (4000, 6000, 7000)


@pytest.mark.parametrize("measure", [measure_steps, step_profile])
def test_unknown_workload_is_refused_before_any_is_measured(measure):
    with pytest.raises(ValueError, match="workload: expected one of 'mlp', 'convnet', 'resnet18', got 'vgg'"):
        measure(rounds=1, workloads=["mlp", "vgg"])


def test_a_profiles_parts_add_up_to_the_step():
    laps = Laps()
    inner, outer = laps.part("a", lambda: 3), laps.part("b", lambda: None)
    laps.step(lambda: [inner(), outer(), inner()])()
    (parts,) = laps.steps
    assert list(parts) == ["a", "b", "rest", "step"]
    assert parts["a"] + parts["b"] + parts["rest"] == pytest.approx(parts["step"])


def test_the_profile_names_the_parts_of_each_step(small):
    rows = step_profile(rounds=1, workloads=["mlp"])
    parts = {method: [row["part"] for row in rows if row["method"] == method] for method in ("sgd", "sam", "lsam")}
    assert all(names[-2:] == ["rest", "step"] for names in parts.values())
    assert {"norm", "w saved", "ascent", "pass at w + epsilon", "w put back", "finite check"} < set(parts["sam"])
    assert {"head and loss, twice", "finite check"} < set(parts["lsam"])
    assert all(set(row) == {"workload", "method", "part", "median_ms", "percent_of_sgd"} for row in rows)


# ---- timing


def test_every_work_is_timed_once_a_round_in_changing_order():
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleave(works, rounds=20, seconds=0)
    assert {name: len(values) for name, values in times.items()} == {"a": 20, "b": 20, "c": 20}
    counted = calls[10::2]  # three calls each find the time of a call; then every other one is uncounted
    assert counted == calls[9::2]
    rounds = ["".join(counted[index : index + 3]) for index in range(0, len(counted), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds) and len(rounds) == 20
    assert len(set(rounds)) > 1


def test_timing_puts_garbage_collection_back_on_failure():
    def fail() -> None:
        if not gc.isenabled():
            raise RuntimeError("in the timed part")

    with pytest.raises(RuntimeError, match="timed part"):
        interleave({"a": fail}, rounds=1)
    assert gc.isenabled()


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds"):
        interleave({"a": int}, rounds=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_steps_are_measured_on_a_gpu(small):
    assert [row["method"] for row in measure_steps(rounds=1, device="cuda", workloads=["mlp"])][:5] == OURS
