"""Renaming and deleting corpora."""

import shutil
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from accounts.errors import Conflict, Denied, DomainError
from accounts.models import Membership, MembershipRole, Role, User
from accounts.services import membership_set
from corpora.models import Corpus, Item
from corpora.services import corpus_create, corpus_delete, corpus_update, item_ensure
from jobs.models import Job
from models_zoo.models import Model, Scores, Version

pytestmark = pytest.mark.django_db


@pytest.fixture
def corpus(imported, folder):
    return imported(folder)


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def scored(corpus, by) -> Scores:
    model = Model.objects.create(name="niqe", task="quality", created_by=by)
    version = Version.objects.create(model=model, label="v1", kind="predictions", created_by=by)
    return Scores.objects.create(version=version, corpus=corpus)


def test_a_new_name(corpus, admin_user, imported, folder):
    corpus_update(corpus=corpus, by=admin_user, name=" finches ")
    corpus.refresh_from_db()
    assert corpus.name == "finches"
    other = imported(folder, name="owls")
    with pytest.raises(Conflict, match='named "finches" already'):
        corpus_update(corpus=other, by=admin_user, name="finches")
    with pytest.raises(DomainError, match="needs a name"):
        corpus_update(corpus=other, by=admin_user, name=" ")
    assert Corpus.objects.get(pk=other.pk).name == "owls"


def test_a_deleted_corpus_leaves_nothing_but_its_source(corpus, admin_user, folder, committed, researcher):
    item_ensure(corpus=corpus, rows=[0, 1])
    item = Item.objects.get(row=0)
    membership_set(target=corpus, username=researcher.username, role=MembershipRole.VIEWER, by=admin_user)
    directory = corpus.directory
    with committed():
        corpus_delete(corpus=corpus, by=admin_user)
    assert not Corpus.objects.exists()
    assert not Item.objects.exists()
    assert not Membership.objects.exists()
    assert not directory.exists()
    assert not default_storage.exists(item.image.name)
    assert not default_storage.exists(item.thumbnail.name)
    assert len(list(folder.rglob("*.jpg"))) == 5


def test_pictures_that_another_corpus_shows_stay(corpus, admin_user, imported, folder, committed):
    other = imported(folder, name="other")
    item_ensure(corpus=corpus, rows=[0, 1])
    item_ensure(corpus=other, rows=[0])
    gone = Item.objects.get(corpus=corpus, row=1)
    with committed():
        corpus_delete(corpus=corpus, by=admin_user)
    kept = Item.objects.get()
    assert default_storage.exists(kept.image.name)
    assert default_storage.exists(kept.thumbnail.name)
    assert not default_storage.exists(gone.image.name)


def test_what_uses_a_corpus_is_named(corpus, admin_user, committed):
    scored(corpus, admin_user)
    with committed(), pytest.raises(Conflict, match='cannot be deleted: it is used by 1 scores, such as "'):
        corpus_delete(corpus=corpus, by=admin_user)
    assert (corpus.directory / "manifest.parquet").exists()
    assert Corpus.objects.filter(pk=corpus.pk).exists()


def test_a_corpus_in_the_making_is_not_deleted(folder, admin_user, corpus):
    made = corpus_create(name="d", source="distorted", options={"corpus": corpus.pk}, by=admin_user)
    with pytest.raises(Conflict, match="its import, which is under way"):
        corpus_delete(corpus=made, by=admin_user)
    with pytest.raises(Conflict, match='corpus "d", which is being made from it'):
        corpus_delete(corpus=corpus, by=admin_user)


def test_a_failed_import_with_its_upload_can_be_deleted(folder, admin_user, tmp_path, var_dir, committed):
    archive = Path(shutil.make_archive(str(tmp_path / "in"), "zip", folder))
    from django.core.files.uploadedfile import SimpleUploadedFile

    upload = SimpleUploadedFile("in.zip", archive.read_bytes())
    corpus = corpus_create(name="up", source="archive", upload=upload, by=admin_user)
    Job.objects.all().delete()
    with committed():
        corpus_delete(corpus=corpus, by=admin_user)
    assert not list((var_dir / "uploads").rglob("*.zip"))


def test_only_owners_delete(corpus, admin_user):
    editor = User.objects.create_user("eve", role=Role.RESEARCHER)
    membership_set(target=corpus, username="eve", role=MembershipRole.EDITOR, by=admin_user)
    with pytest.raises(Denied, match="Only an owner"):
        corpus_delete(corpus=corpus, by=editor)
    membership_set(target=corpus, username="eve", role=MembershipRole.OWNER, by=admin_user)
    corpus_delete(corpus=corpus, by=editor)
    assert not Corpus.objects.exists()


def test_the_pages(client, corpus, admin_user, committed):
    client.force_login(admin_user)
    address = f"/corpora/{corpus.pk}/edit/"
    assert "Edit" in client.get(corpus.get_absolute_url()).content.decode()
    response = client.post(address, {"name": "finches", "description": "Small", "is_public": "on"})
    assert response.url == corpus.get_absolute_url()
    corpus.refresh_from_db()
    assert (corpus.name, corpus.description, corpus.is_public) == ("finches", "Small", True)
    scores = scored(corpus, admin_user)
    refused = client.post(f"/corpora/{corpus.pk}/delete/", follow=True)
    assert "cannot be deleted: it is used by 1 scores" in refused.content.decode()
    scores.delete()
    with committed():
        deleted = client.post(f"/corpora/{corpus.pk}/delete/", follow=True)
    assert "&quot;finches&quot; is deleted" in deleted.content.decode()
    assert client.get(corpus.get_absolute_url()).status_code == 404


def test_who_may_only_look_cannot_edit(client, corpus, researcher):
    Corpus.objects.update(is_public=True)
    client.force_login(researcher)
    assert client.get(f"/corpora/{corpus.pk}/edit/").status_code == 403
    assert client.post(f"/corpora/{corpus.pk}/edit/", {"name": "x"}).status_code == 403
    assert client.post(f"/corpora/{corpus.pk}/delete/").status_code == 403
    assert Corpus.objects.get().name == "birds"


def test_by_api(corpus, admin_user, imported, folder):
    api = APIClient()
    api.force_authenticate(admin_user)
    address = f"/api/v1/corpora/{corpus.pk}/"
    assert api.patch(address, {"name": "finches"}, format="json").json()["name"] == "finches"
    imported(folder, name="owls")
    assert api.patch(address, {"name": "owls"}, format="json").status_code == 400
    scores = scored(corpus, admin_user)
    refused = api.delete(address)
    assert refused.status_code == 409
    assert "it is used by" in str(refused.json())
    scores.delete()
    assert api.delete(address).status_code == 204
    assert api.get(address).status_code == 404
