"""Section 6.2 of the paper, each effect's contribution: a ratio fixed in the weights, the rates, or both (Figure 6).

A gain counts where it is at least a tenth of LSAM's own (`LEAST`): an improvement that nobody would want is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from edition.claims.claim import OURS, Judged, claim
from edition.claims.rules import Effect
from edition.experiments.toy import ELSEWHERE, RATIOS, REFERENCE_COMPLEXITY, REFERENCE_RHO
from edition.runs.results import NotOnRecord, Results, by_seed, only, pick
from samlib.measures.statistics import Estimate, estimate, paired_difference, settled

LEAST = 0.1  # of LSAM's gain: the least that counts as an improvement; our choice
COMPARABLE = 0.5  # of the larger of two gains: how far the smaller may be behind and be comparable; our choice
MATCH_MARGIN = 0.05  # how far an error may lie from LSAM's and still match it; our choice
FACTORS = ("importance", "rate")
TERMS = (*FACTORS, "both")
CAUSES = "05_interventions"
COUNTS = f"a gain counts from {LEAST:g} of LSAM's own at rho = {REFERENCE_RHO:g}"
CURVE = "at each fixed ratio run that is above SGD's own mean ratio"


def mean_ratio(complexity: pd.DataFrame, rho: float = REFERENCE_RHO) -> float:
    """Return LSAM's phantom ratio at a radius (SGD's own at 0) and 360 degrees, mean over training and seeds."""
    return float(only(complexity, complexity=REFERENCE_COMPLEXITY, rho=rho).phantom_ratio.mean())


def ratios_above_sgds(complexity: pd.DataFrame) -> list[float]:
    """Return the fixed ratios that favour the hard feature more than SGD itself does: the paper's curve from there."""
    own = mean_ratio(complexity, 0.0)
    return [ratio for ratio in RATIOS if ratio > own]


def errors_at(interventions: pd.DataFrame, term: str, ratio: float) -> np.ndarray:
    """Return the hard-feature error of one intervention at a ratio c, by seed.

    Between the ratios that were run, each seed's error is interpolated linearly in log c.
    """
    curves = _curves(interventions, term)
    positions = np.log(curves.columns.to_numpy(dtype=float))
    return np.array([np.interp(np.log(ratio), positions, curve) for curve in curves.to_numpy()])


def lsam_errors(complexity: pd.DataFrame, rho: float) -> np.ndarray:
    """Return the hard-feature errors of LSAM (SGD at rho = 0) at 360 degrees, by seed."""
    return _errors(complexity, complexity=REFERENCE_COMPLEXITY, rho=rho)


def least_gain(complexity: pd.DataFrame) -> float:
    """Return the change of the hard-feature error that counts as an improvement, below zero."""
    return LEAST * min(0.0, float((lsam_errors(complexity, REFERENCE_RHO) - lsam_errors(complexity, 0.0)).mean()))


@claim(
    "toy-interventions-help",
    place="Section 6.2, Figure 6 (left and centre)",
    says="Either effect alone improves the hard feature's probing error.",
    statistic=f"hard-feature probing error minus SGD's, paired by seed, {CURVE}; {COUNTS}",
    chapter=CAUSES,
    figure="fig-6",
    needs=("interventions", "complexity"),
)
def interventions_help(interventions: Results, complexity: Results) -> Judged:
    ratios = ratios_above_sgds(complexity.table)
    at_lsams = _gains(interventions.table, complexity.table, TERMS, [mean_ratio(complexity.table)])
    shown = [replace(effect, name=f"{effect.name}, LSAM's own mean ratio") for effect in at_lsams]
    return Judged(_gains(interventions.table, complexity.table, FACTORS, ratios), shown=shown)


@claim(
    "toy-gains-comparable",
    place="Section 6.2, Figure 6 (left and centre)",
    says="The two effects offer comparable gains.",
    statistic=f"the smaller gain on SGD minus {1 - COMPARABLE:g} of the larger one, in hard-feature probing error, "
    f"paired by seed, {CURVE} and at which both gain what counts on average (gains are negative: comparable means "
    f"below 0); {COUNTS}",
    chapter=CAUSES,
    figure="fig-6",
    needs=("interventions", "complexity"),
)
def gains_comparable(interventions: Results, complexity: Results) -> list[Effect]:
    effects = []
    for ratio in ratios_above_sgds(complexity.table):
        sgd = lsam_errors(complexity.table, 0.0)
        gains = {term: errors_at(interventions.table, term, ratio) - sgd for term in FACTORS}
        larger, smaller = sorted(gains, key=lambda term: settled(gains[term].mean()))
        if settled(gains[smaller].mean()) < settled(least_gain(complexity.table)):
            value = estimate(gains[smaller] - (1 - COMPARABLE) * gains[larger])
            effects.append(Effect(f"c = {ratio:g}, {smaller} against {larger}", value, "below"))
    return effects


