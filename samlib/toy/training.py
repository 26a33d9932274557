"""Train the networks of toy configurations with the engine and measure what the chapters show."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.config import check_choice
from samlib.shapes import Float
from samlib.toy.compiled import CompiledEngine, available
from samlib.toy.config import ToyConfig, ToyData
from samlib.toy.data import Examples, batch_order, linear_baseline_error, sample
from samlib.toy.engine import BatchedEngine, StepTerms
from samlib.toy.network import FEATURES, Weights, feature_values, initial_weights

Progress = Callable[[int], None]
# The engines agree up to rounding, which long trainings amplify: a record names its engine.
ENGINES = {"batched": "any device", "compiled": "cpu"}
LONG = 1000  # steps from which a CPU makes up for the time that compiling takes, about ten seconds


class ToyResult(NamedTuple):
    """What one configuration gave.

    Attributes:
        metrics: per-seed lists (one value a seed, or one list of snapshots a seed under "curves").
        arrays: weights at the configuration's checkpoints, (checkpoint, seed, ...), float32.
    """

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]


def train_toy(
    configs: Sequence[ToyConfig],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    engine: str = "batched",
    progress: Progress = lambda steps: None,
) -> list[ToyResult]:
    """Train every seed of every configuration together and return one result per configuration.

    Args:
        configs: configurations of one `shape` (width, batch size, steps and set sizes).
        device, dtype: where and in which precision to train; single precision is what records hold.
        engine: one of `ENGINES`; `best_engine` names the fastest.
        progress: called with the number of steps just done, once an epoch.
    Returns:
        Results in the order of `configs`; the grouping changes no result.
    Raises:
        ValueError: no configuration, configurations of different shapes, or an engine that is unknown or not for this.
    """
    shapes = {config.shape for config in configs}
    if len(shapes) != 1:
        raise ValueError(f"configs: expected one or more of one shape, got shapes {sorted(shapes)}; group by shape")
    members = [(config, seed) for config in configs for seed in config.seeds]
    networks = _networks(members, engine=engine, device=device, dtype=dtype)
    watch = _Watch(members, networks)
    _train(members, networks, watch, progress)
    starts = np.cumsum([0] + [len(config.seeds) for config in configs])
    return [watch.result(slice(low, high)) for low, high in itertools.pairwise(starts)]


def make_engine(
    name: str, weights: Weights, *, device: torch.device | str, dtype: torch.dtype = torch.float32, **settings: Any
) -> BatchedEngine | CompiledEngine:
    """Make an engine: its `weights` change in place, and `run(inputs, labels)` takes one step a batch.

    Args:
        name: "batched" (`BatchedEngine`: any device, nothing to compile) or "compiled" (`CompiledEngine`: CPU; needs
            numba).
        weights: initial weights; copied.
        device, dtype: where and in which precision to train.
        settings: learning_rate, rho and interventions (one a member), and batch_size; see `BatchedEngine`.
    Raises:
        ValueError: an unknown engine, or one that is not for the device.
        ImportError: what the engine compiles with is missing.
    """
    check_choice("engine", name, tuple(ENGINES))
    if ENGINES[name] not in ("any device", torch.device(device).type):
        raise ValueError(f"engine: expected 'batched' on {device}, got {name!r}, for {ENGINES[name]}; change one")
    if name == "compiled":
        return CompiledEngine(Weights(*(part.to(dtype) for part in weights)), **settings)
    return BatchedEngine(weights, device=device, dtype=dtype, **settings)


def best_engine(device: torch.device | str, n_steps: int | None = None) -> str:
    """Return the name of the fastest engine for a run.

    Args:
        device: where the run is to be trained.
        n_steps: its length; None is long. Short runs do not make up for compiling.
    """
    long = n_steps is None or n_steps >= LONG
    return "compiled" if torch.device(device).type == "cpu" and long and available() else "batched"


def probing_errors(
    weights: Weights, examples: Examples
) -> tuple[Float[Tensor, "member 2"], Float[Tensor, " member"], Float[Tensor, " member"]]:
    """Measure the probing error of both features, the test error and the logistic loss of every member.

    A probe is v_k phi_k (Section 5.1); its error is the share of examples whose label it does not match. An
    output of exactly zero, or NaN, counts as an error.

    Args:
        weights: networks of m members.
        examples: inputs (member, example, 4) and labels (member, example).
    Returns:
        Probing errors (easy, hard), test errors, mean losses; new tensors.
    """
    phi = feature_values(weights, examples.inputs)
    margins = examples.labels[:, None] * weights.v[:, :, None] * phi
    total = margins.sum(1)
    errors = (~(margins > 0)).double().mean(2)
    loss = torch.nn.functional.softplus(-total).mean(1)
    return errors, (~(total > 0)).double().mean(1), loss


def _networks(
    members: list[tuple[ToyConfig, int]], *, engine: str, device: torch.device | str, dtype: torch.dtype
) -> BatchedEngine | CompiledEngine:
    starts = [(seed, config.last_layer_init, config.last_layer_draw) for config, seed in members]
    drawn = {
        (seed, init, kind): initial_weights(
            [seed], hidden=members[0][0].hidden, last_layer_init=[init], last_layer_draw=kind
        )
        for seed, init, kind in set(starts)
    }
    return make_engine(
        engine,
        Weights(*(torch.cat(parts) for parts in zip(*(drawn[start] for start in starts), strict=True))),
        learning_rate=[config.learning_rate for config, _ in members],
        rho=[config.rho for config, _ in members],
        interventions=[config.intervention for config, _ in members],
        batch_size=members[0][0].batch_size,
        device=device,
        dtype=dtype,
    )


def _train(
    members: list[tuple[ToyConfig, int]], networks: BatchedEngine | CompiledEngine, watch: "_Watch", progress: Progress
) -> None:
    """Run all steps, epoch by epoch, showing each step to the watch."""
    config = members[0][0]
    n, batch = config.data.n_train, config.batch_size
    per_epoch = n // batch
    train = stack_examples(members, "train", like=networks.weights.v)
    inputs = train.inputs.view(len(members), n, 2, 2)
    lends = any(config.intervention.vector == "permuted" for config, _ in members)
    seeds = list(dict.fromkeys(seed for _, seed in members))
    epochs = [batch_order(n, -(-config.n_steps // per_epoch), seed=seed) for seed in seeds]
    orders = torch.stack(epochs, dim=1).to(inputs.device)  # (epoch, seed, example)
    turns = torch.tensor([seeds.index(seed) for _, seed in members], device=inputs.device)  # which seed is a member's
    rows = torch.arange(len(members), device=inputs.device)[:, None]
    watch.look(0)
    step = 0
    for by_seed in orders:
        order = by_seed[turns]  # (member, example)
        # (batch number, member, feature, example, coordinate), so that a batch is one contiguous block.
        x = inputs[rows, order].view(-1, per_epoch, batch, 2, 2).permute(1, 0, 3, 2, 4).contiguous()
        y = train.labels[rows, order].view(-1, per_epoch, batch).transpose(0, 1).contiguous()
        # What lends a permuted intervention its direction: the batch half an epoch away.
        others = [part.roll(per_epoch // 2, 0) for part in (x, y)] if lends else None
        end = min(step + per_epoch, config.n_steps)
        stops = sorted({stop for stop in watch.stops if step < stop < end} | {end})
        for low, high in itertools.pairwise((step, *stops)):
            part = slice(low - step, high - step)
            lenders = (others[0][part], others[1][part]) if others else None
            watch.count(networks.run(x[part], y[part], lenders))
            watch.look(high)
        progress(end - step)
        step = end


def stack_examples(members: list[tuple[ToyConfig, int]], split: str, *, like: Tensor) -> Examples:
    """Sample the examples of every (configuration, seed) and stack them, on the device and dtype of `like`."""
    keys = [(config.data, seed) for config, seed in members]
    sets = {(data, seed): sample(data, seed=seed, split=split) for data, seed in set(keys)}
    each = [sets[key] for key in keys]
    return Examples(*(torch.stack(parts).to(like) for parts in zip(*each, strict=True)))


class _Watch:
    """Counts every step's ratios and measures errors at snapshots; holds what the record will say."""

    def __init__(self, members: list[tuple[ToyConfig, int]], networks: BatchedEngine | CompiledEngine) -> None:
        self._members = members
        self._weights = networks.weights
        v = networks.weights.v
        self._test = stack_examples(members, "test", like=v)
        self._checkpoint_steps = {step for config, _ in members for step in config.checkpoints}
        self._snapshot_steps = members[0][0].snapshots
        self.stops = {*self._snapshot_steps, *self._checkpoint_steps}
        self._counts = torch.zeros(len(COUNTS), len(members), dtype=torch.float64, device=v.device)
        self._windows: list[Tensor] = []
        self._curves: dict[str, list[Tensor]] = {name: [] for name in CURVES}
        self._checkpoints: dict[int, Weights] = {}

    def count(self, terms: StepTerms) -> None:
        """Add steps to the running counts (see `COUNTS`)."""
        easy, hard = terms.v.unbind(2)  # (step, member)
        easy_phantom, hard_phantom = terms.rate.unbind(2)
        easy_pull, hard_pull = -terms.gradient.unbind(2)[0], -terms.gradient.unbind(2)[1]  # E[lambda y phi_k]
        flipped = (easy * easy_phantom <= 0) | (hard * hard_phantom <= 0)
        readable = (easy > 0) & (hard > 0) & ~flipped
        real, moved = hard / easy, hard_phantom / easy_phantom
        raised = hard_phantom * easy > hard * easy_phantom
        predicted = hard_pull * easy < easy_pull * hard
        rates = (easy_phantom / easy, hard_phantom / hard)
        row = torch.stack([readable, flipped, real, moved, moved.log(), *rates, raised, predicted, raised == predicted])
        row[2:] = torch.where(readable, row[2:], 0)
        self._counts += row.double().sum(1)

    def look(self, step: int) -> None:
        """Take the checkpoints and the snapshot that are due after `step` steps."""
        if step in self._checkpoint_steps:
            self._checkpoints[step] = Weights(*(part.cpu().float().clone() for part in self._weights))
        if step and step in self._snapshot_steps:
            errors, test_error, _ = probing_errors(self._weights, self._test)
            v = self._weights.v
            for name, values in zip(CURVES, (*errors.T, test_error, *v.T), strict=True):
                self._curves[name].append(values.to(torch.float64, copy=True))
            self._windows.append(self._counts)
            self._counts = torch.zeros_like(self._counts)

    @functools.cached_property
    def _on_host(self) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Windows, curves and whether weights are finite, (member,) last, on the CPU: one wait for the device."""
        finite = torch.stack([part.flatten(1).isfinite().all(1) for part in self._weights]).all(0)
        curves = {name: torch.stack(values).cpu() for name, values in self._curves.items()}
        return torch.stack(self._windows).cpu(), curves, finite.cpu()

    def result(self, rows: slice) -> ToyResult:
        """Collect the record of the configuration whose members are `rows`."""
        all_windows, all_curves, all_finite = self._on_host
        windows = all_windows[:, :, rows]  # (snapshot, count, seed)
        curves = {name: values[:, rows] for name, values in all_curves.items()} | _means(windows)
        metrics: dict[str, Any] = {f"final_{name}": curves[name][-1].tolist() for name in CURVES[:3]}
        metrics |= {name: value.tolist() for name, value in _means(windows.sum(0)).items()}
        metrics["diverged"] = (~all_finite[rows]).tolist()
        config, _ = self._members[rows.start]
        metrics["linear_baseline_error"] = [_baseline(config.data, seed) for seed in config.seeds]
        metrics["curves"] = {name: _rounded(value.T) for name, value in curves.items()}
        arrays = {}
        if config.checkpoints:
            steps = sorted(set(config.checkpoints))
            kept = [Weights(*(part[rows] for part in self._checkpoints[step])) for step in steps]
            arrays = {name: torch.stack(parts).numpy() for name, *parts in zip(Weights._fields, *kept, strict=True)}
        return ToyResult(metrics, arrays)


@functools.cache
def _baseline(data: ToyData, seed: int) -> float:
    """Error of the best line through the origin; configurations that share their data share it."""
    return linear_baseline_error(sample(data, seed=seed, split="test"))


# Two counts of steps, then what is averaged over the readable ones: v_hard/v_easy at real and phantom parameters and
# the latter's logarithm (which a near flip cannot dominate), v~_k/v_k (Figure 4), how often the ratio rose, how often
# the condition of chapter 3 said that it would, and how often both agreed.
COUNTS = (
    "readable_steps",
    "flipped_steps",
    "real_ratio",
    "phantom_ratio",
    "phantom_log_ratio",
    "easy_rate",
    "hard_rate",
    "raised_share",
    "condition_share",
    "agreement_share",
)
CURVES = (*(f"{feature}_error" for feature in FEATURES), "test_error", "v_easy", "v_hard")


def _means(counts: Tensor) -> dict[str, Tensor]:
    """Turn counts (..., count, seed) into the shares and means of one window, (..., seed).

    Means run over the readable steps: both last-layer weights positive, and none flipped by the ascent step.
    """
    by_name = dict(zip(COUNTS, counts.unbind(-2), strict=True))
    means = {name: by_name[name] / by_name["readable_steps"] for name in COUNTS[2:]}
    return means | {name: by_name[name] for name in COUNTS[:2]}


def _rounded(values: Tensor) -> list[Any]:
    """Nested lists with five significant digits: curves are for drawing."""
    return [[float(f"{value:.5g}") for value in row] for row in values.tolist()]
