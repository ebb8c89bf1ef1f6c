"""Jobs for programs."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import Scope, User
from accounts.services import token_create
from jobs.models import Job, JobState
from jobs.services import job_enqueue

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(researcher: User) -> Job:
    return job_enqueue(
        kind="jobs.check", title="Import of flickr", payload={"steps": 1}, by=researcher, subject="a.b:1"
    )


def api(user: User, *scopes: str) -> APIClient:
    client = APIClient()
    _, secret = token_create(user=user, name="test", scopes=list(scopes))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def test_list_and_filters(researcher: User, job: Job) -> None:
    client = api(researcher, Scope.READ)
    listed = client.get("/api/v1/jobs/?state=queued&kind=jobs.check&subject=a.b:1").json()["results"]
    assert [entry["id"] for entry in listed] == [str(job.pk)]
    assert listed[0]["payload"] == {"steps": 1}
    assert "traceback" not in listed[0]
    assert client.get("/api/v1/jobs/?state=failed").json()["results"] == []


def test_pages_are_newest_first(researcher: User) -> None:
    jobs = [job_enqueue(kind="jobs.check", title=str(n), payload={}, by=researcher) for n in range(5)]
    client, titles, address = api(researcher, Scope.READ), [], "/api/v1/jobs/?page_size=2"
    while address:
        page = client.get(address).json()
        titles += [entry["title"] for entry in page["results"]]
        address = page["next"]
    assert titles == [job.title for job in reversed(jobs)]


def test_cancel_and_retry(researcher: User, job: Job) -> None:
    client = api(researcher, Scope.MANAGE, Scope.READ)
    assert client.post(f"/api/v1/jobs/{job.pk}/cancel/").json()["state"] == JobState.CANCELLED
    assert client.post(f"/api/v1/jobs/{job.pk}/retry/").json()["state"] == JobState.QUEUED
    refused = client.post(f"/api/v1/jobs/{job.pk}/retry/")
    assert refused.status_code == 409
    assert "only a failed or cancelled job can be retried" in refused.json()["detail"]


def test_reading_token_changes_nothing(researcher: User, job: Job) -> None:
    refused = api(researcher, Scope.READ).post(f"/api/v1/jobs/{job.pk}/cancel/")
    assert refused.status_code == 403
    assert 'lacks the scope "manage"' in refused.json()["detail"]


def test_strangers_find_nothing(other_researcher: User, job: Job) -> None:
    client = api(other_researcher, Scope.READ, Scope.MANAGE)
    assert client.get(f"/api/v1/jobs/{job.pk}/").status_code == 404
    assert client.post(f"/api/v1/jobs/{job.pk}/cancel/").status_code == 404
    assert APIClient().get("/api/v1/jobs/").status_code == 401


def test_documentation_works_offline_under_the_content_policy(client: Client) -> None:
    """Every script and style of the page comes from this site, from a file that exists; none is inline."""
    page = client.get("/api/v1/docs/")
    text = page.content.decode()
    assert page.status_code == 200
    assert "'unsafe-inline'" not in page["Content-Security-Policy"].partition("script-src")[2].partition(";")[0]
    assert "<script>" not in text
    assert "://" not in text
    assert client.get("/api/v1/schema/").status_code == 200
