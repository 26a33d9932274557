"""Importance weights of the toy and of photographs: from records to moments, verdicts and figures, by hand."""

import dataclasses
import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from judging import judge, numbers, results
from matplotlib import pyplot as plt

from edition.claims import appendix_g, data_sets, moments, section_6_2_weights
from edition.claims.moments import STATISTICS, Moment, photograph_moments, reading_changes, toy_moments
from edition.claims.table_one import Entry
from edition.figures import importance as figures
from edition.figures import style
from edition.page import demonstrations
from edition.records.store import Record
from samlib.config import to_dict
from samlib.images.config import FinetuneConfig
from samlib.images.importance import READINGS
from samlib.measures.importance import Importance

mpl.use("agg")
EVEN, STEEP = [1.0, 1.0, 1.0, 1.0], [4.0, 2.0, 1.0, 1.0]  # Gini 0 and 5 / 16
BIRD, BACKGROUND = [3.0, 2.0, 1.0, -1.0], [-1.0, 1.0, 2.0, 3.0]  # worst fitted: the last and the first example


@dataclasses.dataclass(frozen=True)
class Kept(Record):
    """A record whose arrays are at hand."""

    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.values


def record(
    seed: int,
    rho: float,
    weights,
    *,
    bird: float = 0.3,
    epochs=(1, 20),
    contributions=(BIRD, BACKGROUND),
    frequencies=(0.7, 0.1, 0.1, 0.1),
    diverged: bool = False,
    **changes: Any,
) -> Kept:
    """A run on Waterbirds; weights: by epoch (real, phantom); bird: its probing error, the background's is 0.2."""
    settings = {"importance_epochs": epochs, "n_importance": 4, "batch_size": 2} | changes
    metrics = {"bird_head_error": 0.1, "background_head_error": 0.4, "diverged": diverged}
    metrics |= {"bird_probe_error": bird, "background_probe_error": 0.2, "train_frequencies": list(frequencies)}
    arrays = {
        "importance_real": np.array([real for real, _ in weights], dtype=np.float32),
        "importance_phantom": np.array([phantom for _, phantom in weights], dtype=np.float32),
        "contributions": np.array([contributions] * len(weights), dtype=np.float32),
    }
    config = to_dict(FinetuneConfig(rho=rho, seed=seed, **settings))
    return Kept("finetune", f"{rho}-{seed}", config, metrics, {}, Path("none"), values=arrays)


def runs(sgd, sam, n_seeds: int = 2, **options) -> list[Kept]:
    """SGD's and SAM's records of all seeds, the later seed first."""
    return [record(s, rho, w, **options) for s in reversed(range(n_seeds)) for rho, w in ((0.0, sgd), (0.1, sam))]


TIDY = [(STEEP, EVEN)] * 2


def test_moments_are_ordered_by_method_and_epoch_with_one_member_a_seed():
    first, second = [(STEEP, STEEP), (EVEN, EVEN)], [(EVEN, STEEP), (EVEN, EVEN)]
    found = photograph_moments(
        [record(1, 0.1, second), record(0, 0.1, first), record(1, 0.0, TIDY), record(0, 0.0, TIDY)]
    )
    assert [(m.method, m.when) for m in found] == [("SGD", 1), ("SGD", 20), ("SAM", 1), ("SAM", 20)]
    assert all((m.data, m.seeds, m.rho) == ("waterbirds", (0, 1), 0.05) for m in found)
    assert found[2].importance.real.tolist() == [STEEP, EVEN]  # seed 0, then seed 1
    assert found[2].importance.phantom.tolist() == [STEEP, STEEP]
    turned = photograph_moments(runs([(EVEN, EVEN), (STEEP, EVEN)], TIDY, epochs=(20, 1)))
    assert [(m.when, m.importance.real[0].tolist()) for m in turned[:2]] == [(1, EVEN), (20, STEEP)]  # as the arrays


@pytest.mark.parametrize(
    ("options", "features", "contributions"),
    [
        ({}, ("background", "bird"), [BACKGROUND, BIRD]),
        ({"bird": 0.1}, ("bird", "background"), [BIRD, BACKGROUND]),
        # In CelebA blond (label 1) goes with female (attribute 0): the attribute counts with its sign turned.
        ({"frequencies": (0.44, 0.41, 0.14, 0.01)}, ("background", "bird"), [[-x for x in BACKGROUND], BIRD]),
    ],
)
def test_contributions_are_easy_then_hard_as_sgds_probes_say(options, features, contributions):
    moment = photograph_moments(runs(TIDY, TIDY, **options))[0]
    assert moment.features == features and moment.importance.contributions[0].tolist() == contributions