@claim(
    "toy-both-match-lsam",
    place="Section 6.2, Figure 6 (right)",
    says="Both effects together match LSAM: the account appears complete in the toy.",
    statistic="hard-feature probing error of both interventions at LSAM's mean phantom ratio minus LSAM's, paired by "
    f"seed, at each radius; a match means an interval within ±{MATCH_MARGIN:g}",
    chapter=CAUSES,
    figure="fig-6",
    needs=("interventions", "complexity"),
)
def both_match_lsam(interventions: Results, complexity: Results) -> list[Effect]:
    effects = []
    for rho in sorted({*complexity.table.rho} - {0.0}):
        ratio = mean_ratio(complexity.table, rho)
        both = errors_at(interventions.table, "both", ratio)
        value = paired_difference(both, lsam_errors(complexity.table, rho))
        effects.append(Effect(f"rho = {rho:g}, c = {ratio:.2f}", value, "within", MATCH_MARGIN))
    return effects


@claim(
    "toy-interventions-can-help",
    place="Section 6.2, Figure 6; the size of the ratio is ours",
    says="A ratio far above LSAM's own, in either factor or in both, improves the hard feature.",
    statistic=f"hard-feature probing error minus SGD's, paired by seed, at the largest ratio run, c = {max(RATIOS):g}; "
    f"{COUNTS}",
    chapter=CAUSES,
    figure="fig-6",
    needs=("interventions", "complexity"),
    origin=OURS,
)
def interventions_can_help(interventions: Results, complexity: Results) -> list[Effect]:
    return _gains(interventions.table, complexity.table, TERMS, [max(RATIOS)])


@claim(
    "toy-one-factor-suffices",
    place="Section 6.2; the test is ours",
    says="LSAM's phantom in the importance weights alone, and in the learning rates alone, improves the hard feature.",
    statistic=f"hard-feature probing error at rho = {REFERENCE_RHO:g} minus SGD's, paired by seed; {COUNTS}",
    chapter=CAUSES,
    figure="fig-phantom-terms",
    needs=("phantom_terms", "complexity"),
    origin=OURS,
)
def one_factor_suffices(phantom_terms: Results, complexity: Results) -> list[Effect]:
    sgd, least = lsam_errors(complexity.table, 0.0), least_gain(complexity.table)
    effects = []
    for term in FACTORS:
        gain = paired_difference(_errors(phantom_terms.table, term=term, rho=REFERENCE_RHO), sgd)
        effects.append(Effect(term, gain, "below", least, none=0.0))
    return effects


@claim(
    "toy-rates-match-lsam",
    place="Section 6.2; the test is ours",
    says="LSAM's phantom in the learning rates alone does what LSAM does.",
    statistic=f"hard-feature probing error at rho = {REFERENCE_RHO:g}, phantom in the learning rates minus LSAM, "
    f"paired by seed; a match means an interval within ±{MATCH_MARGIN:g}",
    chapter=CAUSES,
    figure="fig-phantom-terms",
    needs=("phantom_terms", "complexity"),
    origin=OURS,
)
def rates_match_lsam(phantom_terms: Results, complexity: Results) -> list[Effect]:
    rates = _errors(phantom_terms.table, term="rate", rho=REFERENCE_RHO)
    value = paired_difference(rates, lsam_errors(complexity.table, REFERENCE_RHO))
    return [Effect("rates only minus LSAM", value, "within", MATCH_MARGIN)]


@claim(
    "toy-choices-matter-little",
    place="Appendix C; the question is ours",
    says="The length of the fixed vector and the gradient given to v do not matter for the hard feature.",
    statistic="hard-feature probing error at the smallest and the largest ratio: control minus main runs, paired by "
    f"seed; 'does not matter' means an interval within ±{MATCH_MARGIN:g}",
    chapter=CAUSES,
    figure="fig-6-controls",
    needs="interventions",
    origin=OURS,
    quantifier="every",
)
def choices_matter_little(interventions: Results) -> list[Effect]:
    effects = []
    for name, variant in (("length of current v", {"norm": "matched"}), ("v re-weighted", {"last_layer": "weighted"})):
        for term in TERMS:
            if "last_layer" in variant and term != "importance":
                continue  # Eq 9 replaces no weights, and under Eq 10 the feature networks do not see v
            control, main = (_curves(interventions.table, term, **changes) for changes in (variant, {}))
            for ratio in (min(RATIOS), max(RATIOS)):
                value = estimate((control - main)[ratio].to_numpy())
                effects.append(Effect(f"{name}, {term}, c = {ratio:g}", value, "within", MATCH_MARGIN))
    return effects


@claim(
    "toy-phantom-of-its-own-batch",
    place="Section 6.2; the question is ours",
    says="LSAM's gain needs the phantom of the batch itself: lent to another batch, or replaced by its running mean, "
    "it gains less.",
    statistic=f"hard-feature probing error at rho = {REFERENCE_RHO:g}, stand-in minus the batch's own phantom in the "
    "same factors, paired by seed",
    chapter=CAUSES,
    figure="fig-mechanism",
    needs="mechanism",
    origin=OURS,
)
def own_batch(mechanism: Results) -> list[Effect]:
    return _against_own(lambda term, vector: _apart(mechanism, term, vector, "phantom"))


