"""What chapters call: parameters, results that are read or trained, boxes, figures with findings, verdicts."""

import base64
import html
import importlib
import math
import re
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from edition import runs
from edition.claims import Effect, Verdict
from edition.claims.claim import CLAIMS, Claim
from edition.experiments import EXPERIMENTS, Experiment
from edition.figures.toy_setup import contours
from edition.page import chapter
from edition.page.chapter import Chapter, Results, open_chapter, say, show, show_finding, show_source
from edition.page.finding import finding, finding_of
from edition.page.lists import record_tables
from edition.page.verdicts import judged_by, short, verdict_html
from edition.publish.code import anchors
from edition.records.store import Store, record_id
from edition.runs import Run, do
from edition.runs.locks import Locks
from edition.runs.results import by_seed, only
from samlib.measures.statistics import Estimate
from samlib.toy.config import ToyConfig

mpl.use("agg")
TINY = ToyConfig(hidden=4, n_steps=12, n_snapshots=2, seeds=(0, 1)).vary(n_train=30, n_test=20)
CONFIGS = [TINY, TINY.vary(rho=0.5)]

ORIGIN = {"revision": "abc", "device": "CPU"}


@pytest.fixture
def shown(monkeypatch) -> list:
    """What chapter code displayed, in order."""
    items = []
    monkeypatch.setattr(chapter, "display", items.append)
    return items


@pytest.fixture
def stores(tmp_path, monkeypatch, shown) -> dict[str, Store]:
    """Committed and local records in a temporary folder, and a registry of one tiny experiment."""
    found = {"paper": Store(tmp_path / "results"), "local": Store(tmp_path / "results" / "local")}
    monkeypatch.setattr(runs, "store_for", lambda profile: found.get(profile, found["local"]))
    for name in list(EXPERIMENTS):
        monkeypatch.delitem(EXPERIMENTS, name)
    item = Experiment("tiny", "toy", "Tiny <experiment>", lambda profile: list(CONFIGS))
    monkeypatch.setitem(EXPERIMENTS, "tiny", item)
    return found


def only_source(shown: list, results: Results) -> bool:
    """Whether nothing but the results' source line was displayed."""
    return [item.data for item in shown] == [results.source().data]


def files(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (store.root / "toy").glob("*.json")}


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch):
    """What a chapter reads from the environment is the test's own."""
    monkeypatch.delenv("SAMLIB_DATA", raising=False)


def test_parameters_are_those_of_the_notebook_and_by_default_read_the_papers_records():
    assert open_chapter({}) == Chapter("paper", False, False, "auto", 0, None)
    given = {"profile": "quick", "train_missing": True, "recompute": True, "device": "cpu", "seed": 7, "x": 1}
    assert open_chapter(given) == Chapter("quick", True, True, "cpu", 7)
    assert open_chapter({"seed": 1, "In": CELLS}, also=("sede",)).seed == 1