def test_runs_that_diverged_or_recorded_no_weights_are_left_out():
    records = [*runs(TIDY, TIDY), record(2, 0.1, [], diverged=True), record(2, 0.0, [], epochs=())]
    assert [moment.seeds for moment in photograph_moments(records)] == [(0, 1)] * 4


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(0, 0.1, TIDY)], "at least one of SGD"),
        ([record(0, 0.0, TIDY, epochs=())], r"got 0: .*with importance_epochs"),
        ([record(0, 0.0, TIDY), record(0, 0.1, TIDY, importance_rho=0.1)], "one setting of image_set.*got 2"),
        ([record(0, 0.0, TIDY), record(0, 0.1, TIDY), record(0, 0.2, TIDY)], r"several of \[\('SAM', 0\)\]"),
        (runs(TIDY, TIDY, frequencies=(0.25,) * 4), "expected label and attribute to be correlated"),
    ],
)
def test_records_that_cannot_be_compared_are_refused(records, message):
    with pytest.raises(ValueError, match=message):
        photograph_moments(records)


def weights(real, phantom, easy=BACKGROUND, hard=BIRD, members: int = 8) -> Importance:
    """Members alike, so many that they decide by agreeing."""
    return Importance(*(np.stack([np.array(part)] * members) for part in (real, phantom, [easy, hard])))


def test_the_toys_moments_are_sgds_by_step_then_lsams_and_are_weighed_once(monkeypatch):
    config, opened = SimpleNamespace(seeds=(0, 1)), []

    def checkpoints(record):
        opened.append(record.id)
        weigh = {1.0: weights(EVEN, EVEN)}.__getitem__  # at the reference radius
        return [SimpleNamespace(method=record.id, step=step, config=config, importance=weigh) for step in (9, 3)]

    monkeypatch.setattr(moments, "checkpoints", checkpoints)
    records = [Record("toy", name, {}, {}, {}, Path(f"of-{name}")) for name in ("LSAM", "SGD")]
    for _ in range(2):
        found = toy_moments(records)
    assert [moment.name for moment in found] == [f"{m}-trained, step {s}" for m in ("SGD", "LSAM") for s in (3, 9)]
    assert found[0].features == ("easy", "hard") and opened == ["LSAM", "SGD"]


def moment(data: str, method: str, pair, when: int = 20, **options) -> Moment:
    unit = "step" if data == "toy" else "epoch"
    importance = weights(*pair, **options)
    return Moment(data, method, unit, when, 1.0, tuple(range(len(importance.real))), ("easy", "hard"), importance)


# What a claim looks at -> outcome -> (real, phantom) weights. The easy feature fits the first example worst, the hard
# one the last, which only the easy feature gets right; the easy feature contributes more to the last two.
GINI = {"holds": (STEEP, EVEN), "reversed": (EVEN, STEEP), "undecided": (EVEN, EVEN)}
GROUPS = {"holds": (EVEN, [0.0, 2.0, 2.0, 4.0]), "reversed": (EVEN, [4.0, 2.0, 2.0, 0.0]), "undecided": (EVEN, EVEN)}
# Claims without their data set, by what they look at: the last moment alone, or all.
AT_THE_END = {"weights-uniform": GINI} | dict.fromkeys(("poorly-fit", "poorly-fit-easy", "joint-fit"), GROUPS)
THROUGHOUT = dict.fromkeys(("easy-side", "poorly-fit-throughout", "poorly-fit-easy-throughout"), GROUPS)
TOY_ALONE = {"uniform-throughout": GINI}  # of photographs it is one claim with weights-uniform


def judged(monkeypatch, id: str, found: list[Moment]):
    """A verdict from moments: reading them from records is tested above."""
    for module in (section_6_2_weights, appendix_g):
        monkeypatch.setattr(module, "toy_moments", lambda records: found)
    monkeypatch.setattr(section_6_2_weights, "photograph_moments", lambda records, roles, rho: found)
    monkeypatch.setattr(data_sets, "scaled_down", lambda record: "5 epochs")
    return judge(id, [record(0, 0.0, TIDY)])


