"""The main job in a real browser: log in, launch, label by keyboard, read the leaderboard."""

from typing import Any

import pytest
from django.db import transaction
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from competition.models import Competition, Round, RoundState, Snapshot
from corpora.models import Corpus
from jobs.inline import run_all_inline
from jobs.models import Job, JobState
from labeling.models import Judgement, Slot
from models_zoo.models import Version
from tests.competition.builders import label_all, labels_of
from tests.competition.builders_gmad import make_quality_versions, truthful

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def work_until_idle(page: Any) -> None:
    """What the workers would do; the page waits elsewhere, or its own reload at a job's end meets the next address."""
    page.goto("about:blank")
    for _ in range(5):
        Job.objects.filter(state=JobState.QUEUED).update(not_before=None)
        if not run_all_inline():
            return


@pytest.fixture
def page(chromium: Any) -> Any:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def log_in(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/accounts/login/")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", f"{name}-password")
    page.click("button[type=submit]:has-text('Log in')")
    page.wait_for_url(f"{address}/")


def launch_from_admin(page: Any, address: str, corpus: Corpus, versions: list[Version]) -> None:
    page.goto(f"{address}/admin/competition/competition/add/")
    page.fill("input[name=name]", "From the admin")
    page.select_option("select[name=corpus]", str(corpus.pk))
    for version in versions:
        page.check(f"input[name=versions][value='{version.pk}']")
    for name, value in {"k": 3, "reserve": 2, "control_size": 2, "overlap": 1, "duplicate_distance": ""}.items():
        page.fill(f"input[name={name}]", str(value))
    page.click("button[name=_save]")
    page.wait_for_url("**/launch/")
    assert "judgements at most" in page.inner_text("body")
    page.click("button:has-text('Launch now')")
    page.wait_for_load_state()


def answer_key(labels: Any, slot: int, shown: list[str]) -> str:
    """The key of the true answer; ``shown`` are the class names left to right."""
    trial = Slot.objects.select_related("trial__item", "campaign__taxonomy").get(pk=slot).trial
    truth = trial.campaign.taxonomy.classes[int(labels[trial.item.row])]["name"]
    right = [name == truth for name in shown]
    if len(right) == 1:
        return "ArrowUp" if right[0] else "ArrowDown"
    return {(True, False): "ArrowLeft", (False, True): "ArrowRight", (False, False): "ArrowDown"}[tuple(right)]


def label_everything(page: Any, corpus: Corpus, count: int) -> None:
    labels = labels_of(corpus)
    for _ in range(count):
        picture = page.locator("#stage img:not([hidden])").first
        picture.wait_for()
        slot = int(picture.get_attribute("src").split("/label/slots/")[1].split("/")[0])
        shown = [
            page.inner_text(f"{card} h2") for card in ("#card-left", "#card-right") if page.locator(card).is_visible()
        ]
        page.keyboard.press(answer_key(labels, slot, shown))
        page.wait_for_function(
            """(slot) => !document.querySelector(`#stage img[src*="/slots/${slot}/"]`)
                      || document.querySelector("#finish:not([hidden])")
                      || location.pathname.endsWith("/thanks/")""",
            arg=slot,
        )


def test_from_the_admin_to_the_leaderboard(
    page: Any, live_server: LiveServer, corpus: Corpus, versions: list[Version], researcher: User
) -> None:
    address = live_server.url
    log_in(page, address, "researcher")
    launch_from_admin(page, address, corpus, versions)
    work_until_idle(page)
    competition = Competition.objects.get(name="From the admin")
    round_ = Round.objects.get(competition=competition)
    assert round_.state == RoundState.LABELLING
    required = Slot.objects.filter(campaign=round_.campaign).count()
    assert required >= 9

    page.goto(f"{address}/label/{round_.campaign_id}/")
    page.click("form button.btn-primary")
    page.click("#start-button")
    label_everything(page, corpus, required)
    page.wait_for_url("**/thanks/")
    assert Judgement.objects.filter(campaign=round_.campaign, superseded_at=None).count() == required

    work_until_idle(page)
    round_.refresh_from_db()
    assert round_.state == RoundState.COMPLETE
    page.goto(f"{address}/competitions/{competition.pk}/")
    text = page.inner_text("main")
    best = Snapshot.objects.filter(competition=competition).latest("number").standings.get(rank=1)
    assert best.entrant.version == versions[0]
    assert str(versions[0]) in text
    with transaction.atomic():
        standing_rows = Snapshot.objects.latest("number").standings.count()
    assert standing_rows == len(versions)


def make_by_form(page: Any, corpus: Corpus, versions: list[Version]) -> None:
    """Fill in the form of quality models, watch what it will take, save, launch."""
    page.goto("/competitions/new/")
    page.click(".kind:has-text('gMAD')")
    page.wait_for_url("**kind=gmad")
    assert page.locator("[name=threshold]").count() == 0
    page.fill("[name=name]", "Pairs by form")
    page.select_option("[name=corpus]", str(corpus.pk))
    for version in versions:
        page.check(f"[name=versions][value='{version.pk}']")
    for name, value in {"half_width": 12, "control_size": 4, "overlap": 2, "duplicate_distance": ""}.items():
        page.fill(f"[name={name}]", str(value))
    page.fill("[name=levels]", "3")
    page.locator("[name=levels]").dispatch_event("change")
    page.locator("#preview .stat:has-text('from 6 duels') strong:text-is('18')").wait_for()
    page.click("button:has-text('Save and go to launch')")
    page.wait_for_url("**/launch/")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("button:text-is('Launch')")
    page.wait_for_url(lambda address: not address.endswith("/launch/"))


def overflow(page: Any) -> int:
    """Pixels by which the page is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def test_quality_models_from_the_form_to_the_pair_that_falsifies(
    browser_page: Any, corpus: Corpus, researcher: User, tmp_path: Any
) -> None:
    page = browser_page
    page.log_in(researcher)
    make_by_form(page, corpus, make_quality_versions(corpus, tmp_path, by=researcher))
    work_until_idle(page)
    competition = Competition.objects.get(name="Pairs by form")
    label_all(competition.rounds.get().campaign, judge=truthful, people=2)
    work_until_idle(page)
    assert competition.rounds.get().state == RoundState.COMPLETE

    page.goto(competition.get_absolute_url())
    for title in ("Aggressiveness", "Resistance", "Attack and defence", "Levels and calibration"):
        assert page.locator(f":is(h2, h3):has-text('{title}')").count() >= 1
    cell = page.locator(".heat td a[href*='attacker=']").first
    pairs = int(cell.locator(".count").inner_text())
    cell.click()
    page.wait_for_url("**attacker=*")
    assert page.locator("a.tile").count() == pairs
    page.locator("a.tile").first.click()
    pictures = page.locator(".exhibit-pair img")
    assert pictures.count() == 2
    assert all(pictures.nth(at).evaluate("image => image.decode().then(() => image.naturalWidth)") for at in range(2))
    exhibit = page.url
    for width in (1280, 420):
        page.set_viewport_size({"width": width, "height": 800})
        for address in (exhibit, competition.get_absolute_url(), f"{competition.get_absolute_url()}exhibits/"):
            page.goto(address)
            assert overflow(page) <= 0, (width, address)
