"""Beyond the paper: what SAM's variants and rivals say about its effect on the hard feature (chapter 7).

The comparisons of one task are one family: of so many some would look decided by chance.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from edition.claims.claim import OURS, Judged, claim
from edition.claims.controls import ACCOUNTS, SOLVED, TASKS, chosen, control_table, difference, follows
from edition.claims.rules import Effect, corrected
from edition.runs.results import Results
from samlib.methods.config import AVAILABLE

BEYOND = "07_beyond"
LIMIT_SET_AFTER = "Toy"  # the task whose runs had been seen when `SOLVED` was set: its accounts decide nothing


class Question(NamedTuple):
    """What one group of methods is asked: does each improve the hard feature over its counterpart?"""

    claim: str
    pairs: Sequence[tuple[str, str]]


def _against_sgd(*names: str) -> list[tuple[str, str]]:
    """Pair methods with SGD."""
    return [(name, "SGD") for name in names]


QUESTIONS = {
    "parts": Question(
        "SAM's gain on the hard feature comes from the phantom's importance weights as well as from its Jacobian.",
        _against_sgd("SAM", "importance weights only", "Jacobian only"),
    ),
    "perturbed": Question(
        "SAM improves the hard feature whichever parameters are perturbed.",
        _against_sgd("SAM", "last layer only", "all but last layer", "biases only"),
    ),
    "scale": Question(
        "SAM improves the hard feature also unnormalized, scaled to each weight (ASAM), and with few examples a "
        "perturbation.",
        _against_sgd("unnormalized", "ASAM", "small perturbation batches"),
    ),
    "phase": Question(
        "A quarter of the epochs with SAM, the first or the last, is enough to improve the hard feature.",
        _against_sgd("SAM early only", "SAM late only"),
    ),
    "adam": Question("SAM improves the hard feature under Adam, too.", [("Adam with SAM", "Adam")]),
    "l2": Question(
        "An L2 penalty on features and last layer improves the hard feature without any perturbation.",
        _against_sgd("SGD with l2"),
    ),
    "reweighting": Question(
        "Weighing examples explicitly, by group or by what a first training misses, improves the hard feature.",
        _against_sgd("group DRO", "just train twice"),
    ),
}


def family(table: pd.DataFrame) -> dict[tuple[str, str], Effect]:
    """Estimate every comparison of `QUESTIONS` on one task, corrected together: (method, counterpart) -> effect.

    What the task's `edition.claims.controls.control_table` lacks is left out.
    """
    pairs = list(dict.fromkeys(pair for question in QUESTIONS.values() for pair in question.pairs))
    rows = chosen(table)
    found = {pair: difference(rows, *pair) for pair in pairs}
    effects = {pair: Effect(" − ".join(pair), value, "below") for pair, value in found.items() if value}
    return dict(zip(effects, corrected(list(effects.values())), strict=True))


def accounts_of(table: pd.DataFrame) -> dict[str, Effect]:
    """Estimate every account of `ACCOUNTS` on one task, corrected together."""
    found = follows(table)
    effects = corrected([Effect(name, value, ACCOUNTS[name][1]) for name, value in found.items()])
    return dict(zip(found, effects, strict=True))


@functools.lru_cache(maxsize=len(TASKS))  # every question asks for its task's
def _comparisons(results: Results) -> dict[tuple[str, str], Effect]:
    return family(control_table(results.records))


@functools.lru_cache(maxsize=len(TASKS))
def _accounts(results: Results) -> tuple[dict[str, Effect], dict[str, Effect]]:
    """Every account over the networks that learned the task, corrected together, and over all networks."""
    table = control_table(results.records)
    everywhere = follows(table, worst_test_error=1.0)
    return accounts_of(table), {
        name: Effect(f"{name}, all networks", value, ACCOUNTS[name][1]) for name, value in everywhere.items()
    }


def _scaled_down(results: Results) -> str:
    """What the runs on images scale down: chapter 1's setting on as many images, at half its length."""
    config = results.records[0].config
    if config["task"] == "toy":
        return ""
    images = f"{config['n_train']:,} of {AVAILABLE[config['task']]:,} training images; " if config["n_train"] else ""
    return f"{images}{config['n_epochs']} of 20 epochs"


# Each account of what drives the hard feature, and each question, on each task.
for _title, _experiment in TASKS.items():
    for _account, (_told, _) in ACCOUNTS.items():

        @claim(
            f"controls-{_title.lower()}-{_account.replace('_', '-')}",
            place="later work; the test is ours",
            says=f"{_title}: over methods, the hard feature's probing error follows {_told}.",
            statistic="rank correlation over methods and settings of the hard feature's probing error with "
            f"{_account.replace('_', ' ')}, seed by seed, over networks with at most {SOLVED:.0%} test error "
            "(a limit set after the toy's runs had been seen, which therefore decide nothing; beside it over all); "
            "corrected for all accounts; the interval is over seeds, of these methods: it says nothing of others, "
            "nor what causes what",
            chapter=BEYOND,
            figure="fig-follows",
            needs=_experiment,
            origin=OURS,
        )
        def follows_account(results: Results, account: str = _account, title: str = _title) -> Judged:
            found, shown = ([part[account]] if account in part else [] for part in _accounts(results))
            found = [replace(effect, decides=title != LIMIT_SET_AFTER) for effect in found]
            return Judged(found, scaled_down=_scaled_down(results), shown=shown)


for _title, _experiment in TASKS.items():
    for _question, _asked in QUESTIONS.items():

        @claim(
            f"controls-{_title.lower()}-{_question}",
            place="asked by the paper's reviewers and later work; the test is ours",
            says=f"{_title}: {_asked.claim}",
            statistic="probing error of the hard feature, each method minus its counterpart, paired by seed; "
            "where a method has several settings, each seed at the one that the other seeds choose; corrected for "
            "all comparisons of the task",
            chapter=BEYOND,
            figure=f"fig-methods-{_title.lower()}",
            needs=_experiment,
            origin=OURS,
        )
        def improves(results: Results, pairs: Sequence[tuple[str, str]] = _asked.pairs) -> Judged:
            found = _comparisons(results)
            return Judged([found[pair] for pair in pairs if pair in found], scaled_down=_scaled_down(results))


@claim(
    "controls-three-features",
    place="asked by the paper's reviewers; the test is ours",
    says="With three redundant features, mixed by a rotation, SAM improves both of the harder ones.",
    statistic="linear probing error of the two spirals on examples whose features are independent, minus SGD's, "
    "paired by seed; each seed at the setting that the other seeds choose; beside it SAM on the last layer only",
    chapter=BEYOND,
    figure="fig-three-features",
    needs="three_features",
    origin=OURS,
)
def three_improve(three_features: Results) -> Judged:
    table = control_table(three_features.records)
    found: dict[str, list[Effect]] = {"SAM": [], "last layer only": []}
    for feature in ("three_quarter_turn", "full_turn"):
        metric = f"{feature}_probe_error"
        rows = chosen(table, metric)
        for method, effects in found.items():
            value = difference(rows, method, "SGD", metric)
            if value:
                effects.append(Effect(f"{feature.replace('_', ' ')}, {method}", value, "below"))
    return Judged(found["SAM"], shown=found["last layer only"])
