"""Appendix H of the paper: noise and batch sizes."""

import numpy as np
import pandas as pd

from edition.claims.claim import OURS, claim
from edition.claims.rules import Effect
from edition.claims.section_5 import GAIN
from edition.claims.toy import ROOM, WHERE_HARD, correlation, difference, noise_levels, where_hard
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import NotOnRecord, Results, by_seed, pick
from samlib.measures.statistics import estimate, paired_difference, rank_correlations

ONE_STEP = 1.0  # "similar" optima: within one step of our grid of radii
PAPER_BATCH = 5
NOISE, BATCH = "a_data_and_noise", "b_batch_size"
EQUAL_STEPS = "Appendix H.2, Figure 10; at equal steps, the control is ours"


@claim(
    "toy-noise",
    place="Appendix H.1, Figure 9",
    says="LSAM improves the hard feature's probing error over SGD for all three noises.",
    statistic=f"{GAIN}, at each noise level {WHERE_HARD} and SGD errs by more than {ROOM:g} on it",
    chapter=NOISE,
    figure="fig-9",
    needs="noise",
)
def noise_robust(noise: Results) -> list[Effect]:
    effects = []
    for kind, features, level, part in noise_levels(noise.table):
        if len(where_hard(part, room=ROOM)):
            effects.append(Effect(f"{kind} {level:g}, {features}", difference(part, "final_hard_error"), "below"))
    return effects


@claim(
    "toy-noise-mechanism",
    place="Appendix H.1",
    says="LSAM's mechanism is robust to noise: it still raises the hard feature's relative learning rate.",
    statistic=f"mean over training of v~_hard/v_hard - v~_easy/v_easy at rho = {REFERENCE_RHO:g}, at each noise level "
    f"{WHERE_HARD}",
    figure=f"{NOISE}#fig-9",
    needs="noise",
)
def mechanism_under_noise(noise: Results) -> list[Effect]:
    effects = []
    for kind, features, level, part in noise_levels(noise.table):
        rows = pick(where_hard(part), rho=REFERENCE_RHO)
        if len(rows):
            value = estimate((rows.hard_rate - rows.easy_rate).to_numpy(dtype=float))
            effects.append(Effect(f"{kind} {level:g}, {features}", value, "above"))
    return effects


def minibatches(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the full batch: the paper says of very large batches that the improvement degrades there."""
    return table[table.batch_size < table.batch_size.max()]


def robust(table: pd.DataFrame) -> list[Effect]:
    """Gain of LSAM at each batch size but the full batch."""
    return [
        Effect(f"batch {size:g}", difference(part, "final_hard_error"), "below")
        for size, part in minibatches(table).groupby("batch_size")
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


ROBUST = "LSAM improves the hard feature's probing error over SGD for a wide range of batch sizes."
DEGRADES = "As the batch becomes very large, the improvement of LSAM degrades."
AT_EACH = f"{GAIN}, at each batch size but the full batch"
TREND = (
    f"gain (LSAM at rho = {REFERENCE_RHO:g} minus SGD, negative is better): largest batch against {PAPER_BATCH}, and "
    "rank correlation with batch size, over seeds"
)


@claim(
    "toy-batch-robust-equal-epochs",
    place="Appendix H.2, Figure 10",
    says=ROBUST,
    statistic=f"{AT_EACH} (equal epochs)",
    chapter=BATCH,
    figure="fig-10",
    needs="batch_size",
)
def robust_at_equal_epochs(batch_size: Results) -> list[Effect]:
    return robust(batch_size.table)


@claim(
    "toy-optimum-similar",
    place="Appendix H.2, Figure 10",
    says="The radius at which LSAM is best is similar across batch sizes.",
    statistic="position on our grid of radii of each seed's lowest hard-feature probing error (the smallest radius "
    f"where several tie): each batch size but the full batch minus {PAPER_BATCH}, paired by seed, at equal epochs; "
    "similar means an interval within one step",
    figure=f"{BATCH}#fig-10",
    needs="batch_size",
)
def optimum_similar(batch_size: Results) -> list[Effect]:
    best = {
        size: by_seed(part, "final_hard_error", "rho").to_numpy().argmin(axis=1)
        for size, part in minibatches(batch_size.table).groupby("batch_size")
    }
    if PAPER_BATCH not in best:
        raise NotOnRecord(f"no run with batches of {PAPER_BATCH}")
    return [
        Effect(f"batch {size}", paired_difference(positions, best[PAPER_BATCH]), "within", ONE_STEP)
        for size, positions in best.items()
        if size != PAPER_BATCH
    ]


@claim(
    "toy-batch-degrades-equal-epochs",
    place="Appendix H.2, Figure 10",
    says=DEGRADES,
    statistic=f"{TREND} (equal epochs)",
    chapter=BATCH,
    figure="fig-10",
    needs="batch_size",
)
def degrades_at_equal_epochs(batch_size: Results) -> list[Effect]:
    return degrades(batch_size.table)


@claim(
    "toy-large-radius-sensitive",
    place="Appendix H.2, Figure 10",
    says="The larger the radius, the more sensitive the hard feature's probing error is to the batch size.",
    statistic="range of the hard-feature probing error over batch sizes, by seed, at equal epochs: largest radius "
    "minus SGD, and rank correlation with the radius",
    figure=f"{BATCH}#fig-10",
    needs="batch_size",
)
def large_radius_sensitive(batch_size: Results) -> list[Effect]:
    errors = batch_size.table.groupby(["rho", "seed"]).final_hard_error
    spreads = (errors.max() - errors.min()).rename("spread").reset_index()
    largest = float(spreads.rho.max())
    return [
        Effect(f"rho = {largest:g} against SGD", difference(spreads, "spread", rho=largest), "above"),
        Effect("trend over radii", correlation(spreads, "spread"), "above"),
    ]


@claim(
    "toy-batch-robust-equal-steps",
    place=EQUAL_STEPS,
    says=ROBUST,
    statistic=f"{AT_EACH} (equal steps)",
    chapter=BATCH,
    figure="fig-10",
    needs="batch_size_equal_steps",
    origin=OURS,
)
def robust_at_equal_steps(batch_size_equal_steps: Results) -> list[Effect]:
    return robust(batch_size_equal_steps.table)


@claim(
    "toy-batch-degrades-equal-steps",
    place=EQUAL_STEPS,
    says=DEGRADES,
    statistic=f"{TREND} (equal steps)",
    chapter=BATCH,
    figure="fig-10",
    needs="batch_size_equal_steps",
    origin=OURS,
)
def degrades_at_equal_steps(batch_size_equal_steps: Results) -> list[Effect]:
    return degrades(batch_size_equal_steps.table)
