"""The toy's script in a real browser: its numbers against samlib's own, its panel under mouse and keyboard."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from plain_toy import train_reference
from playwright.sync_api import Browser, Page
from torch.nn.functional import softplus

from edition.widgets import train_in_browser
from edition.widgets.browser import VECTORS
from samlib.measures.importance import gini, importance_weights
from samlib.toy.config import ToyConfig
from samlib.toy.data import Examples, batch_order, sample
from samlib.toy.interventions import phantom
from samlib.toy.network import DisentangledNetwork
from samlib.toy.reference import lsam_step

N_STEPS, SEED = 100, 3
OPEN = Callable[..., Page]
RUN = """({weights, data, batches, order, rho, rate}) => {
    const typed = {inputs: Float64Array.from(data.inputs), labels: Float64Array.from(data.labels)};
    const {network, v, phantom, weights: found} = samlibToy.steps(weights, data, batches, rho, rate);
    const importance = samlibToy.importance(network, typed, order, rho, batches[0].length);
    return {
        v, phantom,
        weights: Object.fromEntries(Object.entries(found).map(([name, values]) => [name, Array.from(values)])),
        real: Array.from(importance.real),
        moved: Array.from(importance.phantom),
        gini: samlibToy.gini(samlibToy.lorenz(importance.phantom)),
    };
}"""
PANEL = "document.querySelector('.browser-toy').panel"


@pytest.fixture
def open_panel(browser: Browser) -> Iterator[OPEN]:
    """Opens a page around panels; at the end no page may have raised an error or asked the network for anything."""
    pages, wrong = [], []

    def open_one(body: str, *, still: bool = True) -> Page:
        page = browser.new_page(viewport={"width": 800, "height": 900})
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.emulate_media(reduced_motion="reduce" if still else "no-preference")
        page.set_content(f"<!doctype html><html lang='en'><title>panel</title><body><main>{body}</main>")
        return page

    yield open_one
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture
def page(open_panel: OPEN) -> Page:
    """A page with the default panel, for a reader who wants no motion: it waits to be asked."""
    page = open_panel(train_in_browser().html())
    page.wait_for_function(f"{PANEL}.pair")
    return page


def look(page: Page, expression: str) -> Any:
    """Evaluate an expression of the first panel."""
    return page.evaluate(f"{PANEL}.{expression}")


def picture(page: Page, part: str) -> str:
    return page.evaluate(f"document.querySelector('[data-part=\"{part}\"]').toDataURL()")


def press(page: Page, name: str, key: str) -> None:
    page.locator(f"input[name='{name}']").first.press(key)


def reference(rho: float) -> dict[str, Any]:
    """Train samlib's own network and keep v and v~ of every step."""
    config = ToyConfig(rho=rho)
    examples = sample(config.data, seed=SEED, split="train")
    order = batch_order(config.data.n_train, 2, seed=SEED)
    batches = order.view(-1, config.batch_size)[:N_STEPS]
    network = DisentangledNetwork(hidden=config.hidden, last_layer_init=config.last_layer_init, seed=SEED)
    start = network.weights()
    trace = []
    for batch in batches:
        inputs, labels = examples.inputs[batch], examples.labels[batch]
        (gradient,) = torch.autograd.grad(softplus(-labels * network(inputs)).mean(), network.v)
        v = network.v.detach().clone()
        trace.append((v, phantom(v[None], gradient[None], torch.tensor([rho], dtype=v.dtype))[0]))
        lsam_step(network, inputs, labels, rho=rho, learning_rate=config.learning_rate)
    weights = network.weights()
    importance = importance_weights(
        weights, Examples(*(part[None] for part in examples)), order[:1], rho=rho, batch_size=config.batch_size
    )
    numbers = {
        "weights": {name: part.flatten().tolist() for name, part in zip(start._fields, start, strict=True)},
        "data": {"inputs": examples.inputs.flatten().tolist(), "labels": examples.labels.tolist()},
        "batches": batches.tolist(),
        "order": order[0].tolist(),
        "rho": rho,
        "rate": config.learning_rate,
    }
    return {"numbers": numbers, "start": start, "weights": weights, "trace": trace, "importance": importance}


