"""`manage.py opinion`: files in, files out, and what it says of files that it cannot use."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", "../shared/data")) / "subjective"
MOS_HEADER = ["item", "n", "mos", "se", "low", "high", "quality_ml"]
SCREEN_HEADER = [
    "person", "n", "bt500_p", "bt500_q", "bt500_rejected", "bias", "inconsistency", "repeat_error", "reason",
]  # fmt: skip
PAIRWISE_HEADER = ["scene", "item", "score", "low", "high", "rank", "rank_best", "rank_worst"]
AGREEMENT_HEADER = ["level", "alpha", "low", "high", "percent", "n_items", "n_persons", "n_judgements"]


@pytest.fixture
def opinion(tmp_path, capsys):
    """Writes a table, runs an action on it and returns the rows, what was said, and the header."""

    def run(action, header, rows, *options, name="given.csv", out="out.csv"):
        given, target = tmp_path / name, tmp_path / out
        if name.endswith(".csv"):
            with given.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *rows])
        else:
            pq.write_table(pa.table(dict(zip(header, zip(*rows, strict=True), strict=True))), given)
        flag = "--votes" if action == "pairwise" else "--judgements"
        call_command("opinion", action, flag, str(given), "--out", str(target), *options)
        said = capsys.readouterr()
        if out.endswith(".csv"):
            with target.open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
        else:
            lines = pq.read_table(target).to_pylist()
        return lines, said.out + said.err

    return run


def ratings(persons=8, items=10, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(1.5, 4.5, items)
    return [
        (f"person {p}", f"image ü{k}.png", round(float(quality[k] + rng.normal(0, 0.4)), 2))
        for p in range(persons)
        for k in range(items)
    ]


def test_mos_by_hand(opinion):
    rows, said = opinion(
        "mos", ["item", "value", "person"], [("b", 5, "p"), ("a", 1, "p"), ("a", 2, "q"), ("a", 3, "r")]
    )
    assert list(rows[0]) == MOS_HEADER
    assert [(row["item"], row["n"], float(row["mos"])) for row in rows] == [("b", "1", 5), ("a", "3", 2)]
    assert float(rows[1]["se"]) == pytest.approx(1 / np.sqrt(3))
    assert float(rows[1]["high"]) == pytest.approx(2 + 4.302653 / np.sqrt(3))
    assert (rows[0]["se"], rows[0]["low"]) == ("nan", "nan")
    assert "1 of 2 items have a single rating" in said


def test_csv_and_parquet_give_the_same(opinion):
    header = ["person", "item", "value"]
    from_csv, _ = opinion("mos", header, ratings())
    from_parquet, _ = opinion("mos", header, ratings(), name="given.parquet", out="out.parquet")
    assert [row["item"] for row in from_csv] == [row["item"] for row in from_parquet]
    for name in MOS_HEADER[1:]:
        assert [float(row[name]) for row in from_csv] == pytest.approx([row[name] for row in from_parquet])


def test_numbers_for_names_work_in_parquet(opinion):
    rows, _ = opinion("mos", ["person", "item", "value"], [(7, 1, 3), (8, 1, 5)], name="given.parquet")
    assert [(row["item"], float(row["mos"])) for row in rows] == [("1", 4)]


def test_repeats_count_for_consistency_alone(opinion):
    header = ["person", "item", "value", "repeat"]
    given = [("p", "a", 1, 0), ("p", "a", 3, 1), ("q", "a", 2, ""), ("p", "b", 4, "no"), ("p", "b", 5, "yes")]
    rows, _ = opinion("mos", header, given)
    assert [(row["item"], row["n"], float(row["mos"])) for row in rows] == [("a", "2", 1.5), ("b", "1", 4)]
    people, _ = opinion("screen", header, given)
    assert [(row["person"], row["n"], row["repeat_error"]) for row in people] == [("p", "2", "1.5"), ("q", "1", "nan")]


def test_repeats_may_be_numbered_from_one_and_stand_in_any_order(opinion):
    header = ["person", "item", "value", "repeat"]
    rows, _ = opinion("mos", header, [("p", "a", 5, 2), ("p", "a", 1, 1), ("q", "a", 3, 1)])
    assert (rows[0]["n"], float(rows[0]["mos"])) == ("2", 2)


def test_judgements_given_twice_without_a_mark_count_and_it_is_said(opinion):
    rows, said = opinion("mos", ["person", "item", "value"], [("p", "a", 1), ("q", "a", 3), ("p", "a", 5)])
    assert (rows[0]["n"], float(rows[0]["mos"])) == ("3", 3)
    assert 'row 3 (person "p", item "a", first in row 1)' in said


def test_screening_finds_the_random_person_and_says_why(opinion):
    rng = np.random.default_rng(1)
    rows = ratings(persons=24, items=60)
    rows += [("chaos", item, value + float(rng.choice([-1.1, 1.1]))) for _, item, value in rows[:60]]
    people, said = opinion("screen", ["person", "item", "value"], rows)
    assert list(people[0]) == SCREEN_HEADER
    rejected = [row for row in people if row["bt500_rejected"] == "true"]
    assert [row["person"] for row in rejected] == ["chaos"]
    assert "far from the others" in rejected[0]["reason"]
    assert int(rejected[0]["bt500_p"]) + int(rejected[0]["bt500_q"]) > 0.05 * 60
    assert float(rejected[0]["inconsistency"]) == max(float(row["inconsistency"]) for row in people)
    assert all(row["reason"] == "" for row in people if row["person"] != "chaos")
    assert "rejects 1 of the 25 persons" in said


def test_too_few_judgements_are_never_nobody_rejected(opinion):
    people, said = opinion("screen", ["person", "item", "value"], ratings(persons=4))
    assert all(row["bt500_rejected"] == "false" and "bt500 cannot reject" in row["reason"] for row in people)
    assert "BT.500 can reject nobody" in said
    assert "no item has 5 judgements (the most is 4)" in said


def test_gold_with_known_answers_and_gold_marks_without(opinion):
    header = ["person", "item", "value", "gold"]
    given = [(who, f"i{k}", 1 if who == "bad" else 5, 5 if k < 6 else "") for who in ("bad", "good") for k in range(9)]
    people, _ = opinion("screen", header, given)
    assert "right on 0 of 6 gold trials" in next(row for row in people if row["person"] == "bad")["reason"]
    assert "gold" not in next(row for row in people if row["person"] == "good")["reason"]
    marks = [(*row[:3], int(row[3] == 5)) for row in given]
    people, said = opinion("screen", header, marks)
    assert "without their known answers: not checked" in said
    assert not any("gold" in row["reason"] for row in people)


def test_persons_can_be_left_out_and_come_back(opinion):
    header = ["person", "item", "value"]
    with_all, _ = opinion("mos", header, ratings())
    without, _ = opinion("mos", header, ratings(), "--without", "person 0", "person 3")
    assert {row["n"] for row in without} == {"6"}
    assert with_all != without
    again, _ = opinion("mos", header, ratings())
    assert again == with_all
    with pytest.raises(CommandError, match='no person "nobody" to leave out'):
        opinion("mos", header, ratings(), "--without", "nobody")


def test_agreement_of_the_published_example(opinion):
    table = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    rows = [
        (who, unit, int(cell))
        for who, line in zip("ABCD", table, strict=True)
        for unit, cell in enumerate(line)
        if cell != "."
    ]
    found, _ = opinion("agreement", ["person", "item", "value"], rows)
    assert list(found[0]) == AGREEMENT_HEADER
    alpha = {row["level"]: float(row["alpha"]) for row in found}
    assert alpha == {
        "nominal": pytest.approx(0.743, abs=5e-4),
        "ordinal": pytest.approx(0.815, abs=5e-4),
        "interval": pytest.approx(0.849, abs=5e-4),
    }
    assert all(float(row["low"]) < float(row["alpha"]) < float(row["high"]) for row in found)
    assert (found[0]["n_items"], found[0]["n_persons"], found[0]["n_judgements"]) == ("11", "4", "40")


def test_one_answer_for_everything_is_clear_everywhere(opinion):
    header, rows = ["person", "item", "value"], [(p, k, 3) for p in "abcdef" for k in range(12)]
    scores, _ = opinion("mos", header, rows)
    assert {(row["mos"], row["se"], row["quality_ml"]) for row in scores} == {("3.0", "0.0", "3.0")}
    people, _ = opinion("screen", header, rows)
    assert {(row["bias"], row["inconsistency"], row["bt500_rejected"]) for row in people} == {("0.0", "0.0", "false")}
    agreed, said = opinion("agreement", header, rows)
    assert {(row["alpha"], row["percent"]) for row in agreed} == {("nan", "1.0")}
    assert "undefined without variation" in said


def test_one_person_is_clear_everywhere(opinion):
    header, rows = ["person", "item", "value"], [("a", k, k % 5) for k in range(12)]
    scores, said = opinion("mos", header, rows)
    assert [float(row["quality_ml"]) for row in scores] == pytest.approx([k % 5 for k in range(12)])
    assert "noise cannot be told" in said
    people, said = opinion("screen", header, rows)
    assert (people[0]["bias"], people[0]["inconsistency"]) == ("0.0", "nan")
    _, said = opinion("agreement", header, rows)
    assert "no item has two judgements" in said
    ranked, said = opinion("pairwise", ["person", "a", "b", "winner"], [("a", "x", "y", "a"), ("a", "x", "y", "b")])
    assert (ranked[0]["low"], ranked[0]["rank_worst"]) == ("nan", "2")
    assert "all votes are one person's" in said


def test_pairwise_scales_are_per_scene(opinion):
    header = ["person", "a", "b", "winner", "scene"]
    rows = [(f"p{k % 9}", "x", "y", "a" if k < 30 else "B" if k < 36 else "tie", "one") for k in range(40)]
    rows += [(f"p{k % 9}", "y", "x", "a" if k < 20 else "b", "two") for k in range(40)]
    found, said = opinion("pairwise", header, rows)
    assert list(found[0]) == PAIRWISE_HEADER
    assert [(row["scene"], row["item"]) for row in found][:2] == [("one", "x"), ("one", "y")]
    one = {row["item"]: float(row["score"]) for row in found if row["scene"] == "one"}
    assert one["x"] - one["y"] == pytest.approx(np.log(30.1 / 6.1), abs=0.02)
    two = [float(row["score"]) for row in found if row["scene"] == "two"]
    np.testing.assert_allclose(two, 0, atol=1e-9)
    assert [row["rank"] for row in found] == ["1", "2", "1", "1"]
    assert float(found[0]["low"]) < one["x"] < float(found[0]["high"])
    assert "4 items in 2 scenes" in said


def test_disconnected_votes_are_not_ranked_together(opinion):
    rows = [(f"p{k % 7}", *pair, "a" if k % 4 else "b") for k in range(40) for pair in (("x", "y"), ("u", "v"))]
    found, said = opinion("pairwise", ["person", "a", "b", "winner"], rows)
    assert [(row["scene"], row["item"], row["rank"]) for row in found] == [
        ("", "x", "1"), ("", "y", "2"), ("", "u", "1"), ("", "v", "2"),
    ]  # fmt: skip
    assert all(int(row["rank_best"]) <= 2 and int(row["rank_worst"]) >= 3 for row in found)
    assert '2 groups of items that were never compared with each other ("x", "y"; "u", "v")' in said


def test_same_seed_same_file(opinion):
    winners = np.random.default_rng(3).choice(["a", "b"], 90, p=[0.7, 0.3])
    rows = [(f"p{k % 23}", "x", "yz"[k % 2], winner) for k, winner in enumerate(winners)]
    first, second, other = (
        opinion("pairwise", ["person", "a", "b", "winner"], rows, "--seed", seed)[0] for seed in ("1", "1", "2")
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("action", "header", "rows", "message"),
    [
        ("mos", "person,item,value", ["p,a,4", "q,a,good"], 'given.csv, row 2: the column "value" holds "good"; give'),
        ("mos", "person,item,value", ["p,a,4", "q,a,nan"], 'row 2: the column "value" holds "nan"'),
        ("screen", "person,item,value", ["p,a,inf"], 'row 1: the column "value" holds "inf"'),
        ("agreement", "person,item,value", ["p,a,4", "p,b,"], 'row 2: the column "value" is empty'),
        ("mos", "person,item,value", ["p,a,4", ",b,3"], 'row 2: the column "person" is empty'),
        ("mos", "person,item,score", ["p,a,4"], 'given.csv has no column "value"; needed are person,item,value'),
        ("mos", "person,item,value", [], "given.csv has no rows"),
        ("mos", "person,item,value,repeat", ["p,a,4,second"], 'row 1: the column "repeat" holds "second"; give 0'),
        ("mos", "person,item,value,repeat", ["p,a,4,-1"], 'the column "repeat" holds "-1"'),
        ("screen", "person,item,value,gold", ["p,a,4,", "p,b,3,x"], 'row 2: the column "gold" holds "x"'),
        ("pairwise", "person,a,b,winner", ["p,x,y,a", "p,x,y,left"], 'row 2: the column "winner" holds "left"; give a'),
        ("pairwise", "person,a,b,winner", ["p,x,y,a", "p,z,z,b"], 'row 2: "z" is compared with itself'),
        ("pairwise", "person,a,b,winner,scene", ["p,x,y,a,"], 'row 1: the column "scene" is empty'),
        ("pairwise", "person,a,b", ["p,x,y"], 'no column "winner"'),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_the_row_and_the_way_out(opinion, action, header, rows, message):
    with pytest.raises(CommandError) as refused:
        opinion(action, header.split(","), [row.split(",") for row in rows])
    assert message in str(refused.value)


def test_nothing_is_left_behind_where_nothing_can_be_written(opinion, tmp_path):
    with pytest.raises(CommandError, match=r"only \.csv, \.parquet, \.pq are known"):
        opinion("mos", ["person", "item", "value"], ratings(), out="out.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["given.csv"]
    with pytest.raises(CommandError, match="--replicates must be 0 or more"):
        opinion("agreement", ["person", "item", "value"], ratings(), "--replicates", "-1")


def test_a_real_study_comes_out_as_its_matrix_says(opinion):
    path = DATA / "vqeg_hd3_raw.json"
    if not path.exists():
        pytest.skip(f"needs vqeg_hd3_raw.json of the optional data folder ({DATA})")
    videos = json.loads(path.read_text())["dis_videos"]
    rows = [(f"s{p}", video["path"], value) for video in videos for p, value in enumerate(video["os"])]
    scores, _ = opinion("mos", ["person", "item", "value"], rows)
    means = {video["path"]: np.mean(video["os"]) for video in videos}
    assert {row["item"]: float(row["mos"]) for row in scores} == pytest.approx(means)
    people, _ = opinion("screen", ["person", "item", "value"], rows)
    matrix = np.array([video["os"] for video in videos])
    bias = (matrix - matrix.mean(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose([float(row["bias"]) for row in people], bias, atol=1e-6)
