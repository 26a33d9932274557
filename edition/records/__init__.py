"""Records: what a run gave, kept for good; and the kinds of runs, with what trains each."""
