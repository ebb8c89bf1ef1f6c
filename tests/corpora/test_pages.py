"""The corpora and taxonomy pages, as people see them, with what each costs in SQL."""

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from accounts.models import Role, User
from corpora.models import Corpus, CorpusState, Taxonomy
from corpora.services import corpus_create, item_ensure, taxonomy_ensure_flat, taxonomy_ensure_imagenet
from jobs.models import Job, JobState
from tests.corpora.pictures import encoded, photograph

pytestmark = pytest.mark.django_db


@pytest.fixture
def corpus(imported, folder):
    (folder / "cut.jpg").write_bytes(encoded(photograph())[:700])
    (folder / "dog/same.jpg").write_bytes((folder / "cat/a.jpg").read_bytes())
    return imported(folder, options={"labels_from": "folder"}, description="Birds, mostly cats")


@pytest.fixture
def page(client, admin_user):
    client.force_login(admin_user)

    def get(address, status=200):
        response = client.get(address)
        assert response.status_code == status, response.content[:500]
        return response.content.decode()

    return get


def test_empty_states_say_what_to_do(page):
    assert "No corpora yet" in page("/corpora/")
    assert "Import a corpus" in page("/corpora/")
    assert "No tax" in page("/corpora/taxonomies/")


def test_list(page, corpus):
    shown = page("/corpora/")
    assert "birds" in shown
    assert ">7<" in shown
    assert "No corpus is called like" in page("/corpora/?q=fish")
    assert "birds" in page("/corpora/?q=IRD")


def test_overview_says_what_the_import_saw(page, corpus):
    shown = page(corpus.get_absolute_url())
    for words in ("Birds, mostly cats", "1, with the reasons", "groups of near-duplicates", ">cat</a>"):
        assert words in shown
    assert shown.count('loading="lazy"') == 7


def test_browse_by_page_row_and_label(page, corpus, monkeypatch):
    monkeypatch.setattr("corpora.browsing.PAGE", 3)
    monkeypatch.setattr("corpora.browsing.row_page.__defaults__", (None, 3))
    shown = page(f"/corpora/{corpus.pk}/rows/")
    assert [f'id="row-{row}"' in shown for row in range(7)] == [True] * 3 + [False] * 4
    assert "Page 1 of 3" in shown
    shown = page(f"/corpora/{corpus.pk}/rows/?row=4")
    assert 'id="row-3"' in shown
    assert "tile-wanted" in shown
    shown = page(f"/corpora/{corpus.pk}/rows/?label=1&page=2")
    assert [f'id="row-{row}"' in shown for row in range(7)] == [False] * 6 + [True]
    assert "4 images with this label" in shown
    assert "No image has this label" in page(f"/corpora/{corpus.pk}/rows/?label=77")
    for nonsense in ("page=9999999999", "page=-3", "page=x", "row=1e9", "row=99999", "label=-1", "label=abc"):
        page(f"/corpora/{corpus.pk}/rows/?{nonsense}")


def test_one_row(page, corpus):
    shown = page(f"/corpora/{corpus.pk}/rows/0/")
    for words in ("cat/a.jpg", "90 × 70", "not yet", ">cat</a>"):
        assert words in shown
    item_ensure(corpus=corpus, rows=[0])
    assert "yes: it is an item" in page(f"/corpora/{corpus.pk}/rows/0/")
    page(f"/corpora/{corpus.pk}/rows/7/", status=404)


def test_quarantine_and_duplicates(page, corpus):
    shown = page(f"/corpora/{corpus.pk}/quarantine/")
    assert "cut.jpg" in shown
    assert "damaged" in shown
    shown = page(f"/corpora/{corpus.pk}/duplicates/")
    assert 'id="row-0"' in shown
    assert "alike by their perceptual hash" in shown


def test_pictures_are_cached_for_ever_and_safe(client, admin_user, corpus):
    client.force_login(admin_user)
    for address, kind, size in (
        (f"/corpora/{corpus.pk}/rows/1.webp", "image/webp", (90, 70)),
        (f"/corpora/{corpus.pk}/rows/1.webp", "image/webp", (90, 70)),
        (f"/corpora/{corpus.pk}/rows/1/image", "image/png", (90, 70)),
        (f"/corpora/{corpus.pk}/rows/0/image", "image/jpeg", (90, 70)),
    ):
        response = client.get(address)
        assert response["Content-Type"] == kind
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "immutable" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        assert Image.open(io.BytesIO(response.content)).size == size
    assert (corpus.directory / "thumbnails/0/1.webp").exists()
    assert client.get(f"/corpora/{corpus.pk}/rows/7.webp").status_code == 404


