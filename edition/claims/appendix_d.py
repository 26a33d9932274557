"""The paper's claims in Appendix D, judged on random networks: without records.

n is the number of networks. The margins were fixed before the numbers were seen: a law holds where it is less than a
tenth off; an approximation where it ranks the inputs with a correlation above 0.7, about half of the variance, and is
within a factor of two.
"""

import math

import numpy as np
import torch
from torch import Tensor

from edition.claims.claim import Judged, claim
from edition.claims.rules import Effect
from edition.experiments.toy import REFERENCE_RHO
from samlib.measures.statistics import Estimate, estimate
from samlib.theory import gradient_norm, squared_norms
from samlib.theory.study import (
    FITTED,
    KINDS,
    STATES,
    TENTH,
    Ensemble,
    by_differentiation,
    ensemble,
    measure,
    norms,
    ranks,
)

# Small, and the largest radius of the DomainBed grid. The law is for small ones: the toy's radius is shown and decides
# nothing.
RADII = (0.01, 0.1)
RANKED, FACTOR = 0.7, 2.0
ROUNDING = 1e-10


@claim(
    "theory-closed-forms",
    place="Appendix D, Eqs 25, 27, 31, 37",
    says="The squared norm of the logit's gradient is a weighted sum of the squared norms of the representations.",
    statistic="largest relative difference over inputs and layers between the closed forms and automatic "
    f"differentiation; equal up to rounding below {ROUNDING:g}",
    chapter="c_theory",
)
def closed_forms() -> list[Effect]:
    effects = []
    for name in (*KINDS, FITTED):
        networks = ensemble(name)
        closed = squared_norms(networks.network, networks.inputs)
        apart = (closed / by_differentiation(networks) - 1).abs().flatten(1).amax(1)
        effects.append(Effect(name, estimate(apart.numpy()), "below", ROUNDING))
    return effects


@claim(
    "theory-first-order",
    place="Appendix D, Eq 23",
    says="With one example a batch, the log of the importance ratio is about rho times the norm of the logit gradient.",
    statistic="median over inputs of the relative error of rho |grad f| against the exact log ratio (exponential "
    f"loss), by kind of network, at small radii; the law holds where it is below {TENTH:g}",
    chapter="c_theory",
    figure="fig-theory-radius",
)
def first_order_law() -> Judged:
    def off(rho: float) -> list[Effect]:
        return [
            Effect(f"{name}, rho = {rho:g}", estimate(measure(ensemble(name), rho=rho).error()), "below", TENTH)
            for name in (*KINDS, FITTED)
        ]

    return Judged([effect for rho in RADII for effect in off(rho)], shown=off(REFERENCE_RHO))


@claim(
    "theory-last-layer",
    place="Appendix D, Eq 25",
    says="Under LSAM the log of the importance ratio is proportional to the norm of the representation.",
    statistic="largest relative difference over inputs between the exact log ratio and rho |Phi(x)| (rho = "
    f"{REFERENCE_RHO:g}, one example a batch, exponential loss); equal up to rounding below {ROUNDING:g}",
    chapter="c_theory",
    figure="fig-theory-radius",
)
def last_layer_exact() -> list[Effect]:
    effects = []
    for state, name in STATES.items():
        networks = ensemble(name)
        length = gradient_norm(networks.network, networks.inputs, perturbed="last layer")
        exact = measure(networks, rho=REFERENCE_RHO, perturbed="last layer").exact
        worst = (exact / (REFERENCE_RHO * length) - 1).abs().amax(-1)
        effects.append(Effect(f"ReLU, {state}", estimate(worst.numpy()), "below", ROUNDING))
    return effects


@claim(
    "theory-losses",
    place="Appendix D, preliminaries",
    says="For correctly classified points, cross-entropy is almost identical to the exponential loss.",
    statistic="relative difference of the logistic from the exponential loss, mean over the correctly classified "
    f"inputs of ReLU networks; almost identical below {TENTH:g}; beside it the same of the importance weight and of "
    f"its log ratio at the phantom (rho = {TENTH:g}, one example a batch), for whose sake the paper says it",
    chapter="c_theory",
    figure="sec-theory-loss",
)
def losses_agree() -> Judged:
    effects, shown = [], []
    for state, name in STATES.items():
        networks = ensemble(name)
        exponential = (-networks.margins).exp()
        first, second = (measure(networks, rho=TENTH, loss=loss).exact for loss in ("logistic", "exponential"))
        apart = {
            "loss": 1 - exponential.log1p() / exponential,
            "weight": 1 - torch.sigmoid(networks.margins),  # 1 - lambda_logistic / lambda_exponential
            "log ratio": (first / second - 1).abs(),
        }
        loss, *others = (
            Effect(f"{told}, {state}", _where_right(networks, values), "below", TENTH) for told, values in apart.items()
        )
        effects.append(loss)
        shown += others
    return Judged(effects, shown=shown)


@claim(
    "theory-linear",
    place="Appendix D, end, as a suspicion",
    says="The computation for linear networks gives a sensible approximation of the gradient's norm in general ones.",
    statistic="ReLU networks' |grad f| against Eq 31 with constant c_l (every unit on): rank correlation over inputs, "
    f"above {RANKED:g}; and how many doublings the approximation is off, median over inputs, below 1 (a factor of "
    f"{FACTOR:g})",
    chapter="c_theory",
    figure="fig-theory-linear",
)
def linear_approximates() -> list[Effect]:
    ranked, sized = [], []
    for state, name in STATES.items():
        networks = ensemble(name)
        for told, scaled in (("as drawn", False), ("of length 1", True)):
            true, approximate = norms(networks, scaled=scaled)
            value = estimate(ranks(true, approximate))
            ranked.append(Effect(f"ranks, {state}, inputs {told}", value, "above", RANKED))
        doublings = np.abs((approximate / true).log2().median(-1).values.numpy())
        sized.append(Effect(f"size, {state}", estimate(doublings), "below", math.log2(FACTOR)))
    return ranked + sized


def _where_right(networks: Ensemble, values: Tensor) -> Estimate:
    """Mean over the correctly classified examples of each network, then over networks."""
    right = networks.margins > 0
    return estimate([float(row[chosen].mean()) for row, chosen in zip(values, right, strict=True)])
