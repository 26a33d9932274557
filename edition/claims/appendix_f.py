"""Appendix F of the paper: SAM's features transfer better to a domain that the network has not seen (Table 2).

The verdicts follow from the runs of the whole network where they are complete (book/protocol.md), else from those of
the last block.
"""

from edition.claims.claim import Judged, claim
from edition.claims.domainbed import (
    EXPERIMENTS,
    MEAN,
    OTHER_RADII,
    WHOLE,
    effects,
    gains,
    judged,
    other_probes,
    scaled_down,
    swept,
    transfer_table,
)
from edition.claims.rules import Effect
from edition.runs.results import Results

TRANSFER, TABLE = "06_domainbed", "sec-table-two"
ACCURACY = "accuracy of a linear probe on the target domain's test split, SAM minus SGD, in points"
SETTINGS = "paired by seed, settings chosen on held-out images of the sources"


# One claim a data set, on the targets' mean.
for _title, _experiment in EXPERIMENTS.items():

    @claim(
        f"domainbed-{_title.lower()}-improved",
        place="Appendix F.3, Table 2",
        says=f"SAM outperforms SGD on {_title}.",
        statistic=f"{ACCURACY}, mean of the targets; {SETTINGS}",
        chapter=TRANSFER,
        figure=TABLE,
        needs=_experiment,
        also=(WHOLE[_title], OTHER_RADII) if _title == "PACS" else WHOLE[_title],
    )
    def improved(*given: Results, title: str = _title) -> Judged:
        results = dict(zip((EXPERIMENTS[title], WHOLE[title], OTHER_RADII), given, strict=False))
        own = judged(results, title)
        used = swept(results) if title == "PACS" else own
        shown = other_probes(own.records)
        if used is not own:
            chosen = gains(transfer_table(used.records))[MEAN]
            shown.insert(0, Effect("radius chosen by validation", chosen, "above"))
        effect = effects(transfer_table(own.records))[MEAN]
        return Judged([effect], scaled_down=scaled_down(own.records), shown=shown, records=used.records)


@claim(
    "domainbed-pacs-each-target",
    place="Table 2",
    says="SAM's accuracy is higher on every target domain of PACS.",
    statistic=f"{ACCURACY}, paired by seed, for each target",
    chapter=TRANSFER,
    figure=TABLE,
    needs=EXPERIMENTS["PACS"],
    also=WHOLE["PACS"],
    quantifier="every",
)
def each_target_improved(last_block: Results, whole: Results) -> Judged:
    own = judged({EXPERIMENTS["PACS"]: last_block, WHOLE["PACS"]: whole}, "PACS")
    found = effects(transfer_table(own.records))
    targets = [effect for name, effect in found.items() if name != MEAN]
    return Judged(targets, scaled_down=scaled_down(own.records), records=own.records)
