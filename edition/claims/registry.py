"""All claims, in the order of the paper: who makes each, what it needs, how it is judged, and where the book shows it.

Place, words and statistic are repeated here in short, for claims that could not be judged; a verdict brings its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from edition.claims import (
    controls,
    data_sets,
    domainbed,
    in_passing,
    mechanism,
    pairs,
    real_importance,
    table_one,
    theory,
    toy,
)
from edition.claims.real_importance import last, points
from edition.claims.rules import Verdict
from edition.records.kept import checkpoints
from edition.runs.results import Results

PAPER, OURS, LATER = ORIGINS = ("the paper", "ours", "later work")
Judge = Callable[[Mapping[str, Results]], Verdict]


@dataclass(frozen=True)
class Claim:
    """One claim and how it is judged.

    Attributes:
        id: short name, unique in the book; its verdict has the same.
        place: where the claim is made, and by whom where it is not the paper's.
        claim: the claim in a few words.
        statistic: what tests it, in short.
        chapter: the page that shows its verdict, without ending; `LEDGER` where no chapter does.
        figure: file and anchor of the book's figure or table for it; "" where there is none.
        needs: experiments whose results it is judged from; none for what is computed on the spot.
        judge: results by experiment -> verdict; None where nobody can judge it, for the reason in `why`.
        origin: one of `ORIGINS`.
        why: the reason why nobody can.
    """

    id: str
    place: str
    claim: str
    statistic: str
    chapter: str
    figure: str = ""
    needs: Sequence[str] = ()
    judge: Judge | None = None
    origin: str = PAPER
    why: str = ""

    def untested(self) -> Verdict:
        """Return the verdict on what was not measured."""
        return Verdict(self.id, self.place, self.claim, self.statistic, [])


def _tables(judge: Callable[..., Verdict], *needs: str) -> tuple[Sequence[str], Judge]:
    """Judge from the seed tables of the named experiments."""
    return needs, lambda results: judge(*(results[name].table for name in needs))


def _ends(judge: Callable[..., Verdict]) -> tuple[Sequence[str], Judge]:
    """Judge from the last checkpoints of SGD and LSAM."""
    return _checkpoints(lambda sgd, lsam: judge(sgd[-1], lsam[-1]))


def _checkpoints(judge: Callable[..., Verdict]) -> tuple[Sequence[str], Judge]:
    """Judge from all checkpoints of SGD and LSAM."""
    return ("checkpoints",), lambda results: judge(*(checkpoints(record) for record in results["checkpoints"].records))


def _fixed(judge: Callable[..., Verdict], *options: str) -> tuple[Sequence[str], Judge]:
    """Judge from the table of CIFAR-MNIST runs at one setting."""
    name = "cifar_mnist_fixed"
    return (name,), lambda results: judge(pairs.pair_table(results[name].records), *options)


def _table_one(judge: Callable[..., Verdict], *options: str) -> tuple[Sequence[str], Judge]:
    """Judge from all data sets of Table 1."""
    needs = tuple(names.experiment for names in data_sets.DATA_SETS.values())
    return needs, lambda results: judge(data_sets.entries(results), *options)


def _photographs(
    name: str,
    place: str,
    words: str,
    statistic: str,
    chapter: str,
    figure: str,
    judge: Callable[..., Verdict],
    origin: str = PAPER,
) -> tuple[Claim, ...]:
    """Judge from the importance weights of each set of photographs; {} in `figure` becomes the set's name."""
    found = []
    for title, data in (("Waterbirds", "waterbirds"), ("CelebA", "celeba")):
        shown = (f"{data}-{name}", place, f"{title}: {words}", statistic, chapter, figure.format(data))
        found.append(Claim(*shown, *_weights(judge, data), origin))
    return tuple(found)


def _controls(judge: Callable[..., Verdict], experiment: str, *options: str) -> tuple[Sequence[str], Judge]:
    """Judge from the runs of one experiment of the controls."""
    return (experiment,), lambda results: judge(controls.control_table(results[experiment].records), *options)


