"""The jobs pages and their live data, as people see them."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import signing
from django.test import Client

from accounts.models import User
from jobs.channels import ALL_JOBS, TICKET_SALT
from jobs.models import Job, JobState
from jobs.services import job_enqueue
from jobs.words import duration

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(researcher: User) -> Job:
    return job_enqueue(kind="jobs.check", title="Import of flickr", payload={"steps": 1, "pause": 0}, by=researcher)


def set_state(job: Job, state: JobState, **values: Any) -> None:
    Job.objects.filter(pk=job.pk).update(state=state, **values)


def test_pages_ask_for_log_in(client: Client, job: Job) -> None:
    for address in ("/jobs/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}.json", "/jobs/live.json"):
        response = client.get(address)
        assert response.status_code == 302
        assert "/accounts/login/" in response["Location"]


def test_list_filters_by_state_and_owner(client: Client, admin: User, job: Job) -> None:
    set_state(job, JobState.FAILED, error='folder "x" is empty')
    client.force_login(admin)
    assert b"Import of flickr" in client.get("/jobs/").content
    assert b"folder &quot;x&quot; is empty" in client.get("/jobs/?state=failed").content
    assert b"Import of flickr" not in client.get("/jobs/?state=running").content
    assert b"Import of flickr" not in client.get("/jobs/?whose=mine").content
    assert b"Import of flickr" in client.get("/jobs/?state=nonsense&page=99").content


def test_list_costs_the_same_for_many_jobs(
    client: Client, researcher: User, job: Job, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for _ in range(25):
        job_enqueue(kind="jobs.check", title="another", payload={}, by=researcher)
    client.force_login(researcher)
    with django_assert_max_num_queries(7):
        assert client.get("/jobs/").content.count(b"data-job=") == 26


def test_detail_shows_progress_in_words(client: Client, researcher: User, job: Job) -> None:
    set_state(job, JobState.RUNNING, done=1234, total=5000, unit="images", rate=51.234, message="Reading photos/")
    client.force_login(researcher)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "1,234 of 5,000 images · 51.2 images/s · 74 s left" in page
    assert "Reading photos/" in page
    assert 'aria-valuenow="25"' in page
    assert f"/jobs/{job.pk}/cancel/" in page
    assert f"/jobs/{job.pk}/retry/" not in page


def test_traceback_is_for_researchers(client: Client, researcher: User, annotator: User, job: Job) -> None:
    set_state(job, JobState.FAILED, error="It broke.", traceback="Traceback: secret path")
    client.force_login(researcher)
    page = client.get(f"/jobs/{job.pk}/").content
    assert b"secret path" in page
    assert f"/jobs/{job.pk}/retry/".encode() in page
    Job.objects.filter(pk=job.pk).update(created_by=annotator)
    client.force_login(annotator)
    page = client.get(f"/jobs/{job.pk}/").content
    assert b"It broke." in page
    assert b"secret path" not in page


def test_cancel_and_retry_by_button(client: Client, researcher: User, job: Job) -> None:
    client.force_login(researcher)
    page = client.post(f"/jobs/{job.pk}/cancel/", {"next": "/jobs/?state=queued"}, follow=True)
    assert page.redirect_chain == [("/jobs/?state=queued", 302)]
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    client.post(f"/jobs/{job.pk}/retry/", {"next": "https://evil.example/"}, follow=False)["Location"].startswith(
        "/jobs/"
    )
    job.refresh_from_db()
    assert job.state == JobState.QUEUED
    page = client.post(f"/jobs/{job.pk}/retry/", follow=True)
    assert "only a failed or cancelled job can be retried" in page.content.decode()


def test_buttons_take_a_post_with_a_token(researcher: User, job: Job) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(researcher)
    assert client.get(f"/jobs/{job.pk}/cancel/").status_code == 405
    assert client.post(f"/jobs/{job.pk}/cancel/").status_code == 403


def test_other_peoples_jobs_do_not_exist(client: Client, other_researcher: User, job: Job) -> None:
    client.force_login(other_researcher)
    assert b"Import of flickr" not in client.get("/jobs/").content
    assert client.get(f"/jobs/{job.pk}/").status_code == 404
    assert client.get(f"/jobs/{job.pk}.json").status_code == 404
    assert client.post(f"/jobs/{job.pk}/cancel/").status_code == 404
    assert client.get(f"/jobs/live.json?job={job.pk}").json()["jobs"] == []


def test_poll_says_how_far_it_is(client: Client, researcher: User, job: Job) -> None:
    set_state(job, JobState.RUNNING, done=1, total=4, unit="shards")
    client.force_login(researcher)
    answer = client.get(f"/jobs/{job.pk}.json")
    assert answer["Cache-Control"].startswith("max-age=0")
    assert answer.json() | {"state": "running", "percent": 25.0, "numbers": "1 of 4 shards"} == answer.json()
    assert client.get(f"/jobs/live.json?job={job.pk}").json()["jobs"] == [answer.json()]


def test_live_answers_nonsense_with_an_error(client: Client, researcher: User) -> None:
    client.force_login(researcher)
    assert client.get("/jobs/live.json?job=7").status_code == 400
    assert client.get(f"/jobs/live.json?job={uuid.uuid4()}").json()["jobs"] == []


def read_ticket(client: Client, query: str) -> dict[str, Any]:
    address = client.get(f"/jobs/live.json?{query}").json()["events"]
    assert address.startswith("http://testserver:8001/events/?ticket=")
    return signing.loads(address.partition("ticket=")[2], salt=TICKET_SALT)


def test_ticket_names_only_what_one_may_see(
    client: Client, researcher: User, other_researcher: User, admin: User, job: Job
) -> None:
    client.force_login(researcher)
    own = f"falsify:user:{researcher.pk}"
    assert read_ticket(client, f"job={job.pk}&list=1")["channels"] == [f"falsify:job:{job.pk}", own]
    client.force_login(other_researcher)
    assert read_ticket(client, f"job={job.pk}")["channels"] == []
    client.force_login(admin)
    assert read_ticket(client, "list=1") == {"channels": [ALL_JOBS], "origin": "http://testserver"}


def test_events_address_follows_the_setting(client: Client, researcher: User, settings: LazySettings) -> None:
    settings.EVENTS_URL = "https://events.example.org/"
    client.force_login(researcher)
    assert client.get("/jobs/live.json").json()["events"].startswith("https://events.example.org/events/?ticket=")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (180, "3 min"), (7500, "2 h 05 min"), (260_000, "3 days")]
)
def test_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
