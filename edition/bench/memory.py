"""How many bytes a step of SGD, SAM and LSAM holds at its peak, beside the least that it could."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.profiler import ProfilerActivity, profile

from edition.bench.step import WORKLOADS
from edition.bench.step_methods import build_workload, methods


def peak_bytes(work: Callable[[], object]) -> int:
    """Return by how much the CPU's tensors grew at most while the work ran, in bytes.

    >>> import torch
    >>> peak_bytes(lambda: torch.empty(1000))
    4000
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = highest = 0
    for event in recorded.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest


def measure_memory(workloads: Sequence[str] = tuple(WORKLOADS)) -> list[dict[str, Any]]:
    """Measure the peak of building an optimiser and taking three steps, over the network's own parameters.

    So it holds the base's state, gradients and activations, and what SAM and LSAM keep between steps. The least that
    SAM can add to SGD's is one copy of the parameters, to come back to; LSAM's a copy of the head.

    Args:
        workloads: some of `WORKLOADS`.
    Returns:
        One row a workload and method: `workload`, `method`, `peak_bytes`, `parameter_bytes`, and `copies_over_sgd`,
        the peak over SGD's in copies of the parameters.
    Raises:
        ValueError: unknown workload.
    """
    rows: list[dict[str, Any]] = []
    for name in workloads:
        workload = build_workload(name)
        size = sum(p.numel() * p.element_size() for p in workload.network.parameters())
        peaks = {}
        for method, build in methods().items():
            network, batches = workload.fresh()

            def train(network: Any = network, batches: Any = batches, build: Any = build) -> None:
                step = build(network, batches)
                for _ in range(3):
                    step()

            peaks[method] = peak_bytes(train)
        for method, peak in peaks.items():
            over = (peak - peaks["sgd"]) / size
            row = {"workload": name, "method": method, "peak_bytes": peak, "parameter_bytes": size}
            rows.append({**row, "copies_over_sgd": over})
    return rows