def test_a_picture_whose_file_has_gone(client, admin_user, corpus, folder):
    client.force_login(admin_user)
    (folder / "cat/a.jpg").unlink()
    response = client.get(f"/corpora/{corpus.pk}/rows/0.webp")
    assert response.status_code == 410
    assert b"cannot be read" in response.content


def test_media_serves_items_to_people_who_are_logged_in(client, admin_user, corpus):
    item = item_ensure(corpus=corpus, rows=[0])[0]
    address = f"/media/{item.image.name}"
    assert client.get(address).status_code == 302
    client.force_login(admin_user)
    response = client.get(address)
    assert response["Content-Type"] == "image/jpeg"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in response["Cache-Control"]
    assert "a.jpg" not in str(response.headers)
    for bad in ("/media/items/none.jpg", "/media/../settings.py", "/media/..%2f..%2fetc/passwd", "/media/items"):
        assert client.get(bad).status_code == 404


def test_media_never_shows_what_is_no_picture(client, admin_user, var_dir):
    (var_dir / "media").mkdir()
    (var_dir / "media/page.html").write_text("<script>alert(1)</script>")
    client.force_login(admin_user)
    response = client.get("/media/page.html")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")


def test_import_by_form(client, admin_user, folder):
    client.force_login(admin_user)
    given = {"name": "birds", "source": "folder", "location": str(folder), "labels_from": "folder"}
    response = client.post("/corpora/new/", given)
    corpus = Corpus.objects.get()
    assert response["Location"] == corpus.get_absolute_url()
    assert corpus.options == {"labels_from": "folder"}
    shown = client.get(corpus.get_absolute_url()).content.decode()
    assert "Importing" in shown
    assert f'data-job="{Job.objects.get().pk}"' in shown


def test_import_by_upload(client, admin_user):
    client.force_login(admin_user)
    upload = SimpleUploadedFile("a.zip", b"PK")
    client.post("/corpora/new/", {"name": "up", "source": "archive", "upload": upload})
    corpus = Corpus.objects.get()
    assert "a.zip (uploaded)" in client.get(corpus.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"location": ""}, "Give either a path on the server or a file to upload"),
        ({"location": "photos"}, "not an absolute path"),
        ({"name": ""}, "This field is required"),
        ({"name": "taken"}, "choose another name"),
    ],
)
def test_import_form_says_what_is_wrong(given, message, client, admin_user, folder):
    corpus_create(name="taken", source="folder", location=str(folder), by=admin_user)
    client.force_login(admin_user)
    values = {"name": "birds", "source": "folder", "location": str(folder), **given}
    response = client.post("/corpora/new/", values)
    assert message in response.content.decode()
    assert Corpus.objects.count() == 1


def test_a_failed_import_says_why_and_what_to_do(page, admin_user, tmp_path):
    corpus = corpus_create(name="birds", source="folder", location=str(tmp_path / "gone"), by=admin_user)
    Corpus.objects.update(state=CorpusState.FAILED)
    Job.objects.update(state=JobState.FAILED, error='"gone" is not a folder')
    shown = page(corpus.get_absolute_url())
    assert "&quot;gone&quot; is not a folder" in shown
    assert "then retry" in shown
    assert "is not imported" in page(f"/corpora/{corpus.pk}/rows/", status=400)
    assert "Nothing in quarantine" in page(f"/corpora/{corpus.pk}/quarantine/")


def test_taxonomy_pages(page, admin_user):
    imagenet = taxonomy_ensure_imagenet(by=admin_user)
    assert "ImageNet-1k" in page("/corpora/taxonomies/")
    shown = page(f"{imagenet.get_absolute_url()}?q=tabby")
    assert "n02123045" in shown
    assert "1 found" in shown
    shown = page(f"{imagenet.get_absolute_url()}?a=tabby&b=281")
    assert "<strong>0</strong>" in shown
    shown = page(f"{imagenet.get_absolute_url()}?a=tabby&b=golden+retriever")
    assert "weighted tree distance" in shown
    assert "feline" in shown
    assert "is not in taxonomy" in page(f"{imagenet.get_absolute_url()}?a=tabby&b=unicorn")
    flat = taxonomy_ensure_flat(names=["one", "two"], by=admin_user)
    assert "at distance 1" in page(f"{flat.get_absolute_url()}?a=one&b=two")
    assert "No class is called like" in page(f"{flat.get_absolute_url()}?q=three")


