"""A whole campaign in a real browser: keys, undo, skip, reload, network drop, touch, a small screen."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from labeling.models import Campaign, Judgement, Participation, Skip, Slot
from labeling.services import TrialSpec, invite_create, trials_add
from tests.labeling.builders import make_campaign, make_items, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def campaign(researcher: User) -> Campaign:
    return make_campaign(
        researcher, trials=6, files=True, overlap=1, purpose="To find flaws.", consent="We keep answers."
    )


def begin(page: Any, campaign: Campaign, person: User) -> None:
    page.log_in(person)
    page.goto(f"/label/{campaign.pk}/")
    page.wait_for_selector("#start[open]")
    page.keyboard.press("Enter")
    ready(page)


def ready(page: Any) -> None:
    """A picture is painted, and what was answered has been sent."""
    page.wait_for_selector("#stage img")
    page.wait_for_function("() => performance.getEntriesByName('trial-painted').length > 0")


def shown(page: Any) -> str:
    return str(page.get_attribute("#stage img", "src")).split("?")[0]


def press(page: Any, key: str) -> None:
    """One answer, once its trial is on screen."""
    before = shown(page)
    page.wait_for_timeout(60)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => !document.querySelector('#stage img')?.src.includes(before) || location.href.includes('thanks')",
        arg=before,
    )


def sent(page: Any) -> None:
    """Nothing waits to be posted any more."""
    page.wait_for_function("() => !Object.keys(localStorage).some((name) => name.startsWith('falsify:answers'))")


def test_a_whole_campaign_by_keyboard(browser_page: Any, campaign: Campaign, researcher: User) -> None:
    page = browser_page
    item = make_items(researcher, 1, start=50)[0]
    trials_add(campaign=campaign, trials=[TrialSpec(item, [0, 1], "training", {0: True, 1: False}, "It has whiskers.")])
    page.goto(f"/invite/{invite_create(campaign=campaign, by=researcher).code}/")
    page.fill("#display_name", "Ada")
    page.keyboard.press("Enter")
    page.check("#agree")
    page.click("text=I agree, go on")
    page.wait_for_selector("#start[open]")
    assert "1280 × 800" in page.inner_text("#check-window")
    page.keyboard.press("Enter")
    ready(page)
    assert page.is_visible("#training-mark")
    page.wait_for_timeout(60)
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#feedback:not([hidden])")
    assert "Not quite" in page.inner_text("#feedback")
    assert "It has whiskers." in page.inner_text("#feedback")
    page.keyboard.press("Enter")
    page.wait_for_selector("#trained[open]")
    page.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "KeyC", "KeyB"):
        press(page, key)
    page.wait_for_url("**/thanks/")
    assert "To find flaws." in page.inner_text("main")
    assert "6\nanswers you gave" in page.inner_text(".stats")
    judgements = list(Judgement.objects.exclude(trial__kind="training").order_by("pk"))
    assert [judgement.kind for judgement in judgements] == ["answer"] * 4 + ["cannot_tell", "broken"]
    for judgement, (left, right) in zip(
        judgements, [(True, False), (False, True), (True, True), (False, False)], strict=False
    ):
        sides = [str(index) for index in judgement.viewing["sides"]]
        assert judgement.value == {sides[0]: left, sides[1]: right}
        assert judgement.viewing["width"] == 1280
        assert judgement.viewing["device"] == "keyboard"
        assert judgement.viewing["scale"] == 13  # 32 pixels, drawn 416 wide
        assert 0 < judgement.milliseconds < 60_000
    campaign.refresh_from_db()
    assert campaign.state == "complete"
    assert Participation.objects.get().viewing["warnings"] == []


def test_undo_skip_and_reload(browser_page: Any, campaign: Campaign) -> None:
    page, person = browser_page, make_person(campaign, "ada")
    begin(page, campaign, person)
    first = shown(page)
    press(page, "ArrowLeft")
    second = shown(page)
    press(page, "ArrowLeft")
    sent(page)
    page.keyboard.press("Backspace")
    page.wait_for_function("src => document.querySelector('#stage img')?.src.includes(src)", arg=second)
    press(page, "ArrowRight")
    sent(page)
    assert Judgement.objects.in_force().count() == 2
    assert Judgement.objects.count() == 3
    third = shown(page)
    press(page, "KeyS")
    sent(page)
    assert Skip.objects.count() == 1
    expected = shown(page)
    page.reload()
    ready(page)
    assert shown(page) == expected  # no check, no repetition
    page.keyboard.press("Backspace")  # undo reaches back beyond the reload
    page.wait_for_function("src => document.querySelector('#stage img')?.src.includes(src)", arg=second)
    press(page, "ArrowUp")
    for _ in range(3):
        press(page, "ArrowUp")
    page.wait_for_selector("#finish:not([hidden])")  # the skipped one is left to others
    assert Judgement.objects.in_force().count() == 5
    assert first != second != third
    assert Slot.objects.filter(state="open").count() == 1


def test_network_drop(browser_page: Any, campaign: Campaign) -> None:
    page, person = browser_page, make_person(campaign, "ada")
    begin(page, campaign, person)
    page.wait_for_timeout(300)  # pictures ahead are there
    page.context.set_offline(True)
    press(page, "ArrowLeft")
    press(page, "ArrowLeft")
    page.wait_for_selector("#banner:not([hidden])")
    assert "kept" in page.inner_text("#banner")
    assert Judgement.objects.count() == 0
    kept = page.evaluate("() => Object.keys(localStorage).filter((name) => name.startsWith('falsify:answers')).length")
    assert kept == 2
    page.context.set_offline(False)
    sent(page)
    page.wait_for_selector("#banner", state="hidden")
    assert Judgement.objects.count() == 2


def test_answers_kept_through_a_reload_while_offline(browser_page: Any, campaign: Campaign) -> None:
    page, person = browser_page, make_person(campaign, "ada")
    begin(page, campaign, person)
    page.wait_for_timeout(300)
    page.route("**/answer/", lambda route: route.abort())
    page.on("dialog", lambda dialog: dialog.accept())
    before = shown(page)
    press(page, "ArrowLeft")
    page.wait_for_selector("#banner:not([hidden])")
    page.unroute("**/answer/")
    page.reload()
    sent(page)
    ready(page)
    assert Judgement.objects.count() == 1
    assert shown(page) != before


def test_stale_pages_go_on(browser_page: Any, campaign: Campaign) -> None:
    page, person = browser_page, make_person(campaign, "ada")
    other = make_person(campaign, "grace")
    begin(page, campaign, person)
    slot = Slot.objects.filter(person=person).order_by("position").first()
    assert slot
    Slot.objects.filter(pk=slot.pk).update(person=other, taken_from=person)
    press(page, "ArrowLeft")
    page.wait_for_selector("#notice:not([hidden])")
    assert "handed on" in page.inner_text("#notice")
    press(page, "ArrowLeft")
    sent(page)
    assert Judgement.objects.count() == 1


def test_keys_are_remapped_and_remembered(browser_page: Any, campaign: Campaign) -> None:
    page, person = browser_page, make_person(campaign, "ada")
    begin(page, campaign, person)
    page.click("#keys-open")
    page.click("#keys-list button >> nth=0")
    page.keyboard.press("KeyB")
    assert "same key" in page.inner_text("#keys-error")
    assert page.is_disabled("#keys-save")
    page.click("#keys-list button >> nth=0")
    page.keyboard.press("KeyF")
    page.click("#keys-save")
    page.wait_for_selector("#keys", state="hidden")
    press(page, "KeyF")
    sent(page)
    page.reload()
    ready(page)
    assert page.inner_text("[data-action=left] kbd") == "F"
    press(page, "KeyF")
    sent(page)
    person.refresh_from_db()
    assert person.preferences["keys"]["left"] == "KeyF"
    judgement = Judgement.objects.order_by("pk")[0]
    assert judgement.value[str(judgement.viewing["sides"][0])] is True


def test_zoom_and_pan(browser_page: Any, researcher: User) -> None:
    """1:1 by default, panned where it is larger than the stage; a key shows the whole; the scale is recorded."""
    campaign = make_campaign(researcher, trials=0, overlap=1)
    item = make_items(researcher, 1, size=(2000, 1500))[0]
    trials_add(campaign=campaign, trials=[TrialSpec(item, [0])])
    page = browser_page
    begin(page, campaign, make_person(campaign, "ada"))
    width = "() => document.querySelector('#stage img').getBoundingClientRect().width"
    assert page.evaluate(width) == 2000
    page.keyboard.press("KeyZ")
    assert page.evaluate(width) < 1000
    page.keyboard.press("KeyZ")
    assert page.evaluate(width) == 2000
    assert page.inner_text("#zoom-level") == "1:1"
    left = "() => document.querySelector('#stage img').getBoundingClientRect().left"
    before = page.evaluate(left)
    page.mouse.move(640, 300)
    page.mouse.down()
    page.mouse.move(740, 300)
    page.mouse.up()
    assert page.evaluate(left) == before + 100
    page.mouse.wheel(0, 100)
    assert page.evaluate(width) == 1600
    page.keyboard.press("ArrowUp")
    page.wait_for_url("**/thanks/")
    judgement = Judgement.objects.get()
    assert judgement.viewing["scale"] == 0.8
    assert judgement.value == {"0": True}


def test_touch_on_a_small_screen(chromium: Any, live_server: Any, campaign: Campaign) -> None:
    """390 × 844: everything is on screen without scrolling, targets are large enough, one tap answers."""
    context = chromium.new_context(
        base_url=live_server.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    try:
        client = Client()
        client.force_login(make_person(campaign, "ada"))
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])
        page.goto(f"/label/{campaign.pk}/")
        page.tap("#start-button")
        ready(page)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        boxes = page.eval_on_selector_all(
            "button:not([hidden])",
            "all => all.map((b) => b.getBoundingClientRect()).filter((r) => r.width).map((r) => [r.height, r.bottom])",
        )
        assert all(height >= 24 and bottom <= 844 for height, bottom in boxes)
        page.wait_for_timeout(60)
        before = shown(page)
        page.tap("[data-action=both]")
        page.wait_for_function("src => !document.querySelector('#stage img')?.src.includes(src)", arg=before)
        sent(page)
        assert Judgement.objects.get().viewing["device"] == "touch"
    finally:
        context.close()


PURE = """
async () => {
  const sizing = await import('/static/labeling/sizing.js');
  const keys = await import('/static/labeling/keys.js');
  const queue = await import('/static/labeling/queue.js');
  const outbox = await import('/static/labeling/outbox.js');
  const pace = await import('/static/labeling/pace.js');
  const viewing = await import('/static/labeling/viewing.js');
  const scale = await import('/static/labeling/scale.js');
  const flicker = await import('/static/labeling/flicker.js');
  const room = { width: 800, height: 600 };
  const slots = (list) => list.map((slot) => ({ slot }));
  const rhythm = new pace.Pace(0, 20);
  const session = rhythm.session;
  const drawn = (mode, width, height, ratio = 1) => sizing.scaleFor(mode, { width, height }, room, ratio, true);
  const slider = { low: -100, high: 100, step: 0, zone: 20, labels: [[-100, 'Left is much better'],
    [-60, 'Left is better'], [0, 'Uncertain'], [60, 'Right is better'], [100, 'Right is much better']] };
  const points = { low: 1, high: 5, step: 1, zone: 0,
    labels: ['Bad', 'Poor', 'Fair', 'Good', 'Excellent'].map((word, place) => [place + 1, word]) };
  const pair = (place) => [{ place }, { place: 1 - place }];
  const press = (code, more = {}) => keys.actionOf(
    { code, ...more }, [{ name: 'a', kind: more.kind }], { a: more.bound ?? code })?.name ?? null;
  [1000, 3000, 5000, 7000].forEach((now) => rhythm.answered(now));
  return {
    tiny: drawn('natural', 8, 8),
    cifar: drawn('natural', 32, 32),
    cifarRetina: drawn('natural', 32, 32, 2),
    middle: drawn('natural', 500, 375),
    large: drawn('natural', 1600, 600),
    fit: [drawn('fit', 300, 200), drawn('fit', 1600, 600)],
    rated: ['natural', 'fit'].map((mode) => sizing.scaleFor(mode, { width: 32, height: 32 }, room)),
    seen: [sizing.shareSeen({ width: 1600, height: 1200 }, room), sizing.shareSeen({ width: 80, height: 60 }, room)],
    start: [1, 1.5].map((ratio) => sizing.startOf({ room: 607, size: 512, offset: 0, origin: 0.25, ratio }) + 0.25),
    pan: sizing.clampPan({ x: 900, y: -900 }, { width: 1000, height: 500 }, room),
    labels: ['ArrowLeft', 'KeyQ', 'Digit1'].map((code) => keys.keyLabel(code)),
    printed: keys.keyLabel('KeyQ', new Map([['KeyQ', 'a']])),
    clash: keys.clash({ a: 'KeyA', b: 'KeyA' }, [[{ name: 'a' }], [{ name: 'a' }, { name: 'b' }]]),
    apart: keys.clash({ a: 'KeyA', b: 'KeyA' }, [[{ name: 'a' }], [{ name: 'b' }]]),
    bindable: ['Tab', 'KeyF', '', 'ShiftLeft'].map(keys.bindable),
    enter: ['answer', 'submit'].map((kind) => keys.bindable('Enter', kind)),
    presses: [press('KeyA'), press('KeyA', { ctrlKey: true }), press('KeyA', { repeat: true }),
      press('ArrowLeft', { repeat: true, kind: 'move' }), press('ArrowLeft', { shiftKey: true }),
      press('Numpad3', { bound: 'Digit3' }), press('Space', { bound: 'Enter' }), press('KeyB', { bound: 'KeyA' })],
    pans: [keys.panOf({ code: 'ArrowLeft', shiftKey: true }), keys.panOf({ code: 'ArrowLeft' })],
    turned: [scale.turned(30, pair(0)), scale.turned(30, pair(1)), scale.turned(4, [{ place: 0 }])],
    zone: scale.zoneShown({ low: 20, high: 100 }, pair(0)),
    said: [-100, -25, -20, 12, 21, 95].map((number) => scale.wordAt(number, slider)),
    zones: [[20, 100, slider], [-20, 20, slider], [4, 5, points], [1, 3, points], [3, 3, points]]
      .map(([low, high, of]) => scale.zoneWords({ low, high }, of)),
    sided: [scale.sided('Left is better than right', true), scale.sided('Left', false)],
    turns: [0, 499, 500, 999, 1000].map((elapsed) => flicker.shownAt(elapsed, 2)),
    rates: ['4', '50', null].map(flicker.rateOf),
    reconciled: queue.reconcile(slots([1, 2, 3]), slots([3, 4, 5]), [5]).map(({ slot }) => slot),
    waits: [1, 2, 3, 10].map(outbox.waitBefore),
    after: [200, 201, 0, 401, 403, 410, 429, 500].map(outbox.afterStatus),
    minutes: rhythm.minutesLeft(60),
    rest: [rhythm.wantsBreak(7000), rhythm.wantsBreak(20 * 60000 + 1)],
    sessions: [session, rhythm.session === session, (rhythm.rested(9000), rhythm.session === session)],
    zoom: [1280, 853].map((innerWidth) => viewing.zoomOf({ outerWidth: 1280, innerWidth })),
  };
}
"""


def test_pure_parts(browser_page: Any) -> None:
    browser_page.goto("/accounts/login/")
    found = browser_page.evaluate(PURE)
    assert (found["tiny"], found["cifar"], found["cifarRetina"]) == (40, 13, 25)
    assert (found["middle"], found["large"], found["fit"]) == (1, 1, [2, 0.5])
    assert found["rated"] == [1, 1]
    assert found["seen"] == [0.25, 1]
    assert found["start"] == [48, pytest.approx(72 / 1.5)]
    assert found["pan"] == {"x": 100, "y": 0}
    assert found["labels"] == ["←", "Q", "1"]
    assert found["printed"] == "A"
    assert (found["clash"], found["apart"]) == (["a", "b"], None)
    assert found["bindable"] == [False, True, False, False]
    assert found["enter"] == [False, True]
    assert found["presses"] == ["a", None, None, "a", None, "a", "a", None]
    assert found["pans"] == [[1, 0], None]
    assert found["turned"] == [-30, 30, 4]
    assert found["zone"] == {"low": -100, "high": -20}
    better = [
        "Left is much better",
        "Left is better",
        "Uncertain",
        "Uncertain",
        "Right is better",
        "Right is much better",
    ]
    assert found["said"] == better
    assert found["zones"] == [
        "Right is better or right is much better (+20 to +100)",
        "Uncertain (−20 to +20)",
        "Good or excellent",
        "Bad to fair",
        "Fair",
    ]
    assert found["sided"] == ["Upper is better than lower", "Left"]
    assert found["turns"] == [0, 0, 1, 1, 0]
    assert found["rates"] == [4, 2, 2]
    assert found["reconciled"] == [1, 3, 4]
    assert found["waits"] == [1000, 2000, 4000, 30000]
    assert found["after"] == ["taken", "taken", "later", "later", "refused", "refused", "later", "later"]
    assert found["minutes"] == pytest.approx(2.0)
    assert found["rest"] == [False, True]
    assert re.fullmatch("[0-9a-f]{8}", found["sessions"][0])
    assert found["sessions"][1:] == [True, False]
    assert found["zoom"] == [1, 1.5]