@pytest.mark.parametrize(
    ("data", "claim"),
    [*itertools.product(("toy", "waterbirds", "celeba"), (*AT_THE_END, *THROUGHOUT)), ("toy", *TOY_ALONE)],
)
def test_a_claim_looks_at_both_methods_moments_at_the_end_or_at_all_of_them(monkeypatch, data, claim):
    monkeypatch.setattr(Entry, "fixed", True)  # as if the analysis had been fixed beforehand
    toy, pairs = data == "toy", (AT_THE_END | THROUGHOUT | TOY_ALONE)[claim]
    throughout = claim in THROUGHOUT | TOY_ALONE or (claim == "weights-uniform" and not toy)
    methods = ("SGD", "LSAM" if toy else "SAM")
    for outcomes in itertools.product(pairs, repeat=2):
        early = [moment(data, method, pairs["reversed"], when=1) for method in methods]
        late = [moment(data, method, pairs[outcome]) for method, outcome in zip(methods, outcomes, strict=True)]
        verdict = judged(monkeypatch, f"{data}-{claim}", [*early, *late])
        expected = ["reversed", "reversed", *outcomes] if throughout else [*outcomes]
        of_both = (data, claim) == ("toy", "weights-uniform")  # a third effect, which has a test below
        found = [dataclasses.replace(effect, decides=True).outcome for effect in verdict.effects]
        assert found[: len(found) - of_both] == expected
        # On photographs ranks were chosen when runs had been seen.
        assert {effect.decides for effect in verdict.effects} == {toy or "-fit" not in claim}
        assert verdict.scaled_down == ("" if toy else "exploratory; 5 epochs")


def test_the_toys_weights_are_compared_within_each_network_and_between_them(monkeypatch):
    found = [moment("toy", "SGD", (EVEN, EVEN)), moment("toy", "LSAM", (EVEN, STEEP))]
    verdict = judged(monkeypatch, "toy-weights-uniform", found)
    assert list(numbers(verdict).values()) == pytest.approx([0, 5 / 16, 5 / 16]) and verdict.state == "contradicted"


@pytest.mark.parametrize(
    ("sgd", "sam", "own", "trained"),
    [
        ((STEEP, STEEP), (STEEP, EVEN), "confirmed", "undecided"),  # SAM trains with the phantom's weights, SGD not
        ((STEEP, EVEN), (EVEN, STEEP), "undecided", "confirmed"),  # whose real weights are compared, too
        ((EVEN, EVEN), (STEEP, STEEP), "contradicted", "contradicted"),
    ],
)
def test_the_weights_of_sams_networks_are_compared_with_sgds_own_on_common_seeds(monkeypatch, sgd, sam, own, trained):
    records = [*runs([sgd] * 2, [sam] * 2, n_seeds=6), record(9, 0.0, [(EVEN, EVEN)] * 2)]
    explored = judge("waterbirds-sam-trained-uniform", records)
    assert (explored.state, explored.counts) == ("undecided", "0 of 1 hold, 1 exploratory")
    assert "training mode, batches of 2, rho = 0.05; exploratory runs" in explored.statistic
    monkeypatch.setattr(Entry, "fixed", True)  # as if the analysis had been fixed beforehand
    for name, state in (("sam-more-uniform", own), ("sam-trained-uniform", trained)):
        verdict = judge(f"waterbirds-{name}", records)
        assert verdict.state == state and verdict.effects[0].value.n == 6


def read(n_seeds=2, *, swap=False, spread=0.0, **changes) -> list[Kept]:
    """Runs that recorded every reading: training mode leaves the weights, evaluation mode evens them; or they swap."""
    found = []
    for kept in runs(TIDY, TIDY, n_seeds, phantom_readings=True, **changes):
        steep = [STEEP[0] + spread * kept.config["seed"], *STEEP[1:]]
        phantom = np.array([[steep] * 4, [EVEN] * 4], dtype=np.float16)  # of training, of evaluation mode
        modes = [int((mode == "evaluation") is not swap) for mode, _ in READINGS]
        values = {
            "readings_real": np.tile(np.array(steep, dtype=np.float16), (2, len(READINGS), 1)),
            "readings_phantom": np.tile(phantom[modes][None], (2, 1, 1, 1)),
            "contributions": kept.values["contributions"],
        }
        config, origin = kept.config | {"seed": kept.config["seed"] + 100}, {"revision": "abc", "device": "one core"}
        found.append(dataclasses.replace(kept, config=config, values=values, provenance=origin))
    return found


