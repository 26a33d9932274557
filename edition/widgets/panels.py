"""The chapters' panels: each is a pure function of what its sliders say, shown through `edition.widgets.frames`."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from edition.experiments.toy import base
from edition.figures import style
from edition.figures.importance import draw_lorenz
from edition.figures.mechanism import TERM_TITLES
from edition.figures.toy_setup import draw_contour
from edition.records.kept import KeptNetworks
from edition.widgets.frames import Frames, sliders
from samlib.measures.importance import Importance
from samlib.toy.config import ToyConfig
from samlib.toy.interventions import phantom
from samlib.toy.network import FEATURES, Weights
from samlib.toy.training import Progress, train_toy

V = (2.0, 1.5)  # an example of (v_easy, v_hard), for the geometry of Eq 5
RHO = "perturbation radius ρ"
COMPLEXITY = "complexity (degrees)"


class Trained(NamedTuple):
    """One toy network after its training: its final state and what was measured (one seed)."""

    point: KeptNetworks
    metrics: dict[str, Any]

    @property
    def hard_error(self) -> float:
        """Probing error of the hard feature on the test examples."""
        return self.metrics["final_hard_error"][0]


def train_networks(configs: Sequence[ToyConfig], *, progress: Progress = lambda steps: None) -> list[Trained]:
    """Train one network per configuration, all together, and keep its last state.

    Args:
        configs: configurations of one shape with one seed each.
        progress: called with the number of steps just done.
    Returns:
        One result per configuration.
    Raises:
        ValueError: a network diverged, or what `train_toy` refuses.
    """
    kept = [config.vary(checkpoints=(config.n_steps,), n_snapshots=1) for config in configs]
    found = []
    for config, result in zip(kept, train_toy(kept, progress=progress), strict=True):
        if result.metrics["diverged"][0]:
            raise ValueError(
                f"training: expected finite weights, got others after {config.n_steps} steps at rho = {config.rho:g}; "
                f"choose a smaller radius"
            )
        weights = Weights(*(torch.from_numpy(result.arrays[name][0]) for name in Weights._fields))
        found.append(Trained(KeptNetworks(config, config.n_steps, weights), result.metrics))
    return found


def quick_network(seed: int, n_steps: int | None = None) -> ToyConfig:
    """Return the quick profile's configuration with one seed, and with other descent steps where they are given."""
    start = base("quick")
    return start.vary(seeds=(seed,), n_snapshots=1, n_steps=start.n_steps if n_steps is None else n_steps)


def contour_explorer(
    rhos: Sequence[float] = (0.0, 0.3, 0.6, 1.0, 1.5),
    complexities: Sequence[float] = (180.0, 270.0, 360.0, 450.0),
    *,
    seed: int = 0,
    n_steps: int | None = None,
) -> Frames:
    """Train one toy network per radius and complexity; show its hard feature beside the errors over all radii.

    Args:
        rhos: perturbation radii; 0 is SGD.
        complexities: rotations of the spiral, degrees; the panel opens at 360 where it is among them.
        seed: root seed of every network.
        n_steps: descent steps; None for the quick profile's (a few seconds on one core).
    Returns:
        Frames with the sliders complexity and radius.
    """
    start = quick_network(seed, n_steps)
    names = list(itertools.product(complexities, rhos))
    networks = train_networks([start.vary(complexity=degrees, rho=rho) for degrees, rho in names])
    trained = dict(zip(names, networks, strict=True))

    def draw(complexity: float, rho: float) -> Figure:
        errors = [trained[complexity, other].hard_error for other in rhos]
        figure, curve = _contour_beside_curve(
            trained[complexity, rho], f"Hard feature, {complexity:g}°, {_method(rho)}"
        )
        curve.plot(rhos, errors, "o-", color=style.SAM)
        curve.plot([rho], [trained[complexity, rho].hard_error], "o", ms=11, mfc="none", mec="black", mew=1.6)
        curve.set(xlabel=f"{RHO}\n(one network each, seed {seed})", title=f"All radii at {complexity:g}°")
        return figure

    def alt(complexity: float, rho: float) -> str:
        error = trained[complexity, rho].hard_error
        return (
            f"Contour of the hard feature at {complexity:g} degrees after {start.n_steps:,} steps of {_method(rho)}, "
            f"probing error {error:.1%}, beside the probing error at every radius; one network, seed {seed}."
        )

    opening = (_position(complexities, 360.0), 0)
    return sliders(draw, {COMPLEXITY: complexities, RHO: rhos}, initial=opening, alt=alt)


