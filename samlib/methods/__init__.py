"""SAM's variants and rivals on one training loop: what drives the quality of the hard feature? Beyond the paper."""