def test_the_reading_that_was_fixed_judges_and_every_reading_is_tabulated():
    judging = photograph_moments(read())[0]
    assert (judging.rho, judging.reading) == (0.05, "evaluation mode, batches of 128")
    assert judging.importance.real[0].tolist() == STEEP and judging.importance.phantom[0].tolist() == EVEN
    assert photograph_moments(read(), reading=("training", 5))[0].importance.phantom[0].tolist() == STEEP
    table = reading_changes(read())
    assert len(table) == 6 * 4 * 2 * 2 * 2  # readings, radii, methods, epochs, seeds
    changes = table.groupby("reading").change.agg(["min", "max"]).to_numpy()
    assert {tuple(pair) for pair in changes} == {(-0.3125, -0.3125), (0.0, 0.0)}


CHOSEN = {"SGD": (0.005, 0.0), "SAM": (0.005, 0.1)}


def test_runs_that_were_fixed_beforehand_judge_in_place_of_the_last_blocks(monkeypatch):
    monkeypatch.setattr(data_sets.DataSet, "chosen", lambda self, fixed: CHOSEN)
    name, worse = "waterbirds_confirmatory", [(EVEN, STEEP)] * 2
    last = runs(worse, worse, 12)
    whole = results(read(4, spread=0.1), name=name)
    assert judge("waterbirds-weights-uniform", last).counts == "0 of 4 hold, 4 exploratory"
    verdict = judge("waterbirds-weights-uniform", last, **{name: whole})
    assert verdict.state == "confirmed" and [effect.value.n for effect in verdict.effects] == [4] * 4
    assert all(effect.corrected == effect.p for effect in verdict.effects) and verdict.experiments == (name,)
    few = judge("waterbirds-weights-uniform", last, **{name: results(read(3), name=name)})
    assert few.counts == "0 of 4 hold, 4 exploratory" and few.experiments == ("waterbirds",)
    own = judge("waterbirds-sam-more-uniform", last, **{name: whole})
    assert own.statistic.endswith("evaluation mode, batches of 128, rho = 0.1")  # that of SAM, not the judging one
    frozen = {f"{name}_frozen": results(read(swap=True, statistics="frozen"), name=f"{name}_frozen")}
    modes = judge("waterbirds-batch-statistics", **{name: whole}, **frozen)
    of_epochs = {f"SGD-trained, epoch {epoch}": 0.3125 for epoch in (1, 20)}
    assert modes.state == "confirmed" and numbers(modes) == pytest.approx(of_epochs, abs=0.01)
    assert [effect.value.mean for effect in modes.shown] == [-0.3125] * 2
    assert modes.experiments == (name, f"{name}_frozen")
    few = {name: results(read(3), name=name)}
    assert judge("waterbirds-batch-statistics", **few).state == "not tested"

    slow = f"{name}_frozen_slower"
    for kept in frozen[f"{name}_frozen"].records:  # the control is then the slower one
        kept.metrics.update(diverged=True)
    assert judge("waterbirds-batch-statistics", **{name: whole}, **frozen).shown == []
    frozen[slow] = results(read(statistics="frozen", learning_rate=0.001), name=slow)
    modes = judge("waterbirds-batch-statistics", **{name: whole}, **frozen)
    assert [effect.value.mean for effect in modes.shown] == [0.3125] * 2 and modes.experiments == (name, slow)


def test_where_sgds_probes_contradict_the_fixed_names_whom_the_phantom_favours_is_shown_by_theirs_too(monkeypatch):
    monkeypatch.setattr(data_sets.DataSet, "chosen", lambda self, fixed: CHOSEN)
    records = read(4, bird=0.1)  # SGD's probes find the bird, called hard beforehand, more easily than the background
    for kept in records:  # the first example, which the background fits worst, falls; the last, the bird's worst, rises
        kept.values["readings_real"][:] = EVEN
        kept.values["readings_phantom"][:] = [0.0, 2.0, 2.0, 4.0]
    given = {"waterbirds_confirmatory": results(records, name="waterbirds_confirmatory")}
    last = runs(TIDY, TIDY)
    verdict = judge("waterbirds-poorly-fit", last, **given)
    turned = [effect.value.mean for effect in verdict.shown if effect.name.endswith("roles by SGD's probes")]
    assert [effect.value.mean for effect in verdict.effects] == [0.5] * 2 and turned == [-0.5] * 2
    even = judge("waterbirds-weights-uniform", last, **given)  # no matter which feature is called what
    assert not any("roles" in effect.name for effect in even.shown)