def ratio_explorer(
    ratios: Sequence[float] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
    terms: Sequence[str] = ("importance", "rate", "both"),
    *,
    seed: int = 0,
    n_steps: int | None = None,
) -> Frames:
    """Train one toy network per fixed ratio c and term of Eq 6 (Eqs 8-10), and plain SGD beside them.

    Args:
        ratios: c, the fixed ratio v-hat_hard / v-hat_easy; the panel opens at the largest.
        terms: which term of Eq 6 is computed with it: "importance", "rate" or "both".
        seed: root seed of every network.
        n_steps: descent steps; None for the quick profile's (a few seconds on one core).
    Returns:
        Frames with the sliders term and ratio.
    """
    start = quick_network(seed, n_steps)
    names = list(itertools.product(terms, ratios))
    plain, *networks = train_networks([start, *(start.vary(term=term, ratio=ratio) for term, ratio in names)])
    trained = dict(zip(names, networks, strict=True))

    def draw(term: str, ratio: float) -> Figure:
        network = trained[term, ratio]
        figure, curve = _contour_beside_curve(network, f"Hard feature, c = {ratio:g}\n({TERM_TITLES[term]})")
        for other in terms:
            look = {"color": style.HARD, "zorder": 3} if other == term else {"color": "#c8c8c8"}
            curve.plot(ratios, [trained[other, c].hard_error for c in ratios], "o-", label=TERM_TITLES[other], **look)
        curve.plot([ratio], [network.hard_error], "o", ms=11, mfc="none", mec="black", mew=1.6, zorder=4)
        curve.axhline(plain.hard_error, color=style.SGD, ls="--", lw=1.2, label="plain SGD")
        curve.set(xlabel=f"fixed ratio c\n(one network each, seed {seed})", title="All ratios\n(grey: the other terms)")
        curve.legend(loc="upper right")
        return figure

    def alt(term: str, ratio: float) -> str:
        return (
            f"Contour of the hard feature after {start.n_steps:,} steps with the fixed ratio {ratio:g} in "
            f"{TERM_TITLES[term]}, probing error {trained[term, ratio].hard_error:.1%} (plain SGD "
            f"{plain.hard_error:.1%}), beside the probing error at every ratio; one network, seed {seed}."
        )

    return sliders(
        draw,
        {"term of Eq 6 with the fixed ratio": terms, "fixed ratio c": ratios},
        initial=(0, len(ratios) - 1),
        alt=alt,
    )


def phantom_explorer(
    rhos: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 1.4), angles: Sequence[float] = (0.0, 15.0, 30.0, 45.0, 60.0, 90.0)
) -> Frames:
    """Show Eq 5 in the plane of v, and when the phantom ratio v~_hard / v~_easy rises.

    Args:
        rhos: perturbation radii, parameter units; the panel opens at 1 where it is among them.
        angles: directions of the pull (E[lambda y phi_easy], E[lambda y phi_hard]), degrees from the easy axis;
            a small angle means that the batch pulls mostly on the easy feature.
    Returns:
        Frames with the sliders angle and radius.
    """

    def alt(angle: float, rho: float) -> str:
        rises, condition = _phantom_facts(rho, angle)
        return (
            f"The plane of v easy and v hard: v, the ascent step of length {rho:g} against a pull at {angle:g} "
            f"degrees, and the phantom v. The ratio of hard to easy {rises}. The condition {condition}."
        )

    pull = "direction of the pull (degrees from the easy axis)"
    opening = (_position(angles, 15.0), _position(rhos, 1.0))
    return sliders(draw_phantom, {pull: angles, RHO: rhos}, initial=opening, alt=alt)