def test_add_a_taxonomy(client, admin_user):
    client.force_login(admin_user)
    file = SimpleUploadedFile("t.csv", b"child,parent,class\na,root,0\nb,root,1\n")
    client.post("/corpora/taxonomies/new/", {"name": "shapes", "kind": "tree", "file": file})
    assert Taxonomy.objects.get().n_classes == 2
    client.post("/corpora/taxonomies/new/", {"name": "plain", "kind": "flat", "names": "x\ny\n\nz"})
    assert Taxonomy.objects.get(name="plain").n_classes == 3
    bad = SimpleUploadedFile("t.csv", b"child,parent\n")
    response = client.post("/corpora/taxonomies/new/", {"name": "bad", "kind": "tree", "file": bad})
    assert "column &quot;class&quot; is missing" in response.content.decode()


SQL = {
    "/corpora/": 5,
    "/corpora/new/": 4,
    "/corpora/{pk}/": 5,
    "/corpora/{pk}/rows/": 4,
    "/corpora/{pk}/rows/?label=1": 4,
    "/corpora/{pk}/rows/0/": 5,
    "/corpora/{pk}/opinions/": 6,
    "/corpora/{pk}/quarantine/": 4,
    "/corpora/{pk}/duplicates/": 4,
    "/corpora/{pk}/rows/0.webp": 4,
    "/corpora/{pk}/rows/0/image": 4,
    "/corpora/taxonomies/": 5,
    "/corpora/taxonomies/{taxonomy}/?a=cat&b=dog": 5,
}


@pytest.mark.parametrize("address", SQL)
def test_pages_cost_few_queries(address, client, corpus, researcher, django_assert_max_num_queries):
    """Session, person, memberships' content type, and then what is shown: nothing grows with the corpus."""
    Corpus.objects.update(created_by=researcher)
    Taxonomy.objects.update(created_by=researcher)
    client.force_login(researcher)
    with django_assert_max_num_queries(SQL[address]):
        assert client.get(address.format(pk=corpus.pk, taxonomy=corpus.taxonomy_id)).status_code == 200


def test_the_list_costs_the_same_for_many(client, admin_user, corpus, django_assert_max_num_queries):
    Corpus.objects.bulk_create(
        Corpus(name=f"c{n}", source="folder", created_by=admin_user, taxonomy=corpus.taxonomy) for n in range(30)
    )
    client.force_login(admin_user)
    with django_assert_max_num_queries(SQL["/corpora/"]):
        assert client.get("/corpora/").content.count(b"<time") == 31


# Who sees what


@pytest.mark.parametrize(
    "address",
    [
        "/corpora/",
        "/corpora/new/",
        "/corpora/{pk}/",
        "/corpora/{pk}/rows/",
        "/corpora/{pk}/rows/0/",
        "/corpora/{pk}/rows/0.webp",
        "/corpora/{pk}/rows/0/image",
        "/corpora/{pk}/quarantine/",
        "/corpora/{pk}/duplicates/",
        "/corpora/taxonomies/",
        "/corpora/taxonomies/new/",
        "/corpora/taxonomies/{taxonomy}/",
    ],
)
def test_strangers_see_nothing(address, client, corpus, researcher):
    address = address.format(pk=corpus.pk, taxonomy=corpus.taxonomy_id)
    response = client.get(address)
    assert response.status_code == 302
    assert "/login/" in response["Location"]
    client.force_login(researcher)
    if str(corpus.pk) in address:
        assert client.get(address).status_code == 404
    Corpus.objects.update(is_public=True)
    Taxonomy.objects.update(is_public=True)
    assert client.get(address).status_code == 200


def test_annotators_import_nothing(client, db, folder):
    client.force_login(User.objects.create_user("ann", role=Role.ANNOTATOR))
    for address in ("/corpora/new/", "/corpora/taxonomies/new/"):
        assert client.get(address).status_code == 403
        given = {"name": "x", "source": "folder", "location": str(folder), "kind": "flat", "names": "a"}
        assert client.post(address, given).status_code == 403
    assert "Import a corpus" not in client.get("/corpora/").content.decode()


def test_admin_pages(client, corpus, admin_user):
    User.objects.filter(pk=admin_user.pk).update(is_staff=True, is_superuser=True)
    client.force_login(admin_user)
    item = item_ensure(corpus=corpus, rows=[0])[0]
    for address in (
        "corpus/", f"corpus/{corpus.pk}/change/", "taxonomy/", f"taxonomy/{corpus.taxonomy_id}/change/", "item/",
        f"item/{item.pk}/change/",
    ):  # fmt: skip
        assert client.get(f"/admin/corpora/{address}").status_code == 200, address
    response = client.post(
        f"/admin/corpora/corpus/{corpus.pk}/change/",
        {"description": "new words", "is_public": "on", "name": "o", "n_rows": 99},
    )
    corpus.refresh_from_db()
    assert response.status_code == 302
    assert (corpus.description, corpus.is_public, corpus.name, corpus.n_rows) == ("new words", True, "o", 7)
