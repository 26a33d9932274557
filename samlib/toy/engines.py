"""The engines that train toy networks, behind one interface, and which of them to use where.

Each has `weights`, which change in place, and `run(inputs, labels)`, which takes one step a batch. All agree up to
rounding, which long trainings amplify: a record names its engine.

- "batched" (`Ensemble`): any device, nothing to compile; what the others must equal.
- "compiled" (`CompiledEnsemble`): the CPU; needs numba.
- "captured" (`CapturedEnsemble`): CUDA; one launch a step.
- "fused" (`FusedEnsemble`): CUDA; one launch for all steps of a call; needs Triton and at most 128 hidden units.
"""

import functools
import warnings
from typing import Any

import torch

from samlib.config import check_choice
from samlib.toy.captured import CapturedEnsemble
from samlib.toy.compiled import CompiledEnsemble, available
from samlib.toy.config import Intervention
from samlib.toy.engine import Ensemble
from samlib.toy.network import Weights, initial_weights

ENGINES = {"batched": "any device", "compiled": "cpu", "captured": "cuda", "fused": "cuda"}
_LONG = 1000  # steps from which a CPU makes up for the time that compiling takes, about ten seconds
_TOLERANCE = 1e-4  # how far an engine's numbers may be from the batched one's after the few steps of its check


def make_engine(
    name: str, weights: Weights, *, device: torch.device | str, dtype: torch.dtype = torch.float32, **settings: Any
) -> Ensemble | CompiledEnsemble:
    """Make an engine.

    Args:
        name: one of `ENGINES`.
        weights: initial weights; copied.
        device, dtype: where and in which precision to train.
        settings: learning_rate, rho and interventions (one a member), and batch_size; see `Ensemble`.
    Raises:
        ValueError: an unknown engine, one that is not for the device, or a shape that it is not written for.
        ImportError: what the engine compiles with is missing.
    """
    check_choice("engine", name, tuple(ENGINES))
    if ENGINES[name] not in ("any device", torch.device(device).type):
        raise ValueError(f"engine: expected 'batched' on {device}, got {name!r}, for {ENGINES[name]}; change one")
    if name == "compiled":
        return CompiledEnsemble(Weights(*(part.to(dtype) for part in weights)), **settings)
    if name == "fused":
        from samlib.toy.fused import FusedEnsemble  # imports Triton, which nothing else needs

        return FusedEnsemble(weights, device=device, dtype=dtype, **settings)
    kind = CapturedEnsemble if name == "captured" else Ensemble
    return kind(weights, device=device, dtype=dtype, **settings)


def best_engine(
    device: torch.device | str, n_steps: int | None = None, *, hidden: int = 100, batch_size: int = 5
) -> str:
    """Return the name of the fastest engine that works for a run.

    On CUDA an engine is chosen after it took a few steps on the device and agreed with the batched one, at the run's
    width and batch size; one that does not is passed over with a warning, once.

    Args:
        device: where the run is to be trained.
        n_steps: its length; None is long. Short runs do not make up for compiling on a CPU.
        hidden, batch_size: its width and batch size.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return "compiled" if (n_steps is None or n_steps >= _LONG) and available() else "batched"
    candidates = ("fused", "captured") if device.type == "cuda" and torch.cuda.is_available() else ()
    return next((name for name in candidates if _works(name, device, hidden, batch_size)), "batched")


@functools.cache
def _works(name: str, device: torch.device, hidden: int, batch_size: int) -> bool:
    """Whether an engine agrees with the batched one on a device; warns where it does not."""
    try:
        difference = _difference(name, device, hidden, batch_size)
        if difference <= _TOLERANCE:  # never with NaN
            return True
        reason = f"its numbers are {difference:.1e} away from the batched engine's"
    except Exception as error:  # a compiler or driver may raise anything, and another engine can do the work
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    warnings.warn(f"engine {name!r} is not used on {device}, as {reason}", RuntimeWarning, stacklevel=3)
    return False


def _difference(name: str, device: torch.device, hidden: int, batch_size: int) -> float:
    """Largest difference between what an engine and the batched one make of a few steps of three members."""
    settings: dict[str, Any] = {
        "learning_rate": [0.05] * 3,
        "rho": [0.0, 0.5, 0.5],
        "interventions": [Intervention("both"), Intervention(), Intervention("rate", "phantom")],
        "batch_size": batch_size,
    }
    weights = initial_weights([0, 1, 2], hidden=hidden, last_layer_init=[1.0, 1.5, 2.0])
    inputs = torch.linspace(-2, 2, 8 * 3 * 2 * batch_size * 2).sin().view(8, 3, 2, batch_size, 2).to(device)
    labels = torch.where(inputs[:, :, 0, :, 0] > 0, 1.0, -1.0)
    numbers = []
    for engine in ("batched", name):
        ensemble = make_engine(engine, weights, device=device, **settings)
        terms = ensemble.run(inputs, labels)
        numbers.append(torch.cat([part.flatten() for part in (*terms, *ensemble.weights)]))
    return float((numbers[0] - numbers[1]).abs().max())
