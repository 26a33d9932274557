"""The toy's script in a real browser: its numbers against samlib's own, its panel under mouse and keyboard."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from plain_toy import train_reference
from playwright.sync_api import Browser, Locator, Page
from torch.nn.functional import softplus

from edition.widgets import train_in_browser
from edition.widgets.browser import VECTORS
from samlib.measures.importance import gini, importance_weights
from samlib.toy.config import ToyConfig
from samlib.toy.data import Examples, batch_order, sample
from samlib.toy.interventions import phantom
from samlib.toy.network import DisentangledNetwork
from samlib.toy.reference import lsam_step

N_STEPS, SEED, CONFIG = 100, 3, ToyConfig()
DATA = sample(CONFIG.data, seed=SEED, split="train")
ORDER = batch_order(CONFIG.data.n_train, 2, seed=SEED)
BATCHES = ORDER.view(2, -1, CONFIG.batch_size)  # epoch, step, example
OPEN = Callable[..., Page]
RUN = """({weights, data, batches, order, rho, rate, intervention, lenders}) => {
    const typed = {inputs: Float64Array.from(data.inputs), labels: Float64Array.from(data.labels)};
    const run = samlibToy.steps(weights, data, batches, rho, rate, intervention, lenders);
    const importance = samlibToy.importance(run.network, typed, order, rho, batches[0].length);
    return {
        v: run.v, phantom: run.phantom,
        weights: Object.fromEntries(Object.entries(run.weights).map(([name, values]) => [name, Array.from(values)])),
        real: Array.from(importance.real),
        moved: Array.from(importance.phantom),
        gini: samlibToy.gini(samlibToy.lorenz(importance.phantom)),
    };
}"""
PANEL = "document.querySelector('.browser-toy').panel"
TALL = "<div style='height: 3000px'></div>"


@pytest.fixture
def open_panel(browser: Browser) -> Iterator[OPEN]:
    """Opens a page around a view's panel; at the end no page may have raised an error or asked for anything.

    For a reader who wants no motion it waits to be asked, and its first picture is there when this returns.
    """
    pages, wrong = [], []

    def open_one(view: str = "toy", body: str = "{}", *, still: bool = True) -> Page:
        page = browser.new_page(viewport={"width": 800, "height": 900})
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.emulate_media(reduced_motion="reduce" if still else "no-preference")
        main = body.replace("{}", train_in_browser(view=view).html())
        page.set_content(f"<!doctype html><html lang='en'><title>panel</title><body><main>{main}</main>")
        if still:
            page.wait_for_function(f"{PANEL}.pair")
        return page

    yield open_one
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture
def page(open_panel: OPEN) -> Page:
    """A page with the default panel."""
    return open_panel()


def look(page: Page, expression: str) -> Any:
    """Evaluate an expression of the first panel."""
    return page.evaluate(f"{PANEL}.{expression}")


def train(page: Page, n_steps: int) -> None:
    """Take steps at once, and draw."""
    page.evaluate(f"for (let i = 0; i < {n_steps}; i++) {PANEL}.pair.advance(); {PANEL}.settle()")


def part(page: Page, name: str) -> Locator:
    return page.locator(f"[data-part='{name}']")


def picture(page: Page, name: str) -> str:
    return part(page, name).evaluate("canvas => canvas.toDataURL()")


def control(page: Page, name: str) -> Locator:
    return page.locator(f"input[name='{name}']").first


def click(page: Page, name: str) -> None:
    page.locator(".browser-toy").first.get_by_role("button", name=name).click()


def start() -> DisentangledNetwork:
    return DisentangledNetwork(hidden=CONFIG.hidden, last_layer_init=CONFIG.last_layer_init, seed=SEED)


def steps(page: Page, **changed: Any) -> dict[str, Any]:
    """What the script makes of samlib's own network, examples and batches."""
    numbers = {
        "weights": {name: values.flatten().tolist() for name, values in start().weights()._asdict().items()},
        "data": {name: values.flatten().tolist() for name, values in DATA._asdict().items()},
        "batches": BATCHES.flatten(0, 1)[:N_STEPS].tolist(),
        "order": ORDER[0].tolist(),
        "rate": CONFIG.learning_rate,
        "lenders": [],
    }
    return page.evaluate(RUN, numbers | changed)


