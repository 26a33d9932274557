"""Appendix F of the paper: SAM's features transfer better to a domain that the network has not seen (Table 2)."""

from edition.claims.claim import Judged, claim
from edition.claims.domainbed import EXPERIMENTS, MEAN, gains, scaled_down, transfer_table
from edition.claims.rules import Effect
from edition.runs.results import Results

TRANSFER, TABLE = "06_domainbed", "sec-table-two"
ACCURACY = "accuracy of a linear probe on the target domain's test split, SAM minus SGD, in points"


def _enter() -> None:
    """One claim a data set, on the targets' mean."""
    for title, experiment in EXPERIMENTS.items():

        @claim(
            f"domainbed-{title.lower()}-improved",
            place="Appendix F.3, Table 2",
            says=f"SAM outperforms SGD on {title}.",
            statistic=f"{ACCURACY}, mean of the targets; paired by seed, settings chosen on held-out images of the "
            "sources",
            chapter=TRANSFER,
            figure=TABLE,
            needs=experiment,
        )
        def improved(results: Results) -> Judged:
            effect = Effect("mean of the targets", gains(transfer_table(results.records))[MEAN], "above")
            return Judged([effect], scaled_down=scaled_down(results.records))


_enter()


@claim(
    "domainbed-pacs-each-target",
    place="Table 2",
    says="SAM's accuracy is higher on every target domain of PACS.",
    statistic=f"{ACCURACY}, paired by seed, for each target",
    chapter=TRANSFER,
    figure=TABLE,
    needs="pacs",
    quantifier="every",
)
def each_target_improved(pacs: Results) -> Judged:
    found = gains(transfer_table(pacs.records))
    effects = [Effect(target, value, "above") for target, value in found.items() if target != MEAN]
    return Judged(effects, scaled_down=scaled_down(pacs.records))
