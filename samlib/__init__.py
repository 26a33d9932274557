"""SAM, the toy, image protocols and measures of features; `sweep` goes from configurations to a table."""

from samlib.sweeping import sweep

__all__ = ["sweep"]
