"""Pages and API of quality models: what a researcher reads, enters and compares."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from corpora.models import Corpus
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo import quality_charts
from models_zoo.models import Model, Scores, Version
from models_zoo.reading import quality_column
from tests.models_zoo.builders import make_version, picture_bytes
from tests.models_zoo.quality_builders import (
    N_PHOTOGRAPHS,
    measure_version,
    network_version,
    quality_model,
    rate,
    scored,
)


@pytest.fixture
def page(client: Client, admin: User) -> Client:
    client.force_login(admin)
    return client


@pytest.fixture
def blur(photographs: Corpus, admin: User, tmp_path: Path) -> Scores:
    """Scores of a measure whose lower scores are better, on a corpus that people rated."""
    rate(photographs, np.linspace(1.1, 4.9, N_PHOTOGRAPHS).tolist(), admin, tmp_path)
    return scored([measure_version(admin, "blur_effect", higher=False)], photographs, admin)[0]


def text_of(response: object) -> str:
    """The page's words, white space collapsed."""
    without_tags = re.sub(r"<[^>]+>", " ", response.content.decode())  # type: ignore[attr-defined]
    return " ".join(without_tags.split())


def test_cards_and_scores_say_direction_range_and_agreement(page: Client, blur: Scores):
    shown = text_of(page.get(blur.version.model.get_absolute_url()))
    assert "Direction lower is better" in shown
    assert f"SRCC KRCC Images per second photographs v1 Complete {blur.srcc:.3f}" in shown
    shown = text_of(page.get(blur.version.get_absolute_url()))
    assert "CPU time per image of 512 × 384 px" in shown
    assert "smaller images get no score" in shown
    response = page.get(blur.get_absolute_url())
    shown = text_of(response)
    assert "Does it agree with people?" in shown
    assert "Lower scores are better, so they stand to the right." in shown
    assert sum(bar["n"] for bar in response.context["histogram"]["bars"]) == N_PHOTOGRAPHS


def test_pages_of_quality_models_ask_no_more_than_those_of_classifiers(
    page: Client, blur: Scores, django_assert_max_num_queries
):
    counts = json.loads(Path(__file__).with_name("query_counts.json").read_text())
    page.get("/models/")
    ids = {"model": blur.version.model_id, "version": blur.version_id, "corpus": blur.corpus_id}
    for address in ("/models/{model}/", "/models/versions/{version}/", "/models/versions/{version}/scores/{corpus}/"):
        with django_assert_max_num_queries(counts[address]):
            assert page.get(address.format(**ids)).status_code == 200


def test_scores_without_opinions_say_what_to_do_and_holes_say_why(
    page: Client, photographs: Corpus, admin: User, tmp_path: Path
):
    (row,) = scored([network_version(admin, tmp_path)], photographs, admin)
    shown = text_of(page.get(row.get_absolute_url()))
    assert "The corpus has no opinion scores" in shown
    assert "smaller than the 32 x 32 pixels that" in shown
    assert "2 5, 12" in shown


