"""Who may see, add, score, try and delete; asked of services, pages and API alike."""

from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from accounts.errors import Denied
from accounts.models import Membership, MembershipRole, User
from corpora.models import Corpus
from models_zoo.models import Model, Version
from models_zoo.services import (
    model_create,
    model_update,
    picture_try_request,
    scores_request,
    version_add,
    version_delete,
    version_recheck,
)
from tests.models_zoo.builders import picture_bytes, save_weights

PAGES = [
    "/models/{model}/",
    "/models/{model}/change/",
    "/models/{model}/add/",
    "/models/versions/{version}/",
    "/models/versions/{version}/state/",
    "/models/versions/{version}/try/",
    "/models/versions/{version}/scores/{corpus}/",
]


def share(target: Model | Corpus, user: User, role: MembershipRole) -> None:
    kind = ContentType.objects.get_for_model(target)
    Membership.objects.create(user=user, role=role, content_type=kind, object_id=target.pk)


@pytest.fixture
def addresses(version: Version, corpus: Corpus) -> list[str]:
    return [page.format(model=version.model_id, version=version.pk, corpus=corpus.pk) for page in PAGES]


def test_strangers_are_asked_to_log_in(client: Client, addresses: list[str]):
    for address in ["/models/", "/models/add/", "/models/compare/", *addresses]:
        response = client.get(address)
        assert response.status_code == 302, address
        assert "/login/" in response["Location"]
    assert APIClient().get("/api/v1/models/").status_code in {401, 403}


def test_other_researchers_do_not_see_private_models(
    client: Client, researcher: User, addresses: list[str], version: Version
):
    client.force_login(researcher)
    assert [client.get(address).status_code for address in addresses] == [404] * len(addresses)
    assert "tiny" not in client.get("/models/").content.decode()
    assert version not in client.get("/models/compare/").context["form"].fields["first"].queryset
    api = APIClient()
    api.force_authenticate(researcher)
    assert api.get(f"/api/v1/versions/{version.pk}/").status_code == 404
    assert api.get("/api/v1/models/").json()["results"] == []


def test_a_viewer_looks_but_does_not_touch(
    client: Client, researcher: User, version: Version, corpus: Corpus, tmp_path: Path
):
    share(version.model, researcher, MembershipRole.VIEWER)
    client.force_login(researcher)
    assert client.get(f"/models/{version.model_id}/").status_code == 200
    assert client.get(f"/models/{version.model_id}/add/").status_code == 403
    with pytest.raises(Denied):
        version_add(
            model=version.model, label="mine", kind="torch", by=researcher, file=save_weights(tmp_path / "w.pt")
        )
    for service in (version_delete, version_recheck):
        with pytest.raises(Denied):
            service(version=version, by=researcher)
    with pytest.raises(Denied):
        model_update(model=version.model, by=researcher, description="mine now")
    with pytest.raises(Denied, match="pictures"):
        scores_request(versions=[version], corpus=corpus, by=researcher)


def test_an_editor_adds_versions_and_scores_what_they_see(
    researcher: User, version: Version, corpus: Corpus, tmp_path: Path
):
    share(version.model, researcher, MembershipRole.EDITOR)
    share(corpus, researcher, MembershipRole.VIEWER)
    added = version_add(
        model=version.model,
        label="theirs",
        kind="torch",
        by=researcher,
        file=save_weights(tmp_path / "w.pt"),
        architecture="tiny_cnn",
    )
    assert added.created_by == researcher
    assert scores_request(versions=[version], corpus=corpus, by=researcher).created_by == researcher


def test_annotators_make_no_models_and_start_no_scoring(
    client: Client, annotator: User, version: Version, corpus: Corpus
):
    with pytest.raises(Denied, match="researcher role"):
        model_create(name="mine", taxonomy=version.model.taxonomy, by=annotator)
    share(version.model, annotator, MembershipRole.VIEWER)
    share(corpus, annotator, MembershipRole.VIEWER)
    with pytest.raises(Denied, match="researcher role"):
        scores_request(versions=[version], corpus=corpus, by=annotator)
    client.force_login(annotator)
    assert client.get("/models/add/").status_code == 403


def test_a_picture_is_tried_only_on_models_one_may_see_and_its_answer_is_ones_own(
    client: Client, researcher: User, other_researcher: User, admin: User, version: Version
):
    picture = SimpleUploadedFile("p.png", picture_bytes())
    with pytest.raises(Denied):
        picture_try_request(versions=[version], picture=picture, by=researcher)
    job = picture_try_request(versions=[version], picture=SimpleUploadedFile("p.png", picture_bytes()), by=admin)
    client.force_login(other_researcher)
    assert client.get(f"/models/tries/{job.pk}/").status_code == 404


def test_researchers_read_no_file_outside_the_folders_that_are_theirs(
    client: Client, researcher: User, version: Version, var_dir: Path, tmp_path: Path
):
    share(version.model, researcher, MembershipRole.EDITOR)
    weights = save_weights(tmp_path / "w.pt")
    form = {
        "label": "v2",
        "kind": "torch",
        "path": str(weights),
        "architecture": "tiny_cnn",
        "preset": "unit-32",
        "arch_kwargs": "{}",
    }
    client.force_login(researcher)
    response = client.post(f"/models/{version.model_id}/add/", form)
    assert "You may not import from" in response.content.decode()
    api = APIClient()
    api.force_authenticate(researcher)
    said = {"model": version.model_id, "label": "v2", "kind": "torch", "path": str(weights), "architecture": "tiny_cnn"}
    assert api.post("/api/v1/versions/", said).status_code == 403
    inbox = var_dir / "inbox" / "w.pt"
    inbox.parent.mkdir(parents=True)
    inbox.write_bytes(weights.read_bytes())
    assert client.post(f"/models/{version.model_id}/add/", form | {"path": str(inbox)}).status_code == 302


def test_a_read_token_changes_nothing(admin: User, version: Version, corpus: Corpus):
    from accounts.services import token_create

    _, secret = token_create(user=admin, by=admin, name="reader", scopes=["read"], days=1)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert api.get("/api/v1/versions/").status_code == 200
    body = {"versions": [version.pk], "corpus": corpus.pk}
    assert api.post("/api/v1/scores/", body).status_code == 403
    assert api.delete(f"/api/v1/versions/{version.pk}/").status_code == 403
