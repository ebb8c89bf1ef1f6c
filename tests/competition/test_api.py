"""Competitions for programs."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import membership_set, token_create
from competition import exports
from competition.models import Competition, Exhibit, Round, RoundState
from corpora.models import Corpus
from models_zoo.models import Version
from tests.competition.builders import committed, label_all, launch, make_predictions, work


def client_of(user: User, *scopes: str) -> APIClient:
    client = APIClient()
    _, secret = token_create(user=user, name="test", scopes=list(scopes or ("read", "manage")))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def settled(competition: Competition, researcher: User) -> Competition:
    """With a leaderboard, while people still label."""
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, most=35)
    work()
    return competition


def test_make_preview_and_launch(corpus: Corpus, versions: list[Version], researcher: User) -> None:
    api = client_of(researcher)
    body = {"name": "by program", "corpus": corpus.pk, "versions": [v.pk for v in versions], "k": 3, "overlap": 3}
    made = api.post("/api/v1/competitions/", body)
    assert made.status_code == 201
    assert [entrant["name"] for entrant in made.data["entrants"]] == [str(version) for version in versions]
    address = f"/api/v1/competitions/{made.data['id']}/"
    shown = api.get(f"{address}preview/").data
    assert (shown["n_duels"], shown["n_exhibits"], shown["can_launch"]) == (3, 9, True)
    changed = api.patch(address, {"k": 2})
    assert (changed.status_code, changed.data["k"]) == (200, 2)
    begun = committed(api.post, path=f"{address}launch/")
    assert (begun.status_code, begun.data["state"]) == (201, "scoring")
    again = api.post(f"{address}launch/")
    assert (again.status_code, "launched already" in again.data["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"k": 0}, "k"), ({"overlap": 0}, "overlap"), ({"threshold": 2}, "threshold"), ({"versions": []}, "versions")],
)
def test_bad_settings_name_the_field(
    corpus: Corpus, versions: list[Version], researcher: User, change: dict[str, Any], field: str
) -> None:
    body = {"name": "bad", "corpus": corpus.pk, "versions": [version.pk for version in versions]} | change
    answer = client_of(researcher).post("/api/v1/competitions/", body)
    assert answer.status_code == 400
    assert field in (answer.data.get("field"), *answer.data)


def test_leaderboards_have_etags(settled: Competition, researcher: User) -> None:
    api = client_of(researcher, "read")
    address = f"/api/v1/competitions/{settled.pk}/leaderboard/"
    first = api.get(address)
    assert first.status_code == 200
    assert [line["name"] for line in first.data["standings"]]
    assert first.data["n_open"] > 0
    same = api.get(address, headers={"If-None-Match": first["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert api.get(address, headers={"If-None-Match": '"something else"'}).status_code == 200
    label_all(settled.rounds.get().campaign)
    work()
    newer = api.get(address, headers={"If-None-Match": first["ETag"]})
    assert newer.status_code == 200
    assert newer["ETag"] != first["ETag"]
    number = first.data["number"]
    cited = api.get(f"/api/v1/competitions/{settled.pk}/snapshots/{number}/")
    assert cited.data["digest"] == first.data["digest"]
    assert "immutable" in cited["Cache-Control"]
    lines = api.get(f"/api/v1/competitions/{settled.pk}/snapshots/").data
    assert [line["number"] for line in lines] == sorted((line["number"] for line in lines), reverse=True)


def test_no_leaderboard_yet(competition: Competition, researcher: User) -> None:
    answer = client_of(researcher).get(f"/api/v1/competitions/{competition.pk}/leaderboard/")
    assert (answer.status_code, "no leaderboard yet" in answer.data["detail"]) == (404, True)


def test_rounds_exhibits_and_duels(settled: Competition, researcher: User) -> None:
    api = client_of(researcher, "read")
    (round_,) = api.get("/api/v1/rounds/", {"competition": settled.pk}).data["results"]
    assert round_["state"] == "labelling"
    duels = api.get(f"/api/v1/rounds/{round_['id']}/duels/").data
    assert len(duels) == 3
    entrant = settled.entrants.first().pk
    found = api.get("/api/v1/exhibits/", {"competition": settled.pk, "entrant": entrant, "role": "selected"}).data
    assert found["results"]
    assert all(entrant in (line["first"], line["second"]) for line in found["results"])
    decided = api.get("/api/v1/exhibits/", {"competition": settled.pk, "case": "ii", "role": "selected"}).data[
        "results"
    ]
    assert all(line["right_first"] != line["right_second"] and line["case"] == "ii" for line in decided)


def test_cancel_retry_settle_and_add(settled: Competition, corpus: Corpus, researcher: User, tmp_path: Path) -> None:
    api = client_of(researcher)
    round_ = settled.rounds.get()
    assert committed(api.post, path=f"/api/v1/rounds/{round_.pk}/settle/").status_code == 202
    work()
    newcomer = make_predictions(corpus, tmp_path, by=researcher, name="newcomer", accuracy=0.5, seed=7)
    shown = api.get(f"/api/v1/competitions/{settled.pk}/preview/", {"newcomer": newcomer.pk}).data
    assert shown["n_duels"] == 3
    added = committed(api.post, path=f"/api/v1/competitions/{settled.pk}/entrants/", data={"version": newcomer.pk})
    assert (added.status_code, added.data["number"]) == (201, 4)
    cancelled = committed(api.post, path=f"/api/v1/rounds/{round_.pk}/cancel/")
    assert cancelled.data["state"] == "cancelled"
    work()
    assert committed(api.post, path=f"/api/v1/rounds/{round_.pk}/retry/").data["state"] == "scoring"
    work()
    round_.refresh_from_db()
    assert (round_.state, round_.duels.count()) == (RoundState.LABELLING, 6)
    early = api.post(f"/api/v1/competitions/{settled.pk}/rounds/")
    assert (early.status_code, "Round 1 is labelling" in early.data["detail"]) == (409, True)


def test_exploring(corpus: Corpus, versions: list[Version], researcher: User) -> None:
    api = client_of(researcher)
    pair = {"corpus": corpus.pk, "first": versions[0].pk, "second": versions[2].pk}
    refused = api.get("/api/v1/competitions/explore/", pair)
    assert (refused.status_code, "POST the same parameters" in refused.data["detail"]) == (400, True)
    assert committed(api.post, path="/api/v1/competitions/explore/", data=pair).status_code == 202
    work()
    found = api.get("/api/v1/competitions/explore/", pair).data
    assert found["n_disagree"] == found["n_matching"] > 0
    label = found["results"][0]["said"][0]["label"]
    fewer = api.get("/api/v1/competitions/explore/", pair | {"class_index": label}).data
    assert fewer["n_matching"] < found["n_matching"]
    assert all(label in [line["label"] for line in row["said"]] for row in fewer["results"])


@pytest.mark.parametrize("table", list(exports.TABLES["mad"]))
def test_exports_say_the_same_in_every_format(settled: Competition, researcher: User, table: str) -> None:
    api = client_of(researcher, "read")

    def content(ending: str) -> bytes:
        answer = api.get(f"/api/v1/competitions/{settled.pk}/export/{table}.{ending}/")
        assert answer.status_code == 200
        return b"".join(answer.streaming_content)

    lines = list(csv.DictReader(io.StringIO(content("csv").decode())))
    parquet = pq.read_table(io.BytesIO(content("parquet"))).to_pylist()
    assert len(lines) == len(parquet) == content("jsonl").count(b"\n") > 0
    assert list(lines[0]) == exports.TABLES["mad"][table].schema.names
    if table == "selections":
        assert len(lines) == Exhibit.objects.count()
    if table == "verdicts":
        assert {line["a_correct"] for line in lines} <= {"true", "false"}


READS = [
    "/api/v1/competitions/{0}/", "/api/v1/competitions/{0}/leaderboard/", "/api/v1/competitions/{0}/preview/",
    "/api/v1/competitions/{0}/export/standings.csv/", "/api/v1/rounds/{1}/", "/api/v1/rounds/{1}/duels/",
    "/api/v1/exhibits/{2}/",
]  # fmt: skip
WRITES = [
    "/api/v1/competitions/{0}/launch/", "/api/v1/competitions/{0}/rounds/", "/api/v1/rounds/{1}/cancel/",
    "/api/v1/rounds/{1}/retry/", "/api/v1/rounds/{1}/settle/",
]  # fmt: skip


def test_who_may_what(settled: Competition, researcher: User, other_researcher: User, annotator: User) -> None:
    round_, exhibit = Round.objects.get(), Exhibit.objects.first()
    named = (settled.pk, round_.pk, exhibit.pk)
    stranger, labeller = client_of(other_researcher), client_of(annotator)
    for address in [each.format(*named) for each in READS]:
        assert APIClient().get(address).status_code == 401
        assert stranger.get(address).status_code == 404
        assert labeller.get(address).status_code == 403
    membership_set(target=settled, username=other_researcher.username, role="viewer", by=researcher)
    for address in [each.format(*named) for each in READS]:
        assert stranger.get(address).status_code == 200
    for address in [each.format(*named) for each in WRITES]:
        assert stranger.post(address).status_code == 403
        assert client_of(researcher, "read").post(address).status_code == 403
    assert stranger.patch(f"/api/v1/competitions/{settled.pk}/", {"description": "mine"}).status_code == 403
    assert stranger.delete(f"/api/v1/competitions/{settled.pk}/").status_code == 403
