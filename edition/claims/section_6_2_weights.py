"""Section 6.2 of the paper, effect one: LSAM and SAM weigh examples evenly, and more what only the easy feature fits.

Figures 5 and 8 of the paper plot the median weight by bin of signed contribution, as it is. Where the ascent step
raises nearly every weight, the median of any group rises, fitted well or not, so it cannot tell whom the phantom
favours: the verdicts rest on the mean rank among all weights, and medians are shown beside it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edition.claims.claim import OURS, Judged, claim
from edition.claims.data_sets import (
    DATA_SETS,
    DECIDING,
    PHOTOGRAPH_EXPERIMENTS,
    by_name,
    confirmatory_entries,
    frozen_controls,
    judged_entries,
    trained_control,
)
from edition.claims.moments import (
    JUDGING,
    Moment,
    ginis,
    last,
    more_uniform,
    only_easy_fits,
    photograph_moments,
    poorly_fit,
    reading_changes,
    reading_name,
    toy_moments,
)
from edition.claims.rules import Effect
from edition.claims.table_one import BY_SGD, TURNED, Entry, turned_by_sgd
from edition.experiments.finetune import RADIUS
from edition.experiments.toy import REFERENCE_RHO
from edition.records.store import Record
from edition.runs.results import Results, by_seed
from samlib.measures.statistics import paired_difference

EFFECTS = "04_two_effects"
GINI = (
    "Gini coefficient of the importance weights (twice the area between diagonal and Lorenz curve), phantom minus real"
)
POORLY = (
    "mean rank (0 to 1), by importance weight among all examples, of the quarter with the lowest signed contribution, "
    "phantom minus real"
)
BESIDE = "; medians, which the paper's figure shows, stand beside it"
RISING = f"{BESIDE}: they rise for any quarter"  # chapter 4 draws random ones
ONLY_EASY = (
    "mean rank (0 to 1), by importance weight among all examples, of those with a positive signed contribution of the "
    "easy feature and a negative one of the hard feature, phantom minus real, over the networks that have such "
    "examples; two or more"
)
# The paper's sentence has two halves, and each is judged: role -> what stands behind "poorly-fit" in the claim's name,
# and the words.
HALVES = {
    "hard": ("", "gives more weight to examples that the hard feature fits poorly"),
    "easy": ("-easy", "gives less weight to examples that the easy feature fits poorly"),
}
SAYS_ONLY_EASY = "gives more weight to examples that the easy feature classifies correctly and the hard one does not."
Judge = Callable[[list[Moment]], Judged]  # of a set's moments, SGD's first
TOY_RHO = f"rho = {REFERENCE_RHO:g}"


@claim(
    "toy-weights-uniform",
    place="Section 6.2, Figure 3 (left)",
    says="LSAM weighs the training examples more uniformly than SGD.",
    statistic=f"{GINI}, at the end of training ({TOY_RHO}), paired by seed",
    chapter=EFFECTS,
    figure="fig-3",
    needs="checkpoints",
)
def weights_more_uniform(checkpoints: Results) -> list[Effect]:
    sgd, lsam = last(toy_moments(checkpoints.records))
    pairs = {
        "at SGD's parameters: phantom - real": (sgd, "phantom", sgd, "real"),
        "at LSAM's parameters: phantom - real": (lsam, "phantom", lsam, "real"),
        "LSAM-trained phantom - SGD-trained real": (lsam, "phantom", sgd, "real"),
    }
    return [
        Effect(name, paired_difference(ginis(a.importance, which), ginis(b.importance, other)), "below")
        for name, (a, which, b, other) in pairs.items()
    ]


for _role, (_suffix, _says) in HALVES.items():

    @claim(
        f"toy-poorly-fit{_suffix}",
        place="Section 6.2, Figure 5 (toy)",
        says=f"LSAM {_says}.",
        statistic=f"{POORLY} ({TOY_RHO}), mean over seeds{RISING}",
        chapter=EFFECTS,
        figure="fig-5",
        needs="checkpoints",
    )
    def gains(checkpoints: Results, role: str = _role) -> Judged:
        return poorly_fit(last(toy_moments(checkpoints.records)), role)


@claim(
    "toy-joint-fit",
    place="Section 6.2, Figure 5 (toy)",
    says=f"LSAM {SAYS_ONLY_EASY}",
    statistic=f"{ONLY_EASY} ({TOY_RHO})",
    figure=f"{EFFECTS}#fig-5",
    needs="checkpoints",
)
def only_easy_gains(checkpoints: Results) -> Judged:
    return only_easy_fits(last(toy_moments(checkpoints.records)))


# The protocol names no statistic for Figures 5 and 8.
RANKS_SET_AFTER = (
    "ranks took the place of the paper's medians when all of CelebA's runs and one seed of Waterbirds had been seen: "
    "these runs decide nothing"
)


def on_photographs(
    name: str,
    *,
    says: str,
    figure: str,
    own_radius: bool = False,
    seen: bool = False,
    **words: Any,
) -> Callable[[Judge], Judge]:
    """Enter a claim once for each set of photographs, as `claim` does; the function below it takes the set's moments.

    Args:
        name: of the claim, behind the set's.
        says: the claim; the set's title is put before it.
        figure: as `claim` takes it, "{}" standing for the set's name.
        own_radius: read the phantom at the radius that SAM trained with, where the runs recorded several.
        seen: whether the statistic was set after runs of the sets had been seen, which then decide nothing.
        words: what else `claim` takes.
    """

    def enter(judge: Judge) -> Judge:
        for title, experiment in PHOTOGRAPH_EXPERIMENTS.items():
            names = DATA_SETS[title]

            @functools.wraps(judge)
            def judged(*results: Results | None) -> Judged:
                (entry,) = judged_entries(by_name(results)).values()
                sam = max(record.config["rho"] for record in entry.records)  # SGD's is 0
                rho = sam if own_radius and entry.fixed else RADIUS
                moments = photograph_moments(entry.records, entry.roles, rho=rho)
                found = judge(moments)
                others = _of_other_roles(judge, entry, moments, found)
                shown = [*found.shown, *others]
                effects = [replace(effect, decides=entry.fixed and not seen) for effect in found.effects]
                note = (
                    f"; phantom in {moments[0].reading}, rho = {moments[0].rho:g}{found.note}{TURNED if others else ''}"
                )
                if seen or not entry.fixed:
                    note += f"; {RANKS_SET_AFTER if entry.fixed else DECIDING}"
                return Judged(effects, note, entry.note, shown, entry.records)

            named = words | {"says": f"{title}: {says}", "figure": figure.format(experiment)}
            claim(f"{experiment}-{name}", needs=experiment, also=(names.confirmatory, names.more), **named)(judged)
        return judge

    return enter


def _of_other_roles(judge: Judge, entry: Entry, moments: list[Moment], found: Judged) -> list[Effect]:
    """The effects with the roles that SGD's probes give, where these contradict those fixed and others come out."""
    if not turned_by_sgd({"": entry}):
        return []
    others = judge([moment.turned() for moment in moments]).effects
    if [effect.value for effect in others] == [effect.value for effect in found.effects]:
        return []
    return [replace(effect, name=f"{effect.name}, {BY_SGD}", corrected=None) for effect in others]


