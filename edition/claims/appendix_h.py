"""Appendix H of the paper: noise and batch sizes."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from edition.claims.claim import OURS, PAPER, Judged, claim
from edition.claims.rules import Effect
from edition.claims.section_5 import GAIN
from edition.claims.toy import ROOM, WHERE_HARD, at_each_noise, correlation, difference, relative_rate
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import NotOnRecord, Results, by_seed
from samlib.measures.statistics import estimate, paired_difference, rank_correlations

ONE_STEP = 1.0  # "similar" optima: within one step of our grid of radii
PAPER_BATCH = 5
NOISE, BATCH = "a_data_and_noise", "b_batch_size"


@claim(
    "toy-noise",
    place="Appendix H.1, Figure 9",
    says="LSAM improves the hard feature's probing error over SGD for all three noises.",
    statistic=f"{GAIN}, at each noise level {WHERE_HARD} and SGD errs by more than {ROOM:g} on it",
    chapter=NOISE,
    figure="fig-9",
    needs="noise",
)
def noise_robust(noise: Results) -> Judged:
    return at_each_noise(noise.table, lambda part: difference(part, "final_hard_error"), "below", room=ROOM)


@claim(
    "toy-noise-mechanism",
    place="Appendix H.1, concluded from the probing errors",
    says="LSAM's mechanism is robust to noise: it still raises the hard feature's relative learning rate.",
    statistic="a substitute, as the paper measures no mechanism there: mean over training of v~_hard/v_hard - "
    f"v~_easy/v_easy at rho = {REFERENCE_RHO:g}, at each noise level {WHERE_HARD}; it says nothing of the weights",
    figure=f"{NOISE}#fig-9",
    needs="noise",
)
def mechanism_under_noise(noise: Results) -> Judged:
    return at_each_noise(noise.table, relative_rate, "above")


def robust(table: pd.DataFrame) -> list[Effect]:
    """Gain of LSAM at each batch size but the full batch, where the paper says that the improvement degrades."""
    minibatches = table[table.batch_size < table.batch_size.max()]
    return [
        Effect(f"batch {size:g}", difference(part, "final_hard_error"), "below")
        for size, part in minibatches.groupby("batch_size")
    ]


def degrades(table: pd.DataFrame) -> list[Effect]:
    """Gain at the largest batch against that at 5, and its trend over sizes; negative gains are better."""
    gains = {}
    for size, part in table.groupby("batch_size"):
        values = by_seed(part, "final_hard_error", "rho", need=(0.0, REFERENCE_RHO))
        gains[size] = values[REFERENCE_RHO] - values[0.0]
    sizes = sorted(gains)
    if PAPER_BATCH not in gains:
        raise NotOnRecord(f"no run with batches of {PAPER_BATCH}")
    trend = rank_correlations(sizes, np.column_stack([gains[size] for size in sizes]))
    largest = estimate((gains[sizes[-1]] - gains[PAPER_BATCH]).to_numpy())
    return [
        Effect(f"{sizes[-1]} against {PAPER_BATCH}", largest, "above"),
        Effect("trend over sizes", estimate(trend), "above"),
    ]


# What the paper says of the improvement: at equal epochs, and as a control of ours at equal steps.
for _budget, _experiment in (("epochs", "batch_size"), ("steps", "batch_size_equal_steps")):
    _ours = _budget == "steps"
    for _name, _says, _statistic, _judge in (
        ("robust", "LSAM improves the hard feature's probing error over SGD for a wide range of batch sizes.",
         f"{GAIN}, at each batch size but the full batch", robust),
        ("degrades", "As the batch becomes very large, the improvement of LSAM degrades.",
         f"gain (LSAM at rho = {REFERENCE_RHO:g} minus SGD, negative is better): largest batch against "
         f"{PAPER_BATCH}, and rank correlation with batch size, over seeds", degrades),
    ):  # fmt: skip

        @claim(
            f"toy-batch-{_name}-equal-{_budget}",
            place="Appendix H.2, Figure 10" + ("; at equal steps, the control is ours" if _ours else ""),
            says=_says,
            statistic=f"{_statistic} (equal {_budget})",
            chapter=BATCH,
            figure="fig-10",
            needs=_experiment,
            origin=OURS if _ours else PAPER,
        )
        def judged(results: Results, judge: Callable[[pd.DataFrame], list[Effect]] = _judge) -> list[Effect]:
            return judge(results.table)


@claim(
    "toy-optimum-similar",
    place="Appendix H.2, Figure 10",
    says="The radius at which LSAM is best is similar across batch sizes.",
    statistic="position on our grid of radii of each seed's lowest hard-feature probing error (the smallest radius "
    f"where several tie): each batch size minus {PAPER_BATCH}, paired by seed, at equal epochs; similar means an "
    "interval within one step. The full batch, which the paper excepts from the improvement, decides nothing; where "
    f"the mean error of {PAPER_BATCH} is lowest at the largest radius no size does: how far beyond its best lies is "
    "not known",
    figure=f"{BATCH}#fig-10",
    needs="batch_size",
)
def optimum_similar(batch_size: Results) -> Judged:
    errors = {size: by_seed(part, "final_hard_error", "rho") for size, part in batch_size.table.groupby("batch_size")}
    best = {size: values.to_numpy().argmin(axis=1) for size, values in errors.items()}
    if PAPER_BATCH not in best:
        raise NotOnRecord(f"no run with batches of {PAPER_BATCH}")
    at_end = errors[PAPER_BATCH].mean().idxmin() == errors[PAPER_BATCH].columns.max()
    found = {
        size: Effect(f"batch {size}", paired_difference(positions, best[PAPER_BATCH]), "within", ONE_STEP)
        for size, positions in best.items()
        if size != PAPER_BATCH
    }
    decide = [effect for size, effect in found.items() if size < max(best) and not at_end]
    return Judged(decide, shown=[effect for effect in found.values() if effect not in decide])


@claim(
    "toy-large-radius-sensitive",
    place="Appendix H.2, Figure 10",
    says="The larger the radius, the more sensitive the hard feature's probing error is to the batch size.",
    statistic="range of the hard-feature probing error over batch sizes, by seed, at equal epochs: largest radius "
    "minus SGD, and rank correlation with the radius; over batch sizes at which the label is learned at every radius "
    f"(mean test error below {ROOM:g}), beside it over all",
    figure=f"{BATCH}#fig-10",
    needs="batch_size",
)
def large_radius_sensitive(batch_size: Results) -> Judged:
    table = batch_size.table
    labels = table.groupby(["batch_size", "rho"]).final_test_error.mean().unstack().max(axis=1)
    learned = labels.index[labels < ROOM]
    if len(learned) < 2:
        raise NotOnRecord(f"two batch sizes at which every radius learns the label, to below {ROOM:g}")
    note = f"; that is at {len(learned)} of {len(labels)}, up to {learned.max():g}"
    return Judged(_sensitive(table[table.batch_size.isin(learned)]), note, shown=_sensitive(table, ", all batch sizes"))


def _sensitive(table: pd.DataFrame, where: str = "") -> list[Effect]:
    """The range of errors over batch sizes: at the largest radius against SGD, and its trend over radii."""
    errors = table.groupby(["rho", "seed"]).final_hard_error
    spreads = (errors.max() - errors.min()).rename("spread").reset_index()
    largest = float(spreads.rho.max())
    return [
        Effect(f"rho = {largest:g} against SGD{where}", difference(spreads, "spread", rho=largest), "above"),
        Effect(f"trend over radii{where}", correlation(spreads, "spread"), "above"),
    ]
