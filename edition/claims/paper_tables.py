"""Numbers printed in the paper, as data. Our copy of it kept those of Table 2 alone; Table 1's were lost."""

import pandas as pd

# Springer, Nagarajan & Raghunathan (ICLR 2024), Table 2 (Appendix F): accuracy of a linear probe on the target domain.
# (data set, domain, accuracy of SGD, accuracy of SAM)
_TABLE_2 = (
    ("OfficeHome", "Art", 0.687, 0.709),
    ("OfficeHome", "Clipart", 0.716, 0.745),
    ("OfficeHome", "Product", 0.853, 0.858),
    ("OfficeHome", "Real-World", 0.777, 0.784),
    ("PACS", "Art", 0.910, 0.914),
    ("PACS", "Cartoon", 0.897, 0.921),
    ("PACS", "Photo", 0.955, 0.964),
    ("PACS", "Sketch", 0.893, 0.908),
    ("VLCS", "Caltech101", 0.993, 0.996),
    ("VLCS", "LabelMe", 0.736, 0.748),
    ("VLCS", "SUN09", 0.748, 0.776),
    ("VLCS", "VOC2007", 0.812, 0.830),
)


def table_2() -> pd.DataFrame:
    """Return the paper's Table 2, one row a target domain: columns data_set, domain, sgd, sam (accuracies, 0 to 1).

    The paper gives neither spread nor number of seeds.

    >>> len(table_2())
    12
    """
    return pd.DataFrame(_TABLE_2, columns=["data_set", "domain", "sgd", "sam"])
