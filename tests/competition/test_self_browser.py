"""One whole round in a real browser: troubleshoot, label, fine-tune, read the report."""

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from competition.models import Competition, RoundState
from jobs.inline import run_all_inline
from jobs.models import Job, JobState
from tests.competition.builders import label_all
from tests.competition.builders_self import labelled, noise_network, noisy_corpus, seen
from training.engine.registry import method

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def work_until_idle(page: Any) -> None:
    """What the workers would do; the page waits elsewhere."""
    page.goto("about:blank")
    for _ in range(8):
        Job.objects.filter(state=JobState.QUEUED).update(not_before=None)
        if not run_all_inline():
            return


def test_a_round_from_the_button_to_the_report(
    browser_page: Any, var_dir: Path, researcher: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(method("finetune").card.presets, "small", {"steps": 3})  # type: ignore[arg-type]
    corpus, target = noisy_corpus(researcher), noise_network(researcher, tmp_path)
    edition = labelled(corpus, researcher)
    page = browser_page
    page.log_in(researcher)

    page.goto(target.get_absolute_url())
    page.click("a:has-text('Troubleshoot')")
    page.wait_for_url("**/troubleshoot/**")
    page.select_option("[name=corpus]", str(corpus.pk))
    page.select_option("[name=edition]", str(edition.pk))
    for name, value in {"budget": 14, "control_size": 4, "overlap": 3, "variants": 3, "ensembles": 2}.items():
        page.fill(f"[name={name}]", str(value))
    page.locator("[name=budget]").dispatch_event("change")
    page.locator("#takes .stat:has-text('images per round') strong:text-is('18')").wait_for()
    assert "judgements per round at most" in page.inner_text("#takes")
    page.click("button:has-text('Troubleshoot')")
    page.wait_for_url("**/competitions/*/")
    assert "Preparing" in page.inner_text("#round")

    work_until_idle(page)
    competition = Competition.objects.get(kind="self_gmad")
    round_ = competition.rounds.select_related("campaign").get()
    assert (round_.state, round_.error) == (RoundState.LABELLING, "")
    label_all(round_.campaign, judge=seen)
    work_until_idle(page)

    page.goto(competition.get_absolute_url())
    assert "Rounds" in page.inner_text("main")
    page.click("button:has-text('Fine-tune on what was found')")
    page.wait_for_load_state()
    assert "Learning" in page.inner_text("#round")
    work_until_idle(page)
    page.goto(competition.get_absolute_url())
    text = page.inner_text("main")
    assert "What was forgotten" in text
    assert "SRCC" in text
    assert page.locator("button:has-text('Start round 2')").is_visible()
    page.click("a:has-text('Exhibits')")
    page.wait_for_url("**/exhibits/")
    assert "People" in page.inner_text("main")
