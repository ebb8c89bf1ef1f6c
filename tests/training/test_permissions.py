"""Who may look at training, start it, stop it and take its labels; asked of pages, API and admin alike."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import membership_set
from jobs.models import JobState
from models_zoo.models import Version
from tests.training.page_builders import make_run
from training.engine.registry import Method
from training.models import Edition, Run

START = "/training/methods/sketch/start/"


@pytest.fixture
def addresses(finished: Run, edition: Edition) -> list[str]:
    run, of = finished.get_absolute_url(), edition.labelled_set.get_absolute_url()
    return [run, f"{run}metrics/", f"{run}metrics.jsonl", of, f"/training/editions/{edition.pk}/labels.csv"]


def test_strangers_log_in_and_annotators_stay_out(client: Client, annotator: User, addresses: list[str]) -> None:
    common = ["/training/", "/training/runs/", "/training/sets/", "/training/sets/new/", START]
    for address in [*addresses, *common]:
        assert client.get(address).url.startswith("/accounts/login/"), address
    client.force_login(annotator)
    for address in [*addresses, *common]:
        assert client.get(address).status_code == 403, address
    assert "/training/" not in client.get("/").content.decode()
    api = APIClient()
    api.force_authenticate(annotator)
    for room in ("methods", "runs", "labelled-sets", "editions"):
        assert api.get(f"/api/v1/{room}/").status_code == 403, room


def test_other_researchers_find_nothing_that_is_not_shared(
    client: Client, researcher: User, addresses: list[str], finished: Run, edition: Edition, network: Version
) -> None:
    client.force_login(researcher)
    assert [client.get(address).status_code for address in addresses] == [404] * len(addresses)
    assert not client.get("/training/runs/").context["page"].object_list
    assert not client.get("/training/sets/").context["page"].object_list
    form = client.get(START).context["form"]
    assert not form.fields["edition"].queryset.exists()
    assert not form.fields["input_start"].queryset.exists()
    api = APIClient()
    api.force_authenticate(researcher)
    for room, pk in (("runs", finished.pk), ("labelled-sets", edition.labelled_set_id), ("editions", edition.pk)):
        assert api.get(f"/api/v1/{room}/{pk}/").status_code == 404
        assert api.get(f"/api/v1/{room}/").json()["results"] == []
    stolen = api.post("/api/v1/runs/", {"method": "sketch", "edition": edition.pk, "inputs": {"start": network.pk}})
    assert (stolen.status_code, "that you may see" in stolen.json()["detail"]) == (400, True)


def test_a_viewer_looks_but_does_not_touch(
    client: Client, admin: User, researcher: User, addresses: list[str], finished: Run, edition: Edition
) -> None:
    running = make_run(admin, edition, name="running")
    for target in (finished, running, edition.labelled_set):
        membership_set(target=target, username=researcher.username, role="viewer", by=admin)
    client.force_login(researcher)
    assert [client.get(address).status_code for address in addresses] == [200] * len(addresses)
    page = client.get(running.get_absolute_url()).content.decode()
    assert "cancel/" not in page
    client.post(f"{running.get_absolute_url()}cancel/")
    running.job.refresh_from_db()
    assert running.job.state == JobState.RUNNING
    assert client.get(f"{edition.labelled_set.get_absolute_url()}editions/new/").status_code == 403
    api = APIClient()
    api.force_authenticate(researcher)
    assert api.post(f"/api/v1/runs/{running.pk}/cancel/").status_code == 403
    assert api.post(f"/api/v1/runs/{running.pk}/retry/").status_code == 403
    refused = api.post(f"/api/v1/labelled-sets/{edition.labelled_set_id}/editions/", {"sources": []})
    assert refused.status_code == 403


def test_an_editor_stops_and_goes_on(client: Client, admin: User, researcher: User, sketch: Method) -> None:
    run = make_run(admin)
    membership_set(target=run, username=researcher.username, role="editor", by=admin)
    client.force_login(researcher)
    client.post(f"{run.get_absolute_url()}cancel/")
    run.job.refresh_from_db()
    assert run.job.state == JobState.CANCELLING


def test_a_version_page_hides_runs_that_are_not_shared(
    client: Client, admin: User, researcher: User, finished: Run, network: Version
) -> None:
    membership_set(target=network.model, username=researcher.username, role="viewer", by=admin)
    client.force_login(researcher)
    assert finished.get_absolute_url() not in client.get(network.get_absolute_url()).content.decode()
    membership_set(target=finished, username=researcher.username, role="viewer", by=admin)
    assert finished.get_absolute_url() in client.get(network.get_absolute_url()).content.decode()


def test_the_admin_leads_to_the_pages(client: Client, admin: User, finished: Run, edition: Edition) -> None:
    client.force_login(admin)
    assert client.get("/admin/training/run/add/").url == "/training/"
    assert client.get("/admin/training/labelledset/add/").url == "/training/sets/new/"
    for address in (
        "run/",
        f"run/{finished.pk}/change/",
        "labelledset/",
        f"labelledset/{edition.labelled_set_id}/change/",
    ):
        assert client.get(f"/admin/training/{address}").status_code == 200, address
    assert client.get(f"/admin/training/run/{finished.pk}/page/").url == finished.get_absolute_url()
    client.post(f"/admin/training/run/{finished.pk}/change/", {"name": "renamed", "method": "other"})
    finished.refresh_from_db()
    assert (finished.name, finished.method) == ("renamed", "sketch")


def test_posts_need_the_csrf_token(admin: User, finished: Run, edition: Edition) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    run = finished.get_absolute_url()
    for address in (START, f"{run}cancel/", f"{run}retry/", "/training/sets/new/"):
        assert strict.post(address, {}).status_code == 403, address
