"""Records: what a run gave, kept for good."""
