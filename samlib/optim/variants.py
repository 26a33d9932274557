"""Variants of SAM on the same ascent: another rule, smaller batches, fewer parameters, a radius that changes."""

from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer

from samlib.optim._checks import check_number, detached, refuse_closure_under_scaler
from samlib.optim._hooks import untraced, unwatched_fast
from samlib.optim.sam import SAM, Closure


class ASAM(SAM):
    """Adaptive SAM: the perturbation is short where the weights are small.

    Kwon et al., "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning" (ICML 2021),
    epsilon = rho T^2 g / ||T g||_2 with T = diag(|w| + eta), element by element, over all perturbed parameters; the
    authors' code leaves T = 1 for biases, which their paper does not: give those a group of their own to keep them out.

    Args:
        params, base, **options: as SAM's.
        rho: radius in the units of ||epsilon / (|w| + eta)||_2, which it equals, >= 0. Default 0.5, the paper's; ten
            times SAM's is usual.
        eta: what is added to |w|, >= 0, in parameter units. Default 0.01, the paper's.

    Raises:
        ValueError, TypeError: as SAM's; eta negative, not finite or no number.

    Side effects:
        As SAM's; two more copies of the gradient during the ascent, in half precision up to eight: it is computed in
        single precision.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0, 0.0]))
        >>> asam = ASAM([w], rho=0.5, eta=0.0, lr=0.1)
        >>> (4.0 * w).sum().backward()  # T g = (12, 0), so epsilon = 0.5 (36, 0) / 12
        >>> asam.ascent_step(); w.data
        tensor([4.5000, 0.0000])
    """

    _kept = (*SAM._kept, "eta")

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        **options: Any,
    ) -> None:
        self.eta = check_number("eta", eta, "Pass what is added to |w|, in parameter units, e.g. 0.01.")
        super().__init__(params, base, rho=rho, **options)

    def _ascent_rule(self, parameters: list[Tensor], gradients: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Measure T g, go along T^2 g."""
        sizes = [parameter.abs() for parameter in parameters]
        # T^2 g would leave the range of half precision.
        scales = [size.to(torch.promote_types(size.dtype, torch.float32)).add_(self.eta) for size in sizes]
        measured = [gradient * scale for gradient, scale in zip(gradients, scales, strict=True)]
        return measured, [each * scale for each, scale in zip(measured, scales, strict=True)]


class MSAM(SAM):
    """m-SAM: each micro-batch of m examples has its own perturbation, in one process.

    Foret et al. (ICLR 2021), section 4.1: the descent takes the mean over the micro-batches of the gradients at
    w + epsilon_i, epsilon_i = rho g_i / ||g_i||_2. The closures give mean losses of micro-batches of equal size:

        sam.step([functools.partial(backward_of, part) for part in batch.split(m)])

    Args:
        params, base, rho, **options: as SAM's.

    Side effects:
        As SAM's; the sum of the gradients takes as much memory as the parameters.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([0.0]))
        >>> sam = MSAM([w], rho=1.0, lr=1.0)
        >>> def loss(a): value = (w - a).square().sum() / 2; value.backward(); return value
        >>> sam.step([lambda: loss(1.0), lambda: loss(-3.0)])  # phantoms -1 and 1, gradients there -2 and 4
        tensor(2.5000)
        >>> w.data
        tensor([-1.])
    """

    @unwatched_fast
    @untraced
    @torch.no_grad()
    def step(self, closure: Closure | Iterable[Closure] | None = None) -> Any:  # type: ignore[override]
        """Take one step on a batch's micro-batches, and return the mean of their losses at w.

        Args:
            closure: several, one a micro-batch, each as in SAM.step, but none may skip. One alone, or none, is SAM's
                step.

        Returns:
            The mean; None where a closure returns anything but a tensor or a number.

        Raises:
            ValueError: no closure in a list; else as SAM.step.
        """
        if closure is None or callable(closure):
            return SAM.step.__wrapped__(self, closure)  # type: ignore[attr-defined]  # without a second run of hooks
        closures = list(closure)
        if not closures:
            raise ValueError("MSAM.step() expects at least one closure, got an empty list. Skip empty batches.")
        self._require_iterate("step(closures)")
        refuse_closure_under_scaler(self)
        losses, gathered = [], dict[Tensor, Tensor]()
        try:
            if self.rho > 0:
                self._drop_earlier_gradients()
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.grad *= len(closures)  # an earlier gradient counts whole, as in the base
            for part in closures:
                losses.append(detached(self._evaluate(part)))
                if self.rho > 0:
                    self._ascend(allow_overflow=False)
                    self._evaluate(part)
                    self._return_to_iterate()
                for parameter in self._parameters():
                    if parameter.grad is not None:
                        share = parameter.grad / len(closures)
                        gathered[parameter] = gathered[parameter].add_(share) if parameter in gathered else share
                self._clear_gradients()
            mean = sum(losses) / len(losses) if all(isinstance(loss, Tensor | Real) for loss in losses) else None
        except BaseException:
            self.restore()
            raise
        for parameter, gradient in gathered.items():
            parameter.grad = gradient
        self._apply_base()
        return mean


def perturbed_where(network: nn.Module, predicate: Callable[[str, nn.Module], bool]) -> list[dict[str, Any]]:
    """Return SAM's parameter groups with only some layers perturbed; all parameters are trained.

    Perturbing the normalisation layers alone is SAM-ON (Mueller et al., NeurIPS 2023); the last layer alone, Equation
    (5) of our paper, which LSAM does in one pass.

    Args:
        network: any module.
        predicate: of a layer's name and the layer, e.g. `is_normalization`, or
            `lambda name, layer: layer is network.head`. A parameter that several layers share is perturbed if one is.

    Returns:
        One group for the perturbed parameters and one, if there are others, with `perturbed` False.

    Raises:
        ValueError: no parameter is chosen.

    Side effects:
        None.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        >>> sam = SAM(perturbed_where(network, is_normalization), rho=0.5, lr=0.1)
        >>> [(group["perturbed"], len(group["params"])) for group in sam.param_groups]
        [(True, 2), (False, 2)]
    """
    layers = [layer for name, layer in network.named_modules() if predicate(name, layer)]
    # A parametrized weight's own parameters belong to a part of the layer that stands in its place.
    layers += [part for each in layers if is_parametrized(each) for part in each.parametrizations.values()]  # type: ignore[union-attr,operator]
    chosen = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[id(parameter) in chosen].append(parameter)
    if not groups[True]:
        raise ValueError(
            f"perturbed_where expects a predicate that chooses layers with parameters, got {len(layers)} layers with "
            "none. It is asked about every layer of network.named_modules(); a container has none of its own."
        )
    return [{"params": parameters, "perturbed": key} for key, parameters in groups.items() if parameters]


def is_normalization(name: str, layer: nn.Module) -> bool:
    """Whether a layer normalises, for `perturbed_where`: batch, instance, layer, group and RMS norms of torch.

    >>> is_normalization("norm", nn.LayerNorm(3)), is_normalization("norm", nn.Linear(3, 3))
    (True, False)
    """
    return isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


class RhoSchedule:
    """Set SAM's radius by the number of steps taken; unlike LambdaLR's, the function gives the radius, not a factor.

    Args:
        sam: the optimiser; a wrapper's inner one.
        rho_of: radius by step, counted from 0; it is set for step 0 at once.

    Raises:
        TypeError: `sam` is none.
        ValueError: rho_of gives a radius that is negative or not finite, when it does.

    Side effects:
        Sets sam.rho on construction and in step(). The number of steps is not in SAM's state dict: save this one's too.

    Example:
        >>> sam = SAM([nn.Parameter(torch.zeros(2))], lr=0.1)
        >>> schedule = RhoSchedule(sam, lambda step: 0.25 * min(1.0, step / 4))
        >>> schedule.step(); schedule.step(); sam.rho
        0.125
    """

    def __init__(self, sam: SAM, rho_of: Callable[[int], float]) -> None:
        if not isinstance(sam, SAM):
            raise TypeError(
                f"RhoSchedule expects a SAM, got a {type(sam).__name__}. Pass the SAM that a wrapper holds."
            )
        self.sam, self.rho_of, self.n_steps = sam, rho_of, 0
        sam.rho = rho_of(0)

    def step(self) -> None:
        """Count one more step and set its radius; call it once after each step of SAM."""
        self.n_steps += 1
        self.sam.rho = self.rho_of(self.n_steps)

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps."""
        return {"n_steps": self.n_steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from the number of steps in a state dict, and set its radius."""
        self.n_steps = state_dict["n_steps"]
        self.sam.rho = self.rho_of(self.n_steps)
