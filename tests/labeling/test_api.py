"""The API: researchers manage, programs label with a token that may do nothing else."""

from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import token_create
from corpora import services as corpora_services
from labeling.models import Campaign, Judgement, Participation
from labeling.services import invite_create, slots_lease
from tests.labeling.builders import NAMES, give, make_campaign, make_corpus, make_items, make_person, make_taxonomy

pytestmark = pytest.mark.django_db
BASE = "/api/v1"


def client_of(user: User, *scopes: str) -> APIClient:
    client = APIClient()
    _, secret = token_create(user=user, name="t", scopes=list(scopes))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def campaign(researcher: User) -> Campaign:
    return make_campaign(researcher, trials=4, overlap=2)


@pytest.fixture
def manager(researcher: User) -> APIClient:
    return client_of(researcher, "read", "manage")


def answer(slot: int, **more: Any) -> dict[str, Any]:
    fields = {
        "slot": slot,
        "key": str(uuid4()),
        "value": {"0": True, "1": False},
        "presented_at": timezone.now().isoformat(),
        "milliseconds": 800,
        "viewing": {"device": "program"},
    }
    return fields | more


def test_a_stranger_joins_labels_and_undoes(campaign: Campaign, researcher: User) -> None:
    invite = invite_create(campaign=campaign, by=researcher)
    client = APIClient()
    refused = client.post(f"{BASE}/invites/{invite.code}/join/", {"consent": False})
    assert (refused.status_code, refused.json()["field"]) == (400, "consent")
    assert not Participation.objects.exists()
    joined = client.post(f"{BASE}/invites/{invite.code}/join/", {"consent": True, "display_name": "Ada"})
    assert joined.status_code == 201
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {joined.json()['token']}")
    here = f"{BASE}/campaigns/{campaign.pk}"
    trials = client.post(f"{here}/next/", {"count": 2}).json()["trials"]
    assert [len(trial["classes"]) for trial in trials] == [2, 2]
    first = answer(trials[0]["slot"], count=2)
    reply = client.post(f"{BASE}/judgements/", first)
    assert (reply.status_code, len(reply.json()["trials"])) == (201, 2)
    again = client.post(f"{BASE}/judgements/", first)
    assert (again.status_code, again.json()["judgement"]) == (200, reply.json()["judgement"])
    assert client.post(f"{here}/undo/", {}).json()["trial"]["slot"] == trials[0]["slot"]
    assert client.post(f"{BASE}/slots/{trials[0]['slot']}/skip/").status_code == 204
    assert client.get(f"{here}/part/").json()["statistics"]["answers"] == 0
    for address in (f"{here}/", f"{BASE}/campaigns/", f"{here}/people/", f"{BASE}/judgements/"):
        assert client.get(address).status_code == 403  # the token labels, and nothing else
    assert client.post(f"{here}/close/").status_code == 403


def test_scopes(campaign: Campaign, researcher: User) -> None:
    reader = client_of(researcher, "read")
    here = f"{BASE}/campaigns/{campaign.pk}"
    assert reader.get(f"{here}/").status_code == 200
    for address in (f"{here}/next/", f"{BASE}/judgements/", f"{here}/pause/", f"{BASE}/invites/"):
        assert reader.post(address, {}).status_code == 403
    assert APIClient().get(f"{here}/").status_code == 401


def test_hidden_campaigns_look_like_none(campaign: Campaign, other_researcher: User, researcher: User) -> None:
    client = client_of(other_researcher, "read", "manage", "annotate")
    here = f"{BASE}/campaigns/{campaign.pk}"
    for address in ("", "people/", "export/judgements/csv/"):
        assert client.get(f"{here}/{address}").status_code == 404
    for address in ("open/", "next/", "trials/", "undo/"):
        assert client.post(f"{here}/{address}", {}).status_code == 404
    person = make_person(campaign, "ada")
    give(slots_lease(campaign=campaign, person=person)[0], person)
    assert client.get(f"{BASE}/judgements/").json()["results"] == []
    assert client.get(f"{BASE}/trials/").json()["results"] == []


