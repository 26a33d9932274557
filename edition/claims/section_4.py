"""Section 4 of the paper: SAM's probing errors are lower than SGD's, for both features, on all data sets (Table 1)."""

from collections.abc import Sequence

from edition.claims.claim import LATER, OURS, Judged, claim
from edition.claims.data_sets import DATA_SETS, judged_entries, scaled_down
from edition.claims.pairs import difference, pair_table
from edition.claims.rules import Effect
from edition.claims.table_one import Entry, curve_table, early_epoch, gap_at, has_curves, seed_table
from edition.runs.results import Results, by_seed
from samlib.measures.statistics import estimate, joint_effect, with_interval

IMAGES, TABLE = "01_feature_diversity", "fig-table-one"
EXPLORATORY = tuple(names.experiment for names in DATA_SETS.values())
CONFIRMATORY = tuple(names.confirmatory for names in DATA_SETS.values() if names.confirmatory)
AS_SUCCESSFUL = 0.01  # SAM's test error is at most this much above SGD's: our choice, one point
# "Relies on the easy feature alone": the network's answers follow the easy label and are within this of chance for the
# hard one. Our choice.
RELIANCE_MARGIN = 0.05
PAIRED = "paired by seed, for each data set; two seeds or more; confirmatory runs where they are complete"
FIXED = "Section 4.2, Table 1, CIFAR-MNIST; without tuning, the control is ours"


def _entries(results: Sequence[Results | None]) -> dict[str, Entry]:
    """Table 1's entries from the results of the experiments named above."""
    return judged_entries({result.name: result for result in results if result and result.complete})


def _probe_effects(entries: dict[str, Entry], role: str) -> Judged:
    """One effect a data set: probing error of a feature, SAM minus SGD; none where no data set has two seeds."""
    effects = []
    for title, entry in entries.items():
        table = seed_table(title, entry)
        effects.append(Effect(f"{title}: {table[role].iloc[0]}", difference(table, f"{role}_probe_error"), "below"))
    return Judged(_tested(effects), scaled_down=_notes(entries))


def _notes(entries: dict[str, Entry]) -> str:
    """What is scaled down, by data set."""
    return "; ".join(f"{title}: {entry.note}" for title, entry in entries.items() if entry.note)


def _tested(effects: list[Effect]) -> list[Effect]:
    """All effects where at least one has an interval, none otherwise."""
    return effects if any(effect.value.n > 1 for effect in effects) else []


def _enter_probes() -> None:
    """Both features: on every data set, and over the data sets together."""
    for role in ("hard", "easy"):

        @claim(
            f"table-one-{role}-improved",
            place="Section 4.2, Table 1",
            says=f"SAM achieves a lower probing error than SGD on the {role} feature of every data set.",
            statistic=f"probing error of the {role} feature on the balanced test set, SAM minus SGD, {PAIRED}",
            chapter=IMAGES,
            figure=TABLE,
            needs=EXPLORATORY,
            also=CONFIRMATORY,
            quantifier="every",
        )
        def improves(*results: Results | None, role: str = role) -> Judged:
            return _probe_effects(_entries(results), role)

    for role in ("hard", "easy"):

        @claim(
            f"table-one-{role}-together",
            place="Section 4.2, Table 1; the joint test is ours",
            says=f"Over the data sets together, SAM achieves a lower probing error than SGD on the {role} feature.",
            statistic=f"probing error of the {role} feature, SAM minus SGD: mean of the data sets' means, each with "
            "equal weight, interval with Satterthwaite's degrees of freedom; confirmatory runs where they are complete",
            chapter=IMAGES,
            figure=TABLE,
            needs=EXPLORATORY,
            also=CONFIRMATORY,
            origin=OURS,
        )
        def together(*results: Results | None, role: str = role) -> Judged:
            entries = _entries(results)
            rows = []
            for title, entry in entries.items():
                values = by_seed(seed_table(title, entry), f"{role}_probe_error", "method").dropna()
                rows.append((values["SAM"] - values["SGD"]).to_numpy())
            if min(map(len, rows), default=0) < 2:
                return Judged([])
            effect = Effect(f"{len(rows)} data sets", joint_effect(rows), "below")
            return Judged([effect], scaled_down=_notes(entries))


_enter_probes()


@claim(
    "table-one-training-succeeds",
    place="Section 4.2, Table 1 (test errors)",
    says="SAM succeeds on the training distribution as SGD does.",
    statistic=f"test error on the training distribution, SAM minus SGD, {PAIRED}; success is an interval below "
    f"{AS_SUCCESSFUL:g}",
    figure=f"{IMAGES}#{TABLE}",
    needs=EXPLORATORY,
    also=CONFIRMATORY,
    quantifier="every",
)
def training_succeeds(*results: Results | None) -> Judged:
    entries = _entries(results)
    effects = [
        Effect(title, difference(seed_table(title, entry), "test_error"), "below", AS_SUCCESSFUL)
        for title, entry in entries.items()
    ]
    return Judged(_tested(effects), scaled_down=_notes(entries))


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


def _enter_fixed() -> None:
    """Both features of the pair at one setting that was fixed beforehand."""
    for role in ("hard", "easy"):

        @claim(
            f"pair-{role}-improved",
            place=FIXED,
            says=f"SAM achieves a lower probing error than SGD on the {role} feature.",
            statistic=f"probing error of the {role} feature on the balanced test set, SAM minus SGD at one setting "
            "fixed beforehand, paired by seed; two seeds or more",
            chapter=IMAGES,
            figure="fig-pair-errors",
            needs="cifar_mnist_fixed",
            origin=OURS,
        )
        def improved(fixed: Results, role: str = role) -> Judged:
            table = pair_table(fixed.records)
            effect = Effect(
                f"{role} feature ({table[role].iloc[0]})", difference(table, f"{role}_probe_error"), "below"
            )
            return Judged(_tested([effect]), scaled_down=scaled_down(fixed.records[0]))


_enter_fixed()


@claim(
    "table-one-gain-early",
    place="later work: Nguyen et al. (2024)",
    says="SAM's lower probing error on the hard feature is there early in training.",
    statistic="probing error of the hard feature on the balanced test set after a quarter of the epochs (rounded up), "
    "SAM minus SGD, paired by seed; two seeds or more",
    chapter=IMAGES,
    figure="fig-probe-epochs",
    needs=EXPLORATORY,
    origin=LATER,
)
def gain_is_early(*results: Results | None) -> Judged:
    entries, effects, ends = _entries(results), [], []
    for title, entry in entries.items():
        if not has_curves(entry.records):
            continue
        table = curve_table(entry.records)
        n_epochs = int(table.epoch.max())
        epoch = early_epoch(n_epochs)
        effects.append(Effect(f"{title}: epoch {epoch} of {n_epochs}", gap_at(table, epoch), "below"))
        end = with_interval(gap_at(table, n_epochs), 2, scale=100, signed=True, alone=", one seed")
        ends.append(f"{end} ({title})")
    note = f"; after the last epoch, in points: {', '.join(ends) or 'not known'}"
    return Judged(_tested(effects), note=note, scaled_down=_notes(entries))
