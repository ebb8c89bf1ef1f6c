"""The forms that begin troubleshooting, and who may use them."""

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from competition.models import Competition
from corpora.models import Corpus
from models_zoo.models import Version
from tests.competition.builders_self import labelled, noise_network, noisy_corpus

pytestmark = pytest.mark.django_db


@pytest.fixture
def corpus(var_dir: Path, researcher: User) -> Corpus:
    return noisy_corpus(researcher)


@pytest.fixture
def target(var_dir: Path, researcher: User, tmp_path: Path) -> Version:
    return noise_network(researcher, tmp_path)


def test_a_version_offers_to_be_troubleshot(
    client: Any, corpus: Corpus, target: Version, researcher: User, other_researcher: User, annotator: User
) -> None:
    address = f"/competitions/troubleshoot/{target.pk}/"
    client.force_login(researcher)
    assert address in client.get(target.get_absolute_url()).content.decode()
    assert "No labelled set yet" in client.get(address).content.decode(), "an empty state says what to do"

    edition = labelled(corpus, researcher)
    form = {"corpus": corpus.pk, "edition": edition.pk, "preset": "small", "budget": 20, "control_size": 5,
            "overlap": 4, "variants": 3, "ensembles": 2, "seed": 0}  # fmt: skip
    takes = client.post(f"{address}preview/", form).content.decode()
    assert "100</strong><span>judgements" in takes
    assert "10 min" in takes
    bad = client.post(address, form | {"variants": 1})
    assert bad.status_code == 200
    assert not Competition.objects.exists()

    for person, expected in ((other_researcher, 404), (annotator, 403)):
        client.force_login(person)
        assert client.get(address).status_code == expected
        assert client.post(address, form).status_code == expected
    assert not Competition.objects.exists()


def test_every_form_launches_the_kind(client: Any, corpus: Corpus, target: Version, admin: User) -> None:
    edition = labelled(corpus, admin)
    client.force_login(admin)
    for address in ("/competitions/new/?kind=self_gmad", "/competitions/new/?kind=self_mad"):
        assert client.get(address).status_code == 200
    page = client.get("/admin/competition/competition/add/?kind=self_gmad")
    assert str(edition) in page.content.decode()
    form = {
        "name": "by the admin", "corpus": corpus.pk, "versions": [target.pk], "edition": edition.pk, "variants": 3,
        "ensembles": 2, "budget": 20, "prune_preset": "small", "finetune_preset": "small", "levels": 2, "top": 1,
        "half_width": 20, "image_cap": 2, "protocol": "continuous", "control_size": 4, "overlap": 3, "seed": 0,
    }  # fmt: skip
    answer = client.post("/admin/competition/competition/add/?kind=self_gmad", form)
    assert answer.status_code == 302, answer.content.decode()[:2000]
    made = Competition.objects.get(kind="self_gmad")
    assert made.options["edition"] == edition.pk
    answer = client.post(f"/admin/competition/competition/{made.pk}/launch/")
    assert made.rounds.get().state == "preparing"
    assert client.get(made.get_absolute_url()).status_code == 200
