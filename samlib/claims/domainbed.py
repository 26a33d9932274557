"""The paper's claim about DomainBed (Appendix F): nothing of ours was run yet, so there is nothing to judge it by."""

from samlib.claims.rules import Verdict


def transfer_improved() -> Verdict:
    """Appendix F.3: SAM outperforms SGD on all three data sets; no effects of ours, hence "not tested"."""
    return Verdict(
        "domainbed-transfer-improved",
        "Appendix F.3, Table 2",
        "SAM outperforms SGD on OfficeHome, PACS and VLCS.",
        "accuracy of a linear probe on the target domain, SAM minus SGD, paired by seed, for each domain; no run of "
        "ours yet, and the paper's own table is no evidence of ours",
        [],
    )
