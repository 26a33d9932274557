"""LSAM, Equation (5): SAM restricted to a linear head, in one forward and one backward pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from samlib.optim._ascent import ascent_factor, host_norm
from samlib.optim._checks import check_radius, clear_gradients, require_finite
from samlib.optim._shards import Shards, average, find_shards, is_shard, replicas
from samlib.shapes import Float, Int

LossName = Literal["cross_entropy", "logistic"]


@dataclass(frozen=True)
class LSAMLoss:
    """What one LSAM forward pass gives: the loss to differentiate, and what happened at the iterate.

    Args:
        loss: mean loss with the phantom head, scalar; its gradient is LSAM's descent gradient.
        clean_loss: mean loss at the iterate, scalar, detached.
        logits: outputs at the iterate, (batch, class), detached; one column for the logistic loss.
        weight_perturbation: epsilon of the head's weight, (class, feature), detached.
        bias_perturbation: epsilon of the head's bias, (class,), detached; None for a head without one.
    """

    loss: Float[Tensor, ""]
    clean_loss: Float[Tensor, ""]
    logits: Float[Tensor, "batch class"]
    weight_perturbation: Float[Tensor, "class feature"]
    bias_perturbation: Float[Tensor, " class"] | None


def lsam_loss(
    features: Float[Tensor, "batch feature"],
    head: nn.Linear,
    targets: Int[Tensor, " batch"] | Float[Tensor, " batch"],
    *,
    rho: float,
    loss: LossName = "cross_entropy",
    process_group: Any = None,
) -> LSAMLoss:
    """Compute the batch loss with the phantom head v + epsilon, ready for one backward pass.

    Equation (5): epsilon = rho g / ||g||_2, g the gradient of the batch loss for the head at (v, theta), the
    norm over the head alone. The head is linear in the features, so g is closed-form: r^T Phi / batch, with
    r = -y sigmoid(-y f) (logistic) or softmax(f) - onehot (cross-entropy). The trunk therefore runs once, and
    its normalisation statistics and dropout masks are those of one ordinary step. The paper's head has no
    bias; a bias, where there is one, is perturbed and normalised with the weight.

    Args:
        features: Phi, (batch, feature), attached to the trunk's graph.
        head: the last layer; one output for the logistic loss, one per class for cross-entropy.
        targets: (batch,); class indices (int64), or labels -1 and +1 for the logistic loss.
        rho: perturbation radius, L2, in the head's parameter units, >= 0. No default: it must be read
            relative to the head's norm.
        loss: "cross_entropy" (default) or "logistic", log(1 + exp(-y f)); the mean over the batch is taken.
        process_group: in data-parallel training with equal batches, the processes whose batches share one
            perturbation, e.g. torch.distributed.group.WORLD: g is averaged over them. Default None: each process
            perturbs by its own batch (m-sharpness, m = examples per process).

    Returns:
        LSAMLoss; call `.loss.backward()`. The head's gradient is the one at v + epsilon and is applied at v.

    Raises:
        ValueError: rho, shapes, dtypes, labels or `loss` not as above; an empty batch.

    Side effects:
        None; the phantom head is never written into the parameters. With the logistic loss the labels' check
        waits for the device once; classes that the head lacks are named on the CPU alone. A zero gradient gives no
        perturbation.

    Example:
        >>> head = torch.nn.Linear(2, 1, bias=False)
        >>> _ = head.weight.data.zero_()
        >>> result = lsam_loss(torch.tensor([[3.0, 4.0]]), head, torch.tensor([1]), rho=5.0, loss="logistic")
        >>> result.weight_perturbation
        tensor([[-3., -4.]])
    """
    rho = check_radius(rho)
    _check_batch(features, head, targets, loss)
    with torch.no_grad():
        logits = F.linear(features, head.weight, head.bias)
        wide = torch.promote_types(logits.dtype, torch.float32)
        # In half precision a learned class's probability rounds to 1: its residual would be 0, the others' would not.
        with torch.autocast(logits.device.type, enabled=False):
            try:
                clean_loss, residual = _loss_and_residual(logits.to(wide), targets, loss)
            except (IndexError, RuntimeError):
                _refuse_classes(head, targets)
                raise
            gradients = [residual.mT @ features.to(wide)]
        if head.bias is not None:
            gradients.append(residual.sum(0))
        if process_group is not None:
            average(gradients, process_group)
        epsilon = _perturbation(gradients, rho, head.weight.dtype)
    bias_epsilon = epsilon[1] if head.bias is not None else None
    bias = None if bias_epsilon is None else head.bias + bias_epsilon
    phantom_logits = F.linear(features, head.weight + epsilon[0], bias)
    return LSAMLoss(_mean_loss(phantom_logits, targets, loss), clean_loss, logits, epsilon[0], bias_epsilon)


class LSAM:
    """Step any optimiser with LSAM's gradient, Equation (5), at about the cost of one ordinary step.

    A loop body around lsam_loss: features, phantom loss, one backward, one finite check, one optimiser step.
    The optimiser stays an ordinary one over trunk and head (schedulers, state_dict and groups are its own).

    In data-parallel training the trunk may be in DistributedDataParallel, FSDP1 or FSDP2, and the head a plain
    layer in each process: its weights are those of the first process from the start, its gradients are averaged, and
    with equal batches a step is that of one process on the whole batch. Or wrap both together, in a module whose
    forward returns lsam_loss(trunk(inputs), head, targets, rho=rho, process_group=group).loss, and call backward and
    the optimiser's step. Next to FSDP2's parameters the head needs an optimiser with foreach=False, as anywhere.

    Args:
        trunk: maps inputs to features, (batch, feature).
        head: the last layer, nn.Linear; not sharded, and not itself in DistributedDataParallel.
        optimizer: any torch optimiser over the trunk's and the head's parameters.
        rho: perturbation radius of the head, L2, >= 0; 0 is the optimiser's ordinary step.
        loss: see lsam_loss.
        check_finite: read the gradient's norm on the host before the step, and raise with the weights
            unchanged if it is not finite. Default True.

    Raises:
        ValueError: rho negative or not finite.
        TypeError: the head is no nn.Linear, or is sharded; the trunk is sharded over more than one mesh dimension.

    Side effects:
        step() moves the optimiser's parameters and clears their gradients.

    Example:
        >>> trunk, head = torch.nn.Flatten(), torch.nn.Linear(2, 1, bias=False)
        >>> lsam = LSAM(trunk, head, torch.optim.SGD(head.parameters(), lr=0.1), rho=0.1, loss="logistic")
        >>> lsam.step(torch.zeros(4, 2), torch.ones(4))
        tensor(0.6931)
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Linear,
        optimizer: Optimizer,
        *,
        rho: float,
        loss: LossName = "cross_entropy",
        check_finite: bool = True,
    ) -> None:
        _check_head(head)
        self._group = replicas(trunk)
        if self._group is not None:
            first = dist.get_global_rank(self._group, 0)
            for parameter in head.parameters():
                dist.broadcast(parameter.detach(), first, group=self._group)
        self.trunk, self.head, self.optimizer = trunk, head, optimizer
        self.rho, self.loss, self.check_finite = check_radius(rho), loss, check_finite
        self._shards = find_shards(self._parameters(), trunk)

    def step(
        self,
        inputs: Float[Tensor, "batch ..."],
        targets: Int[Tensor, " batch"] | Float[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """Take one LSAM step on one batch and return the loss at the iterate, detached.

        Raises:
            ValueError: see lsam_loss; a gradient that is not finite.
        """
        clear_gradients(self.optimizer.param_groups)
        options: dict[str, Any] = {"rho": self.rho, "loss": self.loss, "process_group": self._group}
        result = lsam_loss(self.trunk(inputs), self.head, targets, **options)  # no name keeps the features alive
        result.loss.backward()
        if self._group is not None:
            average([p.grad for p in self.head.parameters() if p.grad is not None], self._group)
        if self.check_finite:
            self._require_finite_gradient()
        self.optimizer.step()
        torch.clear_autocast_cache()  # it holds casts of the weights before the step
        clear_gradients(self.optimizer.param_groups)
        return result.clean_loss

    def _require_finite_gradient(self) -> None:
        """Raise, weights unchanged and gradients cleared, if the joint gradient is not finite."""
        owners = [parameter for parameter in self._parameters() if parameter.grad is not None]
        gradients: list[Tensor] = [parameter.grad for parameter in owners]  # type: ignore[misc]
        if self._shards is not None:
            if not self._shards.know(owners):  # the optimiser has been given another group
                self._shards = Shards(self._parameters(), self.trunk)
            length = self._shards.length(owners, self._shards.local(gradients, owners), "LSAM.step()")
        else:
            length = host_norm(gradients) if gradients else 0.0
        if not math.isfinite(length):
            clear_gradients(self.optimizer.param_groups)
        require_finite(length, "LSAM.step()", "Reduce rho or the learning rate, or look at the inputs.")

    def _parameters(self) -> list[Tensor]:
        """Return the optimiser's parameters."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def _check_head(head: nn.Module) -> None:
    """Raise unless each process holds the whole of a linear head."""
    if not isinstance(head, nn.Linear) or any(map(is_shard, head.parameters())):
        raise TypeError(
            f"LSAM expects its head to be a plain nn.Linear, whole in each process, got {type(head).__name__} "
            f"with weight of type {type(getattr(head, 'weight', None)).__name__}. Wrap the trunk alone, or a module "
            "whose forward returns lsam_loss(...).loss of trunk and head."
        )


def _loss_and_residual(logits: Tensor, targets: Tensor, loss: LossName) -> tuple[Tensor, Tensor]:
    """Mean loss, and its derivative for the logits, (batch, class)."""
    if loss == "logistic":
        signs = targets.to(logits.dtype).unsqueeze(1)
        return _mean_loss(logits, targets, loss), (-signs * torch.sigmoid(-signs * logits)).div_(len(logits))
    logarithms = torch.log_softmax(logits, 1)
    ascent = torch.zeros_like(logarithms).scatter_(1, targets.unsqueeze(1), -1 / len(logits))
    # What autograd calls for softmax(f) - onehot, in one kernel.
    residual = torch._log_softmax_backward_data(ascent, logarithms, 1, logarithms.dtype)
    return F.nll_loss(logarithms, targets), residual


def _perturbation(gradients: list[Tensor], rho: float, dtype: torch.dtype) -> Sequence[Tensor]:
    """Return epsilon, rho g / ||g||, in the gradients' shapes."""
    wide = torch.promote_types(gradients[0].dtype, torch.float32)
    norm = torch.linalg.vector_norm(torch._C._nn.flatten_dense_tensors(gradients), dtype=wide)
    if norm.device.type == "cpu" and wide is gradients[0].dtype:  # nobody waits for the number
        length = max(norm.item(), torch.finfo(wide).tiny ** 0.5)  # 0 stays 0, and NaN is NaN
        epsilon = torch._foreach_mul(gradients, rho / length)
    else:
        epsilon = torch._foreach_mul(gradients, ascent_factor(norm, rho))
    return epsilon if gradients[0].dtype is dtype else [each.to(dtype) for each in epsilon]


def _mean_loss(logits: Tensor, targets: Tensor, loss: LossName) -> Tensor:
    """Mean loss over the batch."""
    if loss == "logistic":
        return F.softplus(-targets.to(logits.dtype) * logits.squeeze(1)).mean()
    return F.cross_entropy(logits, targets)


def _check_batch(features: Tensor, head: nn.Linear, targets: Tensor, loss: str) -> None:
    """Raise unless features, head, targets and loss fit together."""
    if loss not in ("cross_entropy", "logistic"):
        raise ValueError(f"loss must be 'cross_entropy' or 'logistic', got {loss!r}. Choose one of the two.")
    if features.ndim != 2 or features.shape[1] != head.in_features:
        raise ValueError(
            f"features must have shape (batch, {head.in_features}), the head's inputs, got "
            f"{tuple(features.shape)}. Flatten the trunk's output, or build the head for it."
        )
    if len(features) == 0:
        raise ValueError(
            f"lsam_loss expects at least one example, got features of shape {tuple(features.shape)}. "
            "Skip empty batches; their mean loss is undefined."
        )
    if targets.shape != features.shape[:1]:
        raise ValueError(
            f"targets must have shape ({len(features)},), one per example, got {tuple(targets.shape)}. "
            "Squeeze or index them."
        )
    if loss == "logistic":
        _check_signs(head, targets)
    elif targets.dtype != torch.int64:
        raise ValueError(f"cross_entropy expects class indices in int64, got {targets.dtype}. Use .long().")
    if features.dtype != head.weight.dtype and not torch.is_autocast_enabled(features.device.type):
        raise ValueError(
            f"features must have the head's dtype, {head.weight.dtype}, outside autocast, got {features.dtype}. "
            "Convert one of them."
        )


def _refuse_classes(head: nn.Linear, targets: Tensor) -> None:
    """Raise if a class is none of the head's; asked only when torch has failed, so that a step costs no more."""
    if targets.device.type == "cpu" and not 0 <= int(targets.min()) <= int(targets.max()) < head.out_features:
        raise ValueError(
            f"cross_entropy expects class indices from 0 to {head.out_features - 1}, the head's outputs, got "
            f"{int(targets.min())} to {int(targets.max())}. Leave out examples that are to be ignored."
        )


def _check_signs(head: nn.Linear, targets: Tensor) -> None:
    """Raise unless the head has one output and all labels are -1 or +1."""
    if head.out_features != 1:
        raise ValueError(
            f"The logistic loss expects a head with one output, got {head.out_features}. "
            "Use loss='cross_entropy' for more classes."
        )
    if targets.dtype == torch.bool:
        raise ValueError("The logistic loss expects labels -1 and +1, got booleans. Use 2 * targets.long() - 1.")
    if not bool((targets.abs() == 1).all()):
        values = targets.unique().tolist()
        raise ValueError(
            f"The logistic loss expects labels -1 and +1, got values {values[:5]}. "
            "Map labels in {0, 1} with 2 * targets - 1."
        )
