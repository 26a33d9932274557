"""The toy of Section 5: its data, its disentangled network, and engines that train many of them at once."""