def _weights(judge: Callable[..., Verdict], experiment: str) -> tuple[Sequence[str], Judge]:
    """Judge from the recorded importance weights of one experiment."""
    return (experiment,), lambda results: judge(points(results[experiment].records))


def _transfer(judge: Callable[..., Verdict], title: str, experiment: str) -> Claim:
    """Judge from the records of one of DomainBed's data sets; without any, the judge still says what it would."""
    words = judge([], title)
    shown = (words.id, words.place, words.claim, words.statistic, TRANSFER, TABLE_2)
    return Claim(*shown, (experiment,), lambda results: judge(results[experiment].records, title))


IMAGES, TRANSFER, LEDGER = "01_feature_diversity", "06_domainbed", "claims"
SETUP, PHANTOM, EFFECTS, CAUSES = "02_toy_setup", "03_phantom_rebalancing", "04_two_effects", "05_interventions"
NOISE, BATCH, THEORY, BEYOND = "a_data_and_noise", "b_batch_size", "c_theory", "07_beyond"
TABLE_1, TABLE_2 = f"{IMAGES}.html#fig-table-one", f"{TRANSFER}.html#sec-table-two"
PROBES, PAIRS = f"{IMAGES}.html#fig-probe-epochs", f"{IMAGES}.html#fig-pair-errors"
FIG_1, FIG_2A, FIG_2B = f"{SETUP}.html#fig-contours", f"{SETUP}.html#fig-2a", f"{PHANTOM}.html#fig-2b"
CONSTANTS, CONDITION = f"{SETUP}.html#fig-sensitivity", f"{PHANTOM}.html#fig-condition"
FIG_3, FIG_4, FIG_5, FIG_7 = (f"{EFFECTS}.html#fig-{number}" for number in (3, 4, 5, 7))
FIG_8 = f"{EFFECTS}.html#fig-8-hard"
PHOTOS_3, PHOTOS_5, PHOTOS_7 = (f"{EFFECTS}.html#fig-{number}-{{}}" for number in (3, 5, 7))
PHOTOS_8 = f"{EFFECTS}.html#fig-8-{{}}-hard"
FIG_6, CONTROLS = f"{CAUSES}.html#fig-6", f"{CAUSES}.html#fig-6-controls"
FACTORS = f"{CAUSES}.html#fig-phantom-terms"
LAW, LOSSES, LINEAR = (
    f"{THEORY}.html#fig-theory-radius",
    f"{THEORY}.html#sec-theory-loss",
    f"{THEORY}.html#fig-theory-linear",
)
FOLLOWS, MIXED, METHODS = (f"{BEYOND}.html#fig-{name}" for name in ("follows", "three-features", "methods-{}"))
FIG_9, FIG_10 = f"{NOISE}.html#fig-9", f"{BATCH}.html#fig-10"

FIXED = "Section 4.2, Table 1, CIFAR-MNIST; without tuning, the control is ours"
EQUAL_STEPS = "Appendix H.2, Figure 10; at equal steps, the control is ours"
GAIN = "hard-feature probing error, LSAM minus SGD, paired by seed"
GINI = "Gini coefficient of the importance weights, phantom minus real, paired by seed"
WORST = "share of importance of the quarter that a feature fits worst, phantom minus real"
CORNER = "share of importance of examples right by the easy and wrong by the hard feature, phantom minus real"
MEDIAN = "median phantom weight where the easy feature contributes more, minus that of the others"
RATIO = "rank correlation with rho of the phantom ratio"
STEPS_ROBUST = partial(toy.batch_robust, at="equal steps")
STEPS_DEGRADES = partial(toy.batch_degrades, at="equal steps")