CELLS = ["", "# Parameters\nprofile = 'quick'\nsede = 3\n", "import os\nanything = 1"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"profile": "full"}, ValueError, "profile: expected one of 'paper', 'quick', 'smoke', got 'full'"),
        ({"device": "gpu"}, ValueError, "device: expected one of 'auto', 'cpu', 'cuda', got 'gpu'"),
        ({"train_missing": 1}, TypeError, "train_missing: expected True or False, got 1"),
        ({"recompute": "no"}, TypeError, "recompute: expected True or False, got 'no'"),
        ({"seed": -1}, ValueError, "seed: expected a whole number"),
        ({"seed": 0.5}, TypeError, "seed: expected a whole number"),
        ({"In": CELLS}, ValueError, "parameters: expected some of profile, .*, got sede; correct the name"),
    ],
)
def test_bad_parameters_are_refused_by_name(given, error, message):
    with pytest.raises(error, match=message):
        open_chapter(given)


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_the_gpu_where_there_is_one_and_one_that_is_not_there_is_refused(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert [Chapter(device=name).torch_device for name in ("auto", "cpu")] == ["cuda" if there else "cpu", "cpu"]
    if not there:
        with pytest.raises(ValueError, match="device: expected cpu, since there is no GPU here, got cuda"):
            open_chapter({"device": "cuda"})


def test_the_data_folder_is_the_parameter_or_the_environment(monkeypatch):
    monkeypatch.setenv("SAMLIB_DATA", "from-environment")
    assert open_chapter({}).data_root == Path.cwd() / "from-environment"
    assert open_chapter({"data_root": ""}).data_root == Path.cwd() / "from-environment"
    assert open_chapter({"data_root": "given"}).data_root == Path.cwd() / "given"
    assert open_chapter({"data_root": 2024}).data_root == Path.cwd() / "2024"  # which papermill takes for a number
    monkeypatch.delenv("SAMLIB_DATA")
    assert open_chapter({}).data_root is None


def test_missing_records_are_named_with_the_command_and_nothing_is_trained(stores, shown):
    stores["paper"].write("toy", CONFIGS[1], metrics={}, arrays={}, provenance=ORIGIN)
    assert Chapter(device="cpu", train_missing=True).recorded("tiny").n_missing == 1
    assert shown == []
    results = Chapter(device="cpu").results("tiny")
    assert results and (len(results.records), results.n_missing, results.complete) == (1, 1, False)
    (told,) = (item.data for item in shown)
    assert "1 more have no record" in told
    assert "python -m edition runs start --experiment tiny --profile paper" in told
    assert len(files(stores["paper"])) == 1 and not stores["local"].root.exists()


def test_records_that_exist_are_read_and_their_source_is_shown(stores, shown):
    do([Run("toy", config) for config in CONFIGS], stores["paper"], device="cpu")
    before = files(stores["paper"])
    results = Chapter(device="cpu", train_missing=True).results("tiny")
    assert results and only_source(shown, results)
    assert [record.id for record in results.records] == [record_id("toy", config) for config in CONFIGS]
    assert len(results.table) == 4 and len(results.curves) == 8
    assert files(stores["paper"]) == before


def test_train_missing_fills_only_what_is_missing(stores, shown):
    first = stores["paper"].write("toy", CONFIGS[1], metrics={"kept": [1, 2]}, arrays={}, provenance=ORIGIN)
    results = Chapter(device="cpu", train_missing=True).results("tiny")
    assert only_source(shown, results) and results.records[1] == first
    assert len(files(stores["paper"])) == 2


@pytest.mark.parametrize("profile", ["quick", "smoke"])
def test_reduced_profiles_train_live_and_store_locally(stores, shown, profile):
    results = Chapter(profile=profile, device="cpu").results("tiny")
    assert results and only_source(shown, results)
    before = files(stores["local"])
    assert len(before) == 2 and not files(stores["paper"])
    assert Chapter(profile=profile, device="cpu").results("tiny").records == results.records
    assert files(stores["local"]) == before


def test_runs_that_another_process_is_doing_are_not_passed_over_in_silence(stores):
    locks = Locks(stores["local"])
    assert locks.take(runs.Run("toy", CONFIGS[0]))
    with pytest.raises(RuntimeError, match="tiny: expected to do 2 runs, another process is doing 1 of them"):
        Chapter(profile="smoke", device="cpu").results("tiny")
    locks.drop_all()
    assert Chapter(profile="smoke", device="cpu").results("tiny").complete


def test_recompute_trains_again_and_leaves_what_is_on_record_untouched(stores, shown):
    for config in CONFIGS:
        stores["paper"].write("toy", config, metrics={"final_hard_error": [9.0, 9.0]}, arrays={}, provenance=ORIGIN)
    before = files(stores["paper"])
    results = Chapter(device="cpu", recompute=True).results("tiny")
    assert results and only_source(shown, results)
    assert all(max(record.metrics["final_hard_error"]) <= 1 for record in results.records)
    assert all(stores["local"].root in record.path.parents for record in results.records)
    assert files(stores["paper"]) == before
    assert not files(stores["local"])  # a folder of its own: what was trained live before is not mixed in


@pytest.fixture
def some(tmp_path) -> Results:
    """Results of one record."""
    record = Store(tmp_path / "some").write("toy", TINY, metrics={}, arrays={}, provenance=ORIGIN)
    return Results("tiny", "paper", (record,), 0)


NONE = Results("other", "paper", (), 1)


def test_a_source_line_names_records_revisions_and_machines_escaped(some, tmp_path):
    origin = {"revision": "def", "device": "GPU <1>"}
    other = Store(tmp_path).write("toy", CONFIGS[1], metrics={}, arrays={}, provenance=origin)
    records = (*some.records, other)
    line = Results("tiny", "paper", records, 0).source().data
    assert "2 records" in line and 'href="records.html#tiny"' in line and "reduced" not in line
    assert "revision abc on CPU; revision def on GPU &lt;1&gt;" in line
    assert "reduced scale (profile quick)" in Results("tiny", "quick", records, 0).source().data


def test_show_displays_the_figure_in_the_books_look_and_closes_it(some, shown):
    looks = []

    def draw(table: pd.DataFrame, other: int, *, word: str) -> Figure:
        looks.append((mpl.rcParams["axes.spines.top"], table is some.table, other, word))
        return plt.subplots(figsize=(9, 5))[0]

    settings, numbers = dict(mpl.rcParams), plt.get_fignums()
    vars(some)["table"] = pd.DataFrame({"rho": [0.0]})
    show(draw, some, 3, word="x")
    assert looks == [(False, True, 3, "x")]
    ((data, beside),) = (item._repr_mimebundle_() for item in shown)
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG") and beside == {}
    assert plt.get_fignums() == numbers and dict(mpl.rcParams) == settings


def test_nothing_is_drawn_where_nothing_is_there_and_a_line_says_so(some, shown):
    draw = lambda *needs: pytest.fail("drawn although there is nothing")  # noqa: E731
    show(draw, some, NONE)
    for empty in (None, [], {}, pd.DataFrame()):
        show(draw, empty)
    first, *others = (item.data for item in shown)
    assert "Not drawn: runs of <em>other</em> are missing." in first and "tiny" not in first
    assert len(others) == 4 and all("Not drawn" in line and "<div" not in line for line in others)


def test_a_sentence_that_lacks_a_run_names_it_and_without_a_record_there_is_none(some, shown):
    table = pd.DataFrame({"seed": [0, 0], "rho": [0.0, 0.4], "x": [1.0, 2.0]})
    say(lambda: f"{by_seed(table, 'x', 'rho', need=(0.0, 0.4))[0.4].mean():g}", some)
    say(lambda: f"{by_seed(table, 'x', 'rho', need=(0.0, 1.0))[1.0].mean():g}", some)
    show_finding(show, lambda: f"{only(table, rho=2.0).x.mean():g}", some)
    told = [item.data for item in shown]
    assert told[0] == "2" and "no run with rho = 1.0" in told[1] and "Not said: no run with rho = 2.0." in told[2]
    fail = lambda: pytest.fail("told although results are missing")  # noqa: E731
    say(fail, NONE)
    show_finding(show, fail, some, NONE)
    assert len(shown) == 3


def test_below_a_figure_stand_the_finding_its_records_and_the_function_that_drew_it(some, shown):
    drawn = (
        'drawn by <a href="../code/edition.figures.toy_setup.html#contours"><code>edition.figures.toy_setup.contours'
    )
    show_finding(contours, lambda: "a < b", some)
    show_finding(contours, lambda: "a")
    recorded, computed = (item.data for item in shown)
    assert '"finding">a &lt; b</p>' in recorded and drawn in recorded and drawn in computed
    assert 'Records: <a href="records.html#tiny">tiny</a>;' in recorded
    assert "Computed on this page;" in computed and "records.html" not in computed


LOW, MIDDLE, HIGH = (Estimate(mean, mean - 0.1, mean + 0.1, 20) for mean in (-0.5, 0.0, 0.25))


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        (
            {"a": HIGH, "b": LOW},
            "0.250 [0.150, 0.350] (a) and −0.500 [−0.600, −0.400] (b); n = 20 seeds, 95 % interval",
        ),
        (
            {"a": MIDDLE, "b": HIGH, "c": LOW},
            "−0.500 [−0.600, −0.400] (c) and 0.250 [0.150, 0.350] (b), the lowest and the highest of 3; n = 20 seeds",
        ),
        ({"one": Estimate(0.5, -math.inf, math.inf, 1)}, "0.500 (one); n = 1 of the seeds, so there is no interval."),
        (
            {"few": Estimate(0.5, 0.4, 0.6, 3), "many": LOW},
            "0.500 [0.400, 0.600] (few) and −0.500 [−0.600, −0.400] (many); n = 3 to 20 seeds",
        ),
        ({}, "not tested yet."),
    ],
    ids=["two", "three", "one seed", "unlike numbers of seeds", "none"],
)
def test_a_finding_says_effects_with_n_and_of_more_than_two_the_lowest_and_the_highest(effects, said):
    assert finding("error", effects).startswith(f"Error: {said}")
    assert finding("error", effects, over="networks").startswith(f"Error: {said}".replace("seeds", "networks"))


