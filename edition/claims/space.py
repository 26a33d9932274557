"""The toy's claims over the space of the lost constants: every setting judged by the rules of the ledger, all at once.

`JUDGED` says for each claim what is measured in a setting, as the claim's own function does from a table; the rules are
those of `edition.claims.rules`, in arrays. Tests hold both to the slow way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy

from edition.claims import section_6_2_rates, section_6_2_weights  # noqa: F401  they enter claims
from edition.claims.claim import CLAIMS, OURS, Judged, claim
from edition.claims.rules import STATES, Effect, holm
from edition.claims.section_5 import LEARNED, WELL
from edition.claims.section_6_1 import NEARLY
from edition.claims.section_6_2_interventions import COMPARABLE, LEAST, MATCH_MARGIN
from edition.claims.toy import ROOM
from edition.records.store import Record
from edition.runs.results import Results
from samlib.measures.statistics import CONFIDENCE, SETTLED, Estimate, critical_t
from samlib.search import AXES, FRACTIONS, REFERENCE, RUNS, STATISTICS, TERMS, WEIGHTS, SearchConfig
from samlib.search import LEARNED as PREMISE_LEARNED
from samlib.search import ROOM as PREMISE_ROOM

CHAPTER = "08_lost_constants"
STATED_BATCH = 5  # Appendix B; the search varies the batch size, too
PREMISE = (
    f"SGD's mean error is below {PREMISE_LEARNED:g} on label and line, and above {PREMISE_ROOM:g} on the spiral, so "
    "that there is something to improve"
)


@dataclass(frozen=True, eq=False)
class Space:
    """What the search has on record, setting by setting; the first one, where it is there, is the base.

    Attributes:
        settings: a column a constant, and "place" in the sequence.
        premise: whether the paper's premise holds, (setting,).
        runs, weights: as `samlib.search.search` returns them.
    """

    settings: pd.DataFrame
    premise: np.ndarray
    runs: np.ndarray
    weights: np.ndarray

    def of(self, statistic: str) -> np.ndarray:
        """One statistic of every run, (setting, run, seed)."""
        return self.runs[..., STATISTICS.index(statistic)].astype(float)

    def weight(self, name: str) -> np.ndarray:
        """One statistic of importance weights, (setting, method, seed); methods are SGD and LSAM."""
        return self.weights[..., WEIGHTS.index(name)].astype(float)

    @cached_property
    def counted(self) -> np.ndarray:
        """Which settings count: drawn ones, not the base, whose premise holds."""
        return self.premise & (self.settings.place.to_numpy() > 0)

    @cached_property
    def gain(self) -> np.ndarray:
        """Hard-feature error, LSAM at the reference radius minus SGD, mean over seeds, (setting,)."""
        errors = self.of("final_hard_error")
        return (errors[:, REFERENCE] - errors[:, 0]).mean(1)

    @cached_property
    def importance(self) -> tuple[pd.DataFrame, float]:
        """How much each constant matters to the gain, as `matters` says it."""
        return matters(self, self.gain)

    @cached_property
    def states(self) -> pd.DataFrame:
        """The state of every claim in every setting: a column a claim; "premise fails" where it does."""
        found = {id: cases.states(CLAIMS[id].quantifier) for id, cases in self._cases.items()}
        return pd.DataFrame({id: np.where(self.premise, states, "premise fails") for id, states in found.items()})

    @cached_property
    def shares(self) -> pd.DataFrame:
        """How many of the counted settings are in each state: a row a claim."""
        counts = {id: self.states[id][self.counted].value_counts() for id in self.states}
        return pd.DataFrame({id: found.reindex(STATES, fill_value=0) for id, found in counts.items()}).T

    def share(self, id: str, of: str, *, batch_size: int | None = None) -> Estimate:
        """In what share of the counted settings where a claim is tested something is so.

        Args:
            of: a state; "favoured": every mean lies as predicted; "unfavoured": every mean lies on the other side;
                "reversed": a case is decidedly on the other side.
            batch_size: look at settings with such batches alone.
        """
        states, cases = self.states[id].to_numpy(), self._cases[id]
        chosen = self.counted & (states != "not tested")
        if batch_size is not None:
            chosen = chosen & (self.settings.batch_size == batch_size).to_numpy()
        others = {
            "favoured": cases.favoured,
            "unfavoured": np.all(cases.distance < 0, axis=1),
            "reversed": (cases.outcomes == "reversed").any(1),
        }
        return wilson(int(others.get(of, states == of)[chosen].sum()), int(chosen.sum()))

    @cached_property
    def _cases(self) -> dict[str, "Cases"]:
        return {id: statistic(self) for id, statistic in JUDGED.items()}


_read: dict[tuple[Any, ...], Space] = {}  # by records: all pages of a build ask for the same


def space(records: Sequence[Record]) -> Space:
    """Collect what the records of the search hold.

    Raises:
        ValueError: there is none.
        RecordError: arrays are missing or damaged.
    """
    if not records:
        raise ValueError("records: expected one or more of the search, got none; run the experiment 'search' first")
    key = tuple((str(record.path), record.arrays_sha256) for record in records)
    if key not in _read:
        arrays = [record.arrays() for record in records]
        rows = [
            {"place": record.config["first"] + i} | setting
            for record in records
            for i, setting in enumerate(record.metrics["settings"])
        ]
        premise = np.array([holds for record in records for holds in record.metrics["premise"]])
        trained, weights = (np.concatenate([array[name] for array in arrays]) for name in ("runs", "weights"))
        _read[key] = Space(pd.DataFrame(rows), premise, trained, weights)
    return _read[key]


@dataclass(frozen=True)
class Cases:
    """One claim's measurements in every setting.

    Attributes:
        values: (setting, case, seed); NaN is left out.
        predicted: "above", "below" or "within", one a case.
        threshold: (setting, case), or what broadcasts to it.
        none: value of no effect where the threshold is a least effect; NaN elsewhere, as `threshold`.
    """

    values: np.ndarray
    predicted: tuple[str, ...]
    threshold: Any = 0.0
    none: Any = np.nan

    @cached_property
    def summary(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of values, mean, and half-width of the interval; (setting, case) each."""
        there = ~np.isnan(self.values)
        n = there.sum(2)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(there, self.values, 0).sum(2) / n
            squares = np.where(there, self.values - mean[..., None], 0) ** 2
            spread = np.sqrt(squares.sum(2) / (n - 1) / n)
            half = critical_t(np.maximum(n - 1, 1)) * spread
        return n, mean.round(SETTLED), half.round(SETTLED)

    @property
    def _side(self) -> np.ndarray:
        """On which side of the threshold each case is predicted; 0 within it."""
        return np.array([{"above": 1, "below": -1, "within": 0}[word] for word in self.predicted])

    @property
    def distance(self) -> np.ndarray:
        """How far each mean is from the threshold, positive on the predicted side: `Effect._distance`."""
        _, mean, _ = self.summary
        return np.where(self._side == 0, self.threshold - np.abs(mean), self._side * (mean - self.threshold))

    @cached_property
    def outcomes(self) -> np.ndarray:
        """Each case's outcome as `Effect.outcome` has it; "" where fewer than two values are there."""
        n, mean, _ = self.summary
        none = np.broadcast_to(np.asarray(self.none, float), mean.shape)
        side, distance = self._side, self.distance
        decided = (holm(self._p(distance)) < 1 - CONFIDENCE) & (distance != 0)
        other_side = np.where(side < 0, mean > none, mean < none)
        beyond = np.isnan(none) | (other_side & (holm(self._p(mean - none)) < 1 - CONFIDENCE))
        found = np.where(distance > 0, "holds", np.where(beyond, "reversed", "too small"))
        return np.where(n < 2, "", np.where(decided, found, "undecided"))

    def _p(self, distance: np.ndarray) -> np.ndarray:
        """Two-sided p-values of means at a distance from a threshold, as `Effect` computes them."""
        n, _, half = self.summary
        degrees = np.maximum(n - 1, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = half / critical_t(degrees)
            p = 2 * scipy.stats.t.sf(np.abs(distance) / error, degrees)
        agree = np.minimum(1.0, 2.0 ** (1 - n))  # `agreement_p`: all seeds give the same
        p = np.where(half == 0, np.where(distance == 0, 1.0, agree), p)
        return np.where((n < 2) | np.isnan(distance), np.nan, p)

    @property
    def favoured(self) -> np.ndarray:
        """Whether the mean of every case lies as predicted, whatever its interval, (setting,)."""
        return np.all((self.distance > 0) | (self.summary[0] < 2), axis=1)

    def states(self, quantifier: str) -> np.ndarray:
        """The state of every setting by the rule of `Verdict.state`."""
        held, back = ((self.outcomes == word).sum(1) for word in ("holds", "reversed"))
        n = (self.outcomes != "").sum(1)
        some, every, general = (quantifier == word for word in ("some", "every", "in general"))
        rules = (
            (n == 0, "not tested"),
            ((held == n) | (some & (held > 0)), "confirmed"),
            ((back == n) | ((back > 0) & (every | (general & (held == 0)))), "contradicted"),
            (held > 0, "mixed"),
        )
        return np.select([where for where, _ in rules], [state for _, state in rules], "undecided")


def _errors(space: Space, feature: str) -> np.ndarray:
    """Errors of all runs on one feature, or on the label ("test"), (setting, run, seed)."""
    return space.of(f"final_{feature}_error")


def _two(values: np.ndarray) -> np.ndarray:
    """SGD's runs and LSAM's at the reference radius."""
    return values[:, [0, REFERENCE]]


def _at(space: Space, *names: str) -> np.ndarray:
    """Hard-feature errors of named runs, (setting, run, seed)."""
    return _errors(space, "hard")[:, [RUNS.index(name) for name in names]]


def _least(space: Space) -> np.ndarray:
    """The change that counts as an improvement, (setting, 1)."""
    return LEAST * np.minimum(0.0, space.gain)[:, None]


def _correlation(space: Space, statistic: str, predicted: str, *, first: int = 0) -> Cases:
    """Rank correlation of a statistic with the radius from the `first` on; a curve that never changes gives 0."""
    curves = space.of(statistic)[:, first : len(FRACTIONS)].transpose(0, 2, 1)  # (setting, seed, radius)
    n = curves.shape[-1]
    ranks = scipy.stats.rankdata(curves, axis=-1) - (n + 1) / 2
    steps = np.arange(n) - (n - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (ranks @ steps) / np.sqrt((ranks**2).sum(-1) * (steps**2).sum())
    found = np.where(np.ptp(curves, axis=-1) == 0, 0.0, found)
    return Cases(np.where(np.isnan(curves).any(-1), np.nan, found)[:, None], (predicted,))


def _gains(space: Space, kind: str, terms: Sequence[str]) -> Cases:
    """Interventions minus SGD, predicted below what counts."""
    values = _at(space, *(f"{kind} {term}" for term in terms)) - _errors(space, "hard")[:, :1]
    return Cases(values, ("below",) * len(terms), _least(space), 0.0)


def _match(space: Space, name: str) -> Cases:
    """A run's error minus LSAM's, predicted within the margin of a match."""
    lsam = f"radius {FRACTIONS[REFERENCE]:g}"
    return Cases(_at(space, name) - _at(space, lsam), ("within",), MATCH_MARGIN)


def _comparable(space: Space) -> Cases:
    """The smaller gain minus a share of the larger one; nothing where not both gain what counts on average."""
    gains = _gains(space, "fixed", TERMS[:2])
    _, mean, _ = gains.summary
    order = np.argsort(mean, axis=1, kind="stable")[:, :, None]
    larger, smaller = np.take_along_axis(gains.values, order, 1).transpose(1, 0, 2)
    both = mean.max(1) < _least(space)[:, 0].round(SETTLED)
    values = smaller - (1 - COMPARABLE) * larger
    return Cases(np.where(both[:, None], values, np.nan)[:, None], ("below",))


def _ratios(space: Space) -> Cases:
    """How far the real ratio moves from SGD's, as a share of it, at each radius."""
    real = space.of("real_ratio")
    return Cases(real[:, 1 : len(FRACTIONS)] / real[:, :1] - 1, ("within",) * (len(FRACTIONS) - 1), NEARLY)


def _uniform(space: Space) -> Cases:
    """Gini coefficients, phantom minus real: at SGD's networks, at LSAM's, and LSAM's own minus SGD's own."""
    real, phantom = space.weight("gini_real"), space.weight("gini_phantom")
    own = phantom - real
    return Cases(np.stack([own[:, 0], own[:, 1], phantom[:, 1] - real[:, 0]], 1), ("below",) * 3)


def _hard_minus_sgd(space: Space, runs: slice | list[int]) -> np.ndarray:
    """Hard-feature errors of runs minus SGD's, paired by seed."""
    errors = _errors(space, "hard")
    return errors[:, runs] - errors[:, :1]


JUDGED: dict[str, Callable[[Space], Cases]] = {
    "toy-labels-learned": lambda s: Cases(_two(_errors(s, "test")), ("below",) * 2, LEARNED),
    "toy-easy-learned": lambda s: Cases(_two(_errors(s, "easy")), ("below",) * 2, ROOM),
    "toy-spiral-poor": lambda s: Cases(_errors(s, "hard")[:, :1], ("above",), WELL),
    "toy-spiral-learned": lambda s: Cases(_errors(s, "hard")[:, [REFERENCE]], ("below",), WELL),
    "toy-hard-error-lower": lambda s: Cases(_hard_minus_sgd(s, [REFERENCE]), ("below",)),
    "toy-sgd-poorest": lambda s: Cases(_hard_minus_sgd(s, slice(1, len(FRACTIONS))), ("below",) * 4),
    "toy-hard-error-falls": lambda s: _correlation(s, "final_hard_error", "below", first=1),
    "toy-phantom-ratio-rises": lambda s: _correlation(s, "phantom_ratio", "above"),
    "toy-real-ratio-constant": _ratios,
    "toy-condition-exact": lambda s: Cases(
        s.of("agreement_share")[:, 1 : len(FRACTIONS)].min(1)[:, None], ("above",), 0.999
    ),
    "toy-weights-uniform": _uniform,
    "toy-rates-scaled": lambda s: Cases(s.of("hard_rate")[:, [REFERENCE]], ("above",), 1.0),
    "toy-easy-rate-lowered": lambda s: Cases(s.of("easy_rate")[:, [REFERENCE]], ("below",), 1.0),
    "toy-relative-rate": lambda s: Cases((s.of("hard_rate") - s.of("easy_rate"))[:, REFERENCE][:, None], ("above",)),
    # Figure 6's curve is one point of it here: the ratio fixed is LSAM's own at the reference radius.
    "toy-interventions-help": lambda s: _gains(s, "fixed", TERMS[:2]),
    "toy-gains-comparable": _comparable,
    "toy-both-match-lsam": lambda s: _match(s, "fixed both"),
    "toy-one-factor-suffices": lambda s: _gains(s, "phantom", TERMS[:2]),
    "toy-rates-match-lsam": lambda s: _match(s, "phantom rate"),
}


def wilson(count: int, n: int) -> Estimate:
    """Return a share with its 95 % Wilson interval.

    >>> str(wilson(8, 10))
    '0.800 [0.490, 0.943]'
    """
    low, high = scipy.stats.binomtest(count, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / n, float(low), float(high), n)


def share_told(shares: pd.DataFrame | None, id: str) -> str:
    """Say in how many of the settings a claim is confirmed and contradicted; "" where nothing was searched for it."""
    if shares is None or id not in shares.index or not tested(shares.loc[id]):
        return ""
    row = shares.loc[id]
    value, against = (wilson(int(row[state]), tested(row)) for state in ("confirmed", "contradicted"))
    return (
        f"confirmed in {value.mean:.0%} ({value.low:.0%} to {value.high:.0%}) and contradicted in {against.mean:.0%} "
        f"of {value.n} settings of the lost constants"
    )


# Not asked of a setting: the one is part of the premise, the other an identity, but for rounding.
GIVEN = ("toy-spiral-poor", "toy-condition-exact")


def told_of_all(found: Space) -> str:
    """Say what holds in most settings, whatever the constants; Markdown. What holds by construction is not counted."""
    shares, lower = found.shares, found.shares.loc["toy-hard-error-lower"]
    better, worse = (wilson(int(lower[state]), tested(lower)) for state in ("confirmed", "contradicted"))
    rows = [row for id, row in shares.iterrows() if tested(row) and id not in GIVEN]
    most = sum(wilson(int(row.confirmed), tested(row)).low > 0.5 for row in rows)
    return (
        f"of **{better.n}** other settings of the toy in which SGD learns the easy feature and not the hard one, LSAM "
        f"learns the hard one decidedly better in **{better.mean:.0%}** ({better.low:.0%} to {better.high:.0%}), "
        f"better on average in **{found.share('toy-hard-error-lower', 'favoured').mean:.0%}**, and decidedly worse in "
        f"**{worse.mean:.0%}**; **{most}** of {len(rows)} claims about the toy, the paper's and ours, are confirmed in "
        "most of them (those that hold there by construction are not counted)"
    )


def tested(row: pd.Series) -> int:
    """In how many settings a claim was tested: in the others, cases to which it applies are missing."""
    return int(row.sum() - row["not tested"])


def best(found: Space) -> list[int]:
    """Rows of the five counted settings in which most claims are confirmed; of equals, the first drawn."""
    held = (found.states == "confirmed").sum(axis=1).where(found.counted, -1)
    return [int(row) for row in held.sort_values(ascending=False, kind="stable").index[:5] if held[row] >= 0]


def matters(found: Space, target: np.ndarray) -> tuple[pd.DataFrame, float]:
    """How much each constant matters to a number: permutation importance of a forest, and its out-of-bag R^2.

    The importance is the loss of R^2 on a quarter of the settings, held out, when the constant's values are shuffled
    among them: mean and standard deviation of twenty shuffles. It is the forest's: constants that the forest reads
    badly look unimportant, and of constants that act only together each gets the whole.

    Args:
        found: the search.
        target: a number a setting.
    Returns:
        A row a constant, largest first (columns "importance", "sd"), and the out-of-bag R^2 of a forest on all.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    rows = found.settings[found.counted]
    inputs = pd.DataFrame({name: _as_number(rows[name], axis.choices) for name, axis in AXES.items()})
    y, held = target[found.counted], np.arange(found.counted.sum()) % 4 == 0

    def forest() -> RandomForestRegressor:
        return RandomForestRegressor(300, min_samples_leaf=3, oob_score=True, random_state=0)

    fitted = forest().fit(inputs[~held], y[~held])
    lost = permutation_importance(fitted, inputs[held], y[held], n_repeats=20, random_state=0)
    table = pd.DataFrame({"importance": lost.importances_mean, "sd": lost.importances_std}, index=list(AXES))
    return table.sort_values("importance", ascending=False, kind="stable"), float(forest().fit(inputs, y).oob_score_)


def _as_number(values: pd.Series, choices: Sequence[Any]) -> pd.Series:
    """A constant as trees read it: words by their place, numbers as they are (trees do not mind scales)."""
    return values.map(choices.index) if choices and isinstance(choices[0], str) else values.astype(float)


# The sentences about the space that are judged: the toy's claim, what is predicted of the share, and the share.
SENTENCES: Mapping[str, tuple[str, str, str, float]] = {
    "space-hard-error-lower": ("toy-hard-error-lower", "confirmed", "above", 0.5),
    # By its seeds' p-values a claim without any effect is contradicted in 2.5 % of the settings.
    "space-hard-error-never-higher": ("toy-hard-error-lower", "contradicted", "below", 0.025),
    "space-phantom-ratio-rises": ("toy-phantom-ratio-rises", "confirmed", "above", 0.5),
    "space-real-ratio-constant": ("toy-real-ratio-constant", "confirmed", "above", 0.5),
    "space-weights-uniform": ("toy-weights-uniform", "confirmed", "above", 0.5),
    "space-rates-scaled": ("toy-rates-scaled", "confirmed", "above", 0.5),
}


def _enter(id: str, of: str, state: str, side: str, least: float) -> None:
    """Enter one sentence about the space into the ledger."""
    many = "In most settings of the lost constants"
    few = f"In fewer than {least:.1%} of the settings of the lost constants is the contrary decidedly the case of this"
    statistic = (
        f"share of the settings drawn in which '{of}' is {state} by its {len(SearchConfig().seeds)} seeds, of those in "
        f"which {PREMISE}; Wilson interval; beside it the share with the paper's batches of {STATED_BATCH} alone, and "
    )
    if side == "above":
        statistic += "the share in which every mean lies as predicted; contradicted if a case of it is decidedly the "
        statistic += "other way round in most, for an undecided setting is no evidence against"
    else:
        statistic += "the share in which every mean is the other way round"

    @claim(
        id,
        place=f"{CLAIMS[of].place}; the question is ours",
        says=f"{many if side == 'above' else few}: {CLAIMS[of].says}",
        statistic=statistic,
        chapter=CHAPTER,
        figure="fig-space-shares",
        needs="search",
        origin=OURS,
    )
    def judge(search: Results) -> Judged:
        found = space(search.records)
        if not tested(found.shares.loc[of]):
            return Judged([])
        means = "favoured" if side == "above" else "unfavoured"
        words = {means: f"means {'as predicted' if side == 'above' else 'the other way round'}"}

        def effect(what: str, predicted: str = side, batch_size: int | None = None) -> Effect:
            value = found.share(of, what, batch_size=batch_size)
            return Effect(f"{value.n} settings: {words.get(what, what)}", value, predicted, least)

        decides = effect(state)
        if side == "above":
            decides = replace(decides, none=0.0)
            against = effect("reversed", "below")
            decides = against if against.value.low > least else decides
        return Judged([decides], shown=[effect(state, batch_size=STATED_BATCH), effect(means)])


for _id, _sentence in SENTENCES.items():
    _enter(_id, *_sentence)
