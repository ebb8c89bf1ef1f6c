"""Points of adjustable versions become versions: once, checked, with their lineage, by those who may."""

from typing import Any

import pytest
import torch
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient
from safetensors.torch import load_file

from accounts.errors import Denied, DomainError
from accounts.models import User
from accounts.services import membership_set
from jobs.inline import run_inline
from jobs.models import Job
from jobs.services import job_retry
from models_zoo.models import Version, VersionState
from tests.training.explorers import give_explorer
from training import points
from training.models import Run, VersionPoint
from training.points import is_adjustable, point_request
from training.services import run_create

pytestmark = pytest.mark.django_db


@pytest.fixture
def adjustable(researcher: User, wobble: str, start: Version) -> Version:
    run = run_create(method=wobble, by=researcher, inputs={"start": start}, config={"steps": 1})
    run_inline(run.job)
    return run.outputs.get().version


def test_a_point_becomes_a_verified_version(adjustable: Version, researcher: User) -> None:
    wanted = point_request(version=adjustable, point={"scale": 0.5}, by=researcher)
    assert (wanted.words, wanted.job.title) == ("scale 0.5", f"Make {adjustable} at scale 0.5")
    run_inline(wanted.job)
    wanted.refresh_from_db()
    made = wanted.made
    assert (made.state, made.model, made.label) == (
        VersionState.VERIFIED, adjustable.model, f"{adjustable.label}, scale 0.5",
    )  # fmt: skip
    assert list(made.parents.all()) == [adjustable]
    assert (made.architecture, made.preprocessing) == (adjustable.architecture, adjustable.preprocessing)
    before, after = load_file(adjustable.path), load_file(made.path)
    last = max(name for name in before if name.endswith("weight"))
    torch.testing.assert_close(after[last], 0.5 * before[last])
    assert wanted.facts["scale"] == 0.5


def test_the_same_point_is_made_once(adjustable: Version, researcher: User) -> None:
    first = point_request(version=adjustable, point={"scale": 1}, by=researcher)
    again = point_request(version=adjustable, point={"scale": 1.0}, by=researcher)
    assert (again.pk, again.job) == (first.pk, first.job)
    run_inline(first.job)
    n = Version.objects.count()
    done = point_request(version=adjustable, point={"scale": 1.0}, by=researcher)
    assert (done.pk, done.made is not None, Version.objects.count()) == (first.pk, True, n)
    assert not Job.objects.about(done).live().exists()


