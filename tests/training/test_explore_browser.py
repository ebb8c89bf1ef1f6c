"""Explorers in a real browser: sliders answer at once, with the keyboard, and say what was measured."""

import json
import time
from typing import Any

import pytest

from accounts.models import User
from jobs.models import JobState
from tests.training.explorers import IMAGES, LAMBDAS, atmc_content, give_explorer, oat_content, rdi_content
from tests.training.page_builders import make_run
from training.engine.registry import Method
from training.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def run(admin: User, sketch: Method) -> Run:
    return make_run(admin, state=JobState.SUCCEEDED)


def opened(page: Any, admin: User, run: Run, kind: str) -> None:
    give_explorer(run, kind)
    page.log_in(admin)
    page.goto(run.get_absolute_url())
    page.click("a:has-text('Explore')")
    page.wait_for_selector("[data-readings] dd")


def test_oat_moves_along_its_trade_off(browser_page: Any, admin: User, run: Run) -> None:
    opened(browser_page, admin, run, "oat")
    content = oat_content()
    lam = browser_page.locator("#lam")
    lam.focus()
    browser_page.keyboard.press("End")
    at = len(LAMBDAS) * 2 - 1  # lambda 1 at the full width
    point = content["points"][at]
    said = browser_page.inner_text("[data-readings]")
    assert f"{100 * point['sa']['value']:.1f} % (68.0 to 72.0)" in said
    assert f"{100 * point['ra']['value']:.1f} %" in said
    right = sum(entry[0] == label for entry, label in zip(content["attacked"][at], content["labels"], strict=True))
    assert f"Of {IMAGES} images 8 are right clean, {right} attacked." in browser_page.inner_text("[data-score]")
    browser_page.keyboard.press("Home")
    assert browser_page.inner_text("[data-lam]") == "0"
    assert browser_page.locator(".said.is-wrong").count() == IMAGES - sum(
        entry[0] == label for entry, label in zip(content["attacked"][6], content["labels"], strict=True)
    )
    browser_page.locator("#width").focus()
    browser_page.keyboard.press("ArrowLeft")
    assert browser_page.inner_text("[data-width]") == "0.5"
    assert browser_page.url.endswith("#lam=0&width=0.5")
    assert "Trained, and adjustable to: λ 0, 0.1, 0.2, 0.3, 0.4, 1." in browser_page.inner_text("[data-trained]")
    browser_page.reload()
    browser_page.wait_for_selector("[data-readings] dd")
    assert (browser_page.inner_text("[data-lam]"), browser_page.inner_text("[data-width]")) == ("0", "0.5")


def test_oat_answers_within_300_ms(browser_page: Any, admin: User, run: Run) -> None:
    opened(browser_page, admin, run, "oat")
    browser_page.locator("#lam").focus()
    started = time.monotonic()
    for _ in range(5):
        browser_page.keyboard.press("ArrowRight")
    browser_page.wait_for_function("document.querySelector('[data-lam]').textContent === '1'")
    assert (time.monotonic() - started) / 3 < 0.3


def test_rdi_routes_the_images_itself(browser_page: Any, admin: User, run: Run) -> None:
    opened(browser_page, admin, run, "rdi")
    content = rdi_content()

    def groups() -> list[int]:
        return browser_page.eval_on_selector_all(
            ".exit-group", "groups => groups.map((group) => group.querySelectorAll('figure').length)"
        )

    def expected(point: dict[str, Any], entropies: list[list[float]]) -> list[int]:
        left = [0] * 4
        for row in entropies:
            left[next((at for at, limit in enumerate(point["thresholds"]) if row[at] < limit), 3)] += 1
        return left

    by_cost = sorted(content["points"], key=lambda point: point["macs_honest"])
    browser_page.locator("#budget").focus()
    for key, point in (("Home", by_cost[0]), ("End", by_cost[-1])):
        browser_page.keyboard.press(key)
        assert groups() == expected(point, content["entropies"])
        assert f"{100 * point['sa']['value']:.1f} %" in browser_page.inner_text("[data-readings]")
    browser_page.keyboard.press("Home")
    browser_page.keyboard.press("ArrowRight")
    browser_page.check("input[name=images][value=_attacked]")
    assert groups() == expected(by_cost[1], content["entropies_attacked"])
    honest = browser_page.inner_text("[data-budget]")
    browser_page.check("input[name=macs][value=macs_paper]")
    assert browser_page.inner_text("[data-budget]") != honest
    assert "routing-aware (worst)" in browser_page.inner_text("[data-attacks]")


def test_atmc_finds_the_best_within_a_size(browser_page: Any, admin: User, run: Run) -> None:
    opened(browser_page, admin, run, "atmc")
    content = atmc_content()
    browser_page.locator("#budget").focus()
    browser_page.keyboard.press("Home")
    rows = browser_page.locator("[data-best] tbody tr")
    smallest = min(point["bytes"] for point in content["points"])
    assert rows.first.inner_text().startswith("ATMC\tATMC 0.02")
    assert rows.last.inner_text().count("none so small") == 1
    assert browser_page.inner_text("[data-budget]") == f"{smallest / 1000:g} kB"
    browser_page.select_option("#size", "paper_bits")
    assert "bit" in browser_page.inner_text("[data-budget]")
    browser_page.select_option("#point", "ATMC 0.1")
    layers = browser_page.locator("[data-layers] tbody tr")
    assert layers.count() == 3
    assert layers.first.inner_text().split()[:3] == ["stem", "80.0", "%"]
    assert browser_page.locator("[data-layers] svg.codebook .code").count() == 12
    browser_page.select_option("#point", "AP 0.05")
    assert "Nothing was kept of the layers" in browser_page.inner_text("[data-layers]")


def test_the_page_fits_a_narrow_screen(browser_page: Any, admin: User, run: Run) -> None:
    browser_page.set_viewport_size({"width": 390, "height": 800})
    for kind in ("oat", "rdi", "atmc"):
        opened(browser_page, admin, run, kind)
        assert browser_page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, kind


def test_an_explorer_that_cannot_be_read_says_so(browser_page: Any, admin: User, run: Run) -> None:
    give_explorer(run, "oat")
    browser_page.log_in(admin)
    browser_page.route("**/explorer.json", lambda route: route.fulfill(status=500, body=json.dumps({})))
    browser_page.goto(f"{run.get_absolute_url()}explore/")
    browser_page.wait_for_selector("text=The explorer could not be read (the server answered 500)")
