"""What is measured of features and weights: probes, rank, importance, statistics."""