def test_the_chapter_shows_the_whole_networks_once_their_runs_are_complete(monkeypatch):
    shown = []
    monkeypatch.setattr(data_sets.DataSet, "chosen", lambda self, fixed: CHOSEN)
    monkeypatch.setattr(demonstrations, "display", shown.append)
    name = "waterbirds_confirmatory"
    whole = {name: results(read(4), name=name), f"{name}_frozen": results(read(), name=f"{name}_frozen")}
    nothing, last = results([], name="none"), results(runs(TIDY, TIDY))
    stub = SimpleNamespace(profile="paper", recorded=lambda name: whole.get(name, nothing), results=lambda name: last)
    found = demonstrations.weighed_photographs(stub)
    assert [re.findall(r"records\.html#(\w+)", item.data) for item in shown] == [[name], [f"{name}_frozen"]]
    assert found.moments["waterbirds"][0].reading == "evaluation mode, batches of 128"
    assert found.moments["celeba"][0].reading == "training mode, batches of 2"
    ways = ("", ", frozen statistics, learning rate 0.005")
    titles = [f"{method}-trained{told}" for told in ways for method in ("SGD", "SAM")]
    assert list(found.readings["waterbirds"]) == titles and "celeba" not in found.readings


def test_the_map_has_a_row_a_reading_and_a_column_an_epoch_and_radius():
    changes = {"SGD-trained": reading_changes(read())}
    (axes,) = drawn(lambda: figures.gini_map(changes)).axes
    assert np.asarray(axes.images[0].get_array()).shape == (6, 8)
    shown = [text.get_text() for text in axes.texts]
    assert shown[:48] == ["−0.31"] * 32 + ["0.00"] * 16 and shown[48:] == ["epoch 1", "epoch 20"]


def test_poorly_fit_examples_are_told_by_their_rank_and_shown_by_the_papers_median_and_in_shares(monkeypatch):
    found = [moment("toy", name, ([1.0, 1.0, 1.0, 3.0], [0.0, 2.0, 2.0, 4.0])) for name in ("SGD", "LSAM")]
    # The last example stays on top of the ranks; the first falls from the middle of 0, 1, 2 (of 3) to 0.
    for id, role, gain in (("toy-poorly-fit", "hard", 0.0), ("toy-poorly-fit-easy", "easy", -1 / 3)):
        verdict = judged(monkeypatch, id, found)
        names = [f"{name}-trained, step 20, {role} feature's worst quarter" for name in ("SGD", "LSAM")]
        assert numbers(verdict) == pytest.approx(dict.fromkeys(names, gain)) and len(verdict.shown) == 6
        assert verdict.statistic.endswith("of all examples, fitted well or not, 75 % weigh more at the phantom")
    # The first example: from 1 of a mean of 1.5, and of a sum of 6, to nothing.
    shown = {effect.name.rpartition(": ")[2]: effect.value.mean for effect in verdict.shown[::2]}
    assert shown == pytest.approx({"share": -1 / 6, "median": -1, "median / mean weight": -1 / 1.5})
    sides = judged(monkeypatch, "toy-easy-side", found)  # the last two examples against the first two
    assert [effects[0].value.mean for effects in (sides.effects, sides.shown)] == [2, 1]


def test_the_rank_and_the_share_of_a_random_quarter_do_not_move_where_its_medians_rise():
    draw = np.random.default_rng(0)
    real = draw.exponential(size=400) ** 2
    phantom = real**0.5 + 0.5  # all rise, and are more even: what every example gains says nothing of a few
    quarters = [draw.permutation(400) < 100 for _ in range(400)]
    rises = {name: np.mean([of(phantom, q) > of(real, q) for q in quarters]) for name, of in STATISTICS.items()}
    assert rises["median"] == rises["median / mean weight"] == 1
    shares = np.mean([STATISTICS["share"](phantom, q) - STATISTICS["share"](real, q) for q in quarters])
    assert rises["mean rank"] == 0 and abs(shares) < 0.01  # the order is the same


