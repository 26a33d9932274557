"""Settings that reach every branch of the toy's engines, shared by their tests."""

import pytest

from samlib.toy.compiled import available
from samlib.toy.config import VECTORS, Intervention

needs_numba = pytest.mark.skipif(not available(), reason="numba is not installed")
SGD = (Intervention(), 0.0)
LSAM = (Intervention(), 0.7)
# (intervention, rho): every term with every length, gradient of v and vector.
INTERVENED = [
    *(
        (Intervention(term=term, ratio=1.5, norm=norm, last_layer=last_layer), 0.0)
        for term in ("importance", "rate", "both")
        for norm in ("initial", "matched")
        for last_layer in ("plain", "weighted")
    ),
    *(
        (Intervention(term=term, vector=vector, last_layer=last_layer), 0.7)
        for vector in VECTORS[1:]
        for term in ("importance", "rate", "both")
        for last_layer in ("plain", "weighted")
    ),
]
