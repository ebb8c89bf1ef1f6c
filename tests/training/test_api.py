"""Training for programs."""

import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import token_create
from corpora.models import Corpus
from jobs.models import Job, JobState
from models_zoo.models import Version
from tests.training.page_builders import make_run, write_metrics
from training.engine.registry import Method
from training.models import Edition, Run


@pytest.fixture
def api(admin: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(admin)
    return client


def test_methods_say_what_their_config_takes(api: APIClient, sketch: Method) -> None:
    assert "sketch" in [each["name"] for each in api.get("/api/v1/methods/").json()]
    said = api.get("/api/v1/methods/sketch/").json()
    assert said["config_schema"]["properties"]["steps"]["maximum"] == 100_000
    assert said["presets"]["paper"]["widths"] == [64, 128, 256]
    assert [slot["role"] for slot in said["inputs"]] == ["start", "variant"]
    missing = api.get("/api/v1/methods/nothing/")
    assert (missing.status_code, "sketch" in missing.json()["detail"]) == (404, True)


def test_a_run_is_started_watched_cancelled_and_goes_on(
    api: APIClient, edition: Edition, network: Version, sketch: Method
) -> None:
    body = {
        "method": "sketch", "config": {"rate": 0.01}, "inputs": {"start": network.pk}, "edition": edition.pk,
        "seed": 3, "resources": {"time_limit_seconds": 60},
    }  # fmt: skip
    made = api.post("/api/v1/runs/", body)
    assert made.status_code == 201, made.content
    said = made.json()
    assert (said["state"], said["preset"], said["config"]["rate"], said["config"]["steps"]) == (
        "queued", "small", 0.01, 400,
    )  # fmt: skip
    assert said["inputs"] == [{"role": "start", "number": 0, "version": network.pk, "name": str(network)}]
    assert said["resources"] == {"time_limit_seconds": 60}
    address = f"/api/v1/runs/{said['id']}/"
    assert api.post("/api/v1/runs/", body).json()["id"] == said["id"]
    assert api.post(f"{address}cancel/").json()["state"] == "cancelled"
    assert api.post(f"{address}retry/").json()["state"] == "queued"
    Job.objects.filter(pk=Run.objects.get().job_id).update(state=JobState.FAILED, error="loss is NaN")
    assert api.get(address).json()["error"] == "loss is NaN"
    for query, n in (
        ("method=sketch", 1), ("method=other", 0), ("state=failed", 1), (f"version={network.pk}", 1), ("version=99", 0),
    ):  # fmt: skip
        assert len(api.get(f"/api/v1/runs/?{query}").json()["results"]) == n, query


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"method": "nothing"}, "method", "sketch"),
        ({"preset": "huge"}, "preset", "choose from small, paper"),
        ({"config": {"rate": 2}}, "rate", "less than 1"),
        ({"config": {"speed": 2}}, "speed", "speed"),
        ({"config": [1]}, "config", "Give an object"),
        ({"inputs": {"start": 999}}, "start", "no version 999"),
        ({"inputs": {"start": "first"}}, "inputs", "by id"),
        ({"edition": None}, "edition", "labelled set"),
        ({"edition": 999}, "edition", "no edition 999"),
        ({"device": "gpu"}, "device", "choose auto"),
        ({"resources": {"colour": 1}}, "colour", "no option"),
    ],
)
def test_refusals_name_the_field_and_the_remedy(
    api: APIClient, edition: Edition, sketch: Method, values: dict[str, Any], field: str, words: str
) -> None:
    refused = api.post("/api/v1/runs/", {"method": "sketch", "edition": edition.pk} | values)
    assert refused.status_code == 400, refused.content
    said = refused.json()
    assert said.get("field") == field or field in said, said
    assert words in str(said)
    assert not Run.objects.exists()


