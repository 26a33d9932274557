"""What the claims about the toy compute from its seed tables.

Where a claim compares SGD with LSAM, LSAM is the radius fixed in advance, `REFERENCE_RHO`: no radius is picked by its
result. Differences are paired: both networks of a pair share data, initialization and batch order.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd

from edition.claims.claim import Judged
from edition.claims.rules import Effect
from edition.experiments.toy import REFERENCE_RHO
from edition.runs.results import by_seed, only, pick
from samlib.measures.statistics import Estimate, estimate, paired_difference, rank_correlations

# Below this error of SGD on the hard feature there is nothing left for LSAM to improve.
ROOM = 0.01
WHERE_HARD = "where the spiral is SGD's hard feature"


def difference(table: pd.DataFrame, metric: str, *, rho: float = REFERENCE_RHO) -> Estimate:
    """Return the paired difference of a metric, LSAM at `rho` minus SGD, over seeds.

    Raises:
        NotOnRecord: the table has no run at one of the two radii.
    """
    values = by_seed(table[table.rho.isin((0.0, rho))], metric, "rho", need=(0.0, rho))
    return paired_difference(values[rho].to_numpy(), values[0.0].to_numpy())


def correlation(table: pd.DataFrame, metric: str) -> Estimate:
    """Return the mean over seeds of the rank correlation between a metric and the radius."""
    values = by_seed(table, metric, "rho").dropna()
    mean = estimate(rank_correlations(list(values.columns), values.to_numpy()))
    return replace(mean, low=max(mean.low, -1.0), high=min(mean.high, 1.0))  # a correlation cannot leave [-1, 1]


def complexities(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split a table by complexity, naming each part."""
    for value, part in table.groupby("complexity"):
        yield f"{value:g}°", part


def at_each(
    table: pd.DataFrame, value: Callable[[pd.DataFrame], Estimate], predicted: str, *, told: str = ""
) -> list[Effect]:
    """One effect a complexity: the same statistic of each part of the table, predicted on one side of zero."""
    return [Effect(name + told, value(part), predicted) for name, part in complexities(table)]


def where_hard(table: pd.DataFrame, *, room: float = 0.0) -> pd.DataFrame:
    """Keep the parts where the spiral is the hard feature by the paper's rule: SGD's probe errs more on it.

    Args:
        table: rows of SGD and LSAM, of one complexity or several.
        room: and where SGD's mean error on it is above this.
    """
    sgd = pick(table, rho=0.0).groupby("complexity")[["final_easy_error", "final_hard_error"]].mean()
    hard = (sgd.final_hard_error > sgd.final_easy_error) & (sgd.final_hard_error > room)
    return table[table.complexity.isin(sgd.index[hard])]


def where_easy(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the other complexities: there the spiral is the easier feature for SGD."""
    return table[~table.complexity.isin(where_hard(table).complexity)]


def at_each_noise(
    table: pd.DataFrame, value: Callable[[pd.DataFrame], Estimate], predicted: str, *, room: float = 0.0
) -> Judged:
    """One effect a noise, place of it, and level above zero, wherever the spiral is the hard feature: as `at_each`."""
    effects, left = [], []
    for kind in ("flip", "gaussian_noise", "dropout"):
        for (features, level), rows in table[table[kind] > 0].groupby(["noisy_features", kind]):
            name = f"{kind} {level:g}, {features}"
            if len(part := where_hard(rows, room=room)):
                effects.append(Effect(name, value(part), predicted))
            else:
                left.append(name)
    return Judged(effects, note=f"; left out: {'; '.join(left)}" if left else "")


def relative_rate(table: pd.DataFrame) -> Estimate:
    """Return the mean over seeds of v~_hard/v_hard - v~_easy/v_easy under LSAM."""
    rows = only(table, rho=REFERENCE_RHO)
    return estimate((rows.hard_rate - rows.easy_rate).to_numpy(dtype=float))