def of_both(moments: list[Moment]) -> list[Moment]:
    """The moments; none where a method lacks two seeds."""
    methods = {moment.method for moment in moments}
    return moments if len(methods) == 2 and min(len(moment.seeds) for moment in moments) > 1 else []


def _against_sgd(moments: list[Moment], which: str) -> Judged:
    """Gini coefficient at the end: SAM-trained networks' real or phantom weights minus SGD-trained ones' real."""
    at = {
        m.method: dict(zip(m.seeds, ginis(m.importance, kind), strict=True))
        for m, kind in zip(last(of_both(moments)), ("real", which), strict=False)
    }
    seeds = sorted(set(at.get("SGD", {})) & set(at.get("SAM", {})))
    if len(seeds) < 2:
        return Judged([])
    sam, sgd = (np.array([at[method][seed] for seed in seeds]) for method in ("SAM", "SGD"))
    return Judged([Effect(f"SAM-trained {which} - SGD-trained real", paired_difference(sam, sgd), "below")])


@on_photographs(
    "weights-uniform",
    place="Section 6.2, Figure 3 (photographs), and Appendix G, Figure 7",
    says="Training examples are weighed more uniformly at the phantom than at the real parameters.",
    statistic=f"{GINI}, after each recorded epoch, of networks trained by SGD and by SAM, paired by seed; two seeds or "
    "more of each method; not corrected, all intervals below zero confirm and all above contradict",
    chapter=EFFECTS,
    figure="fig-3-{}",
    quantifier="alike",
)
def uniform_of_both(moments: list[Moment]) -> Judged:
    """Gini coefficients as the protocol judges Figure 3 on photographs: not corrected for the several epochs."""
    return Judged([replace(effect, corrected=effect.p) for effect in more_uniform(of_both(moments))])


