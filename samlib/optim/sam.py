"""SAM, Equation (3), around any torch optimiser."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samlib.optim._ascent import ascent_factor, host_norm, joint_norm
from samlib.optim._checks import (
    build_base,
    check_radius,
    clear_gradients,
    dense_gradients,
    detached,
    forget_scaler,
    refuse_at_phantom,
    refuse_closure_under_scaler,
    refuse_unscaled_ascent,
    require_ascent,
    require_finite,
    warn_of_dropped_gradients,
)
from samlib.optim._hooks import untraced, unwatched_fast
from samlib.optim._iterate import SavedIterate
from samlib.optim._shards import find_shards, forget_gathered

Closure = Callable[[], Tensor | float]
_HALF_MAX = torch.finfo(torch.half).max


class SAM(Optimizer):
    """Step a base optimiser at w with the gradient taken at the phantom parameters w + epsilon.

    Equation (3) of the paper, epsilon = rho g / ||g||_2 with g the batch gradient at w and the norm over all
    perturbed parameters jointly; the paper writes the base step as plain SGD, here it is any torch optimiser.

    Closure use, in torch's convention (the closure computes the loss, calls backward, returns the loss; it
    may zero the gradients first, but need not). Both passes run, the loss at w is returned:

        loss = sam.step(closure)

    To accumulate over microbatches, the closure runs backward on all of them, because each of both passes needs
    them all; gradients made before step(closure) are at w alone, so they are dropped, with one warning:

        def closure():
            total = 0.0
            for microbatch in microbatches:  # n of them
                part = loss(microbatch) / n
                part.backward()
                total += part.detach()
            return total

    Two-step use, for gradient accumulation or mixed precision; no zero_grad is needed anywhere, because each
    step clears the gradients that it used:

        (loss(microbatch) / n).backward()   # at w, for each of the n microbatches
        sam.ascent_step()
        (loss(microbatch) / n).backward()   # at the phantom parameters, the same microbatches
        sam.descent_step()                  # the same as sam.step()

    With torch.amp.GradScaler (the direction of ascent does not depend on the loss scale, so nothing is
    unscaled before it; to clip, call scaler.unscale_(sam) before the descent):

        scaler.scale(loss()).backward()
        sam.ascent_step(allow_overflow=True)
        scaler.scale(loss()).backward()
        scaler.step(sam)                    # always restores w; skips the base step after an overflow
        scaler.update()

    An autocast block may hold the loss alone, both passes, or many steps: its cached casts are dropped whenever the
    weights move.

    In data-parallel training (DistributedDataParallel, FSDP1, FSDP2 and other DTensors) the steps are those of one
    process on the whole batch: gradients are averaged in both passes, and norms run over all shards. In DDP the first
    backward may run inside no_sync(): each replica then has its own perturbation (m-sharpness, m = examples per
    replica). Parameters that FSDP1 has flattened need `module`, which knows the processes that hold their shards. With
    FSDP2 pass it where a forward at the phantom may have no backward (a skipped batch, restore()): FSDP keeps the whole
    parameters of such a forward, which are then dropped.

    Args:
        params: tensors or parameter groups, as for any torch optimiser. A group may hold `perturbed` (default
            True); False keeps its parameters out of the ascent step and out of the norm.
        base: optimiser class, or any callable that takes parameter groups, e.g. torch.optim.SGD. Use
            functools.partial where a base option shares its name with one below. An optimiser that needs a
            closure itself (LBFGS) does not fit. With maximize=True SAM minimises -f: the ascent worsens f.
        rho: perturbation radius, L2, in parameter units, >= 0. Default 0.05, the SAM paper's. With 0 the base
            optimiser's results are reproduced bit for bit, and step(closure) runs the closure once.
        module: the network; given, its normalisation statistics stand still between ascent and descent, so
            that only the pass at w updates them. Default None: both passes would update them.
        check_finite: read the gradient's norm on the host once before the ascent and once before the descent,
            and raise, with the weights at w, if it is not finite. Default True. False reads nothing and
            lets NaN reach the weights, as the base optimiser would.
        **base_options: passed to `base`, e.g. lr, momentum.

    Returns:
        An optimiser whose `param_groups` and `state` are the base's own, so that schedulers and new groups
        act on both. state_dict also holds rho; a base optimiser's own state dict can be loaded too.

    Raises:
        ValueError: rho negative or not finite; steps out of order; missing, sparse or non-finite gradients;
            saving or loading at the phantom parameters. But for the last, weights are at w when it raises.
        TypeError: rho not a number, or in a group; `perturbed` not a bool; or `base` not a callable that gives an
            optimiser that steps without a closure; parameters of FSDP1 without `module`; DTensors that are Partial.

    Side effects:
        ascent_step moves the perturbed parameters in place; the descent, restore() and every error copy the
        saved values back exactly, into the same storage. A zero gradient gives no perturbation, and the base
        step is still taken. Weight decay acts in the base step, at w, and does not shape the perturbation (to
        let it, put it into the loss). Dropout draws a new mask in each pass unless the closure replays the
        generator. The saved copies' memory, as much as the perturbed parameters take, is kept between steps.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> sam = SAM([w], torch.optim.SGD, rho=1.0, lr=0.5)
        >>> def closure(): loss = (w**2).sum() / 2; loss.backward(); return loss
        >>> sam.step(closure), w.data
        (tensor(12.5000), tensor([1.2000, 1.6000]))
    """

    _kept: tuple[str, ...] = ("base", "defaults", "module", "check_finite", "_rho")  # what a copy or pickle holds
    _warned = False  # whether dropped gradients were reported
    _unscaled_in_time = False  # whether a step under a GradScaler has shown that its loop is right

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        module: nn.Module | None = None,
        check_finite: bool = True,
        **base_options: Any,
    ) -> None:
        self._rho = check_radius(rho)
        self.module = module
        self.check_finite = check_finite
        self._reset_stage()
        self.base = build_base(base, params, base_options)
        groups, state = self.base.param_groups, self.base.state
        super().__init__(groups, self.base.defaults)
        self.base.param_groups, self.base.state = groups, state  # some bases fill their state on construction

    @property
    def rho(self) -> float:
        """Perturbation radius; may be set between steps."""
        return self._rho

    @rho.setter
    def rho(self, rho: float) -> None:
        self._rho = check_radius(rho)
        for group in self.base.param_groups:
            group["sam_rho"] = self._rho  # distributed checkpoints keep nothing of a state dict but groups and state

    @property  # type: ignore[override]
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimiser's parameter groups, themselves, not a copy."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property  # type: ignore[override]
    def state(self) -> Any:
        """The base optimiser's state, itself, not a copy."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tell GradScaler.step to call step() always, which restores w; trainers that clip in a closure refuse this."""
        return not self._in_closure

    @property
    def at_phantom(self) -> bool:
        """Whether the weights are now the phantom parameters, between ascent and descent."""
        return self._at_phantom

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimiser, with `perturbed` True unless it says otherwise."""
        perturbed = param_group.setdefault("perturbed", True)
        if not isinstance(perturbed, bool):
            raise TypeError(
                f"A group's `perturbed` must be True or False, got {perturbed!r}. "
                "The radius is one number for all groups: pass it as rho."
            )
        if "rho" in param_group and "rho" not in self.base.defaults:  # Adadelta has a rho of its own
            raise TypeError(
                f"A group's options must be the base's or `perturbed`, got rho={param_group['rho']!r} in a group. "
                "The radius is one number for all groups: pass it as rho to SAM; `perturbed` False leaves a group out."
            )
        param_group["sam_rho"] = self._rho
        self.base.add_param_group(param_group)
        self._shards = find_shards(self._parameters(), self.module)

    @unwatched_fast
    @untraced
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """Run both passes of one SAM step with a closure, or the descent step alone without one.

        Args:
            closure: computes the loss on one batch, calls backward and returns the loss. If it returns None and
                leaves no gradient, in either pass, the batch is skipped: no step is taken, as in the base.

        Returns:
            What the closure returned at w, its tensors detached; None without a closure.

        Raises:
            ValueError: see the class. If the closure raises, the weights are put back to w first.

        Side effects:
            Moves the weights, clears all gradients (before, between and after the passes; with rho = 0 only after
            them, so that earlier ones count as they do in the base). Warns once if those before were not 0.
        """
        if closure is None:
            try:
                if not self._at_phantom and self._with_zero_gradients():
                    self._apply_base()  # as after an ascent from a gradient of 0; distributed checkpoints make state so
                else:
                    self._descend()
            except BaseException:
                forget_scaler(self)
                raise
            return None
        self._require_iterate("step(closure)")
        refuse_closure_under_scaler(self)
        if self.rho > 0:
            self._drop_earlier_gradients()
        loss = detached(self._evaluate(closure))
        if loss is None and self._without_gradients():
            return None
        if self.rho == 0:
            self._apply_base()
        else:
            self._ascend_and_descend(closure)
        return loss

    @untraced
    @torch.no_grad()
    def ascent_step(self, *, allow_overflow: bool = False) -> None:
        """Move the perturbed parameters from w to w + epsilon and clear all gradients.

        Args:
            allow_overflow: True under a GradScaler: a non-finite gradient then gives no perturbation, and the
                base step is skipped. The second pass repeats the first, so the scaler sees the overflow too.

        Raises:
            ValueError: no gradient, a sparse or a non-finite one, or the weights are at the phantom already.

        Side effects:
            Saves a copy of each perturbed parameter; freezes normalisation statistics if `module` was given.
        """
        self._ascend(allow_overflow=allow_overflow)

    def descent_step(self) -> None:
        """Return to w and take the base step with the phantom gradient; the same as step()."""
        self.step()

    @untraced
    @torch.no_grad()
    def restore(self) -> None:
        """Return to w without a step and clear all gradients; at w already, only the latter.

        For two-step use, where the caller's own code fails between ascent and descent.
        """
        self._return_to_iterate()
        self._clear_gradients()
        self._overflowed = False
        forget_scaler(self)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimiser's state dict with rho added; refused at the phantom parameters."""
        refuse_at_phantom(self._at_phantom, "state_dict()")
        # A base with a way of its own knows more than groups and state: ZeroRedundancyOptimizer, for example.
        own = type(self.base).state_dict is not Optimizer.state_dict
        return {**(self.base.state_dict() if own else super().state_dict()), "rho": self.rho}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a SAM state dict (rho included) or a base optimiser's (rho and `perturbed` then stay)."""
        refuse_at_phantom(self._at_phantom, "load_state_dict()")
        perturbed = [group.get("perturbed", True) for group in self.param_groups]
        if type(self.base).load_state_dict is not Optimizer.load_state_dict:
            self.base.load_state_dict({name: value for name, value in state_dict.items() if name != "rho"})
        else:
            super().load_state_dict(state_dict)
        for group, flag in zip(self.param_groups, perturbed, strict=True):
            group.setdefault("perturbed", flag)
        self.rho = state_dict.get("rho", self.param_groups[0].get("sam_rho", self.rho))

    def __getstate__(self) -> dict[str, Any]:
        refuse_at_phantom(self._at_phantom, "A copy or pickle")
        return {name: self.__dict__[name] for name in self._kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "base" in state:  # copy or unpickle
            super().__setstate__(state)
            self._reset_stage()
            self._shards = find_shards(self._parameters(), self.module)
        else:  # the last act of Optimizer.load_state_dict
            self.base.__setstate__(state)

    def _parameters(self, *, perturbed_only: bool = False) -> list[Tensor]:
        """Return the parameters in the groups' order."""
        # A group that was added to the base itself does not say whether it is perturbed.
        groups = [group for group in self.base.param_groups if group.get("perturbed", True) or not perturbed_only]
        return [parameter for group in groups for parameter in group["params"]]

    def _clear_gradients(self) -> None:
        """Set every gradient to None, so that no gradient can be used twice."""
        clear_gradients(self.base.param_groups)

    def _without_gradients(self) -> bool:
        """Whether no parameter has a gradient: the closure skipped its batch."""
        parameters = [parameter for parameter in self._parameters() if parameter.grad is not None]
        if self._shards is None:
            return not parameters
        pieces = self._shards.local([p.grad for p in parameters], parameters)  # type: ignore[misc]
        return not self._shards.squares_and_count(parameters, pieces)[1]

    def _with_zero_gradients(self) -> bool:
        """Whether there are gradients and all of them are 0."""
        gradients = [gradient for parameter in self._parameters() if (gradient := parameter.grad) is not None]
        return bool(gradients) and not any(bool(gradient.norm()) for gradient in gradients)

    def _drop_earlier_gradients(self) -> None:
        """Clear gradients from before step(closure); warn the first time that one of them is not 0."""
        dropped = [gradient for parameter in self._parameters() if (gradient := parameter.grad) is not None]
        if not dropped:
            return
        self._clear_gradients()
        if not self._warned and any(bool(gradient.norm()) for gradient in dropped):
            self._warned = True
            warn_of_dropped_gradients()

    def _ascent_rule(self, parameters: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what to measure and where to go: epsilon is rho times the second over the norm of the first.

        A variant's own rule goes here. The lists are this process's pieces where parameters are sharded.
        """
        return gradients, gradients

    def _ascent_factor(self, measured: list[Tensor], owners: list[Tensor], *, overflow: bool) -> Tensor | float | None:
        """Return rho over the norm of what was measured, or None for no perturbation; `overflow` allows such."""
        self._overflowed, self._ascent_length = False, 0.0
        if self.rho == 0:
            return None
        if not self.check_finite:
            if self._shards is not None:
                return ascent_factor(self._shards.squares_and_count(owners, measured)[0].sqrt(), self.rho)
            return ascent_factor(joint_norm(measured), self.rho)
        self._ascent_length = length = self._length(self._ascent_norm, measured, owners, "ascent_step()")
        if math.isfinite(length):
            return self.rho / length if length > 0 else None
        if not overflow:
            self._clear_gradients()
            require_finite(length, "ascent_step()", "Under a GradScaler pass allow_overflow=True.")
        self._overflowed = True
        return None

    def _length(
        self, norm: Callable[[list[Tensor]], float], tensors: list[Tensor], owners: list[Tensor], call: str
    ) -> float:
        """Return the joint norm of tensors that belong to the parameters `owners`, over all processes with shards."""
        return norm(tensors) if self._shards is None else self._shards.length(owners, tensors, call)

    def _ascend(self, *, allow_overflow: bool) -> None:
        """Take the ascent step: ascent_step without its decorators, since step has them already."""
        self._require_iterate("ascent_step()")
        parameters = self._parameters(perturbed_only=True)
        gradients = dense_gradients(parameters, "ascent_step()", required=self._shards is None)
        if len(gradients) < len(parameters):
            parameters = [parameter for parameter in parameters if parameter.grad is not None]
        owners, gradients = parameters, self._uphill(parameters, gradients)
        if self._shards is not None:
            parameters, gradients = (self._shards.local(each, owners) for each in (parameters, gradients))
        measured, direction = self._ascent_rule(parameters, gradients)
        factor = self._ascent_factor(measured, owners, overflow=allow_overflow)
        if self._ascent_length and allow_overflow and measured is not gradients:
            self._ascent_length = self._length(host_norm, gradients, owners, "ascent_step()")  # as the descent's
        if allow_overflow and isinstance(factor, Tensor):  # not read: 0 after an overflow, and 0 times infinity is NaN
            direction = [each.where((factor > 0).to(each.device), 0) for each in direction]
            factor = factor.nan_to_num(0.0)
        self._iterate.save([] if factor is None else parameters, self.module)
        self._at_phantom = True
        if factor is not None and parameters:
            try:
                self._move(parameters, direction, factor)
            except BaseException:
                self._return_to_iterate()
                raise
            torch.clear_autocast_cache()  # it holds casts of w
        self._clear_gradients()

    def _uphill(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return the gradients of what each group minimises: -f where its base maximises f."""
        groups = [group for group in self.base.param_groups if group.get("maximize", False)]
        if not groups:
            return gradients
        maximised = {id(parameter) for group in groups for parameter in group["params"]}
        pairs = zip(parameters, gradients, strict=True)
        return [-gradient if id(parameter) in maximised else gradient for parameter, gradient in pairs]

    @staticmethod
    def _move(parameters: list[Tensor], gradients: list[Tensor], factor: Tensor | float) -> None:
        """Add epsilon to the parameters in place."""
        if not isinstance(factor, Tensor) and factor > _HALF_MAX and any(p.dtype is torch.half for p in parameters):
            # A tensor, unlike a number, multiplies half precision in single precision.
            factor = torch.tensor(factor, dtype=torch.float32, device="cpu")
        if isinstance(factor, Tensor) and factor.device.type != "cpu" and len({g.device for g in gradients}) > 1:
            torch._foreach_add_(parameters, [gradient * factor.to(gradient.device) for gradient in gradients])
        elif isinstance(factor, Tensor):
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, factor))
        else:
            torch._foreach_add_(parameters, gradients, alpha=factor)

    def _ascend_and_descend(self, closure: Closure) -> None:
        """Run the second pass at the phantom parameters and the descent, back at w whatever happens."""
        try:
            self._ascend(allow_overflow=False)
            skipped = self._evaluate(closure) is None
            if skipped and self._without_gradients():
                self.restore()
            else:
                self._descend()
        except BaseException:
            self.restore()
            raise

    def _evaluate(self, closure: Closure) -> Any:
        """Call a closure with gradients on."""
        self._in_closure = True
        try:
            with torch.enable_grad():
                return closure()
        finally:
            self._in_closure = False

    def _descend(self) -> None:
        """Return to w, then take the base step with the gradients made since the ascent."""
        require_ascent(self._at_phantom)
        self._return_to_iterate()
        self._apply_base()

    def _apply_base(self) -> None:
        """Take the base step at w, unless an overflow says to skip it, and clear the gradients."""
        owners = self._parameters()
        found_overflow, grad_scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        try:
            whole = gradients = dense_gradients(owners, "The descent step", required=self._shards is None)
            if self._shards is not None:
                owners = [parameter for parameter in owners if parameter.grad is not None]
                gradients = self._shards.local(gradients, owners)
            if self._overflowed or (found_overflow is not None and bool(found_overflow)):
                return
            # Under a scaler processes with shards may disagree on overflows, so they must not wait for each other here.
            if self.check_finite and (found_overflow is None or (grad_scale is None and self._shards is None)):
                length = self._length(self._descent_norm, gradients, owners, "The descent step")
                if found_overflow is None:
                    require_finite(length, "The descent step", "Reduce rho or the learning rate.")
                elif not self._unscaled_in_time:
                    refuse_unscaled_ascent(self._ascent_length, length)
                    # A loop is right from its first step on, where the scale is large; later it may be small.
                    self._unscaled_in_time = self._ascent_length > 0
            if grad_scale is not None:
                for gradient in whole:  # not the pieces: they are copies where a gradient is a sum still to be made
                    gradient.mul_(1.0 / float(grad_scale))
            self.base.step()
            torch.clear_autocast_cache()  # so that one autocast block may hold many steps, at radius 0 too
        finally:
            self._overflowed = False
            self._clear_gradients()

    def _return_to_iterate(self) -> None:
        """Copy the saved values back into the perturbed parameters and let the statistics run again."""
        if self._at_phantom:
            self._iterate.put_back()
            self._at_phantom = False
            if self._shards is not None:
                forget_gathered(self.module)

    def _reset_stage(self) -> None:
        """Declare the weights to be the iterate."""
        self._iterate, self._ascent_norm, self._descent_norm = SavedIterate(), host_norm, host_norm
        self._at_phantom = self._overflowed = self._in_closure = False
        self._ascent_length, self._unscaled_in_time = 0.0, False

    def _require_iterate(self, call: str) -> None:
        """Raise, back at w, if an ascent has had no descent."""
        if self.at_phantom:
            self.restore()
            raise ValueError(
                f"{call} expects the weights at w, but an ascent_step() had no descent. They are now back "
                "at w. Call descent_step() once after each ascent_step(), or restore() on failure."
            )