def test_metrics_are_read_on(api: APIClient, admin: User, sketch: Method) -> None:
    run = make_run(admin)
    write_metrics(run.directory, 30)
    first = api.get(f"/api/v1/runs/{run.pk}/metrics/").json()
    assert {each["name"] for each in first["series"]} == {"loss", "lr", "val_loss", "val_srcc"}
    write_metrics(run.directory, 5, first=30)
    more = api.get(f"/api/v1/runs/{run.pk}/metrics/", {"after": first["position"]}).json()
    assert [point[0] for point in more["series"][0]["points"]] == [31, 32, 33, 34, 35]
    assert more["restarted"] is False


def test_labelled_sets_and_their_editions(api: APIClient, blurred: Corpus) -> None:
    made = api.post("/api/v1/labelled-sets/", {"name": "mine", "task": "quality"})
    assert made.status_code == 201, made.content
    again = api.post("/api/v1/labelled-sets/", {"name": "mine", "task": "quality"})
    assert (again.status_code, again.json()["field"]) == (400, "name")
    address = f"/api/v1/labelled-sets/{made.json()['id']}/"
    body = {"sources": [{"kind": "corpus", "corpus": blurred.pk}], "fractions": [0.5, 0.25, 0.25], "seed": 2}
    edition = api.post(f"{address}editions/", body)
    assert edition.status_code == 201, edition.content
    said = edition.json()
    assert (said["number"], said["n_rows"], said["counts"]["groups"]) == (1, 48, 12)
    assert [each["id"] for each in api.get(address).json()["editions"]] == [said["id"]]
    bad = api.post(f"{address}editions/", body | {"sources": [{"kind": "rumours"}]})
    assert (bad.status_code, bad.json()["field"]) == (400, "sources")
    assert api.post(f"{address}editions/", body | {"sources": {"kind": "corpus"}}).status_code == 400
    summary = api.get(f"/api/v1/editions/{said['id']}/summary/").json()
    assert (summary["leaking"], summary["n_groups"]) == (0, 12)
    assert [
        each["id"] for each in api.get(f"/api/v1/editions/?labelled_set={made.json()['id']}").json()["results"]
    ] == [said["id"]]
    rows = api.get(f"/api/v1/editions/{said['id']}/labels.parquet/")
    assert pq.read_table(io.BytesIO(b"".join(rows.streaming_content))).num_rows == 48
    assert api.get(f"/api/v1/editions/{said['id']}/labels.xlsx/").status_code == 400


def test_tokens_need_the_scope(admin: User, edition: Edition, sketch: Method) -> None:
    def client(*scopes: str) -> APIClient:
        _, secret = token_create(user=admin, name="test", scopes=list(scopes))
        made = APIClient()
        made.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        return made

    body = {"method": "sketch", "edition": edition.pk}
    reader = client("read")
    for room in ("methods", "runs", "labelled-sets", "editions"):
        assert reader.get(f"/api/v1/{room}/").status_code == 200, room
    assert reader.post("/api/v1/runs/", body).status_code == 403
    assert reader.post("/api/v1/labelled-sets/", {"name": "x", "task": "quality"}).status_code == 403
    assert client("annotate").get("/api/v1/runs/").status_code == 403
    assert client("manage", "read").post("/api/v1/runs/", body).status_code == 201


def test_the_schema_knows_runs_and_their_configs(api: APIClient) -> None:
    text = api.get("/api/v1/schema/").content.decode()
    for words in ("/api/v1/runs/{id}/metrics/", "/api/v1/labelled-sets/{id}/editions/", "Config of unique"):
        assert words in text


def test_queries_do_not_grow(api: APIClient, admin: User, edition: Edition, sketch: Method) -> None:
    make_run(admin, edition)

    def counts() -> list[int]:
        found = []
        for room in ("runs", "labelled-sets", "editions"):
            with CaptureQueriesContext(connection) as captured:
                assert api.get(f"/api/v1/{room}/").status_code == 200
            found.append(len(captured))
        return found

    before = counts()
    for number in range(4):
        make_run(admin, edition, name=f"run {number}")
    assert counts() == before
