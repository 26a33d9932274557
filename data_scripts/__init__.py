"""Scripts that look after the real data sets; the data themselves are never part of this repository."""