def test_a_verdicts_finding_says_what_was_computed_without_the_rule():
    effects = [Effect("step 1, easy", LOW, "below"), Effect("step 1, hard", HIGH, "above")]
    verdict = Verdict("id", "place", "claim", "share of weight; two seeds or more", effects)
    assert finding_of(verdict).startswith("Share of weight: −0.500 [−0.600, −0.400] (step 1, easy) and 0.250")


EFFECTS = (
    Effect("first & best", Estimate(-0.25, -0.3, -0.2, 20), "below"),
    Effect("second", Estimate(-0.0001, float("-inf"), float("inf"), 1), "above", 0.5),
    Effect("third", Estimate(-0.0125, -0.0125, -0.0125, 12), "above"),
)


def test_a_verdict_shows_state_claim_finding_and_every_effect_escaped():
    words = ("Section <5>", "a < b & c", "mean <difference>")
    text = verdict_html(Verdict("some-claim", *words, EFFECTS, scaled_down="5 <of> 20 epochs"))
    assert 'class="verdict verdict-mixed scaled-down" id="some-claim"' in text and ">mixed</strong>" in text
    assert all(html.escape(part) in text for part in (*words, "first & best", "5 <of>"))
    assert "in part: 1 of 3 holds, 1 reversed. Scaled down" in text
    assert "<details><summary>effects</summary>" in text and "<details open" not in text
    rows = [re.findall("<td>(.*?)</td>", line) for line in text.split("<tbody>")[1].split("</tr>")[:3]]
    detectable = short(EFFECTS[0].detectable)
    assert rows == [
        ["first &amp; best", "−0.250", "[−0.300, −0.200]", "20", "below 0", "&lt; .001", "holds", detectable],
        ["second", "−1.0e−04", "[−∞, ∞]", "1", "above 0.5", "1.000", "undecided", "∞"],
        ["third", "−0.013", "[in every seed]", "12", "above 0", "&lt; .001", "reversed", ""],
    ]
    assert "effects" not in verdict_html(Verdict("id", "place", "claim", "statistic", []))