def assert_close(found: list[Any], expected: Any) -> None:
    expected = np.asarray(expected)
    assert (np.abs(np.array(found) - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()


def assert_weights_close(found: dict[str, Any], expected: DisentangledNetwork) -> None:
    for name, values in expected.weights()._asdict().items():
        assert_close(found["weights"][name], values.flatten())


@pytest.mark.parametrize("rho", [0.0, 0.5, 2.0])
def test_script_gives_the_reference_s_numbers_after_a_hundred_steps(page: Page, rho: float) -> None:
    network, trace = start(), []
    for batch in BATCHES.flatten(0, 1)[:N_STEPS]:
        inputs, labels = DATA.inputs[batch], DATA.labels[batch]
        (gradient,) = torch.autograd.grad(softplus(-labels * network(inputs)).mean(), network.v)
        v = network.v.detach().clone()
        trace.append((v, phantom(v[None], gradient[None], torch.tensor([rho], dtype=v.dtype))[0]))
        lsam_step(network, inputs, labels, rho=rho, learning_rate=CONFIG.learning_rate)
    found = steps(page, rho=rho)
    assert_weights_close(found, network)
    pairs = zip(start().weights(), network.weights(), strict=True)
    assert max(float((after - before).abs().max()) for before, after in pairs) > 0.01  # a thousand tolerances
    v, moved = (torch.stack(values) for values in zip(*trace, strict=True))
    assert_close(found["v"], v)
    assert_close(found["phantom"], moved)
    assert torch.equal(v, moved) == (rho == 0)
    examples = Examples(*(values[None] for values in DATA))
    weights = importance_weights(network.weights(), examples, ORDER[:1], rho=rho, batch_size=CONFIG.batch_size)
    assert_close(found["real"], weights.real[0])
    assert_close(found["moved"], weights.phantom[0])
    assert found["gini"] == pytest.approx(gini(weights.phantom[0]), abs=1e-5)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(
    ("term", "named"), [("importance", "importance weights"), ("rate", "learning rates"), ("both", "both")]
)
def test_script_gives_the_reference_s_numbers_with_an_intervention(page: Page, term: str, named: str, vector: str):
    intervention = {"vector": vector, "ratio": 3.0, "length": 8**0.5, "term": named}
    lenders = BATCHES.roll(BATCHES.shape[1] // 2, 1).flatten(0, 1)[:N_STEPS].tolist() if vector == "permuted" else []
    found = steps(page, rho=0.5, intervention=intervention, lenders=lenders)
    own = {"ratio": 3.0} if vector == "fixed" else {"rho": 0.5, "last_layer": "weighted"}
    expected = train_reference(CONFIG.vary(term=term, vector=vector, **own), seed=SEED, n_steps=N_STEPS)
    assert_weights_close(found, expected)


@pytest.mark.parametrize(
    ("view", "slider"), [("phantom", "rho"), ("weights", "seed"), ("ratio", "term"), ("ratio", "ratio")]
)
def test_every_picture_of_a_view_moves_with_the_training_and_restart_goes_back(
    open_panel: OPEN, view: str, slider: str
):
    page = open_panel(view)
    pictures = "[...document.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
    before = page.evaluate(pictures)
    train(page, 200)
    assert all(old != new for old, new in zip(before, page.evaluate(pictures), strict=True))
    click(page, "Restart")
    assert page.evaluate(pictures) == before
    told = control(page, slider).get_attribute("aria-valuetext")
    control(page, slider).press("ArrowLeft")
    assert control(page, slider).get_attribute("aria-valuetext") != told


def test_the_browser_draws_from_the_distribution_of_samlib(page: Page) -> None:
    parts = f"[{PANEL}.pair.test.inputs, {PANEL}.pair.test.labels].map(part => Array.from(part))"
    inputs, labels = map(np.array, page.evaluate(parts))
    expected = sample(CONFIG.data, seed=0, split="test")
    found = labels[:, None] * inputs.reshape(-1, 4)
    wanted = (expected.labels[:, None] * expected.inputs).numpy()
    assert found.shape == wanted.shape == (2000, 4)
    for statistic in (np.mean, np.std):  # both within five standard errors: no column spreads wider than 2.5
        assert np.abs(statistic(found, axis=0) - statistic(wanted, axis=0)).max() < 5 * 2.5 * (2 / 2000) ** 0.5
    for extreme in (np.min, np.max):
        assert np.allclose(extreme(found, axis=0), extreme(wanted, axis=0), atol=0.1)
    assert abs(np.mean(labels)) < 5 / 2000**0.5


def test_panel_waits_where_motion_is_unwanted(page: Page) -> None:
    page.wait_for_timeout(300)
    assert look(page, "step") == 0
    assert part(page, "status").inner_text().startswith("Step 0 of 15,000.")


def test_both_methods_start_equal_and_lsam_then_learns_the_hard_feature_better(page: Page) -> None:
    assert picture(page, "sgd-hard") == picture(page, "lsam-hard")
    train(page, 3000)
    assert picture(page, "sgd-hard") != picture(page, "lsam-hard")
    sgd, lsam, label = (
        float(part(page, f"{name}-error").inner_text().removesuffix("\u00a0%"))
        for name in ("sgd-hard", "lsam-hard", "lsam-label")
    )
    assert 2 * lsam < sgd and label == 0.0


def test_lorenz_curves_count_from_the_most_important_example_as_in_the_chapters(page: Page) -> None:
    train(page, 1000)
    above, below = part(page, "lorenz").evaluate(
        """canvas => {
            const {width, height} = canvas, counts = [0, 0];
            const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
            for (let i = 0; i < data.length; i += 4) {
                const at = i / 4, x = (at % width) / width, y = 1 - Math.floor(at / width) / height;
                const colours = data.slice(i, i + 3), isCurve = Math.max(...colours) - Math.min(...colours) > 80;
                if (isCurve && data[i + 3] > 200 && Math.abs(y - x) > 0.15) counts[y > x ? 0 : 1] += 1;
            }
            return counts;
        }"""
    )
    assert above > 100 and below == 0


def test_radius_zero_is_sgd(page: Page) -> None:
    control(page, "rho").fill("0")
    train(page, 100)
    assert picture(page, "sgd-hard") == picture(page, "lsam-hard")
    assert part(page, "lsam-title").inner_text() == "LSAM, ρ = 0 (SGD)"


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [("rho", "lorenz", "1.1"), ("complexity", "sgd-hard", "375°"), ("seed", "lsam-hard", "7")],
)
def test_sliders_change_the_picture_by_keyboard(page: Page, name: str, changed: str, told: str) -> None:
    before = picture(page, changed)
    control(page, name).press("ArrowRight")
    assert picture(page, changed) != before
    assert control(page, name).get_attribute("aria-valuetext") == told
    assert page.locator("label", has=control(page, name)).locator("output").inner_text() == told
    control(page, name).press("ArrowLeft")
    assert picture(page, changed) == before


def test_a_changed_slider_starts_over_with_its_value(page: Page) -> None:
    train(page, 60)
    control(page, "learningRate").press("ArrowRight")
    assert look(page, "step") == 0 and look(page, "pair.values.learningRate") == 0.02


def test_train_moves_the_steps_pause_stops_them_and_restart_goes_back(page: Page) -> None:
    click(page, "Train")
    page.wait_for_function(f"{PANEL}.step >= 100")
    click(page, "Pause")
    step = look(page, "step")
    page.wait_for_timeout(200)
    assert look(page, "step") == step < 15_000
    assert part(page, "status").inner_text().startswith(f"Step {step:,} of 15,000.")
    assert part(page, "progress").evaluate("bar => bar.value") == step
    click(page, "Restart")
    assert look(page, "step") == 0


def test_training_ends_by_itself_and_can_start_again(page: Page) -> None:
    page.evaluate(f"{PANEL}.settings.nSteps = 150")
    click(page, "Train")
    page.wait_for_function(f"{PANEL}.step === 150 && !{PANEL}.target")
    assert len(look(page, "pair.curves.phantom")) == 3  # windows of 50 steps
    click(page, "Train")
    page.wait_for_function(f"{PANEL}.step > 0 && {PANEL}.step < 150 || !{PANEL}.target")
    page.wait_for_function(f"{PANEL}.step === 150 && !{PANEL}.target")


def test_divergence_is_said_and_ends_the_training(page: Page) -> None:
    click(page, "Train")
    page.evaluate(f"{PANEL}.pair.networks.sgd.v[0] = NaN")
    page.wait_for_function(f"!{PANEL}.target")
    assert "The training diverged" in part(page, "status").inner_text()


def test_nothing_is_computed_before_the_panel_is_seen_and_it_then_begins_and_stops(open_panel: OPEN) -> None:
    page = open_panel(body=TALL + "{}", still=False)
    page.wait_for_timeout(300)
    assert look(page, "pair") is None
    page.locator(".browser-toy").scroll_into_view_if_needed()
    page.wait_for_function(f"{PANEL}.step > 0")
    page.wait_for_function(f"!{PANEL}.target")
    assert 0 < look(page, "step") <= 3000
    click(page, "Train")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"!{PANEL}.visible")
    step = look(page, "step")
    page.wait_for_timeout(300)
    assert look(page, "step") == step


def test_the_opening_has_its_whole_time_after_a_changed_slider_and_after_an_absence(open_panel: OPEN) -> None:
    page = open_panel(body="{}" + TALL, still=False)
    page.wait_for_function(f"{PANEL}.step > 0")
    end = look(page, "end")
    assert part(page, "status").get_attribute("aria-busy") == "true"  # read aloud when it has ended
    page.wait_for_timeout(300)
    control(page, "seed").press("ArrowRight")
    assert look(page, "end") >= end + 300
    page.evaluate("scrollTo(0, 3000)")
    page.wait_for_function(f"!{PANEL}.visible")
    page.wait_for_timeout(300)
    end = look(page, "end")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"{PANEL}.visible")
    assert look(page, "end") >= end + 300
    page.wait_for_function(f"!{PANEL}.target")
    assert part(page, "status").get_attribute("aria-busy") == "false"


def test_the_ratio_can_be_chosen_where_it_counts(open_panel: OPEN) -> None:
    page = open_panel("ratio")
    assert control(page, "ratio").is_enabled() and look(page, "values.vector") == "fixed"
    control(page, "vector").press("ArrowRight")
    assert control(page, "ratio").is_disabled() and look(page, "values.vector") != "fixed"


def test_several_panels_on_one_page_do_not_disturb_each_other(open_panel: OPEN) -> None:
    page = open_panel(body="{}{}{}")
    page.locator("input[name='seed']").last.fill("8")
    click(page, "Train")
    page.wait_for_function(f"{PANEL}.step >= 100")
    panels = page.locator(".browser-toy").evaluate_all("all => all.map(({panel}) => [panel.step, panel.values.seed])")
    (trained, first), *others = panels
    assert trained >= 100 and first == 6 and others == [[0, 6], [0, 8]]