def draw_phantom(angle: float, rho: float) -> Figure:
    """Draw v, the ascent step of length rho (Eq 5), v~, and the ratios at both as slopes.

    Args:
        angle: direction of the pull (E[lambda y phi_easy], E[lambda y phi_hard]), degrees from the easy axis.
        rho: perturbation radius.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    v, pull, moved = np.array(V), _pull(angle), _phantom_vector(rho, angle)
    for vector, colour, name in ((v, style.SGD, "real $v$"), (moved, style.SAM, r"phantom $\tilde v$")):
        readable = bool((vector > 0).all())
        if readable:
            axes.axline((0, 0), tuple(vector), color=colour, ls=":", lw=1.2)
        label = f"{name}: ratio {vector[1] / vector[0]:.2f}" if readable else name
        _arrow(axes, np.zeros(2), vector, colour, label=label)
    axes.add_patch(Circle(V, rho, fill=False, ls="--", color=style.NEUTRAL, label=rf"radius $\rho$ = {rho:g}"))
    _arrow(axes, v, v + 0.8 * pull, style.NEUTRAL, label=r"pull $-g = E[\lambda\, y\, \phi]$")
    if rho > 0:
        _arrow(axes, v, moved, "black", label=r"ascent step $\rho\, g / \Vert g \Vert$")
    rises, condition = _phantom_facts(rho, angle)
    axes.set_title(
        f"The ratio {rises}\n" + r"$E[\lambda y\phi_h]/v_h \;<\; E[\lambda y\phi_e]/v_e$" + f" {condition}", loc="left"
    )
    axes.set(xlabel="$v_{easy}$", ylabel="$v_{hard}$", xlim=(0, 3.6), ylim=(-0.2, 3.1), aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def importance_explorer(
    checkpoints_sgd: Sequence[KeptNetworks],
    checkpoints_lsam: Sequence[KeptNetworks],
    rhos: Sequence[float] = (0.1, 0.3, 1.0, 2.0),
    *,
    seed: int = 0,
) -> Frames:
    """Show the importance weights of one network of each method along its training, real and phantom.

    Args:
        checkpoints_sgd, checkpoints_lsam: both methods at the same steps (`edition.records.kept.checkpoints`).
        rhos: radii at which the phantom weights are computed, for both methods; the panel opens at 1.
        seed: which of the recorded networks.
    Returns:
        Frames with the sliders step and radius; the panel opens at the last step.
    Raises:
        ValueError: the methods have other steps, or no network has this seed.
    """
    steps = [point.step for point in checkpoints_sgd]
    if steps != [point.step for point in checkpoints_lsam]:
        raise ValueError(
            f"checkpoints_lsam: expected SGD's steps {steps}, got {[point.step for point in checkpoints_lsam]}; "
            f"take both from one experiment"
        )
    for point in (*checkpoints_sgd, *checkpoints_lsam):
        point.member(seed)  # refuses a seed without a network before anything is drawn
    points = {step: pair for step, *pair in zip(steps, checkpoints_sgd, checkpoints_lsam, strict=True)}

    def alt(step: int, rho: float) -> str:
        return (
            f"Importance weights after {step:,} steps, real and phantom at radius {rho:g}, for one network trained by "
            f"SGD and one by LSAM: Lorenz curves with Gini coefficients, and weight against the hard feature's fit."
        )

    return sliders(
        lambda step, rho: draw_importance(points[step], rho, seed),
        {"step": steps, RHO: rhos},
        initial=(len(steps) - 1, _position(rhos, 1.0)),
        alt=alt,
    )


def draw_importance(points: Sequence[KeptNetworks], rho: float, seed: int) -> Figure:
    """Draw one row a method: Lorenz curves, and weights against the hard feature's signed contribution.

    Args:
        points: one checkpoint a method.
        rho: radius of the phantom weights.
        seed: which network.
    """
    figure, axes = plt.subplots(len(points), 2, figsize=(7, 2.9 * len(points)), squeeze=False)
    for (curve, cloud), point in zip(axes, points, strict=True):
        row = point.config.seeds.index(seed)
        importance = Importance(*(part[row : row + 1] for part in point.importance(rho)))
        draw_lorenz(curve, importance)
        curve.set(title=f"{point.method}-trained, step {point.step:,}", ylabel="share of importance")
        position = importance.contributions[0, FEATURES.index("hard")]
        cloud.scatter(position, importance.real[0], s=9, color=style.SGD, lw=0, label=r"real $\lambda$")
        cloud.scatter(position, importance.phantom[0], s=9, color=style.SAM, lw=0, label=r"phantom $\tilde\lambda$")
        cloud.axvline(0, color=style.NEUTRAL, lw=0.8, ls=":")
        cloud.set(xlabel=r"hard contribution $y\,v_{hard}\,\phi_{hard}$", ylabel="importance weight")
        cloud.set_yscale("symlog", linthresh=0.01, linscale=0.6)
        cloud.set(ylim=(-0.001, 4), yticks=[0, 0.01, 0.1, 1], yticklabels=["0", "0.01", "0.1", "1"])
        cloud.set_title(rf"$\rho$ = {rho:g}, seed {seed}")
        cloud.legend(loc="upper right", markerscale=1.6, ncols=2)
    return figure


def _contour_beside_curve(network: Trained, title: str) -> tuple[Figure, Axes]:
    """Draw the hard feature's contour on the left; return the axes for an error curve on the right."""
    figure, (contour, curve) = plt.subplots(1, 2, figsize=(7, 3.5))
    (seed,) = network.point.config.seeds
    draw_contour(contour, *network.point.member(seed), FEATURES.index("hard"))
    contour.set_title(title)
    curve.set(ylabel="hard-feature probing error", ylim=(-0.02, 0.56))
    return figure, curve