def test_other_statistics_are_shown_apart_and_their_values_are_not_called_corrected():
    verdict = Verdict("id", "place", "claim", "statistic", EFFECTS[:1], shown=EFFECTS[1:])
    first, others = verdict_html(verdict).split("In other statistics, which decide nothing:")
    assert "p, corrected" in first and "p, corrected" not in others and "second" in others and "second" not in first


def test_a_verdict_leads_to_the_function_that_judges_it_also_where_several_claims_share_one():
    for id, name in (("toy-hard-error-lower", "hard_error_lower"), ("celeba-weights-uniform", "uniform_of_both")):
        assert f'{CLAIMS[id].file}.html#{name}"><code>{CLAIMS[id].file}.{name}</code>' in judged_by(id)
    assert judged_by("no-claim") == ""
    for claim in CLAIMS.values():
        for module, name in re.findall(r"code/(.*)\.html#(\w+)", judged_by(claim.id)):
            assert name in anchors(Path(importlib.import_module(module).__file__).read_text())


@pytest.fixture
def a_claim(monkeypatch, stores) -> str:
    """A claim of the tiny experiment, which counts its records."""
    effect = Effect("x", Estimate(1, 0.9, 1.1, 2), "above")
    judge = lambda tiny: [effect] * len(tiny.records)  # noqa: E731
    words = ("tiny-claim", "Section 5", "Words.", "count; with a rule", "c", "", ("tiny",), (), "ours", "every", "")
    monkeypatch.setitem(chapter.CLAIMS, "tiny-claim", Claim(*words, judge))
    return "tiny-claim"


