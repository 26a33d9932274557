"""A step that pays for hooks and profiler records only where somebody watches."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


def unwatched_fast(step: Callable[..., Any]) -> Callable[..., Any]:
    """Let an optimiser's step skip torch's wrapper (hooks, profiler record) while no hook or profiler is active.

    The wrapper takes a twentieth of a small network's step, and the base optimiser's step pays for one already.
    """
    watched_step = Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def run(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        watched = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        )
        return (watched_step if watched else step)(self, *args, **kwargs)

    run.hooked = True  # type: ignore[attr-defined]  # tells torch not to wrap it again
    return run


def untraced(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a method out of compiled graphs: traced, an optimiser loses the attributes that hold the saved copies.

    torch.compiler.disable does it, but imports the compiler, which takes seconds; so it is asked at the first call.
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(method)
        return disabled(*args, **kwargs)

    return call
