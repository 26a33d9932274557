"""The engine on a GPU, where there is one, and the choice of an engine."""

import pytest
import torch

from samlib.toy.compiled import available
from samlib.toy.config import Intervention, ToyConfig
from samlib.toy.engine import BatchedEngine
from samlib.toy.network import initial_weights
from samlib.toy.training import best_engine, train_toy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
OPTIONS = {
    "learning_rate": [0.05, 0.02, 0.05],
    "rho": [0.7, 0.0, 0.7],
    "interventions": [Intervention(), Intervention("both", ratio=1.5), Intervention("rate", "phantom")],
    "batch_size": 5,
}


def test_short_runs_on_a_cpu_do_not_wait_for_a_compiler():
    assert best_engine("cpu", 999) == "batched"
    assert best_engine("cpu", 1000) == best_engine("cpu") == ("compiled" if available() else "batched")


def test_a_gpu_has_the_batched_engine():
    assert best_engine("cuda", 999) == best_engine("cuda") == "batched"


@needs_gpu
def test_steps_on_a_gpu_never_wait_for_the_device():
    inputs = torch.randn(70, 3, 2, 5, 2, generator=torch.Generator().manual_seed(5)).cuda()
    labels = torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)
    ensemble = BatchedEngine(initial_weights([0, 1, 2], hidden=10, last_layer_init=[1.0] * 3), **OPTIONS, device="cuda")
    ensemble.run(inputs, labels)
    try:
        torch.cuda.set_sync_debug_mode("error")
        ensemble.run(inputs, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_training_on_a_gpu_gives_what_the_cpu_gives():
    config = ToyConfig(hidden=20, n_steps=120, n_snapshots=2, checkpoints=(120,), rho=0.5, seeds=(0, 1))
    slow, fast = train_toy([config])[0], train_toy([config], device="cuda")[0]
    for name, values in slow.arrays.items():
        torch.testing.assert_close(torch.tensor(fast.arrays[name]), torch.tensor(values), rtol=0, atol=1e-4)