def _pull(angle: float) -> np.ndarray:
    """Unit vector (easy, hard) at an angle in degrees from the easy axis."""
    return np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])


def _phantom_vector(rho: float, angle: float) -> np.ndarray:
    """Ascend from `V` against a pull: its gradient is minus the pull (Eq 5)."""
    v, gradient = torch.tensor([V]).double(), torch.from_numpy(-_pull(angle))[None]
    return phantom(v, gradient, torch.tensor([rho]).double())[0].numpy()


def _phantom_facts(rho: float, angle: float) -> tuple[str, str]:
    """What the ratio does, and whether the condition for its rise holds."""
    moved, pull = _phantom_vector(rho, angle), _pull(angle)
    condition = "holds" if pull[1] / V[1] < pull[0] / V[0] else "does not hold"
    if (moved <= 0).any():
        return "cannot be read: a phantom weight changes sign", condition
    ratio, real = moved[1] / moved[0], V[1] / V[0]
    change = "stays" if np.isclose(ratio, real) else "rises" if ratio > real else "falls"
    return f"{change}: {real:.2f} → {ratio:.2f}", condition


def _arrow(axes: Axes, start: np.ndarray, end: np.ndarray, colour: str, *, label: str) -> None:
    """Draw an arrow between two points of the axes, with an entry in the legend."""
    look = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=look)
    axes.plot([], [], color=colour, label=label)


def _method(rho: float) -> str:
    """Name the optimizer and its radius."""
    return f"LSAM, ρ = {rho:g}" if rho > 0 else "SGD"


def _position(values: Sequence[float], wanted: float) -> int:
    """Index of a value, the first where it is not there."""
    return list(values).index(wanted) if wanted in values else 0
