"""Benchmarks. Nothing here is a test: a rate belongs to one machine and one moment; quote ratios of one run."""
