"""Train many disentangled networks at once: one batched computation, gradients written out by hand.

Shapes use one letter each: m members, b examples of a batch, h hidden units; "2" is (easy, hard).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from samlib.shapes import Float
from samlib.toy.config import Intervention
from samlib.toy.interventions import Terms, phantom, replaced_terms, replacement, stand_in
from samlib.toy.network import Weights

_VECTOR = 64


Batches = tuple[Float[Tensor, "step member 2 batch 2"], Float[Tensor, "step member batch"]]


class StepTerms(NamedTuple):
    """What steps used, for those who watch the training; one entry a step, values before the descent.

    Attributes:
        v: last-layer weights.
        gradient: last-layer gradient of the batch loss at v, -E[lambda y phi].
        rate: last-layer vector in the sum of feature gradients: v~ for LSAM (Eq 5).
    """

    v: Float[Tensor, "step member 2"]
    gradient: Float[Tensor, "step member 2"]
    rate: Float[Tensor, "step member 2"]


class BatchedEngine:
    """Disentangled networks (Eq 4) under LSAM (Eq 5), SGD (rho = 0) or an intervention (Eqs 7-10).

    All members take a step in the same few batched matrix products. Members never touch each other: each has its
    own weights, examples, learning rate and radius. Equal to a plain loop (tests) up to rounding.

    Args:
        weights: initial weights; copied to `device` and `dtype`.
        learning_rate: step size of each member.
        rho: perturbation radius of each member, parameter units.
        interventions: one setting per member.
        batch_size: examples a step.
        device, dtype: where and in which precision to compute.
    Raises:
        ValueError: settings for another number of members than `weights` has.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        learning_rate: list[float],
        rho: list[float],
        interventions: list[Intervention],
        batch_size: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        members, _, _, hidden = weights.w1.shape
        check_settings(members, learning_rate, rho, interventions)
        self.weights = Weights(*(part.to(device, dtype, copy=True).contiguous() for part in weights))
        self._batch = batch_size
        v = self.weights.v
        self._learning_rate = torch.tensor(learning_rate, dtype=v.dtype, device=v.device)
        self._rho = torch.tensor(rho, dtype=v.dtype, device=v.device)
        self._replacement = replacement(interventions, v)
        # Feature networks side by side (2m of them): views, so that in-place updates reach `weights`.
        self._layers = [part.flatten(0, 1) for part in self.weights[:6]]
        activation = (2 * members, batch_size, hidden)
        self._h1, self._h2, self._d1, self._d2 = (v.new_empty(activation) for _ in range(4))

    def run(
        self,
        inputs: Float[Tensor, "step member 2 batch 2"],
        labels: Float[Tensor, "step member batch"],
        elsewhere: Batches | None = None,
    ) -> StepTerms:
        """Take one descent step with every member on each batch in turn, in place.

        Args:
            inputs: the batches of each member; third axis (easy, hard), last axis coordinates.
            labels: -1 or +1.
            elsewhere: inputs and labels of the batches that lend the "permuted" intervention their direction; None
                where no member has it.
        Returns:
            The steps' last-layer vectors, for statistics (new tensors).
        Raises:
            ValueError: tensors of other sizes than the engine was made for.
        Side effects:
            `weights` change in place.
        """
        others = elsewhere or (inputs, labels)
        for batches in ((inputs, labels), others):
            check_batches(*batches, members=len(self.weights.v), batch_size=self._batch)
        lends = elsewhere is not None
        steps = [self._step(*batch, lends) for batch in zip(inputs, labels, *others, strict=True)]
        return StepTerms(*(torch.stack(parts) for parts in zip(*steps, strict=True)))

    @torch.no_grad()
    def _step(
        self, inputs: Tensor, labels: Tensor, other_inputs: Tensor, other_labels: Tensor, lends: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step with every member; return v before it, its gradient there, and the rate vector."""
        members, _, batch, _ = inputs.shape
        v = self.weights.v
        if lends:
            elsewhere = _last_layer_gradient(v, self._signed(other_inputs, other_labels))
        signed = self._signed(inputs, labels)
        gradient = _last_layer_gradient(v, signed)
        moved = phantom(v, gradient, self._rho)
        terms = Terms(moved, moved, moved)
        if self._replacement is not None:
            hat = stand_in(v, gradient, elsewhere if lends else gradient, self._rho, self._replacement)
            terms = replaced_terms(v, torch.where(self._replacement.plain, moved, hat), self._replacement)
        x = inputs.flatten(0, 1)
        weight = _importance(terms.importance, signed)  # (m, b)
        # dL/dphi_k = -weight * y * v_k / b (Eq 6), scaled by the learning rate so that updates need no further factor.
        scale = (self._learning_rate / batch)[:, None]
        d_phi = (scale * weight * labels)[:, None] * -terms.rate[:, :, None]
        self._descend(x, d_phi.view(2 * members, batch, 1))
        before = v.clone()
        v.sub_(self._learning_rate[:, None] * _last_layer_gradient(terms.last_layer, signed))
        return before, gradient, terms.rate

    def _signed(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Compute y phi_k of every member on its batch, (m, 2, b)."""
        members, _, batch, _ = inputs.shape
        return labels[:, None] * self._forward(inputs.flatten(0, 1)).view(members, 2, batch)

    def _forward(self, x: Tensor) -> Tensor:
        """Compute phi of all feature networks, (2m, b, 1), keeping the activations for `_descend`."""
        w1, b1, w2, b2, w3, b3 = self._layers
        torch.baddbmm(b1, x, w1, out=self._h1).relu_()
        torch.baddbmm(b2, self._h1, w2, out=self._h2).relu_()
        return torch.baddbmm(b3, self._h2, w3)

    def _descend(self, x: Tensor, d_phi: Tensor) -> None:
        """Back-propagate d_phi (learning rate included) and subtract from every layer, last layer first."""
        w1, b1, w2, b2, w3, b3 = self._layers
        torch.mul(d_phi, w3.mT, out=self._d2)
        _mask_(self._d2, self._h2)
        torch.bmm(self._d2, w2.mT, out=self._d1)
        _mask_(self._d1, self._h1)
        w3.baddbmm_(self._h2.mT, d_phi, alpha=-1)
        b3.sub_(d_phi.sum(1, keepdim=True))
        w2.baddbmm_(self._h1.mT, self._d2, alpha=-1)
        b2.sub_(self._d2.sum(1, keepdim=True))
        w1.baddbmm_(x.mT, self._d1, alpha=-1)
        b1.sub_(self._d1.sum(1, keepdim=True))


def check_settings(members: int, *settings: Sequence[object]) -> None:
    """Refuse lists of settings that are not one a member (ValueError)."""
    counts = {len(values) for values in settings}
    if counts != {members}:
        raise ValueError(f"settings: expected {members}, one a member, got {sorted(counts)}; give each its own")


def check_batches(inputs: Tensor, labels: Tensor, *, members: int, batch_size: int) -> None:
    """Refuse batches of other shapes than (step, member, 2, batch, 2) and (step, member, batch) (ValueError)."""
    steps = len(inputs)
    expected = (steps, members, 2, batch_size, 2), (steps, members, batch_size)
    if (tuple(inputs.shape), tuple(labels.shape)) != expected:
        raise ValueError(
            f"inputs, labels: expected shapes {expected[0]} and {expected[1]}, got {tuple(inputs.shape)} and "
            f"{tuple(labels.shape)}; give every member a batch of batch_size = {batch_size} in every step"
        )


def _importance(v: Tensor, signed: Tensor) -> Tensor:
    """lambda = sigma(-y f) with f = v . phi (Eq 6): (m, 2) and (m, 2, b) to (m, b)."""
    logits = -(v[:, :, None] * signed).sum(1)
    # Padding: the last few elements of an array go through other instructions than the rest, and differ in the last
    # bit. Without it a member's numbers would depend on how many members are trained beside it.
    padded = torch.nn.functional.pad(logits.flatten(), (0, -logits.numel() % _VECTOR))
    return torch.sigmoid(padded)[: logits.numel()].view_as(logits)


def _last_layer_gradient(v: Tensor, signed: Tensor) -> Tensor:
    """Gradient of the batch loss with respect to v: -E[lambda y phi], (m, 2)."""
    return -(_importance(v, signed)[:, None] * signed).mean(2)


def _mask_(gradient: Tensor, activation: Tensor) -> None:
    """Set the gradient to zero where the ReLU was off, in place."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient)