def assert_close(found: list[Any], expected: Any) -> None:
    expected = np.asarray(expected)
    assert (np.abs(np.array(found) - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("rho", [0.0, 0.5, 2.0])
def test_script_gives_the_reference_s_numbers_after_a_hundred_steps(page: Page, rho: float) -> None:
    expected = reference(rho)
    found = page.evaluate(RUN, expected["numbers"])
    moved = 0.0
    for name, before, after in zip(expected["start"]._fields, expected["start"], expected["weights"], strict=True):
        assert_close(found["weights"][name], after.flatten())
        moved = max(moved, float((after - before).abs().max()))
    assert moved > 0.01  # a thousand tolerances
    v, moved_v = (torch.stack(part) for part in zip(*expected["trace"], strict=True))
    assert_close(found["v"], v)
    assert_close(found["phantom"], moved_v)
    assert_close([hard / easy for easy, hard in found["phantom"]], moved_v[:, 1] / moved_v[:, 0])
    assert torch.equal(v, moved_v) == (rho == 0)
    real, at_phantom, _ = expected["importance"]
    assert_close(found["real"], real[0])
    assert_close(found["moved"], at_phantom[0])
    assert found["gini"] == pytest.approx(gini(at_phantom[0]), abs=1e-5)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(
    ("term", "named"), [("importance", "importance weights"), ("rate", "learning rates"), ("both", "both")]
)
def test_script_gives_the_reference_s_numbers_with_an_intervention(
    page: Page, term: str, named: str, vector: str
) -> None:
    numbers, config = reference(0.0)["numbers"], ToyConfig()
    intervention = {"vector": vector, "ratio": 3.0, "length": 8**0.5, "term": named}
    per_epoch = config.data.n_train // config.batch_size
    batches = batch_order(config.data.n_train, 2, seed=SEED).view(2, per_epoch, -1)
    lenders = batches.roll(per_epoch // 2, 1).flatten(0, 1)[:N_STEPS].tolist()
    found = page.evaluate(
        "({weights, data, batches, rho, rate, intervention, lenders}) => Object.fromEntries(Object.entries("
        "samlibToy.steps(weights, data, batches, rho, rate, intervention, lenders).weights)"
        ".map(([name, x]) => [name, Array.from(x)]))",
        numbers | {"intervention": intervention, "rho": 0.5, "lenders": lenders if vector == "permuted" else []},
    )
    own = {"ratio": 3.0} if vector == "fixed" else {"rho": 0.5, "last_layer": "weighted"}
    expected = train_reference(ToyConfig().vary(term=term, vector=vector, **own), seed=SEED, n_steps=N_STEPS).weights()
    for name, part in zip(expected._fields, expected, strict=True):
        assert_close(found[name], part.flatten())


@pytest.mark.parametrize(
    ("view", "slider"), [("phantom", "rho"), ("weights", "seed"), ("ratio", "term"), ("ratio", "ratio")]
)
def test_every_picture_of_a_view_moves_with_the_training_and_restart_goes_back(
    open_panel: OPEN, view: str, slider: str
) -> None:
    page = open_panel(train_in_browser(view=view).html())
    page.wait_for_function(f"{PANEL}.pair")
    pictures = "[...document.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
    before = page.evaluate(pictures)
    page.evaluate(f"for (let i = 0; i < 200; i++) {PANEL}.pair.advance(); {PANEL}.settle()")
    assert all(old != new for old, new in zip(before, page.evaluate(pictures), strict=True))
    page.get_by_role("button", name="Restart").click()
    assert page.evaluate(pictures) == before
    told = page.locator(f"input[name='{slider}']").get_attribute("aria-valuetext")
    press(page, slider, "ArrowLeft")
    assert page.locator(f"input[name='{slider}']").get_attribute("aria-valuetext") != told


def test_the_browser_draws_from_the_distribution_of_samlib(page: Page) -> None:
    inputs, labels = page.evaluate(
        f"[{PANEL}.pair.test.inputs, {PANEL}.pair.test.labels].map(part => Array.from(part))"
    )
    expected = sample(ToyConfig().data, seed=0, split="test")
    found = np.array(labels)[:, None] * np.array(inputs).reshape(-1, 4)
    wanted = (expected.labels[:, None] * expected.inputs).numpy()
    assert found.shape == wanted.shape == (2000, 4)
    for statistic in (np.mean, np.std):  # both within five standard errors: no column spreads wider than 2.5
        assert np.abs(statistic(found, axis=0) - statistic(wanted, axis=0)).max() < 5 * 2.5 * (2 / 2000) ** 0.5
    for extreme in (np.min, np.max):
        assert np.allclose(extreme(found, axis=0), extreme(wanted, axis=0), atol=0.1)
    assert abs(np.mean(labels)) < 5 / 2000**0.5


def test_panel_shows_the_untrained_networks_and_waits_where_motion_is_unwanted(page: Page) -> None:
    page.wait_for_timeout(300)
    assert look(page, "step") == 0
    assert page.locator("[data-part='status']").inner_text().startswith("Step 0 of 15,000.")
    colours = page.evaluate(
        """() => {
            const canvas = document.querySelector("[data-part='sgd-hard']");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(pixels.buffer)).size;
        }"""
    )
    assert colours > 50


def test_both_methods_start_equal_and_lsam_then_learns_the_hard_feature_better(page: Page) -> None:
    assert picture(page, "sgd-hard") == picture(page, "lsam-hard")
    page.evaluate(f"for (let i = 0; i < 3000; i++) {PANEL}.pair.advance(); {PANEL}.settle()")
    assert picture(page, "sgd-hard") != picture(page, "lsam-hard")
    sgd, lsam = (
        float(page.locator(f"[data-part='{name}-hard-error']").inner_text().removesuffix("\u00a0%"))
        for name in ("sgd", "lsam")
    )
    assert 2 * lsam < sgd
    assert page.locator("[data-part='lsam-label-error']").inner_text() == "0.0\u00a0%"


def test_lorenz_curves_count_from_the_most_important_example_as_in_the_chapters(page: Page) -> None:
    page.evaluate(f"for (let i = 0; i < 1000; i++) {PANEL}.pair.advance(); {PANEL}.settle()")
    above, below = page.evaluate(
        """() => {
            const canvas = document.querySelector("[data-part='lorenz']"), {width, height} = canvas;
            const {data} = canvas.getContext("2d").getImageData(0, 0, width, height), counts = [0, 0];
            for (let i = 0; i < data.length; i += 4) {
                const at = i / 4, x = (at % width) / width, y = 1 - Math.floor(at / width) / height;
                const colours = data.slice(i, i + 3), isCurve = Math.max(...colours) - Math.min(...colours) > 80;
                if (isCurve && data[i + 3] > 200 && Math.abs(y - x) > 0.15) counts[y > x ? 0 : 1] += 1;
            }
            return counts;
        }"""
    )
    assert above > 100 and below == 0


def test_radius_zero_is_sgd(open_panel: OPEN) -> None:
    page = open_panel(train_in_browser().html())
    page.wait_for_function(f"{PANEL}.pair")
    page.locator("input[name='rho']").fill("0")
    page.evaluate(f"for (let i = 0; i < 100; i++) {PANEL}.pair.advance(); {PANEL}.settle()")
    assert picture(page, "sgd-hard") == picture(page, "lsam-hard")
    assert page.locator("[data-part='lsam-title']").inner_text() == "LSAM, ρ = 0 (SGD)"


@pytest.mark.parametrize(
    ("name", "part", "told"),
    [("rho", "lorenz", "1.1"), ("complexity", "sgd-hard", "375°"), ("seed", "lsam-hard", "7")],
)
def test_sliders_change_the_picture_by_keyboard(page: Page, name: str, part: str, told: str) -> None:
    before = picture(page, part)
    press(page, name, "ArrowRight")
    assert picture(page, part) != before
    control = page.locator(f"input[name='{name}']")
    assert control.get_attribute("aria-valuetext") == told
    assert page.locator("label", has=control).locator("output").inner_text() == told
    press(page, name, "ArrowLeft")
    assert picture(page, part) == before


def test_a_changed_slider_starts_over_with_its_value(page: Page) -> None:
    page.evaluate(f"for (let i = 0; i < 60; i++) {PANEL}.pair.advance()")
    press(page, "learningRate", "ArrowRight")
    assert look(page, "step") == 0 and look(page, "pair.values.learningRate") == 0.02


def test_train_moves_the_steps_pause_stops_them_and_restart_goes_back(page: Page) -> None:
    page.get_by_role("button", name="Train").click()
    page.wait_for_function(f"{PANEL}.step >= 100")
    page.get_by_role("button", name="Pause").click()
    step = look(page, "step")
    page.wait_for_timeout(200)
    assert look(page, "step") == step < 15_000
    assert page.locator("[data-part='status']").inner_text().startswith(f"Step {step:,} of 15,000.")
    assert page.locator("progress").evaluate("bar => bar.value") == step
    page.get_by_role("button", name="Restart").click()
    assert look(page, "step") == 0


def test_training_ends_by_itself_and_can_start_again(page: Page) -> None:
    page.evaluate(f"{PANEL}.settings.nSteps = 150")
    page.get_by_role("button", name="Train").click()
    page.wait_for_function(f"{PANEL}.step === 150 && !{PANEL}.target")
    assert len(look(page, "pair.curves.phantom")) == 3  # windows of 50 steps
    page.get_by_role("button", name="Train").click()
    page.wait_for_function(f"{PANEL}.step > 0 && {PANEL}.step < 150 || !{PANEL}.target")
    page.wait_for_function(f"{PANEL}.step === 150 && !{PANEL}.target")


def test_divergence_is_said_and_ends_the_training(page: Page) -> None:
    page.get_by_role("button", name="Train").click()
    page.evaluate(f"{PANEL}.pair.networks.sgd.v[0] = NaN")
    page.wait_for_function(f"!{PANEL}.target")
    assert "The training diverged" in page.locator("[data-part='status']").inner_text()


def test_nothing_is_computed_before_the_panel_is_seen_and_it_then_begins_and_stops(open_panel: OPEN) -> None:
    page = open_panel(f"<div style='height: 3000px'></div>{train_in_browser().html()}", still=False)
    page.wait_for_timeout(300)
    assert look(page, "pair") is None
    page.locator(".browser-toy").scroll_into_view_if_needed()
    page.wait_for_function(f"{PANEL}.step > 0")
    page.wait_for_function(f"!{PANEL}.target")
    assert 0 < look(page, "step") <= 3000
    page.get_by_role("button", name="Train").click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"!{PANEL}.visible")
    step = look(page, "step")
    page.wait_for_timeout(300)
    assert look(page, "step") == step


def test_the_opening_has_its_whole_time_after_a_changed_slider_and_after_an_absence(open_panel: OPEN) -> None:
    page = open_panel(f"{train_in_browser().html()}<div style='height: 3000px'></div>", still=False)
    page.wait_for_function(f"{PANEL}.step > 0")
    end, status = look(page, "end"), page.locator("[data-part='status']")
    assert status.get_attribute("aria-busy") == "true"  # read aloud when it has ended
    page.wait_for_timeout(300)
    press(page, "seed", "ArrowRight")
    assert look(page, "end") >= end + 300
    page.evaluate("scrollTo(0, 3000)")
    page.wait_for_function(f"!{PANEL}.visible")
    page.wait_for_timeout(300)
    end = look(page, "end")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"{PANEL}.visible")
    assert look(page, "end") >= end + 300
    page.wait_for_function(f"!{PANEL}.target")
    assert status.get_attribute("aria-busy") == "false"


def test_the_ratio_can_be_chosen_where_it_counts(open_panel: OPEN) -> None:
    page = open_panel(train_in_browser(view="ratio").html())
    page.wait_for_function(f"{PANEL}.pair")
    ratio = page.locator("input[name='ratio']")
    assert ratio.is_enabled() and look(page, "values.vector") == "fixed"
    press(page, "vector", "ArrowRight")
    assert ratio.is_disabled() and look(page, "values.vector") != "fixed"


def test_two_panels_on_one_page_do_not_disturb_each_other(open_panel: OPEN) -> None:
    block = train_in_browser().html()
    page = open_panel(block + block + train_in_browser().html())
    page.locator("input[name='seed']").last.fill("8")
    page.wait_for_function("[...document.querySelectorAll('.browser-toy')].filter(box => box.panel.pair).length > 0")
    page.locator(".browser-toy").first.get_by_role("button", name="Train").click()
    page.wait_for_function(f"{PANEL}.step >= 100")
    steps, seeds = page.evaluate(
        """() => {
            const panels = [...document.querySelectorAll('.browser-toy')].map(box => box.panel);
            return [panels.map(panel => panel.step), panels.map(panel => panel.values.seed)];
        }"""
    )
    assert steps[0] >= 100 and steps[1:] == [0, 0] and seeds == [6, 6, 8]
