"""What SAM accepts: a radius, a base optimiser, dense and finite gradients; and how used ones are cleared."""

import inspect
import math
import sys
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

from torch import Tensor, strided
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

_DROPPED_GRADIENTS = (
    "step(closure) expects to make all gradients itself, but there were gradients that are not 0 before it; they are "
    "dropped, because the second pass could not repeat them. To accumulate, run backward on all microbatches in the "
    "closure, or use ascent_step() and descent_step(); else call zero_grad() before the step."
)


def warn_of_dropped_gradients() -> None:
    """Warn at the line that called step(): the first frame outside torch, whose wrappers vary, and this package."""
    frame, level = sys._getframe(), 1
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(("torch.", "samlib.optim.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(_DROPPED_GRADIENTS, stacklevel=level)


def check_radius(rho: float) -> float:
    """Return `rho` as a float, or raise where it is not a finite number of at least 0."""
    advice = "Pass the perturbation's L2 length in parameter units, e.g. 0.05; 0 is the base optimiser."
    return check_number("rho", rho, advice)


def check_number(name: str, value: float, advice: str) -> float:
    """Return a value as a float, or raise where it is not a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r} of type {type(value).__name__}. {advice}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}. {advice}")
    return float(value)


def build_base(base: Callable[..., Optimizer], params: Any, options: dict[str, Any]) -> Optimizer:
    """Construct the base optimiser, with advice where `base` is none."""
    advice = "Pass the class and its options, e.g. SAM(params, torch.optim.SGD, rho=0.05, lr=0.1)."
    if not callable(base):
        raise TypeError(f"base must be an optimiser class, got a {type(base).__name__} object. {advice}")
    optimizer = base(params, **options)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"base must give a torch optimiser, it gave a {type(optimizer).__name__}. {advice}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise TypeError(
            f"base must step without a closure, {type(optimizer).__name__} needs one: it evaluates the loss itself. "
            "Use a base such as torch.optim.SGD or AdamW."
        )
    return optimizer


def dense_gradients(parameters: list[Tensor], call: str, *, required: bool = True) -> list[Tensor]:
    """Return the parameters' gradients, those that exist; raise if there is none (but needs one) or one is sparse."""
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients and required:
        raise no_gradients(call)
    for gradient in gradients:
        if gradient.layout is not strided:
            raise ValueError(
                f"{call} expects dense gradients, got layout {gradient.layout} of shape "
                f"{tuple(gradient.shape)}. Build the embedding with sparse=False."
            )
    return gradients


def no_gradients(call: str) -> ValueError:
    """Return the error for a step without a gradient."""
    return ValueError(
        f"{call} expects gradients made since the last step (each step clears those it used), but no perturbed "
        "parameter has one. Call loss.backward() first; in a closure, before it returns the loss."
    )


def clear_gradients(groups: list[dict[str, Any]]) -> None:
    """Set every gradient to None; zero_grad would do the same with a profiler record, at several times the cost."""
    for group in groups:
        for parameter in group["params"]:
            parameter.grad = None


def require_finite(length: float, call: str, advice: str) -> None:
    """Raise if a gradient's joint norm is not finite."""
    if not math.isfinite(length):
        raise ValueError(
            f"{call} expects a finite gradient, its joint norm is {length}. "
            f"The weights are at w, unchanged, and the gradients cleared. {advice}"
        )


def refuse_closure_under_scaler(optimizer: Optimizer) -> None:
    """Raise if a GradScaler is calling: it sets `found_inf` for the time of the call."""
    if getattr(optimizer, "found_inf", None) is not None:
        forget_scaler(optimizer)
        raise ValueError(
            "Under a GradScaler step() expects no closure, one was passed. "
            "Use ascent_step(allow_overflow=True), a second backward, then scaler.step(optimizer)."
        )


def forget_scaler(optimizer: Optimizer) -> None:
    """Delete what a GradScaler has set for the time of a call: after one that raises, it does not."""
    for name in ("found_inf", "grad_scale"):
        vars(optimizer).pop(name, None)


def refuse_unscaled_ascent(ascent_length: float, descent_length: float) -> None:
    """Raise if a GradScaler says that gradients are unscaled, but the second pass's still carry the scale.

    The scale is thousands and more. Unscaled in time, the descent's gradient is that much shorter than the ascent's.
    """
    if descent_length > 64 * ascent_length > 0:
        raise ValueError(
            "The descent step expects unscale_() after the second backward, but the gradient is "
            f"{descent_length / ascent_length:.3g} times as long as the ascent's, which was unscaled already. "
            "The weights are at w, unchanged. Call ascent_step() on scaled gradients, unscale_() before the descent."
        )


def detached(loss: Any) -> Any:
    """Return a closure's result, a tensor or a nest of them, without the graph that it would keep alive."""
    return loss.detach() if isinstance(loss, Tensor) else tree_map_only(Tensor, Tensor.detach, loss)


def refuse_at_phantom(at_phantom: bool, call: str) -> None:
    """Raise if the weights are not the iterate."""
    if at_phantom:
        raise ValueError(
            f"{call} is meant for the weights w, but they are at the phantom parameters w + epsilon. "
            "Call descent_step() or restore() first."
        )


def require_ascent(at_phantom: bool) -> None:
    """Raise if a descent has had no ascent."""
    if not at_phantom:
        raise ValueError(
            "step() without a closure is the descent step and expects an ascent_step() before it, "
            "there was none. Call ascent_step() after the first backward, or pass a closure."
        )
