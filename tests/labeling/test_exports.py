"""Exports: one schema in three formats."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from config.env import BASE_DIR
from labeling.exports import TABLES, export_stream, tables_of
from labeling.models import Campaign, Judgement, Participation
from labeling.services import TrialSpec, judgement_undo, person_exclude, slots_lease, trials_add
from tests.labeling.builders import give, make_campaign, make_items, make_number_campaign, make_person

pytestmark = pytest.mark.django_db
OF = {  # rows of each table of each fixture
    "campaign": {"judgements": 4, "verdicts": 1},
    "ratings": {"judgements": 9, "verdicts": 3, "mos": 3, "opinions": 6},
    "pairs": {"judgements": 9, "verdicts": 3, "preferences": 3, "scale": 4, "votes": 6, "opinions": 6},
}


@pytest.fixture
def campaign(researcher: User) -> Campaign:
    campaign = make_campaign(researcher, trials=3, overlap=2)
    for name in ("ada", "grace"):
        person = make_person(campaign, name)
        for slot in slots_lease(campaign=campaign, person=person, count=2):
            give(slot, person, value={"0": True, "1": False})
        judgement_undo(campaign=campaign, person=person)
    person_exclude(participation=Participation.objects.order_by("pk")[0], reason="x", by=researcher)
    return campaign


@pytest.fixture
def ratings(researcher: User) -> Campaign:
    return answered(researcher, "acr")


@pytest.fixture
def pairs(researcher: User) -> Campaign:
    return answered(researcher, "compare")


def answered(researcher: User, protocol: str) -> Campaign:
    """Three people judge three trials each; the third is excluded."""
    campaign = make_number_campaign(researcher, protocol, trials=3, overlap=3)
    scale = 1 if protocol == "acr" else 20
    for at, name in enumerate(("ada", "grace", "rush")):
        person = make_person(campaign, name)
        for slot in slots_lease(campaign=campaign, person=person, count=3):
            viewing = {"session": "0123abcd", "width": 1280, "height": 800}
            row = slot.trial.item.row
            give(slot, person, value={"value": (row + 1 + (at == 1)) * scale if at < 2 else 5 * scale}, viewing=viewing)
    person_exclude(participation=Participation.objects.get(person__username="rush"), reason="x", by=researcher)
    return campaign


def rows_of(campaign: Campaign, table: str, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(export_stream(campaign, table, "jsonl", **options)[2]).splitlines()]


@pytest.mark.parametrize(
    ("kind", "table"),
    [(kind, table) for kind in ("campaign", "ratings", "pairs") for table in TABLES if table in OF[kind]],
)
def test_the_three_formats_say_the_same(request: pytest.FixtureRequest, kind: str, table: str) -> None:
    campaign = request.getfixturevalue(kind)
    texts = {ending: b"".join(export_stream(campaign, table, ending)[2]) for ending in ("csv", "jsonl", "parquet")}
    lines = [json.loads(line) for line in texts["jsonl"].splitlines()]
    cells = list(csv.DictReader(io.StringIO(texts["csv"].decode())))
    rows = pq.read_table(io.BytesIO(texts["parquet"])).to_pylist()
    assert len(lines) == len(cells) == len(rows) == OF[kind][table]
    for line, cell, row in zip(lines, cells, rows, strict=True):
        assert list(line) == list(cell) == list(row) == TABLES[table].schema(campaign).names
        for name, value in row.items():
            plain = value.isoformat() if hasattr(value, "isoformat") else value
            assert line[name] == plain
            assert cell[name] == (
                "" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)
            )


def test_judgements_keep_what_was_taken_back_and_excluded(campaign: Campaign) -> None:
    rows = [json.loads(line) for line in b"".join(export_stream(campaign, "judgements", "jsonl")[2]).splitlines()]
    assert [bool(row["superseded_at"]) for row in rows] == [False, True, False, True]
    assert [row["excluded"] for row in rows] == [True, True, False, False]
    assert {(row["class_a"], row["name_a"], row["class_b"]) for row in rows} == {(0, "cat", 1)}
    assert {row["class_left"] for row in rows} <= {0, 1}


def test_an_empty_campaign_exports_headers(researcher: User) -> None:
    campaign = make_campaign(researcher, trials=0)
    assert b"".join(export_stream(campaign, "verdicts", "csv")[2]).startswith(b"trial_id,")
    assert pq.read_table(io.BytesIO(b"".join(export_stream(campaign, "verdicts", "parquet")[2]))).num_rows == 0


def test_download(campaign: Campaign, researcher: User, other_researcher: User) -> None:
    client = Client()
    client.force_login(researcher)
    address = reverse("labeling:export", args=[campaign.pk, "judgements", "csv"])
    reply = client.get(address)
    assert reply["Content-Disposition"] == f'attachment; filename="campaign-{campaign.pk}-judgements.csv"'
    assert b"".join(reply.streaming_content).count(b"\r\n") == 5
    assert client.get(reverse("labeling:export", args=[campaign.pk, "secrets", "csv"])).status_code == 404
    client.force_login(other_researcher)
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("kind", OF)
def test_every_column_is_documented(request: pytest.FixtureRequest, kind: str) -> None:
    text = Path(BASE_DIR, "docs", "formats.md").read_text()
    campaign = request.getfixturevalue(kind)
    assert set(tables_of(campaign)) == set(OF[kind])
    for table in tables_of(campaign).values():
        assert [name for name in table.schema(campaign).names if f"`{name}`" not in text] == []


def test_a_comparison_is_exported_as_given_and_as_shown(pairs: Campaign) -> None:
    rows = rows_of(pairs, "judgements")
    assert {row["session"] for row in rows} == {"0123abcd"}
    assert {row["person_id"]: 0 for row in rows}.keys() == {row["person_id"] for row in rows if row["order"] == 3}
    for row in rows:
        judgement = Judgement.objects.get(pk=row["judgement_id"])
        first_left = judgement.viewing["sides"] == [0, 1]
        assert row["left"] == ("a" if first_left else "b")
        assert row["value"] == judgement.value["value"]
        assert row["value_shown"] == (-row["value"] if first_left else row["value"])
        assert (row["item_id"], row["item_id_b"]) == (judgement.trial.item_id, judgement.trial.second_id)


def test_training_gold_and_repeats_are_marked(researcher: User) -> None:
    campaign = make_number_campaign(researcher, "acr", trials=14, overlap=1, repeat_share=0.2, gold_share=0.2)
    zone = {"low": 4, "high": 5}
    known = make_items(researcher, 2, files=False, start=50)
    specs = [TrialSpec(item, kind=kind, expected=zone) for item, kind in zip(known, ("training", "gold"), strict=True)]
    trials_add(campaign=campaign, trials=specs)
    person = make_person(campaign, "ada")
    while slots := slots_lease(campaign=campaign, person=person, count=1):
        give(slots[0], person, value={"value": 3})
    kinds = Counter(row["trial_kind"] for row in rows_of(campaign, "judgements"))
    assert kinds["ordinary"] == 14
    assert kinds["training"] == kinds["gold"] == 1
    assert kinds["repeat"] >= 1
    assert {row["right"] for row in rows_of(campaign, "judgements")} == {False, None}
    opinions = rows_of(campaign, "opinions")
    assert len(opinions) == 15 + kinds["repeat"]
    repeated = {row["item"] for row in opinions if row["repeat"]}
    assert repeated <= {row["item"] for row in opinions if not row["repeat"]}
    assert [row["gold"] for row in opinions if row["gold"] is not None] == [4.5]


def test_opinion_scores_with_and_without_the_excluded(ratings: Campaign) -> None:
    assert [(row["mos"], row["n"]) for row in rows_of(ratings, "mos")] == [(1.5, 2), (2.5, 2), (3.5, 2)]
    everyone = rows_of(ratings, "mos", everyone=True)
    assert [row["mos"] for row in everyone] == pytest.approx([8 / 3, 10 / 3, 4])
    assert everyone[0]["std"] == pytest.approx(np.std([1, 2, 5], ddof=1))
    assert [row["quality_ml"] for row in rows_of(ratings, "mos")] == pytest.approx([1.5, 2.5, 3.5])


def test_preferences_with_and_without_the_excluded(pairs: Campaign) -> None:
    assert [(row["mean"], row["prefer_a"], row["prefer_neither"]) for row in rows_of(pairs, "preferences")] == [
        (30, 1, 1), (50, 2, 0), (70, 2, 0),
    ]  # fmt: skip
    votes = rows_of(pairs, "votes")
    assert Counter(row["winner"] for row in votes) == {"a": 5, "tie": 1}
    assert len(rows_of(pairs, "votes", everyone=True)) == 9
    assert [row["rank"] for row in rows_of(pairs, "scale")] == [1, 2, 3, 4]


def test_a_pair_of_paths(researcher: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the corpus is there, pictures are named by their paths and pairs by the scene they share."""
    campaign = answered(researcher, "compare")
    monkeypatch.setattr("labeling.results.reading.manifest_of", lambda corpus: FakeManifest())
    first = rows_of(campaign, "votes")[0]
    assert (first["a"], first["scene"]) in {(f"scene/{row}.png", "scene") for row in range(4)}
    assert rows_of(campaign, "judgements")[0]["path"].startswith("scene/")


class FakeManifest:
    schema = pa.schema([("path", pa.string()), ("group", pa.string())])

    def read(self, rows: list[int], columns: list[str]) -> pa.Table:
        assert columns == ["path", "group"]
        return pa.table({"path": [f"scene/{row}.png" for row in rows], "group": ["scene"] * len(rows)})


@pytest.mark.parametrize("protocol", ["acr", "compare"])
def test_nobody_and_one_person_export(researcher: User, protocol: str) -> None:
    campaign = make_number_campaign(researcher, protocol, trials=2, overlap=1)
    for table in tables_of(campaign):
        assert rows_of(campaign, table) == []
    person = make_person(campaign, "ada")
    for slot in slots_lease(campaign=campaign, person=person, count=2):
        give(slot, person, milliseconds=0)
    for table in tables_of(campaign):
        assert rows_of(campaign, table)