def test_networks_without_such_examples_are_left_out_and_one_network_tests_nothing(monkeypatch):
    pair, id = (EVEN, [3.0, 1.0, 1.0, 1.0]), "toy-joint-fit"
    none = moment("toy", "LSAM", pair, hard=[1.0] * 4)
    assert judged(monkeypatch, id, [none]).state == "not tested"
    assert len(judged(monkeypatch, id, [moment("toy", "SGD", pair), none]).effects) == 1
    for name in (id, "toy-easy-side"):
        assert judged(monkeypatch, name, [moment("toy", "SGD", pair, members=1)]).state == "not tested"


@pytest.mark.parametrize("claim", [*AT_THE_END, *THROUGHOUT, "sam-more-uniform", "sam-trained-uniform"])
def test_nothing_is_tested_on_photographs_without_two_seeds_of_both_methods(claim):
    sgd_alone = [record(seed, 0.0, TIDY) for seed in range(3)]
    for records in (runs(TIDY, TIDY, n_seeds=1), sgd_alone, [*sgd_alone, record(0, 0.1, TIDY)]):
        assert judge(f"waterbirds-{claim}", records).state == "not tested"


N = 40  # examples; contributions 1/2, 3/2, ... of the easy feature, of the hard one with the opposite sign


def drawing(n_seeds: int = 2) -> list[Moment]:
    """Moments whose median weights fall with the easy feature's contribution: one step in the middle."""
    position = np.arange(N) - N / 2 + 0.5
    both = [(np.where(position < 0, 3.0, 1.0), np.ones(N))] * 2
    return photograph_moments(runs(both, both, n_seeds, contributions=(-position, position)))


def drawn(draw):
    """Draw and render in the book's look; check that settings stay as they were, and close the figure."""
    with style.style():
        inside = dict(mpl.rcParams)
        figure = draw()
        figure.canvas.draw()
        assert dict(mpl.rcParams) == inside
        plt.close(figure)
    return figure


def curves(axes) -> dict[str, np.ndarray]:
    """Labelled lines of the axes: first word of the label -> (x, y)."""
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label().split()[0]: np.array(line.get_data()) for line in lines}


def test_lorenz_curves_count_from_the_most_important_example_as_in_the_paper():
    figure = drawn(lambda: figures.lorenz_pair([*drawing(2)[:2], *drawing(3)[2:]]))
    assert [axes.get_title() for axes in figure.axes] == ["SGD-trained networks", "SAM-trained networks"]
    for axes in figure.axes:
        lines = curves(axes)
        assert lines["phantom"][1] == pytest.approx(np.linspace(0, 1, N + 1))
        assert lines["real"][1][N // 2] == pytest.approx(0.75)  # the heavy half holds 60 of 80
        assert [text.get_text().split(", ")[1] for text in axes.get_legend().get_texts()] == ["Gini 0.25", "Gini 0.00"]
    assert "2 and 3 seeds;" in figure.get_supxlabel()
    told = figures.ginis_at_the_end(drawing())
    assert "**0.250** with real and **0.000** with phantom weights for SGD" in told


def test_medians_are_raw_with_a_row_a_method_and_a_column_a_feature():
    # Bins of 40 / 12 positions and two seeds: six examples or eight, fewer than ten, so four times the seeds.
    figure = drawn(lambda: figures.medians_pair(drawing(n_seeds=8)))
    easy, hard, *others = figure.axes
    assert len(others) == 2 and "background" in easy.get_title() and "bird" in hard.get_title()
    for axes, order in ((easy, 1), (hard, -1)):
        assert curves(axes)["real"][1][::order] == pytest.approx([3.0] * 6 + [1.0] * 6)
        assert curves(axes)["phantom"][1] == pytest.approx([1.0] * 12)
    epochs = drawn(lambda: figures.medians_grid(drawing(n_seeds=8), 1))
    assert [axes.get_title().rpartition(", ")[2] for axes in epochs.axes] == ["epoch 1", "epoch 20"] * 2
    few = drawn(lambda: figures.medians_pair(drawing(n_seeds=2)))
    assert all(len(line[0]) == 0 for axes in few.axes for line in curves(axes).values())
    assert [axes.texts[0].get_text() for axes in few.axes] == ["no bin with 10 examples"] * 4


def test_a_method_without_runs_has_no_panel():
    alone = [moment for moment in drawing(1) if moment.method == "SGD"]
    figure = drawn(lambda: figures.lorenz_pair(alone))
    assert len(figure.axes) == 1 and "1 seed;" in figure.get_supxlabel()
    assert len(drawn(lambda: figures.medians_pair(alone)).axes) == 2
