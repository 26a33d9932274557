"""What must be put back after the phantom pass: parameter values and normalisation statistics."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from samlib.optim.normalization import normalization_statistics_frozen


class SavedIterate:
    """Copies of the parameters at w; while it lives, the module's normalisation statistics stand still."""

    def __init__(self, parameters: list[Tensor], module: nn.Module | None) -> None:
        self._parameters = parameters
        self._copies = list(torch._foreach_clone(parameters)) if parameters else []
        self._statistics = ExitStack()
        if module is not None:
            self._statistics.enter_context(normalization_statistics_frozen(module))

    def put_back(self) -> None:
        """Copy the saved values into the parameters' own storage and let the statistics run again."""
        self._statistics.close()
        if self._parameters:
            torch._foreach_copy_(self._parameters, self._copies)