for _role, (_suffix, _says) in HALVES.items():

    @on_photographs(
        f"poorly-fit{_suffix}",
        place="Section 6.2, Figure 5 (photographs)",
        says=f"SAM {_says}.",
        statistic=f"{POORLY}, contributions by the features' probes, mean over seeds; two or more of each method"
        f"{BESIDE}",
        chapter=EFFECTS,
        figure="fig-5-{}",
        seen=True,
    )
    def half_at_the_end(moments: list[Moment], role: str = _role) -> Judged:
        return poorly_fit(last(of_both(moments)), role)


@on_photographs(
    "joint-fit",
    place="Section 6.2, said of the toy; the test on photographs is ours",
    says=f"SAM {SAYS_ONLY_EASY}",
    statistic=ONLY_EASY,
    figure=f"{EFFECTS}#fig-5-{{}}",
    seen=True,
    origin=OURS,
)
def only_easy_at_the_end(moments: list[Moment]) -> Judged:
    return only_easy_fits(last(of_both(moments)))


@on_photographs(
    "sam-more-uniform",
    place="Section 6.2, said of the toy; the test on photographs is ours",
    says="SAM weighs its training examples more uniformly than SGD weighs its own.",
    statistic="Gini coefficient at the end of training, of phantom weights for SAM-trained and of real weights for "
    "SGD-trained networks: the former minus the latter, paired by seed; two seeds or more; at SAM's own radius where "
    "it was recorded",
    chapter=EFFECTS,
    figure="fig-3-{}",
    own_radius=True,
    origin=OURS,
)
def sams_phantom_more_uniform(moments: list[Moment]) -> Judged:
    return _against_sgd(moments, "phantom")


@on_photographs(
    "sam-trained-uniform",
    place="Section 6.2, said of the toy; the test on photographs is ours",
    says="Networks trained by SAM weigh the training examples more uniformly than networks trained by SGD.",
    statistic="Gini coefficient of the real weights at the end of training, SAM-trained minus SGD-trained, paired by "
    "seed; two seeds or more",
    chapter=EFFECTS,
    figure="fig-3-{}",
    origin=OURS,
)
def sam_trained_more_uniform(moments: list[Moment]) -> Judged:
    return _against_sgd(moments, "real")


def _modes(records: Sequence[Record], name: str) -> list[Effect]:
    """Change of the Gini coefficient at the phantom, in training mode minus in evaluation mode, of SGD's networks."""
    readings = [(mode, JUDGING[1]) for mode in ("training", "evaluation")]
    sgd = [record for record in records if record.config["rho"] == 0]
    table = reading_changes(sgd, readings, [RADIUS])
    training, evaluation = map(reading_name, readings)
    found = []
    for epoch, part in table.groupby("epoch"):
        values = by_seed(part, "change", "reading")
        value = paired_difference(values[training].to_numpy(), values[evaluation].to_numpy())
        found.append(Effect(f"{name}, epoch {epoch}", value, "above"))
    return found


# Batch statistics, on each set of photographs.
for _title, _experiment in PHOTOGRAPH_EXPERIMENTS.items():
    _names = DATA_SETS[_title]

    @claim(
        f"{_experiment}-batch-statistics",
        place="Section 6.2, Figure 3; the question is ours",
        says=f"{_title}: At SGD's parameters, batch statistics take the phantom's effect on the weights away.",
        statistic=f"{GINI} (batches of {JUDGING[1]}, rho = {RADIUS:g}), in training mode minus in evaluation mode, "
        "after each recorded epoch, paired by seed; beside it networks that were trained with frozen statistics, at a "
        "smaller learning rate where they diverge at the chosen one",
        chapter=EFFECTS,
        figure=f"fig-map-{_experiment}",
        also=(_names.confirmatory, _names.more, *frozen_controls(_title)),
        origin=OURS,
    )
    def modes(own: Results | None, more: Results | None, *frozen: Results | None) -> Judged:
        found = [*confirmatory_entries(by_name((own, more))).values()]
        if not found:
            return Judged([])
        (entry,) = found
        control = trained_control(frozen)
        shown = _modes(control.records, "frozen statistics") if control else []
        effects = [effect for effect in _modes(entry.records, "SGD-trained") if effect.value.n > 1]
        used = [*entry.records, *(control.records if control else ())]
        return Judged(effects, scaled_down=entry.note, shown=shown, records=used)
