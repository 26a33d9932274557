"""Section 4 of the paper: SAM's probing errors are lower than SGD's, for both features, on all data sets (Table 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edition.claims.claim import LATER, OURS, Judged, claim
from edition.claims.data_sets import (
    CONFIRMATORY,
    DECIDING,
    EXPLORATORY,
    by_name,
    confirmatory_entries,
    entries_by_epoch,
    judged_entries,
    progress,
    scaled_down,
)
from edition.claims.pairs import difference, pair_table
from edition.claims.rules import Effect
from edition.claims.table_one import (
    BY_SGD,
    ROLES,
    TURNED,
    Entry,
    comparisons,
    curve_table,
    early_epoch,
    gap_at,
    joint_effects,
    left_out,
    seed_table,
    turned_by_sgd,
)
from edition.runs.results import Results
from samlib.measures.statistics import Estimate, estimate, number, with_interval

IMAGES, TABLE = "01_feature_diversity", "fig-table-one"
AS_SUCCESSFUL = 0.01  # SAM's test error is at most this much above SGD's: our choice, one point
# "Relies on the easy feature alone": the network's answers follow the easy label and are within this of chance for the
# hard one. Our choice.
RELIANCE_MARGIN = 0.05
PAIRED = "paired by seed, for each data set; two seeds or more; confirmatory runs where they are complete"
FIXED = "Section 4.2, Table 1, CIFAR-MNIST; without tuning, the control is ours"


def _judged(judged: dict[str, Entry], effects: Sequence[Effect], note: str) -> Judged:
    """Effects with what is scaled down, by data set, and the records of all entries."""
    notes = "; ".join(f"{title}: {entry.note}" for title, entry in judged.items() if entry.note)
    return Judged(effects, note, notes, records=[record for entry in judged.values() for record in entry.records])


def _lost(judged: dict[str, Entry]) -> str:
    """Which seeds are left out because a run diverged, by data set: what is left is the seeds that went well."""
    found = {title: left_out(seed_table(title, entry)) for title, entry in judged.items()}
    told = [f"{title}: seeds {seeds}" for title, seeds in found.items() if seeds]
    return f"; left out, {'; '.join(told)}" if told else ""


def _diverged(judged: dict[str, Entry]) -> str:
    """How many runs of each method diverged, by data set."""
    tables = {title: seed_table(title, entry).groupby("method").diverged.sum() for title, entry in judged.items()}
    told = [f"{title}: SGD {lost['SGD']}, SAM {lost['SAM']}" for title, lost in tables.items() if lost.any()]
    return f"; diverged, {'; '.join(told)}" if told else ""


def _other_names(turned: Iterable[str]) -> str:
    """On which data sets SGD's probes contradict the names that were fixed."""
    told = ", ".join(turned)
    return f"; on {told}{TURNED.removeprefix(';')}" if told else ""


def _tested(effects: list[Effect]) -> list[Effect]:
    """All effects where at least one has an interval, none otherwise."""
    return effects if any(effect.value.n > 1 for effect in effects) else []


def _how_far(found: dict[str, Results]) -> str:
    """How many of the confirmatory runs are there, while some are missing."""
    parts = progress(found).values()
    here, n = sum(len(part.records) for part in parts), sum(part.n for part in parts)
    return f"; {here} of {n} confirmatory runs are there" if here < n else ""


def _of(entry: Entry, effect: Effect) -> Effect:
    """An entry's effect, which decides nothing and says so where the runs are exploratory."""
    return effect if entry.fixed else replace(effect, name=f"{effect.name} (exploratory)", decides=False)


# Both features: on every data set, and over the data sets together.
for _role in ROLES:

    @claim(
        f"table-one-{_role}-improved",
        place="Section 4.2, Table 1",
        says=f"SAM achieves a lower probing error than SGD on the {_role} feature of every data set.",
        statistic=f"probing error of the {_role} feature on the balanced test set, SAM minus SGD, {PAIRED}; {DECIDING}",
        chapter=IMAGES,
        figure=TABLE,
        needs=EXPLORATORY,
        also=CONFIRMATORY,
        quantifier="every",
    )
    def improves(*results: Results | None, role: str = _role) -> Judged:
        found = by_name(results)
        judged = judged_entries(found)
        explored = comparisons({title: entry for title, entry in judged.items() if not entry.fixed}, role)
        compared = explored | comparisons(confirmatory_entries(found), role)
        effects = [_of(entry, compared[title]) for title, entry in judged.items()]
        other = comparisons(judged | (turned := turned_by_sgd(judged)), role)
        shown = [replace(other[title], name=f"{other[title].name}, {BY_SGD}") for title in turned]
        note = _lost(judged) + _how_far(found) + _other_names(turned)
        return _judged(judged, _tested(effects), note=note)._replace(shown=shown)


for _role in ROLES:

    @claim(
        f"table-one-{_role}-together",
        place="Section 4.2, Table 1; the joint test is ours",
        says=f"Over the data sets together, SAM achieves a lower probing error than SGD on the {_role} feature.",
        statistic=f"probing error of the {_role} feature, SAM minus SGD: mean of the data sets' means, each with "
        f"equal weight, interval with Satterthwaite's degrees of freedom; {DECIDING}",
        chapter=IMAGES,
        figure=TABLE,
        needs=EXPLORATORY,
        also=CONFIRMATORY,
        origin=OURS,
    )
    def together(*results: Results | None, role: str = _role) -> Judged:
        found = by_name(results)
        judged = judged_entries(found)
        effects = list(joint_effects(judged, role).values())
        if not all(entry.fixed for entry in judged.values()):
            effects = [replace(e, name=f"{e.name} (exploratory in part)", decides=False) for e in effects]
        note = _lost(judged) + _how_far(found) + _other_names(turned_by_sgd(judged))
        return _judged(judged, effects[:1], note=note)._replace(shown=effects[1:])


