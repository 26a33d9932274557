"""The fused kernel: equal to the batched engine in Triton's interpreter, and compilable without a GPU.

Run as a program, with Triton interpreting, this file does all `CASES` and prints what came out: Triton decides at its
import whether it interprets, which must not reach other tests.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from toy_settings import INTERVENED, LSAM, SGD

from samlib.toy import fused
from samlib.toy.config import Intervention
from samlib.toy.engine import Ensemble
from samlib.toy.fused import FusedEnsemble
from samlib.toy.network import Weights, initial_weights

needs_triton = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed")


def _options(settings, batch_size, learning_rate=0.05):
    return {
        "learning_rate": [learning_rate + m / 100 for m in range(len(settings))],
        "rho": [rho for _, rho in settings],
        "interventions": [intervention for intervention, _ in settings],
        "batch_size": batch_size,
        "device": "cpu",
    }


def _weights(members, hidden):
    return initial_weights(list(range(members)), hidden=hidden, last_layer_init=[1.0 + m / 8 for m in range(members)])


def _batches(steps, members, batch_size):
    inputs = torch.randn(steps, members, 2, batch_size, 2, generator=torch.Generator().manual_seed(5))
    return inputs, torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)


def _difference(settings, *, hidden, batch_size, steps):
    """Largest difference between both engines' weights and terms after the same steps."""
    weights, batches = _weights(len(settings), hidden), _batches(steps, len(settings), batch_size)
    slow, fast = (kind(weights, **_options(settings, batch_size)) for kind in (Ensemble, FusedEnsemble))
    pairs = zip([*slow.run(*batches), *slow.weights], [*fast.run(*batches), *fast.weights], strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def _alone_and_beside():
    """Whether a member gives the same bits alone and beside others."""
    weights, (inputs, labels) = _weights(3, 8), _batches(3, 3, 2)
    group = FusedEnsemble(weights, **_options([LSAM, SGD, LSAM], 2))
    group.run(inputs, labels)
    alone = FusedEnsemble(Weights(*(part[:1] for part in weights)), **_options([LSAM], 2))
    alone.run(inputs[:, :1], labels[:, :1])
    return all(torch.equal(a, b[:1]) for a, b in zip(alone.weights, group.weights, strict=True))


def _once_and_often():
    """Whether steps in one call and in many give the same bits, always in the same storage."""
    weights, (inputs, labels) = _weights(1, 8), _batches(3, 1, 2)
    once, often = (FusedEnsemble(weights, **_options([LSAM], 2)) for _ in range(2))
    once.run(inputs, labels)
    storage = [part.data_ptr() for part in often.weights]
    for step in range(3):
        often.run(inputs[step : step + 1], labels[step : step + 1])
    same = all(torch.equal(a, b) for a, b in zip(once.weights, often.weights, strict=True))
    return same and storage == [part.data_ptr() for part in often.weights]


def _diverging():
    """Whether each part of the weights is finite: of a member that diverges, and of the one beside it."""
    options = _options([LSAM] * 2, 2) | {"learning_rate": [1e30, 0.05]}
    ensemble = FusedEnsemble(_weights(2, 8), **options)
    ensemble.run(*_batches(12, 2, 2))
    return [[bool(part[m].isfinite().all()) for part in ensemble.weights] for m in range(2)]


def _nan():
    """Whether NaN in one input reaches each layer of its network."""
    inputs, labels = _batches(1, 1, 3)
    inputs[0, 0, 1, 2, 0] = float("nan")
    ensemble = FusedEnsemble(_weights(1, 8), **_options([LSAM], 3))
    ensemble.run(inputs, labels)
    return [bool(part[0, 1].isnan().any()) for part in ensemble.weights]


def _zero_gradient():
    """What a step makes of v where the gradient is zero and the radius large."""
    weights = Weights(*(torch.zeros_like(part) for part in _weights(1, 8)[:6]), torch.tensor([[1.0, 2.0]]))
    ensemble = FusedEnsemble(weights, **_options([(Intervention(), 50.0)], 2))
    terms = ensemble.run(*_batches(1, 1, 2))
    return [part.flatten().tolist() for part in (*terms, ensemble.weights.v)]


def _large_margins():
    """Whether steps with margins of a million are finite."""
    weights = _weights(1, 8)
    weights.v.mul_(1e6)
    ensemble = FusedEnsemble(weights, **_options([LSAM], 2, learning_rate=1e-9))
    terms = ensemble.run(*_batches(2, 1, 2))
    return all(bool(part.isfinite().all()) for part in (*terms, *ensemble.weights))


CASES = {
    "100 steps": lambda: _difference([SGD, LSAM], hidden=8, batch_size=2, steps=100),
    "settings": lambda: _difference([SGD, LSAM, *INTERVENED], hidden=8, batch_size=3, steps=3),
    "one example": lambda: _difference([LSAM], hidden=20, batch_size=1, steps=5),
    "width 100": lambda: _difference([LSAM], hidden=100, batch_size=5, steps=4),
    "width 128": lambda: _difference([LSAM], hidden=128, batch_size=32, steps=2),
    "alone": _alone_and_beside,
    "often": _once_and_often,
    "diverging": _diverging,
    "nan": _nan,
    "zero gradient": _zero_gradient,
    "large margins": _large_margins,
}


@pytest.fixture(scope="module")
def interpreted():
    """What every case gave in a process in which Triton interprets."""
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.parametrize("case", ["100 steps", "settings", "one example", "width 100", "width 128"])
def test_kernel_equals_the_batched_engine(interpreted, case):
    assert interpreted[case] < 1e-5


@needs_triton
def test_adding_members_changes_no_bit_of_the_others(interpreted):
    assert interpreted["alone"] is True


@needs_triton
def test_steps_in_one_call_or_in_many_give_the_same_bits_in_place(interpreted):
    assert interpreted["often"] is True


@needs_triton
def test_divergence_shows_in_the_member_that_diverges_and_in_no_other(interpreted):
    assert interpreted["diverging"] == [[False] * 7, [True] * 7]


@needs_triton
def test_nan_in_an_input_reaches_every_layer_of_its_network(interpreted):
    assert interpreted["nan"] == [True] * 7


@needs_triton
def test_a_zero_gradient_leaves_the_last_layer_where_it_is(interpreted):
    before, gradient, rate, after = interpreted["zero gradient"]
    assert gradient == [0.0, 0.0]
    assert before == rate == after == [1.0, 2.0]


@needs_triton
def test_large_margins_give_finite_steps(interpreted):
    assert interpreted["large margins"] is True


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from samlib.toy.fused import _train

sizes = {"HIDDEN": 100, "BATCH": 5, "PADDED": 128, "ROWS": 8}
kinds = {"steps": "i32", "members": "i32"} | dict.fromkeys(sizes, "constexpr")
signature = {name: kinds.get(name, "*fp32") for name in _train.arg_names}
options = {"num_warps": 8, "enable_fp_fusion": True}
source = ASTSource(fn=_train, signature=signature, constexprs=sizes)
code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
print(code.metadata.shared, len(code.asm["cubin"]))
"""


@needs_triton
def test_kernel_of_width_100_compiles_for_hopper_and_fits(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shared, code = map(int, done.stdout.split())
    assert shared <= 227 * 1024
    assert code > 0


@needs_triton
@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"hidden": 129}, "got 129, 5 and torch.float32"),
        ({"batch_size": 33}, "got 8, 33 and torch.float32"),
        ({"dtype": torch.float64}, "got 8, 5 and torch.float64"),
    ],
)
def test_shapes_that_the_kernel_is_not_for_are_refused(changes, got):
    sizes = {"hidden": 8, "batch_size": 5, "dtype": torch.float32} | changes
    with pytest.raises(ValueError, match=rf"at most 128 hidden units.*{got}; use another engine"):
        FusedEnsemble(_weights(1, sizes["hidden"]), **_options([LSAM], sizes["batch_size"]), dtype=sizes["dtype"])


@needs_triton
def test_batches_of_other_sizes_never_reach_the_kernel():
    ensemble = FusedEnsemble(_weights(2, 8), **_options([LSAM] * 2, 5))
    with pytest.raises(ValueError, match=r"expected shapes \(3, 2, 2, 5, 2\).*got \(3, 2, 2, 4, 2\).*batch_size = 5"):
        ensemble.run(*_batches(3, 2, 4))


def test_missing_triton_is_reported_with_what_to_do(monkeypatch):
    monkeypatch.setattr(fused, "triton", None)
    with pytest.raises(ImportError, match=r"expected the package triton.*cannot be imported; install triton, or use"):
        FusedEnsemble(_weights(1, 8), **_options([LSAM], 5))


if __name__ == "__main__":
    print(json.dumps({name: case() for name, case in CASES.items()}))
