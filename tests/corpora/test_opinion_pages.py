"""Opinion scores on the pages and in the API."""

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from accounts.models import Role, User
from corpora import reading
from corpora.models import Corpus
from jobs.models import Job
from tests.corpora import layouts
from tests.corpora.pictures import encoded, photograph

pytestmark = pytest.mark.django_db
GOOD = "path,mos,std,n\ncat/a.jpg,4.5,0.4,20\nb.png,2,0.6,21\nelsewhere.jpg,3,,\n"


@pytest.fixture
def corpus(imported, folder):
    return imported(folder)


@pytest.fixture
def api(admin_user):
    client = APIClient()
    client.force_authenticate(admin_user)
    return client


def upload(text: str, name: str = "mos.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode())


def test_a_table_is_previewed_and_then_attached(client, admin_user, corpus, var_dir):
    client.force_login(admin_user)
    address = f"/corpora/{corpus.pk}/opinions/"
    assert "No image of this corpus is rated" in client.get(address).content.decode()
    response = client.post(address, {"upload": upload(GOOD), "low": "1", "high": "5"})
    shown = response.content.decode()
    for words in (
        "<strong>2</strong><span>images would be rated, 1 found by file name alone",
        "elsewhere.jpg",
        "1 to 5",
    ):
        assert words in shown
    assert reading.opinions_of(corpus) is None
    attached = client.post(address + "attach/", {"token": response.context["token"]}, follow=True)
    shown = attached.content.decode()
    for words in (
        "2 images are rated now",
        "of 6 images rated",
        "MOS, higher = better",
        "by ada",
        "1 path of the table is not in the corpus",
    ):
        assert words in shown
    assert not list((var_dir / "uploads").rglob("*.csv"))
    assert reading.opinion_table(corpus).mos.tolist() == [4.5, 2]
    shown = client.get(f"/corpora/{corpus.pk}/rows/0/").content.decode()
    assert "± 0.4" in shown
    assert "of 20 ratings" in shown
    assert "1 to 5, higher = better" in client.get(corpus.get_absolute_url()).content.decode()


def test_a_table_with_something_wrong_cannot_be_attached(client, admin_user, corpus):
    client.force_login(admin_user)
    address = f"/corpora/{corpus.pk}/opinions/"
    response = client.post(address, {"upload": upload("path,mos\ncat/a.jpg,nan\n")})
    shown = response.content.decode()
    assert "Nothing can be attached before these are right" in shown
    assert "no finite number" in shown
    assert "Attach the scores" not in shown
    again = client.post(address + "attach/", {"token": response.context["token"]})
    assert again.status_code == 400
    assert reading.opinions_of(corpus) is None
    shown = client.post(address, {"upload": upload("a,b\n1,2\n")}).content.decode()
    assert "has no column &quot;path&quot;" in shown
    shown = client.post(address, {"upload": upload("path,mos\nx,2\n")}).content.decode()
    assert "No path of the table is a row of this corpus" in shown


def test_a_token_is_good_for_its_corpus_and_person_only(client, admin_user, corpus, folder, imported):
    other = imported(folder, name="other")
    client.force_login(admin_user)
    token = client.post(f"/corpora/{corpus.pk}/opinions/", {"upload": upload(GOOD)}).context["token"]
    for address, kept in ((f"/corpora/{other.pk}", token), (f"/corpora/{corpus.pk}", token + "x")):
        response = client.post(f"{address}/opinions/attach/", {"token": kept})
        assert response.status_code == 400
        assert b"upload it again" in response.content


def test_who_may_only_look_sees_no_form(client, corpus, researcher):
    Corpus.objects.update(is_public=True)
    client.force_login(researcher)
    address = f"/corpora/{corpus.pk}/opinions/"
    assert "Check the table" not in client.get(address).content.decode()
    client.post(address, {"upload": upload(GOOD)})
    assert client.post(address + "attach/", {"token": "x"}).status_code == 400
    stranger = User.objects.create_user("stranger", role=Role.RESEARCHER)
    Corpus.objects.update(is_public=False)
    client.force_login(stranger)
    assert client.get(address).status_code == 404


def test_the_overview_says_that_scores_were_turned_round(client, admin_user, imported, tmp_path):
    corpus = imported(layouts.csiq(tmp_path / "in"), source="csiq")
    client.force_login(admin_user)
    shown = client.get(corpus.get_absolute_url()).content.decode()
    assert "turned round: the source counts the other way" in shown
    assert "have their reference among the rows" in shown
    assert (
        "its scores were turned round (low + high − score)"
        in client.get(f"/corpora/{corpus.pk}/opinions/").content.decode()
    )
    distorted = client.get(f"/corpora/{corpus.pk}/rows/0/").content.decode()
    assert "noise, level 1" in distorted
    assert f"/corpora/{corpus.pk}/rows/5/" in distorted


def test_distorted_photographs_from_the_page(client, admin_user, imported, folder):
    source = imported(folder, name="source")
    client.force_login(admin_user)
    values = {"name": "d", "source": "distorted"}
    assert "Choose one" in client.post("/corpora/new/", values).content.decode()
    response = client.post("/corpora/new/", {**values, "corpus": source.pk, "size": "64x48", "seed": "3"})
    corpus = Corpus.objects.get(name="d")
    assert response.url == corpus.get_absolute_url()
    assert corpus.options == {"corpus": source.pk, "size": "64x48", "seed": 3}
    from jobs.inline import run_inline

    run_inline(Job.objects.about(corpus).get())
    shown = client.get(corpus.get_absolute_url()).content.decode()
    for words in ("How the images were made", "7, 15, 39, 91, 199", "cropped to at most 64 × 48", "Seed 3"):
        assert words in shown


def test_a_list_with_a_scale_from_the_page(client, admin_user, folder):
    client.force_login(admin_user)
    (folder / "list.csv").write_text("path,mos\ncat/a.jpg,3\n")
    values = {"name": "l", "source": "list", "location": str(folder / "list.csv"), "mos_low": "1", "mos_high": "5"}
    client.post("/corpora/new/", {**values, "size": "64x48"})
    assert Corpus.objects.get().options == {"mos_low": 1.0, "mos_high": 5.0}


# API


def test_opinions_by_api(api, corpus):
    address = f"/api/v1/corpora/{corpus.pk}/opinions/"
    missing = api.get(address)
    assert missing.status_code == 400
    assert "has no opinion scores" in str(missing.json())
    values = {"low": 1, "high": 5}
    tried = api.post(address, {"file": upload(GOOD), "dry_run": True, **values}, format="multipart")
    assert tried.json() == {
        "n_lines": 3, "n_matched": 2, "n_by_name": 1, "n_empty": 0, "n_unmatched": 1, "unmatched": ["elsewhere.jpg"],
        "n_problems": 0, "problems": [], "low": 1.0, "high": 5.0,
    }  # fmt: skip
    assert reading.opinions_of(corpus) is None
    assert api.post(address, {"file": upload(GOOD), **values}, format="multipart").status_code == 200
    found = api.get(address).json()
    assert (found["n"], found["low"], found["high"], found["ratings"]) == (2, 1, 5, 41)
    assert sum(bar["count"] for bar in found["histogram"]) == 2
    rows = api.get(f"/api/v1/corpora/{corpus.pk}/rows/").json()["results"]
    assert [(row["mos"], row["mos_std"], row["mos_n"]) for row in rows[:3]] == [
        (4.5, 0.4, 20), (2.0, 0.6, 21), (None, None, None),
    ]  # fmt: skip
    assert api.get(f"/api/v1/corpora/{corpus.pk}/").json()["n_rated"] == 2
    bad = api.post(address, {"file": upload("path,mos\ncat/a.jpg,9\n"), **values}, format="multipart")
    assert bad.status_code == 400
    assert "outside its scale" in str(bad.json())
    assert reading.opinion_table(corpus).mos.tolist() == [4.5, 2]


def test_distorted_rows_by_api(api, folder, imported):
    corpus = imported(folder, source="distorted")
    row = api.get(f"/api/v1/corpora/{corpus.pk}/rows/?start=1&limit=1").json()["results"][0]
    assert (row["distortion"], row["level"], row["group"], row["mos"]) == ("blur", 1, "cat/a", None)
    assert row["reference"] == "cat/a/pristine.png"


def test_images_of_very_different_sizes_and_tiny_ones_are_rows_like_any_other(imported, tmp_path, client, admin_user):
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(1, 1), (3000, 2), (2, 1500), (800, 600)]):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(photograph(number, *size), "PNG"))
    (tmp_path / "in" / "list.csv").write_text("path,mos\n0.png,1\n1.png,2\n2.png,3\n3.png,4\n")
    corpus = imported(tmp_path / "in" / "list.csv", source="list")
    assert (corpus.n_rows, corpus.n_rated, corpus.is_packed) == (4, 4, False)
    client.force_login(admin_user)
    for row in range(4):
        assert client.get(f"/corpora/{corpus.pk}/rows/{row}.webp").status_code == 200
        picture = client.get(f"/corpora/{corpus.pk}/rows/{row}/image")
        assert io.BytesIO(picture.content).getvalue()
