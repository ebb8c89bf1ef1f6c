"""Pages of the zoo: what a researcher reads on them, and how few queries they take."""

import json
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.models import User
from corpora.models import Corpus
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo import appearances
from models_zoo.models import Model, Scores, Version
from models_zoo.services import scores_request
from tests.models_zoo.builders import SIDE, make_model, make_version, picture_bytes, save_weights

COUNTS = json.loads(Path(__file__).with_name("query_counts.json").read_text())


@pytest.fixture
def page(client: Client, admin: User) -> Client:
    client.force_login(admin)
    return client


@pytest.fixture
def scored(admin: User, corpus: Corpus, version: Version) -> Scores:
    run_inline(scores_request(versions=[version], corpus=corpus, by=admin))
    return Scores.objects.get()


@pytest.mark.parametrize("address", COUNTS)
def test_queries_do_not_grow_with_what_is_shown(
    page: Client, admin: User, model: Model, scored: Scores, tmp_path: Path, address: str, django_assert_num_queries
):
    twin = make_version(model, tmp_path, by=admin, label="v2", seed=2)
    run_inline(scores_request(versions=[twin], corpus=scored.corpus, by=admin))
    ids = {"model": model.pk, "version": scored.version_id, "twin": twin.pk, "corpus": scored.corpus_id}
    page.get("/models/")
    with django_assert_num_queries(COUNTS[address]):
        assert page.get(address.format(**ids)).status_code == 200
    for number in range(3):
        other = make_model(admin, f"other {number}")
        make_version(other, tmp_path, by=admin, seed=number)
    with django_assert_num_queries(COUNTS[address]):
        page.get(address.format(**ids))


def test_the_list_filters_and_sorts(page: Client, admin: User, model: Model, scored: Scores, tmp_path: Path):
    wide = make_model(admin, "wide")
    make_version(
        wide, tmp_path, by=admin, file=save_weights(tmp_path / "wide.pt", widths=[4]), arch_kwargs={"widths": [4]}
    )
    empty = make_model(admin, "empty")

    def names(query: str) -> list[str]:
        return [row.name for row in page.get(f"/models/?{query}").context["page"]]

    assert names("") == ["empty", "tiny", "wide"]
    assert names("q=wi") == ["wide"]
    assert names("sort=-parameters") == ["tiny", "wide", "empty"]
    assert names("max_parameters=0.001") == ["wide"]
    assert names("kind=onnx") == []
    assert names(f"corpus={scored.corpus_id}&min_accuracy=0") == ["tiny"]
    assert names(f"corpus={scored.corpus_id}&min_accuracy=101") == ["empty", "tiny", "wide"]
    assert names(f"taxonomy={empty.taxonomy_id}&sort=nonsense") == ["empty", "tiny", "wide"]


def test_a_model_is_added_then_its_version(page: Client, model: Model, tmp_path: Path):
    response = page.post(
        "/models/add/",
        {"name": "mine", "task": "classification", "taxonomy": model.taxonomy_id, "licence": "MIT"},
        follow=True,
    )
    mine = Model.objects.get(name="mine")
    assert response.redirect_chain[-1][0] == f"/models/{mine.pk}/add/"
    upload = SimpleUploadedFile("w.pt", save_weights(tmp_path / "w.pt").read_bytes())
    said = {
        "label": "v1",
        "kind": "torch",
        "file": upload,
        "architecture": "tiny_cnn",
        "arch_kwargs": "{}",
        "preset": "custom",
        "resize": SIDE,
        "crop": SIDE,
        "mean": "0.5, 0.5, 0.5",
        "std": "0.5 0.5 0.5",
        "range": "1",
    }
    response = page.post(f"/models/{mine.pk}/add/", said, follow=True)
    version = mine.versions.get()
    assert version.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert "Being checked" in response.content.decode()
    run_inline(Job.objects.about(version).get())
    response = page.get(f"/models/versions/{version.pk}/state/")
    assert response["HX-Refresh"] == "true"
    assert "Verified" in page.get(f"/models/versions/{version.pk}/").content.decode()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"file": ""}, "file", "Choose a file"),
        ({"architecture": "resnet5"}, "architecture", "did you mean"),
        ({"arch_kwargs": "[1]"}, "arch_kwargs", "no JSON object"),
        ({"preset": "custom", "mean": "a, b"}, "mean", "no list of numbers"),
        ({"preset": "custom", "std": "0"}, None, "every value must be above 0"),
        ({"kind": "predictions"}, "corpus", "choose which"),
    ],
)
def test_mistakes_in_the_form_are_said_at_the_field(
    page: Client, model: Model, tmp_path: Path, values: dict, field: str | None, words: str
):
    upload = SimpleUploadedFile("w.pt", save_weights(tmp_path / "w.pt").read_bytes())
    said = {
        "label": "v1",
        "kind": "torch",
        "file": upload,
        "architecture": "tiny_cnn",
        "arch_kwargs": "{}",
        "preset": "unit",
    }
    form = page.post(f"/models/{model.pk}/add/", said | values).context["form"]
    assert words in str(form.errors[field or "__all__"])
    assert not Version.objects.exists()


def test_a_refused_version_says_why_on_its_page(page: Client, admin: User, model: Model, tmp_path: Path):
    version = make_version(model, tmp_path, by=admin, file=save_weights(tmp_path / "ten.pt", num_classes=10))
    text = page.get(f"/models/versions/{version.pk}/").content.decode()
    assert version.state == "refused"
    assert "do not fit architecture" in text
    assert "Check again" in text


