"""The explorer of quality models: what a competition would select, and what pages and programs see of it."""

from typing import Any

import numpy as np
import pytest

from accounts.models import User
from competition import exploring
from competition.models import Exhibit
from corpora.models import Corpus
from models_zoo.models import Version
from tests.competition.builders import committed, launch, work
from tests.competition.builders_gmad import make_column, make_gmad, make_quality_versions, truth
from tests.competition.test_api import client_of


@pytest.fixture
def versions(corpus: Corpus, researcher: User, tmp_path: Any) -> list[Version]:
    return make_quality_versions(corpus, tmp_path, by=researcher)


def test_the_first_attack_of_a_level_is_what_a_competition_selects(
    corpus: Corpus, versions: list[Version], researcher: User
) -> None:
    pair = versions[:2]
    committed(exploring.exploration_request, corpus=corpus, versions=pair, by=researcher)
    work()
    found = exploring.attacks_read(corpus=corpus, versions=pair)
    assert found is not None
    assert found.calibration == "quantile"
    first = {
        (int(line["attacker"]), int(line["level"])): (int(line["best"]), int(line["worst"]))
        for line in found.rows[found.rows["rank"] == 1]
    }
    launch(make_gmad(corpus, pair, by=researcher, options={"levels": 6, "half_width": 9.0}), by=researcher)
    exhibits = Exhibit.objects.filter(role="selected").select_related("item", "second_item", "duel__first")
    places = {version.pk: place for place, version in enumerate(pair)}
    assert first == {
        (places[each.duel.first.version_id], each.level): (each.item.row, each.second_item.row) for each in exhibits
    }
    gaps = found.rows["attacker_best"] - found.rows["attacker_worst"]
    assert np.all(np.diff(gaps) <= 0)


def test_browsing_before_a_label_is_spent(
    corpus: Corpus, versions: list[Version], researcher: User, client: Any
) -> None:
    client.force_login(researcher)
    pair = {"kind": "gmad", "corpus": corpus.pk, "first": versions[0].pk, "second": versions[2].pk}
    assert "Find the disagreements" in client.get("/competitions/explore/", pair).content.decode()
    begun = committed(client.post, path="/competitions/explore/start/", data=pair)
    work()
    page = client.get(begun.url)
    assert page.context["page"].paginator.count == len(page.context["found"].rows) > 0
    assert "calibrated by quantiles" in page.content.decode()
    page = client.get("/competitions/explore/", pair | {"attacker": 1, "level": 2})
    assert page.context["tiles"]
    assert {(tile["attacker"], tile["level"]) for tile in page.context["tiles"]} == {(versions[2], 2)}
    picture = page.context["tiles"][0]["best"]["thumbnail"]
    assert client.get(picture).status_code == 200
    api = client_of(researcher)
    address = "/api/v1/competitions/explore/attacks/"
    answer = api.get(address, pair | {"attacker": versions[2].pk, "level": 2}).data
    assert answer["n_matching"] == page.context["page"].paginator.count
    assert {line["attacker"] for line in answer["results"]} == {versions[2].pk}
    assert api.get(address, pair | {"attacker": 0}).data["field"] == "attacker"
    other = api.get(address, pair | {"second": versions[1].pk})
    assert (other.status_code, "POST the same parameters" in other.data["detail"]) == (400, True)
    assert api.get("/api/v1/competitions/explore/", pair).data["field"] == "first"


def test_a_version_that_scores_everything_alike_is_named(
    corpus: Corpus, versions: list[Version], researcher: User, tmp_path: Any, client: Any
) -> None:
    flat = make_column(corpus, tmp_path, np.full(len(truth()), 3.0), by=researcher, name="flat")
    client.force_login(researcher)
    pair = {"kind": "gmad", "corpus": corpus.pk, "first": versions[0].pk, "second": flat.pk}
    begun = committed(client.post, path="/competitions/explore/start/", data=pair)
    with pytest.raises(AssertionError, match="flat v1"):
        work()
    assert "flat v1" in client.get(begun.url).content.decode()
