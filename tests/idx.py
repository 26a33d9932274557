"""Files in the format of MNIST."""

import gzip
from pathlib import Path

import numpy as np


def write_idx(path: Path, values: np.ndarray, *, packed: bool = False) -> None:
    """Write whole numbers below 256 as an IDX file, packed with `.gz` appended to its name."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    content = header + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