def test_a_job_that_died_after_it_made_the_version_makes_no_second(
    adjustable: Version, researcher: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(**values: Any) -> None:
        raise MemoryError

    wanted = point_request(version=adjustable, point={"scale": 0.5}, by=researcher)
    with monkeypatch.context() as patch:
        patch.setattr("models_zoo.running.version_verify", dies)
        with pytest.raises(DomainError):
            run_inline(wanted.job)
    n = Version.objects.count()
    wanted.refresh_from_db()
    run_inline(job_retry(job=wanted.job, by=researcher))
    assert (Version.objects.count(), Version.objects.get(pk=wanted.made_id).state) == (n, VersionState.VERIFIED)


def test_a_point_that_does_not_exist_says_why(adjustable: Version, researcher: User) -> None:
    wanted = point_request(version=adjustable, point={"scale": 7}, by=researcher)
    with pytest.raises(DomainError, match=r"Scale is 7: choose one above 0 and at most 2\."):
        run_inline(wanted.job)
    assert VersionPoint.objects.get().made is None


@pytest.mark.parametrize("point", [{}, {"scale": float("nan")}, {"scale": object()}, {"scale": [0.1] * 2000}])
def test_what_is_no_point_is_refused(adjustable: Version, researcher: User, point: dict[str, Any]) -> None:
    with pytest.raises(DomainError, match="point"):
        point_request(version=adjustable, point=point, by=researcher)
    assert not VersionPoint.objects.exists()


def test_only_what_an_adjustable_method_made_has_points(start: Version, researcher: User) -> None:
    assert not is_adjustable(start)
    with pytest.raises(DomainError, match="has no points to choose from"):
        point_request(version=start, point={"scale": 1}, by=researcher)


def test_only_editors_of_the_model_make_points(adjustable: Version, other_researcher: User, annotator: User) -> None:
    for person in (other_researcher, annotator):
        with pytest.raises(Denied):
            point_request(version=adjustable, point={"scale": 1}, by=person)


def test_labels_that_are_taken_are_numbered(adjustable: Version, researcher: User) -> None:
    Version.objects.create(
        model=adjustable.model, label=f"{adjustable.label}, scale 0.5", kind="torch", created_by=researcher
    )
    wanted = point_request(version=adjustable, point={"scale": 0.5}, by=researcher)
    run_inline(wanted.job)
    wanted.refresh_from_db()
    assert wanted.made.label == f"{adjustable.label}, scale 0.5 (2)"
    assert len(points._label(adjustable, "x" * 80)) == points.LABEL_LENGTH


def test_page_and_lineage_of_a_point(client: Client, adjustable: Version, researcher: User) -> None:
    run = Run.objects.get()
    give_explorer(run, "oat", role="slim")
    client.force_login(researcher)
    page = client.get(f"{run.get_absolute_url()}explore/").content.decode()
    assert "Make this point a version" in page
    asked = client.post(f"{run.get_absolute_url()}points/", {"point": '{"scale": 0.5}'})
    assert asked.url == f"{run.get_absolute_url()}explore/"
    assert "Queued" in client.get(asked.url).content.decode()
    run_inline(VersionPoint.objects.get().job)
    made = VersionPoint.objects.get().made
    again = client.post(f"{run.get_absolute_url()}points/", {"point": '{"scale": 0.5}'})
    assert again.url == made.get_absolute_url()
    about = client.get(made.get_absolute_url()).content.decode()
    assert "as its point scale 0.5" in about
    assert f"{run.get_absolute_url()}explore/" in about
    client.post(f"{run.get_absolute_url()}points/", {"point": "no JSON"})
    assert "Name the point" in client.get(asked.url).content.decode()


def test_a_viewer_sees_the_points_but_makes_none(
    client: Client, adjustable: Version, researcher: User, other_researcher: User
) -> None:
    run = Run.objects.get()
    give_explorer(run, "oat", role="slim")
    client.force_login(other_researcher)
    assert client.get(f"{run.get_absolute_url()}explore/").status_code == 404
    membership_set(target=run, username=other_researcher.username, role="viewer", by=researcher)
    page = client.get(f"{run.get_absolute_url()}explore/")
    assert (page.status_code, "Make this point" in page.content.decode()) == (200, False)
    client.post(f"{run.get_absolute_url()}points/", {"point": '{"scale": 0.5}'})
    assert not VersionPoint.objects.exists()


def test_programs_read_the_explorer_and_make_points(adjustable: Version, researcher: User) -> None:
    run = Run.objects.get()
    api = APIClient()
    api.force_authenticate(researcher)
    address = f"/api/v1/runs/{run.pk}/"
    assert api.get(f"{address}explorer/").status_code == 404
    give_explorer(run, "oat", role="slim")
    assert api.get(f"{address}explorer/").json()["points"][0]["lam"] == 0
    made = api.post(f"{address}points/", {"point": {"scale": 0.5}}, format="json")
    assert (made.status_code, made.json()["made"], made.json()["version"]) == (201, None, adjustable.pk)
    run_inline(VersionPoint.objects.get().job)
    assert api.get(f"{address}points/").json()[0]["made"] == VersionPoint.objects.get().made_id
    bad = api.post(f"{address}points/", {"point": []}, format="json")
    assert (bad.status_code, "point" in bad.json()) == (400, True)


def test_the_command_makes_points(adjustable: Version, researcher: User, admin: User, capsys: Any) -> None:
    call_command("version_point", str(adjustable.pk), "--set", "scale=0.5", "--user", researcher.username)
    made = VersionPoint.objects.get().made
    assert f'"{made}" (version {made.pk})' in capsys.readouterr().out
    with pytest.raises(CommandError, match="choose one above 0"):
        call_command("version_point", str(adjustable.pk), "--set", "scale=9", "--user", researcher.username)


def test_artifacts_are_served_and_nothing_else_is(client: Client, adjustable: Version, researcher: User) -> None:
    run = Run.objects.get()
    give_explorer(run, "rdi")
    (run.directory / "artifacts" / "half.tmp").write_text("being written")
    client.force_login(researcher)
    said = client.get(run.get_absolute_url()).content.decode()
    assert "explore-clean.png" in said
    assert "half.tmp" not in said
    folder = f"{run.get_absolute_url()}artifacts/"
    picture = client.get(f"{folder}explore-clean.png")
    assert (picture["Content-Type"], b"".join(picture.streaming_content)[:4]) == ("image/png", b"\x89PNG")
    assert "attachment" in client.get(f"{folder}explore.json")["Content-Disposition"]
    for name in ("half.tmp", "nothing", "..%2Fmetrics.jsonl", "%2E%2E%2F%2E%2E%2Fdb.png"):
        assert client.get(folder + name).status_code == 404, name


def test_a_run_without_explorer_has_no_such_page(client: Client, adjustable: Version, researcher: User) -> None:
    run = Run.objects.get()
    client.force_login(researcher)
    assert "explore/" not in client.get(run.get_absolute_url()).content.decode()
    assert client.get(f"{run.get_absolute_url()}explore/").status_code == 404
    assert client.post(f"{run.get_absolute_url()}points/", {"point": "{}"}).status_code == 404
    (run.directory / "artifacts").mkdir(exist_ok=True)
    (run.directory / "artifacts" / "explore.json").write_text("{ half")
    assert client.get(f"{run.get_absolute_url()}explorer.json").status_code == 404