@claim(
    "toy-gain-where-hard-hurts",
    place="Section 6.2; the question is ours",
    says="LSAM gains in the batches in which the hard feature hurts: the phantom in these alone improves the hard "
    "feature, and more than the phantom in the others alone.",
    statistic=f"hard-feature probing error at rho = {REFERENCE_RHO:g}, paired by seed: phantom only where it hurts, "
    f"minus SGD, and minus phantom only where it helps; {COUNTS}",
    chapter=CAUSES,
    figure="fig-mechanism",
    needs=("mechanism", "complexity"),
    origin=OURS,
)
def gain_where_hard_hurts(mechanism: Results, complexity: Results) -> list[Effect]:
    sgd, least, effects = lsam_errors(complexity.table, 0.0), least_gain(complexity.table), []
    for term in ("rate", "both"):
        gain = paired_difference(_errors(mechanism.table, term=term, vector="hurts"), sgd)
        effects.append(Effect(f"{term}, where it hurts minus SGD", gain, "below", least, none=0.0))
        apart = _apart(mechanism, term, "hurts", "helps")
        effects.append(Effect(f"{term}, where it hurts minus where it helps", apart, "below"))
    return effects


@claim(
    "toy-phantom-of-its-own-batch-elsewhere",
    place="Section 6.2; the question is ours",
    says="The tie to the batch is no peculiarity of our constants: on average over other settings, too, the phantom of "
    "another batch, or its running mean, gains less than the phantom of the batch itself.",
    statistic="hard-feature probing error, stand-in minus the batch's own phantom in the same factors, a number a "
    f"setting (mean over its seeds), in the settings {', '.join(map(str, ELSEWHERE))} of the search: the first ten in "
    "which SGD learns label and line and not the spiral",
    chapter=CAUSES,
    figure="fig-mechanism-elsewhere",
    needs="mechanism_elsewhere",
    origin=OURS,
)
def own_batch_elsewhere(mechanism_elsewhere: Results) -> list[Effect]:
    gains = gains_elsewhere(mechanism_elsewhere.table)
    return _against_own(lambda term, vector: paired_difference(gains[term, vector], gains[term, "phantom"]))


def _against_own(apart: Callable[[str, str], Estimate]) -> list[Effect]:
    """Each stand-in for the batch's own phantom, predicted to gain less; `apart` measures one, (term, vector)."""
    return [
        Effect(f"{vector}, {term}", apart(term, vector), "above")
        for vector in ("permuted", "mean")
        for term in ("rate", "both")
    ]


def gains_elsewhere(table: pd.DataFrame) -> pd.DataFrame:
    """Hard-feature error minus SGD's, mean over seeds: a row a setting, a column a (term, vector).

    Raises:
        NotOnRecord: SGD's runs are missing.
    """
    # Settings differ in their learning rate; the rows keep the order in which they are drawn.
    errors = table.groupby(["learning_rate", "term", "vector"], sort=False).final_hard_error.mean()
    wide = errors.unstack(["term", "vector"], sort=False)
    if ("none", "fixed") not in wide:
        raise NotOnRecord("no run of SGD in these settings")
    return wide.sub(wide["none", "fixed"], axis=0).drop(columns=[("none", "fixed")])


def _errors(table: pd.DataFrame, **conditions: Any) -> np.ndarray:
    """Hard-feature errors of the runs that these columns tell, by seed."""
    return only(table, **conditions).sort_values("seed").final_hard_error.to_numpy()


def _apart(mechanism: Results, term: str, one: str, other: str) -> Estimate:
    """Hard-feature error with one stand-in minus that with another."""
    return paired_difference(*(_errors(mechanism.table, term=term, vector=vector) for vector in (one, other)))


def _gains(
    interventions: pd.DataFrame, complexity: pd.DataFrame, terms: Sequence[str], ratios: Sequence[float]
) -> list[Effect]:
    """Each intervention's error minus SGD's at each ratio, predicted to be below what counts as an improvement."""
    sgd, least = lsam_errors(complexity, 0.0), least_gain(complexity)
    return [
        Effect(
            f"{term}, c = {ratio:.3g}",
            paired_difference(errors_at(interventions, term, ratio), sgd),
            "below",
            least,
            none=0.0,
        )
        for term in terms
        for ratio in ratios
    ]


def _curves(
    interventions: pd.DataFrame, term: str, *, norm: str = "initial", last_layer: str = "plain"
) -> pd.DataFrame:
    """Hard-feature errors of one intervention and variant: one row a seed, one column a ratio."""
    return by_seed(pick(interventions, term=term, norm=norm, last_layer=last_layer), "final_hard_error", "ratio")
