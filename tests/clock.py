"""A clock that a test sets, in place of the module `time`."""


class Clock:
    """Stands still until its `now` is changed."""

    now = 1000.0

    def monotonic(self) -> float:
        """The time, as `time.monotonic` tells it."""
        return self.now
