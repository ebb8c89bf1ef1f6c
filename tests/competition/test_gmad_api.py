"""gMAD competitions for programs: made, launched, filtered, exported, ranked again from the files."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command

from accounts.models import User
from competition import exports
from competition.models import Competition, Exhibit, Snapshot
from corpora.models import Corpus
from corpora.reading import records_of
from models_zoo.models import Version
from tests.competition.builders import committed, label_all, launch, work
from tests.competition.builders_gmad import LEVELS, make_gmad, make_quality_versions, truthful
from tests.competition.test_api import client_of


@pytest.fixture
def versions(corpus: Corpus, researcher: User, tmp_path: Path) -> list[Version]:
    return make_quality_versions(corpus, tmp_path, by=researcher)


@pytest.fixture
def settled(corpus: Corpus, versions: list[Version], researcher: User) -> Competition:
    competition = make_gmad(corpus, versions, by=researcher)
    round_ = launch(competition, by=researcher)
    label_all(round_.campaign, judge=truthful)
    work()
    return competition


def test_make_change_and_launch(corpus: Corpus, versions: list[Version], researcher: User) -> None:
    api = client_of(researcher)
    body: dict[str, Any] = {
        "name": "by program", "kind": "gmad", "corpus": corpus.pk, "versions": [v.pk for v in versions],
        "options": {"levels": 2}, "overlap": 3,
    }  # fmt: skip
    made = api.post("/api/v1/competitions/", body, format="json")
    assert made.status_code == 201
    assert (made.data["kind"], made.data["taxonomy"], made.data["options"]["levels"]) == ("gmad", None, 2)
    assert made.data["options"]["half_width"] == 9.0
    address = f"/api/v1/competitions/{made.data['id']}/"
    shown = api.get(f"{address}preview/").data
    assert (shown["n_duels"], shown["n_exhibits"], shown["can_launch"]) == (6, 12, True)
    changed = api.patch(address, {"options": {"levels": 3, "top": 2}}, format="json")
    assert (changed.data["options"]["levels"], changed.data["options"]["top"]) == (3, 2)
    refused = api.patch(address, {"kind": "mad"}, format="json")
    assert (refused.status_code, refused.data["field"]) == (400, "kind")
    begun = committed(api.post, path=f"{address}launch/")
    assert (begun.status_code, begun.data["state"]) == (201, "scoring")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"options": {"levels": 0}}, "levels"), ({"options": {"k": 3}}, "k"), ({"kind": "chess"}, "kind"),
        ({"options": {"calibration": "logistic"}}, "calibration"), ({"kind": "mad", "options": {}}, "versions"),
    ],
)  # fmt: skip
def test_bad_settings_name_the_field(
    corpus: Corpus, versions: list[Version], researcher: User, change: dict[str, Any], field: str
) -> None:
    body = {"name": "bad", "kind": "gmad", "corpus": corpus.pk, "versions": [version.pk for version in versions]}
    answer = client_of(researcher).post("/api/v1/competitions/", body | change, format="json")
    assert answer.status_code == 400
    assert field in (answer.data.get("field"), *answer.data)


def test_leaderboards_exhibits_and_rounds(settled: Competition, researcher: User) -> None:
    api = client_of(researcher, "read")
    address = f"/api/v1/competitions/{settled.pk}/leaderboard/"
    whole = api.get(address).data
    assert [line["measure"] for line in whole["standings"]] == ["aggressiveness"] * 3 + ["resistance"] * 3
    one = api.get(address, {"measure": "resistance"}).data
    assert [(line["measure"], line["rank"]) for line in one["standings"]] == [("resistance", n) for n in (1, 2, 3)]
    assert api.get(address, {"measure": "beauty"}).status_code == 400

    def exhibits(**filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.get("/api/v1/exhibits/", {"competition": settled.pk, **filters}).data[
            "results"
        ]
        return found

    attacker, defender = (entrant.pk for entrant in settled.entrants.all()[:2])
    cell = exhibits(attacker=attacker, defender=defender)
    assert [(line["first"], line["second"]) for line in cell] == [(attacker, defender)] * len(cell) != []
    assert {line["level"] for line in exhibits(level=2)} == {2}
    assert all(line["preference"] >= 30 for line in exhibits(preference_min=30, role="selected"))
    held = exhibits(case="held", role="selected")
    assert all(abs(line["preference"]) <= 20 and line["case"] == "held" for line in held)
    pair = cell[0]
    both = {pair["row"], pair["second_row"]}
    assert len(both) == 2
    assert pair["second_image"]
    assert pair["predictions"][str(attacker)][0] >= pair["predictions"][str(attacker)][1]
    shared = exhibits(trial=pair["trial"])
    assert all({line["row"], line["second_row"]} == both for line in shared)
    (round_,) = api.get("/api/v1/rounds/", {"competition": settled.pk}).data["results"]
    assert len(round_["facts"]["entrants"][str(attacker)]["count"]) == LEVELS
    assert len(api.get(f"/api/v1/rounds/{round_['id']}/duels/").data) == 6


def test_exhibits_take_the_same_queries_however_many(
    settled: Competition, researcher: User, django_assert_max_num_queries: Any
) -> None:
    api = client_of(researcher, "read")
    with django_assert_max_num_queries(12):
        assert len(api.get("/api/v1/exhibits/", {"competition": settled.pk}).data["results"]) > LEVELS


def lines_of(competition: Competition, table: str) -> list[dict[str, str]]:
    _, _, blocks = exports.export_stream(competition, table, "csv")
    return list(csv.DictReader(io.StringIO(b"".join(blocks).decode())))


def test_exports_say_the_same_in_every_format(settled: Competition, researcher: User) -> None:
    api = client_of(researcher, "read")
    for table, described in exports.TABLES["gmad"].items():
        address = f"/api/v1/competitions/{settled.pk}/export/{table}"
        blocks = {ending: b"".join(api.get(f"{address}.{ending}/").streaming_content) for ending in exports.ENDINGS}
        lines = list(csv.DictReader(io.StringIO(blocks["csv"].decode())))
        assert len(lines) == len(pq.read_table(io.BytesIO(blocks["parquet"]))) == blocks["jsonl"].count(b"\n") > 0
        assert list(lines[0]) == described.schema.names
    refused = api.get(f"/api/v1/competitions/{settled.pk}/export/verdicts.csv/")
    assert (refused.status_code, "selections, judgements, levels" in refused.data["detail"]) == (400, True)


def test_selections_hold_every_pair(settled: Competition, corpus: Corpus) -> None:
    lines = lines_of(settled, "selections")
    assert len(lines) == Exhibit.objects.count()
    exhibits = {str(each.pk): each for each in Exhibit.objects.select_related("item", "second_item", "duel__first")}
    for line in lines:
        exhibit = exhibits[line["exhibit"]]
        rows = [exhibit.item.row, exhibit.second_item.row]
        assert [line["best_path"], line["worst_path"]] == [each["path"] for each in records_of(corpus, rows, ["path"])]
        assert float(line["preference"]) == exhibit.preference
        if exhibit.duel:
            best, worst = exhibit.predictions[str(exhibit.duel.first_id)]
            assert (float(line["attacker_best"]), float(line["attacker_worst"])) == (best, worst)
            assert line["attacker"] == str(exhibit.duel.first)
        else:
            assert line["attacker"] == ""
            assert line["predictions"].count("[") == 3


def test_the_files_give_the_leaderboard_again(settled: Competition, tmp_path: Path) -> None:
    """What is exported is all that the ranking rests on."""
    files = {}
    for table in ("judgements", "levels"):
        _, _, blocks = exports.export_stream(settled, table, "csv")
        files[table] = tmp_path / f"{table}.csv"
        files[table].write_bytes(b"".join(blocks))
    out = tmp_path / "standings.csv"
    call_command("gmad", "rank", judgements=files["judgements"], levels=files["levels"], out=out)
    ranked = {line["model"]: line for line in csv.DictReader(out.open())}
    snapshot = Snapshot.objects.filter(competition=settled, counts_everyone=False).latest("number")
    assert len(ranked) == 3
    for standing in snapshot.standings.select_related("entrant__version__model"):
        said = float(ranked[str(standing.entrant)][standing.measure])
        assert said == pytest.approx(standing.score, abs=1e-6)