def test_scoring_is_started_and_watched_from_the_page(page: Client, corpus: Corpus, version: Version):
    address = f"/models/versions/{version.pk}/scores/{corpus.pk}/"
    assert "Not scored yet" in page.get(address).content.decode()
    response = page.post(f"/models/versions/{version.pk}/score/", {"corpus": corpus.pk})
    assert response["Location"] == address
    assert 'hx-trigger="every 1s"' in page.get(address).content.decode()
    assert "HX-Refresh" not in page.get(f"{address}state/")
    run_inline(Job.objects.get(kind="models_zoo.score"))
    assert page.get(f"{address}state/")["HX-Refresh"] == "true"
    text = page.get(address).content.decode()
    assert "expected calibration error" in text
    assert "12 of them labelled" in text


def test_two_versions_side_by_side(page: Client, admin: User, scored: Scores, model: Model, tmp_path: Path):
    twin = make_version(model, tmp_path, by=admin, label="v2", seed=2)
    run_inline(scores_request(versions=[twin], corpus=scored.corpus, by=admin))
    response = page.get(f"/models/compare/?first={scored.version_id}&second={twin.pk}")
    differing = {fact["name"] for fact in response.context["facts"] if fact["differs"]}
    assert "File" in differing
    assert "Parameters" not in differing
    assert [row["corpus"] for row in response.context["scores"]] == [scored.corpus]
    same = page.get(f"/models/compare/?first={twin.pk}&second={twin.pk}")
    assert "the same version" in same.content.decode()


def test_a_picture_is_tried_and_forgotten(page: Client, version: Version, var_dir: Path):
    picture = SimpleUploadedFile("cat.png", picture_bytes())
    response = page.post(f"/models/versions/{version.pk}/try/", {"picture": picture})
    job = Job.objects.get(kind="models_zoo.try")
    assert response["Location"] == f"/models/tries/{job.pk}/"
    assert len(list((var_dir / "tries").iterdir())) == 1
    assert "Waiting for a worker" in page.get(f"/models/tries/{job.pk}/").content.decode()
    ended = run_inline(job)
    top = ended.result["answers"][0]["top"]
    assert len(top) == 3
    assert sum(guess["probability"] for guess in top) == pytest.approx(1)
    text = page.get(f"/models/tries/{job.pk}/").content.decode()
    assert top[0]["name"] in text
    assert "40 × 30 px" in text
    assert not list((var_dir / "tries").iterdir())


@pytest.mark.parametrize(
    ("content", "words"), [(b"no picture", "cannot be read"), (picture_bytes((300, 300)), "pixels")]
)
def test_what_is_no_picture_or_too_large_says_so_and_is_forgotten(
    page: Client, version: Version, var_dir: Path, settings, content: bytes, words: str
):
    settings.PIXEL_LIMIT = 10_000
    page.post(f"/models/versions/{version.pk}/try/", {"picture": SimpleUploadedFile("x.png", content)})
    from jobs.worker import job_run

    job = job_run(Job.objects.get(kind="models_zoo.try").pk)
    assert job is not None
    assert words in page.get(f"/models/tries/{job.pk}/").content.decode()
    assert not list((var_dir / "tries").iterdir())


def test_a_picture_over_the_limit_is_not_even_queued(page: Client, version: Version, monkeypatch: pytest.MonkeyPatch):
    from models_zoo import services

    monkeypatch.setattr(services, "PICTURE_LIMIT_BYTES", 10)
    response = page.post(
        f"/models/versions/{version.pk}/try/",
        {"picture": SimpleUploadedFile("x.png", picture_bytes())},
        headers={"HX-Request": "true"},
    )
    assert "are looked at" in response.content.decode()
    assert not Job.objects.filter(kind="models_zoo.try").exists()


def test_architectures_are_found_by_part_of_their_name(page: Client):
    text = page.get("/models/architectures/?architecture=cifar_res").content.decode()
    assert 'value="cifar_resnet110"' in text
    card = page.get("/models/architectures/?architecture=cifar_resnet20").content.decode()
    assert "parameter" in card
    assert "No architecture" in page.get("/models/architectures/?architecture=%3Cscript%3E").content.decode()


def test_where_it_competed_is_told_by_the_rooms_above(page: Client, version: Version, monkeypatch: pytest.MonkeyPatch):
    def provider(versions, user):
        return [
            appearances.Appearance(
                version_id=versions[0].pk, title="Spring cup", url="/competitions/1/", n_entrants=5, at=timezone.now(),
                rank=2, rank_best=1, rank_worst=3,
            )
        ]  # fmt: skip

    monkeypatch.setattr(appearances, "_providers", [provider])
    for address in (f"/models/{version.model_id}/", f"/models/versions/{version.pk}/"):
        text = page.get(address).content.decode()
        assert "Spring cup" in text
        assert "1–3" in text


def test_posts_need_the_csrf_token(admin: User, version: Version, corpus: Corpus):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    for address in (
        "/models/add/",
        f"/models/{version.model_id}/add/",
        f"/models/versions/{version.pk}/score/",
        f"/models/versions/{version.pk}/delete/",
        f"/models/versions/{version.pk}/recheck/",
        f"/models/versions/{version.pk}/try/",
    ):
        assert strict.post(address, {"corpus": corpus.pk}).status_code == 403, address
    assert Version.objects.filter(pk=version.pk).exists()


def test_a_card_keeps_its_history_in_the_admin(page: Client, admin: User, model: Model):
    page.post(f"/models/{model.pk}/change/", {"name": "renamed", "licence": "MIT"})
    assert [row.name for row in model.history.all()] == ["renamed", "tiny"]
    assert page.get(f"/admin/models_zoo/model/{model.pk}/history/").status_code == 200
    for name in ("model", "version", "scores"):
        assert page.get(f"/admin/models_zoo/{name}/").status_code == 200
    assert page.get(f"/admin/models_zoo/model/{model.pk}/change/").status_code == 200
