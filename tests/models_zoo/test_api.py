"""The zoo for programs."""

from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from accounts.models import User
from corpora.models import Corpus, Taxonomy
from corpora.reading import manifest_of
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.models import Model, Scores, Version
from models_zoo.reading import score_columns
from tests.models_zoo.builders import SIDE, save_weights


@pytest.fixture
def api(admin: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(admin)
    return client


def test_from_an_empty_zoo_to_predictions(api: APIClient, corpus: Corpus, tmp_path: Path):
    taxonomy = Taxonomy.objects.get()
    made = api.post("/api/v1/models/", {"name": "mine", "taxonomy": taxonomy.pk, "licence": "MIT"})
    assert made.status_code == 201, made.content
    added = api.post(
        "/api/v1/versions/",
        {
            "model": made.json()["id"],
            "label": "v1",
            "kind": "torch",
            "file": SimpleUploadedFile("w.safetensors", save_weights(tmp_path / "w.safetensors").read_bytes()),
            "architecture": "tiny_cnn",
            "preprocessing": f'{{"resize": {SIDE}, "crop": {SIDE}}}',
        },
        format="multipart",
    )
    assert added.status_code == 201, added.content
    assert (added.json()["name"], added.json()["state"]) == ("mine v1", "checking")
    number = added.json()["id"]
    run_inline(Job.objects.about(Version.objects.get(pk=number)).get())
    assert api.get(f"/api/v1/versions/{number}/").json()["state"] == "verified"

    asked = api.post("/api/v1/scores/", {"versions": [number], "corpus": corpus.pk})
    assert asked.status_code == 202, asked.content
    assert api.post("/api/v1/scores/", {"versions": [number], "corpus": corpus.pk}).json()["id"] == asked.json()["id"]
    run_inline(Job.objects.get(pk=asked.json()["id"]))
    scores = api.get(f"/api/v1/scores/?version={number}").json()["results"][0]
    assert scores["state"] == "complete"
    text = b"".join(api.get(f"/api/v1/scores/{scores['id']}/predictions/").streaming_content).decode()
    lines = text.splitlines()
    classes, _ = score_columns(Scores.objects.get())
    assert lines[0] == "path,class,confidence"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [path, str(label)] for path, label in zip(manifest_of(corpus).column("path"), classes, strict=True)
    ]


def test_a_preset_by_name_and_a_path_on_the_server(api: APIClient, model: Model, tmp_path: Path):
    said = {
        "model": model.pk,
        "label": "v1",
        "kind": "torch",
        "path": str(save_weights(tmp_path / "w.pt")),
        "architecture": "tiny_cnn",
        "preprocessing": "cifar",
    }
    assert api.post("/api/v1/versions/", said).json()["preprocessing"]["crop"] == 32
    wrong = api.post("/api/v1/versions/", said | {"label": "v2", "preprocessing": "sepia"})
    assert wrong.status_code == 400
    assert "imagenet" in str(wrong.json())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Give one of file and path"),
        ({"path": "/nowhere/at/all.pt"}, "There is no file"),
        ({"path": "relative.pt"}, "absolute path"),
        ({"arch_kwargs": [1], "path": "/x"}, "Give an object"),
    ],
)
def test_mistakes_are_said_with_their_field(api: APIClient, model: Model, values: dict, words: str):
    said = {"model": model.pk, "label": "v1", "kind": "torch", "architecture": "tiny_cnn"}
    response = api.post("/api/v1/versions/", said | values)
    assert response.status_code == 400
    assert words in response.content.decode()


def test_cards_change_but_not_their_label_space(api: APIClient, model: Model):
    changed = api.patch(f"/api/v1/models/{model.pk}/", {"licence": "MIT", "taxonomy": 999})
    assert changed.status_code == 200
    model.refresh_from_db()
    assert model.licence == "MIT"
    assert model.taxonomy_id != 999
    assert api.patch(f"/api/v1/models/{model.pk}/", {"source_url": "javascript:alert(1)"}).status_code == 400


def test_a_version_is_deleted_once_nothing_needs_it(api: APIClient, version: Version):
    assert api.post(f"/api/v1/versions/{version.pk}/recheck/").status_code == 409
    assert api.delete(f"/api/v1/versions/{version.pk}/").status_code == 204
    assert not Version.objects.exists()


def test_unfinished_scores_give_no_file(api: APIClient, version: Version, corpus: Corpus):
    scores = Scores.objects.create(version=version, corpus=corpus)
    response = api.get(f"/api/v1/scores/{scores.pk}/predictions/")
    assert response.status_code == 400
    assert 'run "score" first' in response.json()["detail"] or "run" in response.json()["detail"]
