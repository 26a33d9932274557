"""What must be put back after the phantom pass: parameter values and normalisation statistics."""

from contextlib import ExitStack
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from samlib.optim.normalization import normalization_statistics_frozen

_layout = attrgetter("dtype", "device", "shape")  # what memory for a copy must match


class SavedIterate:
    """Copies of the parameters at w; from save to put_back the module's normalisation statistics stand still.

    The copies' memory is kept from step to step: in a large network, fresh memory costs more than the copying.
    """

    def __init__(self) -> None:
        self._parameters: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._layouts: list[Any] = []
        self._statistics: ExitStack | None = None

    def save(self, parameters: list[Tensor], module: nn.Module | None) -> None:
        """Copy the parameters' values and freeze the module's normalisation statistics."""
        found = list(map(_layout, parameters))
        if found != self._layouts:
            self._copies, self._layouts = [], []  # first, so that old and new copies never coexist
            self._copies = [torch.empty_like(parameter) for parameter in parameters]
            self._layouts = found
        self._parameters = parameters
        if parameters:
            torch._foreach_copy_(self._copies, parameters)
        if module is not None:
            self._statistics = ExitStack()
            self._statistics.enter_context(normalization_statistics_frozen(module))

    def put_back(self) -> None:
        """Copy the saved values into the parameters' own storage and let the statistics run again."""
        if self._statistics is not None:
            self._statistics.close()
            self._statistics = None
        if self._parameters:
            torch._foreach_copy_(self._parameters, self._copies)
        torch.clear_autocast_cache()  # it holds casts of the phantom parameters