def test_a_quality_model_and_its_measure_are_entered_by_form(page: Client):
    form = {"name": "Colours", "task": "quality", "higher_is_better": "on", "score_low": "0", "taxonomy": "99"}
    page.post("/models/add/", form)
    model = Model.objects.get(name="Colours")
    assert (model.task, model.taxonomy, model.score_low) == ("quality", None, 0)
    shown = page.get(f"/models/{model.pk}/add/")
    choices = dict(shown.context["form"].fields["measure"].choices)
    assert choices["niqe"] == "NIQE: lower is better, needs niqe parameters"
    assert not any(name.startswith("pyiqa") for name in choices)
    page.post(f"/models/{model.pk}/add/", {"label": "v1", "kind": "metric", "measure": "colourfulness"})
    version = Version.objects.get()
    assert (version.architecture, version.file, version.preprocessing["long_side"]) == ("colourfulness", "", 3840)
    refused = page.post(f"/models/{model.pk}/add/", {"label": "v2", "kind": "metric", "measure": "blur_effect"})
    assert "says the opposite" in refused.content.decode()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "x", "task": "classification"}, "choose which"),
        ({"name": "x", "task": "quality", "score_low": "5", "score_high": "1"}, "above the lowest"),
        ({"name": "x", "task": "nonsense"}, "nonsense"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_at_its_field(page: Client, form: dict[str, str], said: str):
    assert said in page.post("/models/add/", form).content.decode()
    assert not Model.objects.exists()


def test_the_card_of_a_quality_model_changes_but_not_its_direction(page: Client, admin: User):
    model = quality_model(admin)
    shown = page.get(f"/models/{model.pk}/change/")
    assert {"task", "taxonomy", "higher_is_better"}.isdisjoint(shown.context["form"].fields)
    page.post(f"/models/{model.pk}/change/", {"name": "sharp", "score_low": "1", "score_high": "5"})
    model.refresh_from_db()
    assert (model.score_low, model.score_high) == (1, 5)


def test_a_picture_gets_a_score_or_the_reason_why_not(page: Client, admin: User, tmp_path: Path):
    network = network_version(admin, tmp_path)
    colour = measure_version(admin, "colourfulness")
    address = f"/models/versions/{network.pk}/try/"
    offered = page.get(address).context["form"].fields["beside"].queryset
    assert list(offered) == [colour]
    for size, said in (((60, 50), "is better; scale: open"), ((60, 20), "smaller than the 32 x 32 pixels")):
        picture = SimpleUploadedFile("p.png", picture_bytes(size))
        page.post(address, {"picture": picture, "beside": colour.pk})
        job = Job.objects.filter(kind="models_zoo.try").order_by("-created_at").first()
        assert job is not None
        run_inline(job)
        shown = text_of(page.get(f"/models/tries/{job.pk}/"))
        assert said in shown


def test_two_quality_versions_are_compared_but_not_with_a_classifier(
    page: Client, blur: Scores, model: Model, admin: User, tmp_path: Path
):
    colour = scored([measure_version(admin, "colourfulness")], blur.corpus, admin)[0]
    pair = f"first={blur.version_id}&second={colour.version_id}"
    shown = text_of(page.get(f"/models/compare/?{pair}"))
    assert "Direction lower is better higher is better" in shown
    assert f"SRCC {blur.srcc:.3f}" in shown
    classifier = make_version(model, tmp_path, by=admin)
    shown = text_of(page.get(f"/models/compare/?first={blur.version_id}&second={classifier.pk}"))
    assert "choose two of one sort" in shown


def test_the_list_shows_agreement_and_filters_by_task(page: Client, blur: Scores, model: Model):
    shown = page.get(f"/models/?task=quality&corpus={blur.corpus_id}&sort=-best_srcc")
    assert [row.name for row in shown.context["page"]] == ["blur_effect"]
    assert f"SRCC {blur.srcc:.3f}" in text_of(shown)
    assert "lower is better" in text_of(shown)


def test_architectures_are_offered_by_task(page: Client):
    found = page.get("/models/architectures/?architecture=unique&task=quality").content.decode()
    assert "unique_resnet18" in found
    assert "unique" not in page.get("/models/architectures/?architecture=resnet18&task=classification").content.decode()


def test_programs_enter_score_and_read_quality(photographs: Corpus, admin: User):
    api = APIClient()
    api.force_authenticate(admin)
    card = {"name": "Colours", "task": "quality", "higher_is_better": True, "score_low": 0}
    made = api.post("/api/v1/models/", card, format="json")
    assert made.status_code == 201, made.content
    assert (made.json()["taxonomy"], made.json()["taxonomy_name"]) == (None, None)
    said = {"model": made.json()["id"], "label": "v1", "kind": "metric", "architecture": "colourfulness"}
    added = api.post("/api/v1/versions/", said, format="json")
    assert added.status_code == 201, added.content
    run_inline(Job.objects.get(kind="models_zoo.verify"))
    asked = api.post("/api/v1/scores/", {"versions": [added.json()["id"]], "corpus": photographs.pk}, format="json")
    run_inline(Job.objects.get(pk=asked.json()["id"]))
    row = Scores.objects.get()
    lines = b"".join(api.get(f"/api/v1/scores/{row.pk}/predictions/").streaming_content).decode().splitlines()
    assert lines[0] == "path,score"
    assert [np.float32(line.split(",")[1]) for line in lines[1:]] == quality_column(row).tolist()
    bad = api.post("/api/v1/models/", {"name": "b", "task": "classification"}, format="json")
    assert bad.status_code == 400
    assert "choose which" in str(bad.json())
    assert api.post("/api/v1/versions/", said | {"label": "v2", "kind": "torch"}, format="json").status_code == 400


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [3]), (-7, 12, [-5, 0, 5, 10]), (1, 5, [1, 2, 3, 4, 5])],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, ticks: list[float]):
    assert quality_charts.round_ticks(low, high) == pytest.approx(ticks)
