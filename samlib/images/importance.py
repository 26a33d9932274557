"""Importance weights of a finetuned network's training examples, and how well each feature fits them (Section 6.2)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from samlib.config import check_choice, check_number
from samlib.measures.importance import importance
from samlib.measures.probe import as_array, fit_probe
from samlib.optim import SAM
from samlib.optim.normalization import normalization_statistics_frozen
from samlib.shapes import Float, Int64

# Readings of "the phantom" that the paper's text allows: the mode of batch normalization, and the images whose mean
# gradient gives the ascent (None: all that are weighed). Batches of 128 in training mode are what SAM's step does here.
READINGS: tuple[tuple[str, int | None], ...] = (
    ("evaluation", 1),
    ("evaluation", 5),
    ("evaluation", 128),
    ("evaluation", None),
    ("training", 5),
    ("training", 128),
)
READING_RADII: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
CHUNK = 128  # images a pass where the gradient is that of all


def image_importance(
    network: nn.Module,
    inputs: Callable[[slice], Tensor],
    labels: Int64[Tensor, " example"],
    *,
    readings: Sequence[tuple[str, int | None]],
    radii: Sequence[float],
) -> tuple[Float[Tensor, "reading example"], Float[Tensor, "reading radius example"]]:
    """Weigh every example as a step of SGD (real) and as a step of SAM (phantom) would.

    lambda_i = 1 - p_i(y_i) with p the softmax of the logits at w (Eq 6), and the same at the phantom parameters
    w + rho g / ||g|| (Eq 3), g the gradient of a mean cross-entropy with respect to all trainable parameters. Eq 6 is
    written for a logistic loss: with two classes 1 - p(y) = sigma(-y f), f the difference of the logits and y = +-1.

    Args:
        network: inputs -> logits (batch, class); all parameters with requires_grad are perturbed, together. A dropout
            mask, if any, is drawn anew in each pass.
        inputs: makes the inputs of a slice of the examples, in the order in which they are dealt into batches, as the
            network takes them, on its device.
        labels: in the same order.
        readings: of "the phantom", such as `READINGS`: the network's mode, and how many examples in a row share a
            gradient, a last, smaller batch too; None is all. ("training", batch size) is what SAM's step does. In
            evaluation mode an example's weight depends on no other example but through the ascent.
        radii: perturbation radii, parameter units, >= 0; with 0 both weights are equal. One gradient serves all.
    Returns:
        Real and phantom weights, within 0..1, in the order of `labels`; new single-precision tensors on the CPU.
    Raises:
        ValueError: no example, no radius, another mode, or a gradient that is not finite.
    Side effects:
        None that lasts, also after an error: weights and running statistics keep every bit, gradients and modes
        are put back.
    """
    n = len(labels)
    if n == 0:
        raise ValueError("labels: expected at least one example, got none; weigh some training examples")
    if len(radii) == 0:
        raise ValueError(
            "radii: expected at least one radius, got none; with 0 the phantom's weights are the real ones"
        )
    for mode, _ in readings:
        check_choice("mode", mode, ("evaluation", "training"))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    ascents = [SAM(parameters, rho=rho) for rho in radii]
    real, phantom = torch.empty(len(readings), n), torch.empty(len(readings), len(ascents), n)
    for i, (mode, size) in enumerate(readings):
        if size is not None:
            check_number("batch_size", size, low=1, integer=True)
        chunks = [slice(start, min(start + (size or CHUNK), n)) for start in range(0, n, size or CHUNK)]
        sharing = [[chunk] for chunk in chunks] if size else [chunks]
        with _leaving_no_trace(network, parameters, training=mode == "training"):
            for together in sharing:
                rows = slice(together[0].start, together[-1].stop)
                real[i, rows], phantom[i, :, rows] = _weigh_together(network, ascents, inputs, labels, together)
    return real, phantom


def signed_contributions(
    train_features: Float[Tensor, "row feature"],
    train_labels: Int64[Tensor, " row"],
    features: Float[Tensor, "example feature"],
    labels: Int64[Tensor, " example"],
    *,
    strength: float,
) -> Float[Tensor, " example"]:
    """Return y times the logit of one feature's linear probe: how well this feature alone fits each example.

    The counterpart of the toy's y v_k phi_k (Section 6.2), which a real network does not give apart.

    Args:
        train_features: frozen features of the probe training set, balanced over the groups.
        train_labels: this feature's label there, 0 or 1, both present.
        features: frozen features of the examples that are weighed.
        labels: their training labels, 0 or 1, whichever feature the probe reads; y = +1 for 1 and -1 for 0.
        strength: C of the probe.
    Returns:
        Positive where the probe's answer is the example's training label (for an attribute that goes with the other
        label, as in CelebA, whoever reads it turns the sign); new, single precision, on the CPU.
    Raises:
        ValueError: labels other than 0 and 1.
    """
    found = train_labels.unique().tolist()
    if found != [0, 1] or not set(labels.unique().tolist()) <= {0, 1}:
        raise ValueError(
            f"labels: expected 0 and 1, both of them in train_labels, got {found} there and "
            f"{labels.unique().tolist()} in labels; signed contributions are defined for two classes"
        )
    probe = fit_probe(train_features, train_labels, strength=strength)
    logits = torch.from_numpy(probe.decision_function(as_array(features)))
    return ((2 * labels.cpu().long() - 1) * logits).float()


@contextmanager
def _leaving_no_trace(network: nn.Module, parameters: list[nn.Parameter], *, training: bool) -> Iterator[None]:
    """Use one mode without its traces: statistics stand still; gradients and modes come back afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    gradients = [parameter.grad for parameter in parameters]
    try:
        network.train(training)
        for parameter in parameters:
            parameter.grad = None
        with normalization_statistics_frozen(network):
            yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode


def _weigh_together(
    network: nn.Module, ascents: list[SAM], inputs: Callable[[slice], Tensor], labels: Tensor, chunks: list[slice]
) -> tuple[Tensor, Tensor]:
    """Return the real weights of some chunks, and the phantom weights at the gradient of all their examples' mean."""
    n = chunks[-1].stop - chunks[0].start
    parameters = [parameter for group in ascents[0].param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = None
    real, phantom = [], []
    for chunk in chunks:
        with torch.enable_grad():
            logits = network(inputs(chunk))
            there = labels[chunk].to(logits.device)
            (nn.functional.cross_entropy(logits, there, reduction="sum") / n).backward()
        real.append(importance(logits, there).float().cpu())
    gradients = [parameter.grad for parameter in parameters]
    for ascent in ascents:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        ascent.ascent_step()
        try:
            with torch.no_grad():
                parts = [importance(network(inputs(chunk)), labels[chunk].to(logits.device)) for chunk in chunks]
        finally:
            ascent.restore()
        phantom.append(torch.cat(parts).float().cpu())
    return torch.cat(real), torch.stack(phantom)
