"""Exports: one schema in three formats."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from config.env import BASE_DIR
from labeling.exports import TABLES, export_stream
from labeling.models import Campaign, Participation
from labeling.services import judgement_undo, person_exclude, slots_lease
from tests.labeling.builders import give, make_campaign, make_person

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize("table", TABLES)
def test_the_three_formats_say_the_same(campaign: Campaign, table: str) -> None:
    texts = {ending: b"".join(export_stream(campaign, table, ending)[2]) for ending in ("csv", "jsonl", "parquet")}
    lines = [json.loads(line) for line in texts["jsonl"].splitlines()]
    cells = list(csv.DictReader(io.StringIO(texts["csv"].decode())))
    rows = pq.read_table(io.BytesIO(texts["parquet"])).to_pylist()
    assert len(lines) == len(cells) == len(rows) == (4 if table == "judgements" else 1)
    for line, cell, row in zip(lines, cells, rows, strict=True):
        assert list(line) == list(cell) == list(row) == TABLES[table][0].names
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


def test_every_column_is_documented() -> None:
    text = Path(BASE_DIR, "docs", "formats.md").read_text()
    for schema, _ in TABLES.values():
        assert [name for name in schema.names if f"`{name}`" not in text] == []
