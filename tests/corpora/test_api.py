"""Corpora and taxonomies for programs."""

import pytest
from rest_framework.test import APIClient

from accounts.models import Scope
from accounts.services import token_create
from corpora.models import Corpus, Taxonomy
from corpora.services import taxonomy_ensure_imagenet
from jobs.inline import run_inline
from jobs.models import Job
from tests.corpora.pictures import encoded, photograph

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(admin_user):
    client = APIClient()
    client.force_authenticate(admin_user)
    return client


@pytest.fixture
def corpus(imported, folder):
    (folder / "cut.jpg").write_bytes(encoded(photograph())[:700])
    return imported(folder, options={"labels_from": "folder"})


def test_import_by_json(api, folder):
    given = {"name": "birds", "source": "folder", "location": str(folder), "options": {"labels_from": "folder"}}
    answer = api.post("/api/v1/corpora/", given, format="json")
    assert answer.status_code == 201, answer.json()
    assert answer.json()["state"] == "importing"
    run_inline(Job.objects.get(pk=answer.json()["job"]))
    body = api.get(f"/api/v1/corpora/{answer.json()['id']}/").json()
    assert (body["state"], body["n_rows"], body["n_labelled"]) == ("ready", 6, 6)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"location": "relative"}, "location"),
        ({"options": {"colour": 1}}, "options"),
        ({"options": [1]}, "options"),
        ({"source": "video"}, "source"),
        ({"name": ""}, "name"),
        ({"taxonomy": 999}, "taxonomy"),
    ],
)
def test_what_is_wrong_names_the_field(given, field, api, folder):
    values = {"name": "birds", "source": "folder", "location": str(folder), **given}
    answer = api.post("/api/v1/corpora/", values, format="json")
    assert answer.status_code == 400
    assert answer.json().get("field") == field or field in answer.json()
    assert not Corpus.objects.exists()


def test_rows_by_page(api, corpus):
    answer = api.get(f"/api/v1/corpora/{corpus.pk}/rows/?limit=4").json()
    assert answer["count"] == 6
    assert [row["path"] for row in answer["results"]][:2] == ["cat/a.jpg", "cat/b.png"]
    last = api.get(answer["next"]).json()
    assert [row["row"] for row in last["results"]] == [4, 5]
    assert last["next"] is None
    assert api.get(last["results"][0]["image"]).status_code == 302
    assert api.get(f"/api/v1/corpora/{corpus.pk}/rows/?start=999").json()["results"] == []
    answer = api.get(f"/api/v1/corpora/{corpus.pk}/rows/?start=-1")
    assert answer.status_code == 400
    assert "whole number" in answer.json()["detail"]


def test_quarantine(api, corpus):
    answer = api.get(f"/api/v1/corpora/{corpus.pk}/quarantine/").json()
    assert answer["count"] == 1
    assert answer["results"][0]["path"] == "cut.jpg"


def test_words_about_a_corpus_can_change(api, corpus):
    answer = api.patch(f"/api/v1/corpora/{corpus.pk}/", {"description": "x", "n_rows": 5}, format="json").json()
    assert (answer["description"], answer["n_rows"]) == ("x", 6)
    assert api.put(f"/api/v1/corpora/{corpus.pk}/", {}, format="json").status_code == 405


def test_taxonomies(api, admin_user):
    imagenet = taxonomy_ensure_imagenet(by=admin_user)
    listed = api.get("/api/v1/taxonomies/").json()["results"]
    assert [(entry["name"], entry["n_classes"]) for entry in listed] == [("ImageNet-1k", 1000)]
    assert "classes" not in listed[0]
    found = api.get(f"/api/v1/taxonomies/{imagenet.pk}/classes/?q=tabby").json()
    assert [(entry["index"], entry["id"]) for entry in found] == [(281, "n02123045")]
    far = api.get(f"/api/v1/taxonomies/{imagenet.pk}/distance/?a=tabby&b=sports car").json()
    near = api.get(f"/api/v1/taxonomies/{imagenet.pk}/distance/?a=tabby&b=282").json()
    assert 0 < near["distance"] < far["distance"]
    assert api.get(f"/api/v1/taxonomies/{imagenet.pk}/distance/?a=tabby&b=unicorn").status_code == 400
    assert api.get(f"/api/v1/taxonomies/{imagenet.pk}/distance/?a=tabby").status_code == 400
    made = api.post("/api/v1/taxonomies/", {"name": "two", "kind": "flat", "names": ["a", "b"]}, format="json")
    assert made.status_code == 201
    assert Taxonomy.objects.get(name="two").n_classes == 2


def test_others_see_only_what_is_shared(corpus, researcher):
    api = APIClient()
    assert api.get("/api/v1/corpora/").status_code == 401
    api.force_authenticate(researcher)
    assert api.get("/api/v1/corpora/").json()["results"] == []
    for address in ("", "rows/", "quarantine/"):
        assert api.get(f"/api/v1/corpora/{corpus.pk}/{address}").status_code == 404
    assert api.get(f"/api/v1/taxonomies/{corpus.taxonomy_id}/classes/").status_code == 404
    Corpus.objects.update(is_public=True)
    assert api.get(f"/api/v1/corpora/{corpus.pk}/rows/").json()["count"] == 6
    answer = api.patch(f"/api/v1/corpora/{corpus.pk}/", {"description": "mine now"}, format="json")
    assert answer.status_code == 403
    taken = {"name": "c", "source": "folder", "location": "/photos", "taxonomy": corpus.taxonomy_id}
    assert api.post("/api/v1/corpora/", taken, format="json").status_code == 403


def test_a_reading_token_imports_nothing(admin_user, folder):
    api = APIClient()
    _, secret = token_create(user=admin_user, by=admin_user, name="r", scopes=[Scope.READ], days=1)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert api.get("/api/v1/corpora/").status_code == 200
    given = {"name": "birds", "source": "folder", "location": str(folder)}
    assert api.post("/api/v1/corpora/", given, format="json").status_code == 403