@claim(
    "table-one-training-succeeds",
    place="Section 4.2, Table 1 (test errors), our reading",
    says="SAM succeeds on the training distribution as SGD does.",
    statistic=f"test error on the training distribution, SAM minus SGD, {PAIRED}; a run that diverged counts with the "
    f"error of guessing; success is an interval below {AS_SUCCESSFUL:g}; {DECIDING}",
    figure=f"{IMAGES}#{TABLE}",
    needs=EXPLORATORY,
    also=CONFIRMATORY,
    quantifier="every",
)
def training_succeeds(*results: Results | None) -> Judged:
    judged = judged_entries(by_name(results))
    effects = []
    for title, entry in judged.items():
        table = seed_table(title, entry)
        guessing = (1 - 1 / table.n_classes).where(table.diverged, table.test_error)
        value = difference(table.assign(test_error=guessing), "test_error")
        sgd = table[table.method == "SGD"].test_error.mean()
        effects.append(_of(entry, Effect(f"{title} (SGD's: {number(sgd, 4)})", value, "below", AS_SUCCESSFUL)))
    return _judged(judged, _tested(effects), note=_diverged(judged))


@claim(
    "pair-sgd-relies-on-easy",
    place="Sections 1 and 4 speak of representations; the network's own answers are ours",
    says="CIFAR-MNIST: SGD falls for the simplicity bias: its own answers follow the easy feature alone.",
    statistic="how often SGD's own answer differs from each feature's label on the balanced test set, over seeds; two "
    f"seeds or more; 'alone' means within {RELIANCE_MARGIN:g} of 0 and of chance",
    chapter=IMAGES,
    figure="fig-pair-errors",
    needs="cifar_mnist_fixed",
    origin=OURS,
)
def sgd_relies_on_easy(fixed: Results) -> Judged:
    table = pair_table(fixed.records)
    sgd = table[table.method == "SGD"]
    n_classes = sgd.n_classes.iloc[0]
    chance, told = 1 - 1 / n_classes, f"{n_classes - 1}/{n_classes}"  # how often an independent label is missed
    effects = [
        Effect("misses the easy feature's label", estimate(sgd.easy_head_error), "below", RELIANCE_MARGIN),
        Effect(
            f"misses the hard one's, minus {told}", estimate(sgd.hard_head_error - chance), "within", RELIANCE_MARGIN
        ),
    ]
    return Judged(effects if sgd.seed.nunique() > 1 else [], scaled_down=scaled_down(fixed.records[0]))


# Both features of the pair at one setting that was fixed beforehand.
for _role in ("hard", "easy"):

    @claim(
        f"pair-{_role}-improved",
        place=FIXED,
        says=f"SAM achieves a lower probing error than SGD on the {_role} feature.",
        statistic=f"probing error of the {_role} feature on the balanced test set, SAM minus SGD at one setting "
        "fixed beforehand, paired by seed; two seeds or more",
        chapter=IMAGES,
        figure="fig-pair-errors",
        needs="cifar_mnist_fixed",
        origin=OURS,
    )
    def improved(fixed: Results, role: str = _role) -> Judged:
        table = pair_table(fixed.records)
        effect = Effect(f"{role} feature ({table[role].iloc[0]})", difference(table, f"{role}_probe_error"), "below")
        return Judged(_tested([effect]), scaled_down=scaled_down(fixed.records[0]))


@claim(
    "table-one-gain-early",
    place="later work: Nguyen et al. (2024)",
    says="SAM's lower probing error on the hard feature is there early in training.",
    statistic="probing error of the hard feature on the balanced test set after a quarter of the epochs (rounded up), "
    "SAM minus SGD, paired by seed; two seeds or more; exploratory runs, which stand in where the confirmatory ones "
    "are not complete or have no probes by epoch, decide nothing",
    chapter=IMAGES,
    figure="fig-probe-epochs",
    needs=EXPLORATORY,
    also=CONFIRMATORY,
    origin=LATER,
)
def gain_is_early(*results: Results | None) -> Judged:
    judged, effects, ends = entries_by_epoch(by_name(results)), [], []
    for title, entry in judged.items():
        early, last = _early(title, entry)
        effects.append(_of(entry, early))
        ends.append(f"{with_interval(last, 2, scale=100, signed=True, alone=', one seed')} ({title})")
    other = {title: _early(title, entry)[0] for title, entry in turned_by_sgd(judged).items()}
    shown = [replace(effect, name=f"{effect.name}, {BY_SGD}") for effect in other.values()]
    note = f"; after the last epoch, in points: {', '.join(ends) or 'not known'}{_other_names(other)}"
    return _judged(judged, _tested(effects), note=note)._replace(shown=shown)


def _early(title: str, entry: Entry) -> tuple[Effect, Estimate]:
    """SAM's gain on the hard feature after a quarter of the epochs, and the difference after the last."""
    table = curve_table(entry.records, entry.roles)
    n_epochs = int(table.epoch.max())
    epoch = early_epoch(n_epochs)
    return Effect(f"{title}: epoch {epoch} of {n_epochs}", gap_at(table, epoch), "below"), gap_at(table, n_epochs)