def test_verdicts_are_of_what_a_chapter_has_loaded_or_else_of_what_is_on_record(stores, shown, a_claim):
    page = Chapter(device="cpu")
    page.verdicts(a_claim)
    assert '<strong class="status">not tested</strong>' in shown.pop().data
    page.finding(show, a_claim)
    assert shown == []  # no figure, no finding
    for config in CONFIGS:
        stores["paper"].write("toy", config, metrics={}, arrays={}, provenance=ORIGIN)
    assert page.judge(a_claim).counts == "2 of 2 hold"
    page.verdicts(a_claim, a_claim)
    page.finding(show, a_claim)
    *verdicts, found = (item.data for item in shown)
    assert verdicts == [verdict_html(page.judge(a_claim))] * 2
    assert "Count: 1.000 [0.900, 1.100] (x); n = 2 seeds" in found and "records.html#tiny" in found
    page.loaded["tiny"] = Results("tiny", "quick", page.recorded("tiny").records[:1], 0)
    assert (page.judge(a_claim).counts, page.judge(a_claim).scaled_down) == ("1 of 1 holds", "profile quick")


def test_the_smallest_profile_is_not_judged_and_an_unknown_claim_is_refused(shown, a_claim):
    Chapter(profile="smoke", device="cpu").verdicts(a_claim)
    (told,) = (item.data for item in shown)
    assert "Not judged:" in told and "profile smoke" in told
    with pytest.raises(ValueError, match=r"id: expected one of .*'tiny-claim', got 'toy-nois'"):
        Chapter(device="cpu").judge("toy-nois")


class Measured:
    """Something with a method to show."""

    @property
    def mean(self) -> float:
        """Return one.

        Always.
        """
        return 1.0


def test_source_is_shown_as_it_runs_without_its_indent_and_with_its_module(shown):
    show_source(verdict_html)
    show_source(Measured.mean.fget)
    function, method = shown
    assert isinstance(function, Markdown)
    assert function.data.startswith("```python\ndef verdict_html(verdict: Verdict) -> str:\n")
    link = '<a href="../code/edition.page.verdicts.html#verdict_html"><code>edition.page.verdicts</code></a>'
    assert function.data.endswith(f"```\n\n*From* {link}.")
    assert method.data.startswith('```python\n@property\ndef mean(self) -> float:\n    """Return one."""\n    return')


def test_the_records_page_lists_every_record_with_its_provenance_and_counts_the_missing(stores):
    assert "0 of 2 runs recorded" in record_tables("paper")
    record = do([Run("toy", CONFIGS[1])], stores["paper"], device="cpu")[0]
    page = record_tables("paper")
    assert 'id="tiny"' in page and "Tiny &lt;experiment&gt;" in page and "1 of 2 runs recorded" in page
    assert f'href="../results/toy/{record.id}.json"' in page and page.count("<tr>") == 2
    for text in ("rho: 0.5", "2 seeds", record.provenance["utc"], str(record.provenance["wall_seconds"])):
        assert text in page
    origin = record.provenance | {"revision": "abc", "dirty": True, "device": "<cpu>"}
    stores["paper"].write("toy", CONFIGS[0], metrics={}, arrays={}, provenance=origin)
    page = record_tables("paper")
    do([Run("toy", CONFIGS[0])], stores["local"], device="cpu")
    assert "rho" not in record_tables("smoke") and "results/toy" not in record_tables("smoke")
    assert "2 of 2 runs recorded" in page and "abc (modified)" in page and "&lt;cpu&gt;" in page
