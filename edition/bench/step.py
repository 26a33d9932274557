"""What a step of SAM and LSAM costs beside SGD's, beside other implementations and beside the least it can cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from edition.bench.step_methods import (
    BASE,
    PEER,
    RHO,
    Batches,
    build_workload,
    forward_backward,
    methods,
    new_sam,
)
from edition.bench.timing import Work, clock, interleave, quartiles, ratios
from samlib.config import check_choice
from samlib.optim import LSAM, lsam_loss
from samlib.optim._checks import clear_gradients

# Workload -> rounds for one of ResNet-18: short steps are measured more often.
WORKLOADS = {"mlp": 60, "convnet": 3, "resnet18": 1}


def measure_steps(
    *, rounds: int = 10, device: str = "cpu", workloads: Sequence[str] = tuple(WORKLOADS)
) -> list[dict[str, Any]]:
    """Measure one training step of every method, interleaved, on each workload.

    All methods of a workload start from the same weights, see the same batches in the same order and step SGD with
    momentum 0.9. For the clock see `edition.bench.timing.clock`. The rows: "sgd"; "floor", two passes and one update
    and nothing else, the least that SAM can cost; our "sam" and "lsam"; "two_step_sam", the widespread
    implementation (`TwoStepSAM`); and pytorch-optimizer's SAM, where it is installed. torch's number of threads is
    left as it is.

    Args:
        rounds: measurements of each method on ResNet-18; the conv net is measured 3 times as often, the MLP 60 times.
        device: "cpu" or "cuda".
        workloads: some of `WORKLOADS`; see `build_workload`.
    Returns:
        One row a workload and method, SGD first: `workload`, `method`, `median_ms` and its quartiles `low_ms` and
        `high_ms`; `ratio_to_sgd`, the median over the rounds of the time over SGD's in the same round, and its
        quartiles `ratio_low` and `ratio_high`.
    Raises:
        ValueError: unknown workload.
    """
    _check(workloads)
    rows = []
    for name in workloads:
        workload = build_workload(name, device)
        works = {method: build(*workload.fresh()) for method, build in methods().items()}
        rows += _rows(name, interleave(works, rounds=rounds * WORKLOADS[name], device=device))
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same keys for a terminal."""
    return pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format)


def step_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format `measure_steps`'s rows for a terminal, with a line where the other library is missing."""
    if PEER in {row["method"] for row in rows}:
        return table(rows)
    return f"{table(rows)}\npytorch-optimizer is not installed and was left out: pip install 'samlib[benchmark]'"


def step_profile(
    *, rounds: int = 10, device: str = "cpu", workloads: Sequence[str] = tuple(WORKLOADS)
) -> list[dict[str, Any]]:
    """Measure the parts of a step of SGD, SAM and LSAM, in place, interleaved with plain SGD steps.

    The clock is read around each part, which adds a few microseconds to a step; on "cuda" the device is waited for
    each time, so work that would overlap does not.

    Args:
        rounds, device, workloads: as in `measure_steps`.
    Returns:
        One row a workload, method ("sgd", "sam", "lsam") and part, in the step's order: `workload`, `method`, `part`,
        `median_ms` over all steps, and `percent_of_sgd`, that as a percentage of the plain SGD step's median. The
        part "rest" is what no other part holds (Python, gradient modes); "step" is the whole.
    Raises:
        ValueError: unknown workload.
    """
    _check(workloads)
    rows = []
    for name in workloads:
        workload = build_workload(name, device)
        # To read the process's own clock takes too long between the MLP's parts.
        now = time.perf_counter if name == "mlp" and device == "cpu" else clock(device)
        laps = {method: Laps(now) for method in ("plain sgd", *PROFILED)}
        works = {"plain sgd": laps["plain sgd"].step(methods()["sgd"](*workload.fresh()))}
        for method, build in PROFILED.items():
            works[method] = laps[method].step(build(*workload.fresh(), laps[method]))
        interleave(works, rounds=rounds * WORKLOADS[name], device=device)
        whole = laps.pop("plain sgd").medians()["step"]
        for method in PROFILED:
            for part, seconds in laps[method].medians().items():
                numbers = {"median_ms": 1000 * seconds, "percent_of_sgd": 100 * seconds / whole}
                rows.append({"workload": name, "method": method, "part": part, **numbers})
    return rows


