"""Checkpoints: what a long run needs to go on where it was stopped, saved after each epoch."""

import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edition.records.provenance import device_name, source_digest, versions
from samlib.files import write_atomically


class OutOfTime(Exception):
    """The run was stopped at its time limit; its checkpoint holds what was done."""


class Checkpoint:
    """One run's saved state in one file, replaced atomically after each epoch.

    A state is resumed only by the code, the libraries and the kind of machine that saved it; otherwise the resumed
    run would not equal an uninterrupted one. Another state is left unused, with a warning, and the run begins anew.

    Args:
        path: the file; None keeps nothing, so that training code need not ask.
        device: where the run computes.
        seconds: how long the run may take; `save` stops it when the next epoch would not fit. None is for ever.
        report: called by `save` with the share of the run that is done.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        device: torch.device | str = "cpu",
        seconds: float | None = None,
        report: Callable[[float], None] = lambda fraction: None,
    ):
        self._report = report
        self._path = path
        self._origin = {"source": source_digest(), "versions": versions(), "device": device_name(device)}
        self._begin = self._last = time.monotonic()
        self._end = None if seconds is None else self._begin + seconds
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, that of earlier parts included."""
        return self._before + time.monotonic() - self._begin

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, or None where the run has to begin anew.

        Side effects:
            `seconds` then counts the time before the interruption too.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            saved = torch.load(self._path, weights_only=True)
            state, origin, seconds = saved["state"], saved["origin"], saved["seconds"]
        except Exception as error:  # whatever torch meets in a damaged file
            warnings.warn(f"{self._path}: expected a checkpoint, could not read it ({error}); begun anew", stacklevel=2)
            return None
        if origin != self._origin:
            warnings.warn(f"{self._path}: saved by other code or on another machine; begun anew", stacklevel=2)
            return None
        self._before = seconds
        return state

    def save(self, state: dict[str, Any], fraction: float) -> None:
        """Save the state after an epoch; stop the run if the next epoch would end after the time limit.

        Args:
            state: tensors, lists, dictionaries, numbers and strings.
            fraction: share of the run that is done, within (0, 1]; at 1 the run goes on to its end.
        Raises:
            OutOfTime: the state is saved, the time is over.
            OSError: the folder is not writable or the disk is full; the earlier state is kept.
        """
        self._report(fraction)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            body = {"state": state, "origin": self._origin, "seconds": self.seconds}
            packed = io.BytesIO()  # first into memory: on a full disk torch's writer hides the system's error
            torch.save(body, packed)
            write_atomically(self._path, lambda file: file.write(packed.getbuffer()))
        now = time.monotonic()
        epoch, self._last = now - self._last, now
        if self._end is not None and fraction < 1 and now + epoch > self._end:
            raise OutOfTime(f"stopped after {fraction:.0%}, {self.seconds:.0f} s")
