"""Parameters that lie in pieces over processes: local pieces, and norms over the pieces of all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samlib.optim._ascent import squared_norm
from samlib.optim._checks import no_gradients

Groups = tuple[Any, ...]  # the process groups, one a mesh dimension, over which a tensor's pieces lie


class Shards:
    """The process groups that hold the pieces of each parameter, for FSDP1, FSDP2 and other DTensors.

    A norm over whole tensors is the square root of the pieces' squares, summed over those groups and no others: a
    replica of a piece (hybrid sharding) counts once. Each process must ask for the same norms in the same order.

    Args:
        parameters: all of an optimiser's.
        module: the network; FSDP1's parameters do not know their processes, the network does.

    Raises:
        TypeError: FSDP1's parameters without their network; sums that are still to be made (Partial).
    """

    def __init__(self, parameters: Sequence[Tensor], module: nn.Module | None) -> None:
        units = _fsdp_units(module) if any(hasattr(p, "_fsdp_flattened") for p in parameters) else {}
        self._device = parameters[0].device
        self._groups = {id(parameter): _groups(parameter, units) for parameter in parameters}
        self._kinds = list(dict.fromkeys(self._groups.values()))  # in the same order in every process

    def know(self, parameters: Sequence[Tensor]) -> bool:
        """Whether these are among the parameters that were given."""
        return all(id(parameter) in self._groups for parameter in parameters)

    @staticmethod
    def local(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
        """Return this process's pieces of parameters, or of gradients, which are brought to their placement first.

        The pieces share the tensors' storage.
        """
        pieces = []
        for tensor, parameter in zip(tensors, like, strict=True):
            placements = getattr(parameter, "placements", None)
            if placements is not None and tensor.placements != placements:  # type: ignore[attr-defined]
                tensor = tensor.redistribute(parameter.device_mesh, placements)  # type: ignore[attr-defined]
            # FSDP1 lends its parameters other storage during a pass; an alias stays with the piece.
            pieces.append(tensor.detach() if placements is None else tensor.to_local())  # type: ignore[attr-defined]
        return pieces

    def length(self, owners: Sequence[Tensor], pieces: Sequence[Tensor], call: str) -> float:
        """Return the L2 norm of all pieces in all processes taken as one vector; raise if there are none anywhere."""
        squares, count = self.squares_and_count(owners, pieces).tolist()
        if not count:
            raise no_gradients(call)
        length = math.sqrt(squares)
        return 0.0 if length < torch.finfo(torch.float32).tiny else length

    def squares_and_count(self, owners: Sequence[Tensor], pieces: Sequence[Tensor]) -> Tensor:
        """Return the sum of squares, and the number of pieces, over all processes: (2,), on the pieces' device."""
        # A process without a piece takes part too, on the device that its processes talk about.
        total = torch.zeros(2, dtype=torch.float64, device=pieces[0].device if pieces else self._device)
        for groups in self._kinds:
            here = [piece for owner, piece in zip(owners, pieces, strict=True) if self._groups[id(owner)] == groups]
            part = torch.zeros_like(total)
            if here:
                part[0], part[1] = squared_norm(here, torch.float64), len(here)
            for group in groups:
                dist.all_reduce(part, group=group)
            total += part
        return total


def find_shards(parameters: Sequence[Tensor], module: nn.Module | None) -> Shards | None:
    """Return what to know of shards, or None where each process has whole parameters."""
    return Shards(parameters, module) if any(map(is_shard, parameters)) else None


def forget_gathered(module: nn.Module | None) -> None:
    """Free whole parameters that FSDP gathered and keeps for a backward: they do not follow when their pieces move."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.fsdp._runtime_utils import _reshard

    for unit in module.modules() if module is not None else []:
        if isinstance(unit, FSDPModule):
            unit.reshard()
        handle = unit._handle if isinstance(unit, FullyShardedDataParallel) else None
        if handle is not None and handle.uses_sharded_strategy and not handle.needs_unshard():
            _reshard(unit, handle, True)


def is_shard(parameter: Tensor) -> bool:
    """Whether a process may hold but a piece of a parameter."""
    return hasattr(parameter, "device_mesh") or hasattr(parameter, "_fsdp_flattened")


def _groups(parameter: Tensor, units: dict[int, Groups]) -> Groups:
    """Return the groups over which one parameter's pieces lie; none for a whole one."""
    if hasattr(parameter, "_fsdp_flattened"):
        if id(parameter) not in units:
            raise TypeError(
                "SAM expects the network beside parameters that FSDP has flattened, and found none that holds them. "
                "Pass module=network, the FSDP module whose parameters() these are."
            )
        return units[id(parameter)]
    if not hasattr(parameter, "device_mesh"):
        return ()
    placements = parameter.placements  # type: ignore[attr-defined]
    if any(placement.is_partial() for placement in placements):
        raise TypeError(
            f"SAM expects parameters that are sharded or replicated, got a DTensor with placements {placements}. "
            "Redistribute it first."
        )
    mesh = parameter.device_mesh
    return tuple(mesh.get_group(n) for n, placement in enumerate(placements) if not placement.is_replicate())


def _fsdp_units(module: nn.Module | None) -> dict[int, Groups]:
    """Return the groups of each parameter, by id, that FSDP1 holds in a network."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    found: dict[int, Groups] = {}
    for unit in FullyShardedDataParallel.fsdp_modules(module) if module is not None else []:
        handle = unit._handle
        if handle is not None:
            groups = (handle.process_group,) if handle.uses_sharded_strategy else ()
            found |= {id(p): groups for p in [handle.flat_param, *(handle.flat_param._params or [])]}
    return found


def replicas(module: nn.Module) -> Any:
    """Return the processes over which a data-parallel module averages its gradients; None for another module."""
    if not dist.is_available() or not dist.is_initialized():
        return None
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    if isinstance(module, nn.parallel.DistributedDataParallel):
        return module.process_group
    if not isinstance(module, FullyShardedDataParallel | FSDPModule):
        return None
    groups: set[Groups] = set()
    if isinstance(module, FSDPModule):
        groups = {tuple(p.device_mesh.get_group(n) for n in range(p.device_mesh.ndim)) for p in module.parameters()}  # type: ignore[attr-defined]
    elif not module.sharding_strategy.name.startswith(("HYBRID", "_HYBRID")):
        groups = {(module.process_group,)}
    if len(groups) != 1 or len(group := groups.pop()) != 1:
        raise TypeError(
            "LSAM expects a trunk sharded over one mesh dimension, got hybrid sharding. Wrap a module whose forward "
            "returns lsam_loss(...).loss of trunk and head."
        )
    return group[0]


def average(tensors: Sequence[Tensor], group: Any) -> None:
    """Replace tensors by their means over processes, in place."""
    for tensor in tensors:
        dist.all_reduce(tensor, group=group)
        tensor.div_(dist.get_world_size(group))
