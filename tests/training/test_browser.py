"""Training in a real browser: curves that grow while the run goes on, and a form that marks what differs."""

from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import User
from jobs.models import Job, JobState
from tests.training.page_builders import make_run, write_metrics
from training.engine.registry import Method
from training.models import Edition

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_curves_grow_while_the_run_goes_on(
    browser_page: Any, admin: User, sketch: Method, settings: LazySettings
) -> None:
    settings.EVENTS_PORT = 1  # no events there: live.js polls
    run = make_run(admin)
    browser_page.log_in(admin)
    browser_page.goto(run.get_absolute_url())
    browser_page.wait_for_selector("text=They appear with the first steps.")
    write_metrics(run.directory, 40)
    browser_page.wait_for_selector(".curve >> text=Agreement with people", timeout=10_000)
    loss = browser_page.locator(".curve", has_text="mean over the batch")
    assert loss.locator("polyline").count() == 2
    loss.locator("summary").click()
    assert loss.locator("tbody tr").last.inner_text().split()[0] == "40"
    write_metrics(run.directory, 30, stage="all")
    browser_page.wait_for_selector(".curve text.stage >> text=all", timeout=10_000)
    assert loss.locator("polyline").count() == 4
    assert loss.locator("tbody tr").last.inner_text().split()[:2] == ["all", "30"]
    loss.locator("svg").focus()
    browser_page.keyboard.press("ArrowLeft")
    assert loss.locator(".readout").inner_text().startswith("all, step 30: train")
    Job.objects.filter(pk=run.job_id).update(state=JobState.FAILED, error="loss is NaN: lower the rate")
    browser_page.wait_for_selector("text=Go on", timeout=10_000)  # the page was loaded anew
    assert browser_page.locator("polyline").count() == 4 + 2 + 2  # loss, agreement, and lr, which has its own plot


def test_the_form_marks_what_differs_from_the_preset(
    browser_page: Any, admin: User, edition: Edition, sketch: Method
) -> None:
    browser_page.log_in(admin)
    browser_page.goto("/training/methods/sketch/start/")
    rate = browser_page.locator("[data-config-field]", has_text="Learning rate")
    note = rate.locator("[data-preset-note]")
    rate.locator("input").fill("1.0e-4")
    assert not note.is_visible()  # the same number
    rate.locator("input").fill("0.5")
    assert note.inner_text().startswith("preset: 0.0001")
    assert "1 setting differs" in browser_page.inner_text("[data-changes]")
    note.locator("button").click()
    assert (rate.locator("input").input_value(), note.is_visible()) == ("0.0001", False)
    browser_page.select_option("#id_edition", str(edition.pk))
    browser_page.select_option("#preset", "paper")
    browser_page.wait_for_selector('#id_config_steps[data-preset="30000"]')
    assert browser_page.input_value("#id_config_steps") == "30000"
    assert not browser_page.is_checked("#id_config_flip")
    assert browser_page.input_value("#id_edition") == str(edition.pk)  # only the settings changed
    browser_page.check("#id_config_flip")
    assert "1 setting differs" in browser_page.inner_text("[data-changes]")
    browser_page.click("button:has-text('Start')")
    browser_page.wait_for_selector("h1:has-text('Sketch of a network of Blurred textures')")