def test_make_fill_and_move(
    manager: APIClient, researcher: User, other_researcher: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    taxonomy = make_taxonomy(researcher)
    made = manager.post(f"{BASE}/campaigns/", {"name": "by program", "taxonomy": taxonomy.pk, "overlap": 2})
    assert (made.status_code, made.json()["state"]) == (201, "draft")
    here = f"{BASE}/campaigns/{made.json()['id']}"
    items = {item.row: item for item in make_items(researcher, 2, files=False)}
    monkeypatch.setattr(
        "labeling.services.asking.item_ensure", lambda *, corpus, rows: {row: items[row] for row in rows}
    )
    corpus = make_corpus(researcher)
    specs = [
        {"corpus": corpus.pk, "row": 0, "classes": [1, 0]},
        {"corpus": corpus.pk, "row": 1, "classes": [0], "kind": "gold", "expected": {"0": True}},
        {"corpus": corpus.pk, "row": 0, "classes": [0, 1]},
    ]
    trials = manager.post(f"{here}/trials/", specs)
    assert trials.status_code == 201
    assert trials.json()[0]["id"] == trials.json()[2]["id"]
    bad = manager.post(f"{here}/trials/", [{"corpus": corpus.pk, "row": 0, "classes": [len(NAMES)]}])
    assert (bad.status_code, bad.json()["field"]) == (400, "classes")
    assert manager.post(f"{here}/open/").json()["state"] == "open"
    assert manager.post(f"{here}/open/").status_code == 409
    changed = manager.patch(f"{here}/", {"purpose": "science"})
    assert changed.json()["purpose"] == "science"
    assert manager.patch(f"{here}/", {"overlap": 9}).json()["field"] == "overlap"
    row = manager.get(f"{BASE}/campaigns/", {"state": "open"}).json()["results"][0]
    assert (row["n_trials"], row["n_required"], row["n_done"]) == (1, 2, 0)
    assert callable(corpora_services.item_ensure)


def test_people_exclude_gold_verdicts_export(campaign: Campaign, manager: APIClient, researcher: User) -> None:
    for name in ("ada", "grace"):
        person = make_person(campaign, name)
        give(slots_lease(campaign=campaign, person=person)[0], person, value={"0": True, "1": False})
    here = f"{BASE}/campaigns/{campaign.pk}"
    people = manager.get(f"{here}/people/").json()["people"]
    assert {person["answers"] for person in people} == {1}
    verdict = manager.get(f"{BASE}/verdicts/", {"campaign": campaign.pk}).json()["results"][0]
    assert verdict["value"] == {"0": True, "1": False}
    gold = manager.post(f"{BASE}/trials/{verdict['trial']}/gold/", {})
    assert gold.json()["expected"] == {"0": True, "1": False}
    assert manager.post(f"{BASE}/trials/{gold.json()['id']}/retire/").status_code == 204
    part = people[0]["participation"]
    assert manager.post(f"{here}/exclude/", {"participation": part, "reason": "asleep"}).status_code == 201
    assert manager.get(f"{BASE}/judgements/", {"campaign": campaign.pk}).json()["results"][1]["excluded"] is True
    assert manager.post(f"{here}/restore/", {"participation": part}).status_code == 200
    reply = manager.get(f"{here}/export/judgements/jsonl/")
    assert b"".join(reply.streaming_content).count(b"\n") == Judgement.objects.count()
    assert manager.get(f"{here}/export/judgements/xlsx/").json()["detail"].startswith("Exports have no format")


def test_invites(campaign: Campaign, manager: APIClient, other_researcher: User) -> None:
    made = manager.post(f"{BASE}/invites/", {"campaign": campaign.pk, "quota": 2, "note": "lab"}).json()
    assert manager.get(f"{BASE}/invites/").json()["results"][0]["code"] == made["code"]
    foreign = client_of(other_researcher, "read", "manage")
    assert foreign.post(f"{BASE}/invites/", {"campaign": campaign.pk}).status_code == 403
    assert foreign.post(f"{BASE}/invites/{made['id']}/revoke/").status_code == 404
    assert manager.post(f"{BASE}/invites/{made['id']}/revoke/").json()["revoked_at"]
    assert APIClient().post(f"{BASE}/invites/{made['code']}/join/", {"consent": True}).status_code == 410
    assert APIClient().post(f"{BASE}/invites/unknown-code/join/", {"consent": True}).status_code == 400