class Laps:
    """A stopwatch that sorts a step's seconds into parts."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._laps: list[tuple[str, float]] = []
        self.steps: list[dict[str, float]] = []

    def part(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the work with its seconds added to the part of that name in the running step."""
        now, add = self._now, self._laps.append

        def run(*args: Any, **options: Any) -> Any:
            begin = now()
            result = work(*args, **options)
            add((name, now() - begin))
            return result

        return run

    def step(self, work: Work) -> Work:
        """Return the work as one step, whose parts are those that run in it."""

        def run() -> None:
            self._laps.clear()
            begin = self._now()
            work()
            whole = self._now() - begin
            parts: dict[str, float] = {}
            for name, seconds in self._laps:
                parts[name] = parts.get(name, 0.0) + seconds
            self.steps.append({**parts, "rest": whole - sum(parts.values()), "step": whole})

        return run

    def medians(self) -> dict[str, float]:
        """Return each part's median seconds over all steps but the first, which warms up."""
        steps = self.steps[1:]
        return {part: quartiles([step[part] for step in steps])[1] for part in steps[-1]}


def _sgd_in_parts(network: nn.Sequential, batches: Batches, laps: Laps) -> Work:
    """SGD's step."""
    optimizer, trunk = SGD(network.parameters(), **BASE), laps.part("trunk, forward", network[0])
    clear, update = laps.part("gradients cleared", optimizer.zero_grad), laps.part("base step", optimizer.step)
    loss = laps.part("head and loss", lambda features, targets: F.cross_entropy(network[1](features), targets))
    backward = laps.part("backward", Tensor.backward)

    def step() -> None:
        inputs, targets = next(batches)
        clear()
        backward(loss(trunk(inputs), targets))
        update()

    return step


def _sam_in_parts(network: nn.Sequential, batches: Batches, laps: Laps) -> Work:
    """SAM's own step, with its methods timed."""
    sam: Any = new_sam(network)
    first, second = (laps.part(f"pass at {point}", forward_backward) for point in ("w", "w + epsilon"))
    sam._clear_gradients = laps.part("gradients cleared", sam._clear_gradients)
    sam._ascent_norm = laps.part("norm", sam._ascent_norm)
    sam._iterate.save = laps.part("w saved", sam._iterate.save)
    sam._move = laps.part("ascent", sam._move)
    sam._iterate.put_back = laps.part("w put back", sam._iterate.put_back)
    sam._descent_norm = laps.part("finite check", sam._descent_norm)
    sam.base.step = laps.part("base step", sam.base.step)

    def step() -> None:
        batch, passes = next(batches), iter((first, second))
        sam.step(lambda: next(passes)(network, batch))

    return step


def _lsam_in_parts(network: nn.Sequential, batches: Batches, laps: Laps) -> Work:
    """LSAM's step, spelt out."""
    head = cast(nn.Linear, network[1])
    lsam = LSAM(network[0], head, SGD(network.parameters(), **BASE), rho=RHO)
    clear, trunk = laps.part("gradients cleared", clear_gradients), laps.part("trunk, forward", lsam.trunk)
    loss, backward = laps.part("head and loss, twice", lsam_loss), laps.part("backward", Tensor.backward)
    check = laps.part("finite check", lsam._require_finite_gradient)
    update = laps.part("base step", lsam.optimizer.step)

    def step() -> None:
        inputs, targets = next(batches)
        clear(lsam.optimizer.param_groups)
        backward(loss(trunk(inputs), head, targets, rho=RHO).loss)
        check()
        update()
        clear(lsam.optimizer.param_groups)

    return step


PROFILED: dict[str, Callable[[nn.Sequential, Batches, Laps], Work]] = {
    "sgd": _sgd_in_parts,
    "sam": _sam_in_parts,
    "lsam": _lsam_in_parts,
}


def _rows(workload: str, times: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Sum up one workload's seconds a step."""
    rows = []
    for method, seconds in times.items():
        low, middle, high = (1000 * value for value in quartiles(seconds))
        row = {"workload": workload, "method": method, "median_ms": middle, "low_ms": low, "high_ms": high}
        ratio_low, ratio, ratio_high = quartiles(ratios(seconds, times["sgd"]))
        rows.append({**row, "ratio_to_sgd": ratio, "ratio_low": ratio_low, "ratio_high": ratio_high})
    return rows


def _check(workloads: Sequence[str]) -> None:
    """Refuse unknown workloads before any is measured."""
    for name in workloads:
        check_choice("workload", name, tuple(WORKLOADS))
