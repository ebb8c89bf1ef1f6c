"""Live progress in a real browser: by events, and by polling while there are none."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import User
from config.env import BASE_DIR
from jobs import events
from jobs.events import job_publish
from jobs.models import Job, JobState
from jobs.services import job_enqueue
from tests.jobs.test_events import redis_url  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def job(researcher: User) -> Job:
    job = job_enqueue(kind="jobs.check", title="Import of flickr", payload={}, by=researcher)
    advance(job, 100)
    return job


def advance(job: Job, done: int, state: JobState = JobState.RUNNING) -> None:
    values = {"state": state, "done": done, "total": 400, "unit": "images", "message": "Reading photos/"}
    Job.objects.filter(pk=job.pk).update(**values)
    job.refresh_from_db()


@pytest.fixture
def events_port(redis_url: str, settings: LazySettings) -> Iterator[int]:  # noqa: F811
    """The real events server, and settings that point pages and publishers at it."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings.EVENTS_PORT, settings.REDIS_URL, settings.JOBS_EVENTS = port, redis_url, True
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"] | {"connect-src": ["'self'", f"*:{port}"]}
    settings.CONTENT_SECURITY_POLICY = settings.CONTENT_SECURITY_POLICY | {"DIRECTIVES": directives}
    events._client.cache_clear()
    server = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port),
         "--http", "1", "--no-ws", "--workers-kill-timeout", "1", "config.asgi:application"],
        cwd=BASE_DIR, env=os.environ | {"REDIS_URL": redis_url}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def test_polling_keeps_the_page_live_where_there_are_no_events(
    browser_page: Any, researcher: User, job: Job, settings: LazySettings
) -> None:
    settings.EVENTS_PORT = 1  # nobody listens there
    browser_page.log_in(researcher)
    browser_page.goto(f"/jobs/{job.pk}/")
    browser_page.wait_for_selector("text=100 of 400 images")
    assert browser_page.get_attribute("[role=progressbar]", "aria-valuenow") == "25"
    advance(job, 300)
    browser_page.wait_for_selector("text=300 of 400 images", timeout=10_000)
    assert browser_page.get_attribute("[role=progressbar]", "aria-valuenow") == "75"
    advance(job, 400, JobState.SUCCEEDED)
    browser_page.wait_for_selector("[data-job-over] >> text=Succeeded", timeout=10_000)


def test_events_arrive_without_polling(browser_page: Any, researcher: User, job: Job, events_port: int) -> None:
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url) if "live.json" in request.url else None)
    browser_page.log_in(researcher)
    with browser_page.expect_response(lambda response: "/events/?ticket=" in response.url and response.ok):
        browser_page.goto("/jobs/")
    browser_page.wait_for_selector("text=100 of 400 images")
    browser_page.wait_for_timeout(500)
    before = len(asked)
    advance(job, 200)
    job_publish(job)
    browser_page.wait_for_selector("text=200 of 400 images", timeout=5_000)
    assert len(asked) == before

    new = job_enqueue(kind="jobs.check", title="Export of verdicts", payload={}, by=researcher)
    job_publish(new)
    browser_page.wait_for_selector("text=Export of verdicts", timeout=10_000)


def test_cancel_asks_once(browser_page: Any, researcher: User, job: Job) -> None:
    questions: list[str] = []

    def answer(dialog: Any) -> None:
        questions.append(dialog.message)
        if len(questions) == 1:
            dialog.dismiss()
        else:
            dialog.accept()

    browser_page.on("dialog", answer)
    browser_page.log_in(researcher)
    browser_page.goto(f"/jobs/{job.pk}/")
    browser_page.click("button:has-text('Cancel')")
    job.refresh_from_db()
    assert job.state == JobState.RUNNING
    browser_page.click("button:has-text('Cancel')")
    browser_page.wait_for_selector("text=is being cancelled")
    job.refresh_from_db()
    assert job.state == JobState.CANCELLING
    assert "Cancel “Import of flickr”?" in questions[0]