# Written as a table, two or three lines a claim.
# fmt: off
IMAGE_CLAIMS = (
    Claim("table-one-hard-improved", "Section 4.2, Table 1", "SAM improves the hard feature on every data set",
          "hard-feature probing error, SAM minus SGD", IMAGES, TABLE_1, *_table_one(table_one.improves, "hard")),
    Claim("table-one-easy-improved", "Section 4.2, Table 1", "SAM improves the easy feature on every data set",
          "easy-feature probing error, SAM minus SGD", IMAGES, TABLE_1, *_table_one(table_one.improves, "easy")),
    Claim("table-one-training-succeeds", "Section 4.2, Table 1 (test errors)", "SAM succeeds where it trained",
          "test error, SAM minus SGD", LEDGER, TABLE_1, *_table_one(in_passing.training_succeeds)),
    Claim("pair-sgd-relies-on-easy", "Sections 1 and 4", "SGD falls for the simplicity bias",
          "how often its answer differs from each feature's label", IMAGES, PAIRS, *_fixed(pairs.sgd_relies_on_easy)),
    Claim("pair-hard-improved", FIXED, "SAM improves the hard feature",
          "hard-feature probing error, SAM minus SGD", IMAGES, PAIRS, *_fixed(pairs.feature_improved, "hard"), OURS),
    Claim("pair-easy-improved", FIXED, "SAM improves the easy feature",
          "easy-feature probing error, SAM minus SGD", IMAGES, PAIRS, *_fixed(pairs.feature_improved, "easy"), OURS),
    Claim("table-one-gain-early", "later work: Nguyen et al. (2024)", "The gain on the hard feature is there early",
          "hard-feature probing error after a quarter of the epochs, SAM minus SGD",
          IMAGES, PROBES, *_table_one(table_one.gain_is_early), LATER),
)
TOY_CLAIMS = (
    Claim("toy-labels-learned", "Section 5.2", "SGD and LSAM both learn the label perfectly",
          "test error", SETUP, "", *_tables(toy.labels_learned, "complexity")),
    Claim("toy-easy-learned", "Section 5.2, Figure 1", "SGD has no trouble learning the linear feature, nor has LSAM",
          "linear feature's probing error", LEDGER, FIG_1, *_tables(in_passing.easy_learned, "complexity")),
    Claim("toy-spiral-poor", "Sections 5 and 5.2, Figure 1", "SGD represents the spiral worse than the line",
          "probing error, spiral minus line", LEDGER, FIG_1, *_tables(in_passing.spiral_is_poor, "complexity")),
    Claim("toy-hard-error-lower", "Section 5.2, Figures 1 and 2(A)", "LSAM represents the hard feature better than SGD",
          GAIN, SETUP, FIG_2A, *_tables(toy.hard_error_lower, "complexity")),
    Claim("toy-sgd-poorest", "Section 5.2, Figure 2(A)", "The hard feature's quality is poorest at rho = 0",
          GAIN, LEDGER, FIG_2A, *_tables(in_passing.sgd_is_poorest, "complexity")),
    Claim("toy-hard-error-falls", "Section 5.2, Figure 2(A)", "The larger the radius, the better the hard feature",
          "rank correlation of its probing error with rho",
          SETUP, FIG_2A, *_tables(toy.hard_error_falls, "complexity")),
    Claim("toy-sensitivity", "Section 5.2; the question is ours", "LSAM helps whatever the lost constants were",
          GAIN, SETUP, CONSTANTS, *_tables(toy.sensitivity_direction, "sensitivity"), OURS),
)
RATIO_CLAIMS = (
    Claim("toy-phantom-ratio-rises", "Section 6.1, Figure 2(B)", "The phantom ratio rises with the radius",
          RATIO, PHANTOM, FIG_2B, *_tables(toy.phantom_ratio_rises, "complexity")),
    Claim("toy-real-ratio-constant", "Section 6.1, Figure 2(B)", "The real ratio stays nearly constant",
          "change of the real ratio minus half the phantom's",
          PHANTOM, FIG_2B, *_tables(toy.real_ratio_constant, "complexity")),
    Claim("toy-phantom-ratio-falls", "Section 6.1; the other side is ours", "It falls where the spiral is easier",
          RATIO, PHANTOM, FIG_2B, *_tables(toy.phantom_ratio_falls_where_easy, "complexity"), OURS),
    Claim("toy-condition-exact", "derived in chapter 3, not in the paper; a check of the code",
          "The ratio rises exactly where the condition derived here holds",
          "share of steps that agree", PHANTOM, CONDITION, *_tables(mechanism.condition_predicts, "complexity"), OURS),
)
WEIGHT_CLAIMS = (
    Claim("toy-weights-uniform", "Section 6.2, Figure 3 (left)", "LSAM weighs examples more uniformly than SGD",
          GINI, EFFECTS, FIG_3, *_ends(mechanism.weights_more_uniform)),
    Claim("toy-poorly-fit", "Section 6.2, Figure 5 (left)", "What the hard feature fits poorly gains weight",
          WORST, EFFECTS, FIG_5, *_checkpoints(mechanism.poorly_fit_at_the_end)),
    Claim("toy-joint-fit", "Section 6.2, Figure 5 (left)", "What only the easy feature fits gains weight",
          CORNER, LEDGER, FIG_5, *_ends(lambda sgd, lsam: in_passing.joint_fit_gains([sgd, lsam]))),
    *_photographs("weights-uniform", "Section 6.2, Figure 3 (centre and right)", "weights are more uniform",
                  GINI, EFFECTS, PHOTOS_3, real_importance.weights_more_uniform),
    *_photographs("poorly-fit", "Section 6.2, Figure 5 (centre and right)", "what the hard feature fits poorly gains",
                  WORST, EFFECTS, PHOTOS_5, real_importance.poorly_fit_at_the_end),
    *_photographs("joint-fit", "Section 6.2, Figure 5 (centre and right)", "what only the easy feature fits gains",
                  CORNER, LEDGER, PHOTOS_5, lambda points: in_passing.joint_fit_gains(last(points))),
    *_photographs("sam-more-uniform", "Section 6.2, said of the toy; the test on photographs is ours",
                  "SAM's own weights are more uniform than SGD's", "Gini coefficient, SAM's phantom minus SGD's real",
                  EFFECTS, PHOTOS_3, real_importance.sam_more_uniform_than_sgd, OURS),
)
RATE_CLAIMS = (
    Claim("toy-rates-scaled", "Section 6.2, Figure 4", "The hard feature learns faster, the easy one slower",
          "v~_k / v_k, mean over training", EFFECTS, FIG_4, *_tables(toy.rates_scaled, "complexity")),
    Claim("toy-relative-rate", "Section 6.2, Figure 4", "The hard feature learns faster relative to the easy one",
          "v~_hard / v_hard minus v~_easy / v_easy", EFFECTS, FIG_4, *_tables(toy.relative_rate_scaled, "complexity")),
    Claim("real-learning-rates", "Section 6.2 and Appendix C.1",
          "In real networks too, SAM inhibits well-learned features at every layer, which contributes to its gains",
          "none is known: effective learning rates are defined only where each feature has weights of its own",
          LEDGER, why="The paper states this as a belief, and says that it cannot be verified where features are not "
          "disentangled. We know of no statistic for it either."),
)
CAUSE_CLAIMS = (
    Claim("toy-interventions-help", "Section 6.2, Figure 6", "Each effect alone, and both, improve the hard feature",
          "hard-feature probing error minus SGD's, at LSAM's mean ratio",
          CAUSES, FIG_6, *_tables(mechanism.interventions_help, "interventions", "complexity")),
    Claim("toy-gains-comparable", "Section 6.2, Figure 6 (left and centre)", "The two effects' gains are comparable",
          "hard-feature probing error, importance weights minus learning rates",
          CAUSES, FIG_6, *_tables(mechanism.gains_comparable, "interventions", "complexity")),
    Claim("toy-both-match-lsam", "Section 6.2, Figure 6 (right)", "Both effects together match LSAM",
          "hard-feature probing error, both minus LSAM",
          CAUSES, FIG_6, *_tables(mechanism.both_match_lsam, "interventions", "complexity")),
    Claim("toy-interventions-can-help", "Section 6.2, Figure 6; the size of the ratio is ours",
          "A ratio far above LSAM's helps", "hard-feature probing error minus SGD's, at the largest ratio",
          CAUSES, FIG_6, *_tables(mechanism.interventions_can_help, "interventions", "complexity"), OURS),
    Claim("toy-one-factor-suffices", "Section 6.2; the test is ours", "LSAM's phantom in either factor alone helps",
          "hard-feature probing error minus SGD's",
          CAUSES, FACTORS, *_tables(mechanism.one_factor_suffices, "phantom_terms", "complexity"), OURS),
    Claim("toy-rates-match-lsam", "Section 6.2; the test is ours", "Learning rates alone match LSAM",
          "hard-feature probing error, learning rates only minus LSAM",
          CAUSES, FACTORS, *_tables(mechanism.rates_match_lsam, "phantom_terms", "complexity"), OURS),
    Claim("toy-choices-matter-little", "Appendix C; the question is ours", "The two lost choices do not matter",
          "hard-feature probing error, control minus main runs",
          CAUSES, CONTROLS, *_tables(mechanism.choices_matter_little, "interventions"), OURS),
)
# Appendix D: computed on the spot from random networks, without records (`needs=()`, `judge=lambda results: ...`).
THEORY_CLAIMS = (
    Claim("theory-closed-forms", "Appendix D, Eqs 25, 27, 31, 37", "The gradient's norm has these closed forms",
          "closed form against automatic differentiation", THEORY, judge=lambda results: theory.closed_forms()),
    Claim("theory-first-order", "Appendix D, Eq 23", "The log importance ratio is about rho |grad f|",
          "relative error of the law", THEORY, LAW, judge=lambda results: theory.first_order_law()),
    Claim("theory-last-layer", "Appendix D, Eq 25", "For LSAM it is rho |Phi(x)|",
          "relative error of the law", THEORY, LAW, judge=lambda results: theory.last_layer_exact()),
    Claim("theory-losses", "Appendix D, preliminaries", "Cross-entropy is almost exponential loss where f is right",
          "relative difference of weights and ratios", THEORY, LOSSES, judge=lambda results: theory.losses_agree()),
    Claim("theory-linear", "Appendix D, end", "The linear computation is a sensible approximation",
          "rank correlation and size of the approximation", THEORY, LINEAR,
          judge=lambda results: theory.linear_approximates()),
)
TRANSFER_CLAIMS = (
    *(_transfer(domainbed.transfer_improved, title, name) for title, name in domainbed.EXPERIMENTS.items()),
    _transfer(domainbed.each_target_improved, "PACS", "pacs"),
)
ALONG_CLAIMS = (
    Claim("toy-uniform-throughout", "Appendix G, Figure 7", "Weights are more uniform throughout training",
          GINI, EFFECTS, FIG_7, *_checkpoints(mechanism.uniform_throughout)),
    Claim("toy-poorly-fit-throughout", "Appendix G, Figure 8", "What the hard feature fits poorly gains throughout",
          WORST, EFFECTS, FIG_8, *_checkpoints(mechanism.poorly_fit_throughout)),
    Claim("toy-easy-side", "Appendix G, Figure 8", "Weights are higher where the easy feature contributes more",
          MEDIAN, LEDGER, FIG_8, *_checkpoints(lambda sgd, lsam: in_passing.easy_side_heavier([*sgd, *lsam]))),
    *_photographs("uniform-throughout", "Appendix G, Figure 7", "weights are more uniform throughout training",
                  GINI, EFFECTS, PHOTOS_7, real_importance.uniform_throughout),
    *_photographs("poorly-fit-throughout", "Appendix G, Figure 8", "what the hard feature fits poorly gains throughout",
                  WORST, EFFECTS, PHOTOS_8, real_importance.poorly_fit_throughout),
    *_photographs("easy-side", "Appendix G, Figure 8", "weights are higher where the easy feature contributes more",
                  MEDIAN, LEDGER, PHOTOS_8, in_passing.easy_side_heavier),
)
VARIANT_CLAIMS = (
    Claim("toy-noise", "Appendix H.1, Figure 9", "LSAM helps under all three noises",
          GAIN, NOISE, FIG_9, *_tables(toy.noise_robust, "noise")),
    Claim("toy-noise-mechanism", "Appendix H.1", "LSAM's mechanism is robust to noise",
          "v~_hard / v_hard minus v~_easy / v_easy",
          LEDGER, FIG_9, *_tables(in_passing.mechanism_under_noise, "noise")),
    Claim("toy-batch-robust-equal-epochs", "Appendix H.2, Figure 10", "LSAM is robust to the batch size",
          GAIN, BATCH, FIG_10, *_tables(toy.batch_robust, "batch_size")),
    Claim("toy-optimum-similar", "Appendix H.2, Figure 10", "The best radius is similar across batch sizes",
          "position of the best radius, minus that at batch size 5",
          LEDGER, FIG_10, *_tables(in_passing.optimum_similar, "batch_size")),
    Claim("toy-batch-degrades-equal-epochs", "Appendix H.2, Figure 10", "The gain shrinks for very large batches",
          "gain against batch size", BATCH, FIG_10, *_tables(toy.batch_degrades, "batch_size")),
    Claim("toy-large-radius-sensitive", "Appendix H.2, Figure 10", "Large radii are more sensitive to the batch size",
          "range of the hard-feature probing error over batch sizes against rho",
          LEDGER, FIG_10, *_tables(in_passing.large_radius_sensitive, "batch_size")),
    Claim("toy-batch-robust-equal-steps", EQUAL_STEPS, "LSAM is robust to the batch size",
          GAIN, BATCH, FIG_10, *_tables(STEPS_ROBUST, "batch_size_equal_steps"), OURS),
    Claim("toy-batch-degrades-equal-steps", EQUAL_STEPS, "The gain shrinks for very large batches",
          "gain against batch size", BATCH, FIG_10, *_tables(STEPS_DEGRADES, "batch_size_equal_steps"), OURS),
)
CONTROL_CLAIMS = (
    *(
        Claim(f"controls-{name.lower()}-{account.replace('_', '-')}", "later work; the test is ours",
              f"{name}: over methods, the hard feature follows {told}",
              "rank correlation over methods with the hard feature's probing error", BEYOND, FOLLOWS,
              *_controls(controls.account_holds, experiment, account, name), OURS)
        for name, experiment in controls.TASKS.items()
        for account, (told, _) in controls.ACCOUNTS.items()
    ),
    *(
        Claim(f"controls-{name.lower()}-{question}", "asked by the paper's reviewers and later work; the test is ours",
              f"{name}: {asked.claim.rstrip('.')}", "hard-feature probing error, each method minus its counterpart",
              BEYOND, METHODS.format(name.lower()), *_controls(controls.methods_improve, experiment, question, name),
              OURS)
        for name, experiment in controls.TASKS.items()
        for question, asked in controls.QUESTIONS.items()
    ),
    Claim("controls-three-features", "asked by the paper's reviewers; the test is ours",
          "Of three mixed features, SAM improves both harder ones", "linear probing error minus SGD's",
          BEYOND, MIXED, *_controls(controls.three_improve, "three_features"), OURS),
)
# fmt: on
PARTS: dict[str, tuple[Claim, ...]] = {
    "Section 4: images": IMAGE_CLAIMS,
    "Section 5: the toy": TOY_CLAIMS,
    "Section 6.1: the phantom ratio": RATIO_CLAIMS,
    "Section 6.2: importance weights": WEIGHT_CLAIMS,
    "Section 6.2: learning rates": RATE_CLAIMS,
    "Section 6.2: interventions": CAUSE_CLAIMS,
    "Appendix D: theory": THEORY_CLAIMS,
    "Appendix F: new domains": TRANSFER_CLAIMS,
    "Appendix G: along the training": ALONG_CLAIMS,
    "Appendix H: noise and batch size": VARIANT_CLAIMS,
    "Beyond the paper: controls": CONTROL_CLAIMS,
}
CLAIMS = tuple(claim for part in PARTS.values() for claim in part)
