"""All claims with a computed verdict, in the order of the paper: what each needs, and where the book shows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from samlib.claims import data_sets, domainbed, mechanism, pairs, real_importance, table_one, toy
from samlib.claims.real_importance import points
from samlib.claims.rules import Verdict
from samlib.toy.checkpoints import checkpoints

if TYPE_CHECKING:
    from samlib.chapter import Results


@dataclass(frozen=True)
class Claim:
    """One claim and how it is judged.

    Attributes:
        title: the claim in a few words.
        chapter: the page that shows it, without ending.
        needs: experiments whose results it is judged from.
        judge: results by experiment -> verdict.
    """

    title: str
    chapter: str
    needs: Sequence[str]
    judge: Callable[[Mapping[str, "Results"]], Verdict]


def _tables(judge: Callable[..., Verdict], *needs: str) -> Callable[[Mapping[str, "Results"]], Verdict]:
    """Judge from the seed tables of the named experiments."""
    return lambda results: judge(*(results[name].table for name in needs))


def _points(judge: Callable[..., Verdict], *, last: bool) -> Callable[[Mapping[str, "Results"]], Verdict]:
    """Judge from SGD's and LSAM's checkpoints, the last or all."""

    def verdict(results: Mapping[str, "Results"]) -> Verdict:
        sgd, lsam = (checkpoints(record) for record in results["checkpoints"].records)
        return judge(sgd[-1], lsam[-1]) if last else judge(sgd, lsam)

    return verdict


def _claim(title: str, chapter: str, judge: Callable[..., Verdict], *needs: str) -> Claim:
    """A claim judged from seed tables."""
    return Claim(title, chapter, needs, _tables(judge, *needs))


def _fixed(judge: Callable[..., Verdict], *options: str) -> Callable[[Mapping[str, "Results"]], Verdict]:
    """Judge from the table of CIFAR-MNIST runs."""
    return lambda results: judge(pairs.pair_table(results["cifar_mnist_fixed"].records), *options)


def _table_one(title: str, judge: Callable[..., Verdict], *options: str) -> Claim:
    """A claim judged from all data sets of Table 1."""
    needs = tuple(names.experiment for names in data_sets.DATA_SETS.values())
    return Claim(title, IMAGES, needs, lambda results: judge(data_sets.entries(results), *options))


def _photographs(title: str, judge: Callable[..., Verdict], experiment: str) -> Claim:
    """A claim judged from the importance weights of one set of photographs."""
    return Claim(title, EFFECTS, (experiment,), lambda results: judge(points(results[experiment].records)))


def _transfer(
    judge: Callable[..., Verdict], title: str, experiment: str
) -> Callable[[Mapping[str, "Results"]], Verdict]:
    """Judge from the records of one of DomainBed's data sets."""
    return lambda results: judge(results[experiment].records, title)


STEPS_ROBUST = partial(toy.batch_robust, at="equal steps")
STEPS_DEGRADES = partial(toy.batch_degrades, at="equal steps")
IMAGES, TRANSFER = "01_feature_diversity", "06_domainbed"
SETUP, PHANTOM, EFFECTS, CAUSES = "02_toy_setup", "03_phantom_rebalancing", "04_two_effects", "05_interventions"
CLAIMS = (
    _table_one("SAM improves the hard feature", table_one.improves, "hard"),
    _table_one("SAM improves the easy feature", table_one.improves, "easy"),
    _table_one("the gain is early", table_one.gain_is_early),
    Claim("the hard feature, untuned", IMAGES, ("cifar_mnist_fixed",), _fixed(pairs.feature_improved, "hard")),
    Claim("the easy feature, untuned", IMAGES, ("cifar_mnist_fixed",), _fixed(pairs.feature_improved, "easy")),
    Claim("SGD relies on the easy feature", IMAGES, ("cifar_mnist_fixed",), _fixed(pairs.sgd_relies_on_easy)),
    _claim("both learn the label", SETUP, toy.labels_learned, "complexity"),
    _claim("LSAM learns the hard feature better", SETUP, toy.hard_error_lower, "complexity"),
    _claim("the larger the radius, the better", SETUP, toy.hard_error_falls, "complexity"),
    _claim("whatever the lost constants", SETUP, toy.sensitivity_direction, "sensitivity"),
    _claim("the phantom ratio rises with the radius", PHANTOM, toy.phantom_ratio_rises, "complexity"),
    _claim("it falls where the spiral is easier", PHANTOM, toy.phantom_ratio_falls_where_easy, "complexity"),
    _claim("the real ratio stays nearly constant", PHANTOM, toy.real_ratio_constant, "complexity"),
    Claim("weights are more uniform", EFFECTS, ("checkpoints",), _points(mechanism.weights_more_uniform, last=True)),
    Claim("throughout training", EFFECTS, ("checkpoints",), _points(mechanism.uniform_throughout, last=False)),
    Claim("poorly fit examples gain", EFFECTS, ("checkpoints",), _points(mechanism.poorly_fit_at_the_end, last=False)),
    Claim("the same throughout", EFFECTS, ("checkpoints",), _points(mechanism.poorly_fit_throughout, last=False)),
    *(
        _photographs(f"{title}: {claim}", judge, experiment)
        for title, experiment in (("Waterbirds", "waterbirds"), ("CelebA", "celeba"))
        for claim, judge in (
            ("weights are more uniform", real_importance.weights_more_uniform),
            ("throughout training", real_importance.uniform_throughout),
            ("poorly fit examples gain", real_importance.poorly_fit_at_the_end),
            ("the same throughout training", real_importance.poorly_fit_throughout),
            ("SAM's weights against SGD's", real_importance.sam_more_uniform_than_sgd),
        )
    ),
    _claim("hard learns faster, easy slower", EFFECTS, toy.rates_scaled, "complexity"),
    _claim("hard learns faster relative to easy", EFFECTS, toy.relative_rate_scaled, "complexity"),
    _claim("each effect helps (fixed ratio)", CAUSES, mechanism.interventions_help, "interventions", "complexity"),
    _claim("a ratio far above LSAM's helps", CAUSES, mechanism.interventions_can_help, "interventions", "complexity"),
    _claim("gains are comparable", CAUSES, mechanism.gains_comparable, "interventions", "complexity"),
    _claim("both together match LSAM", CAUSES, mechanism.both_match_lsam, "interventions", "complexity"),
    _claim("each factor of LSAM suffices", CAUSES, mechanism.one_factor_suffices, "phantom_terms", "complexity"),
    _claim("learning rates alone match LSAM", CAUSES, mechanism.rates_match_lsam, "phantom_terms", "complexity"),
    *(
        Claim(f"SAM improves transfer: {title}", TRANSFER, (name,), _transfer(domainbed.transfer_improved, title, name))
        for title, name in domainbed.EXPERIMENTS.items()
    ),
    Claim("on every target", TRANSFER, ("pacs",), _transfer(domainbed.each_target_improved, "PACS", "pacs")),
    _claim("robust to noise", "a_data_and_noise", toy.noise_robust, "noise"),
    _claim("robust to batch size", "b_batch_size", toy.batch_robust, "batch_size"),
    _claim("gain shrinks for very large batches", "b_batch_size", toy.batch_degrades, "batch_size"),
    _claim("the first at equal steps", "b_batch_size", STEPS_ROBUST, "batch_size_equal_steps"),
    _claim("the second at equal steps", "b_batch_size", STEPS_DEGRADES, "batch_size_equal_steps"),
)
