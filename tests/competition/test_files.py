"""The command `mad`: real files in, real files out, and every mistake in a table named."""

import csv
import os
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
PETS = "child,parent,class\ncat,animal,0\ndog,animal,1\nboat,thing,2\nanimal,all,\nthing,all,\n"
A = "path,class,confidence\nx,0,0.9\ny,1,0.95\nz,2,0.99\nw,0,0.1\n"
B = "path,class,confidence\nx,2,0.8\ny,0,0.85\nz,2,0.9\nw,2,0.9\n"


def write(folder: Path, **texts: str) -> dict[str, str]:
    """Files by stem, CSV; returns their paths by stem."""
    for stem, text in texts.items():
        (folder / f"{stem}.csv").write_text(text, encoding="utf-8")
    return {stem: str(folder / f"{stem}.csv") for stem in texts}


def mad(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("mad", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_select_writes_the_exhibits_of_every_pair(tmp_path: Path) -> None:
    paths = write(tmp_path, a=A, b=B, pets=PETS)
    out = tmp_path / "exhibits.csv"
    told, _ = mad("select", "--predictions", paths["a"], paths["b"], "--taxonomy", paths["pets"], "--out", str(out))
    assert out.read_text().splitlines() == [
        "model_a,model_b,rank,path,class_a,class_b,distance,confidence_a,confidence_b",
        "a,b,1,x,0,2,3.0,0.9,0.8",
        "a,b,2,y,1,0,1.0,0.95,0.85",
    ]
    assert "2 exhibits and 0 in reserve for 1 pairs of 2 models over 4 images" in told


def test_row_order_names_and_parquet_do_not_change_the_outcome(tmp_path: Path) -> None:
    paths = write(tmp_path, a=A, b=B, pets=PETS)
    mad(*select_arguments(paths, tmp_path / "plain.csv"))
    lines = B.replace(",2,", ",boat,").replace(",0,0.85", ",Cat,0.85").splitlines()
    paths |= write(tmp_path, b="\n".join([lines[0], *reversed(lines[1:])]))
    columns = {"path": list("xyzw"), "class": [0, 1, 2, 0], "confidence": np.array([0.9, 0.95, 0.99, 0.1], np.float16)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    paths["a"] = str(tmp_path / "a.parquet")
    mad(*select_arguments(paths, tmp_path / "mixed.parquet"))
    mixed = pq.read_table(tmp_path / "mixed.parquet").to_pylist()
    plain = rows(tmp_path / "plain.csv")
    assert [row["path"] for row in mixed] == [row["path"] for row in plain] == ["x", "y"]
    assert [(row["class_a"], row["class_b"]) for row in mixed] == [("cat", "boat"), ("dog", "cat")]
    assert [row["distance"] for row in mixed] == [3.0, 1.0]


def select_arguments(paths: dict[str, str], out: Path, taxonomy: str | None = None) -> list[str]:
    predictions = [paths[stem] for stem in ("a", "b") if stem in paths]
    return ["select", "--predictions", *predictions, "--taxonomy", taxonomy or paths["pets"], "--out", str(out)]


def test_one_column_per_model_has_no_confidences_and_says_so(tmp_path: Path) -> None:
    paths = write(tmp_path, a="path,first,second,third\nx,cat,dog,cat\ny,dog,cat,dog\nz,boat,boat,dog\n")
    out, report = tmp_path / "e.csv", tmp_path / "report.csv"
    _, told = mad(*select_arguments(paths, out, "none"), "--k", "1", "--reserve", "0", "--report", str(report))
    assert [(row["model_a"], row["model_b"], row["path"]) for row in rows(out)] == [
        ("first", "second", "x"),
        ("first", "third", "z"),
        ("second", "third", "x"),
    ]
    assert rows(out)[1]["class_a"] == "boat"
    assert rows(out)[0]["confidence_a"] == ""
    assert 'The confidence filter is off: model "first" has no confidences.' in told
    assert [(row["disagreements"], row["accepted"]) for row in rows(report)] == [("2", "1"), ("1", "1"), ("3", "1")]


def test_a_model_without_confidences_turns_the_filter_off_for_all(tmp_path: Path) -> None:
    paths = write(tmp_path, a=A, b="path,class\nx,2\ny,0\nz,2\nw,2\n", pets=PETS)
    _, told = mad(*select_arguments(paths, tmp_path / "e.csv"))
    assert [row["path"] for row in rows(tmp_path / "e.csv")] == ["x", "y"]
    assert 'model "b" has no confidences' in told


def test_short_pairs_are_told_with_reasons_and_no_pair_fails(tmp_path: Path) -> None:
    paths = write(tmp_path, a=A, b=A, pets=PETS)
    _, told = mad(*select_arguments(paths, tmp_path / "e.csv"))
    assert "a and b: 0 of 30 images, and no reserve; the two models agree on all 4 images" in told
    assert rows(tmp_path / "e.csv") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class,confidence\nx,0,0.9\n", r'b\.csv lacks 3 images that a\.csv has, such as "y", "z", "w"'),
        (B + "v,0,0.9\nu,0,0.9\n", r'b\.csv has 2 images that a\.csv lacks, such as "v", "u"'),
        ("path,class,confidence\nx,0,0.9\nq,0,0.9\n", 'lacks 3 .* "w", and has 1 images that a.csv lacks, such as "q"'),
        (B + "x,0,0.9\n", r'b\.csv names 1 images more than once, such as "x"'),
        (B.replace("0.85", "nan"), r'b\.csv, row 2: the column "confidence" is empty'),
        (B.replace("0.85", ""), r'b\.csv, row 2: the column "confidence" is empty'),
        (B.replace("0.85", "85"), r'b\.csv, row 2: the confidence of "y" is 85'),
        (B.replace("0.85", "high"), 'the column "confidence" must hold numbers'),
        (B.replace("y,0,", "y,,"), r'b\.csv, row 2: the column "class" is empty'),
        (B.replace("y,0,", "y,7,"), r'b\.csv, row 2: model "b" says class 7; taxonomy "pets" has classes 0 to 2'),
        (B.replace("y,0,", "y,-1,"), "says class -1"),
        (B.replace("y,0,", "y,0.5,"), 'the column "class" must hold class indices or names'),
        (B.replace("y,0,", "y,cow,"), r'b\.csv, model "b": class "cow" is not in taxonomy "pets"'),
        (B.replace("y,", ",", 1), r'b\.csv, row 2: the column "path" is empty'),
        ("file,class\nx,0\n", r"b\.csv has the columns file, class; a predictions file has path,class"),
        ("path,class,label\nx,0,1\n", 'column "label" is not known'),
        ("path,confidence\nx,1\n", 'a column "confidence" but no column "class"'),
        ("path,a1,a1\nx,0,1\n", "two columns of the same name"),
        ("path,class\n", r"b\.csv has no rows"),
        ("", r"b\.csv cannot be read as csv"),
        ('path,class\nx,0\n"y', r"b\.csv cannot be read as csv|lacks"),
        ("path,class\nx,0,5\n", r"b\.csv cannot be read as csv"),
        ("path,a\nx,0\ny,0\nz,0\nw,0\n", r'model "a" stands in a\.csv and again in b\.csv'),
    ],
)
def test_mistakes_in_predictions_are_named_and_nothing_is_written(tmp_path: Path, text: str, message: str) -> None:
    paths = write(tmp_path, a=A, b=text, pets=PETS)
    with pytest.raises(CommandError, match=message):
        mad(*select_arguments(paths, tmp_path / "e.csv"))
    assert not (tmp_path / "e.csv").exists()


def test_mistakes_in_arguments_are_named(tmp_path: Path) -> None:
    paths = write(tmp_path, a=A, b=B, pets=PETS, cycle="child,parent,class\na,b,0\nb,a,1\n")
    good = select_arguments(paths, tmp_path / "e.csv")
    with pytest.raises(CommandError, match="k is 0"):
        mad(*good, "--k", "0")
    with pytest.raises(CommandError, match="at least two"):
        mad("select", "--predictions", paths["a"], "--taxonomy", "none", "--out", str(tmp_path / "e.csv"))
    with pytest.raises(CommandError, match=r"absent\.csv does not exist"):
        mad(*good, "--predictions", paths["a"], str(tmp_path / "absent.csv"))
    with pytest.raises(CommandError, match='"wordnet" is neither imagenet1k nor none nor a file'):
        mad(*good, "--taxonomy", "wordnet")
    with pytest.raises(CommandError, match="has a cycle"):
        mad(*good, "--taxonomy", paths["cycle"])
    with pytest.raises(CommandError, match=r'"e\.txt": the ending decides the format'):
        mad(*select_arguments(paths, tmp_path / "e.txt"))
    with pytest.raises(CommandError, match="cannot be written"):
        mad(*select_arguments(paths, Path("/proc/nowhere/e.csv")))
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(CommandError, match="cannot be read as parquet"):
        mad(*good, "--predictions", paths["a"], str(tmp_path / "bad.parquet"))


def test_distance_takes_indices_ids_and_names(tmp_path: Path) -> None:
    told, _ = mad("distance", "tabby", "282")
    assert told.split("\t")[0] == "0.0001220703125"
    assert "tiger cat (282, n02123159)" in told
    paths = write(tmp_path, pets=PETS)
    assert mad("distance", "cat", "boat", "--taxonomy", paths["pets"])[0].startswith("3.0\t")
    with pytest.raises(CommandError, match="give the index or id of 134"):
        mad("distance", "crane", "0")
    with pytest.raises(CommandError, match="no classes of its own"):
        mad("distance", "0", "1", "--taxonomy", "none")


VERDICTS = "model_a,model_b,path,a_correct,b_correct\n" + "".join(
    f"{a},{b},{number}.jpg,{int(number < right_a)},{int(number < right_b)}\n"
    for a, b, right_a, right_b in (("good", "fair", 8, 5), ("good", "poor", 9, 2), ("poor", "fair", 2, 6))
    for number in range(10)
)


def test_rank_orders_models_and_is_repeatable(tmp_path: Path) -> None:
    paths = write(tmp_path, v=VERDICTS)
    out = tmp_path / "standings.csv"
    mad("rank", "--verdicts", paths["v"], "--out", str(out), "--replicates", "200", "--seed", "3")
    first = out.read_bytes()
    table = rows(out)
    assert list(table[0]) == ["model", "score", "low", "high", "rank", "rank_best", "rank_worst", "n_images"]
    assert [row["model"] for row in table] == ["good", "fair", "poor"]
    assert [row["n_images"] for row in table] == ["20"] * 3
    assert sum(float(row["score"]) for row in table) == pytest.approx(1)
    assert all(float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in table)
    mad("rank", "--verdicts", paths["v"], "--out", str(out), "--replicates", "200", "--seed", "3")
    assert out.read_bytes() == first
    mad("rank", "--verdicts", paths["v"], "--out", str(tmp_path / "s.parquet"), "--replicates", "200", "--seed", "3")
    assert [row["model"] for row in pq.read_table(tmp_path / "s.parquet").to_pylist()] == ["good", "fair", "poor"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            VERDICTS.replace("b_correct", "b"),
            'no column "b_correct"; needed are model_a,model_b,path,a_correct,b_correct',
        ),
        (VERDICTS + "good,fair,x,2,0\n", r'v\.csv, row 31: the column "a_correct" holds "2"; give 1 or 0'),
        (VERDICTS + "good,fair,x,1,\n", 'row 31: the column "b_correct" holds ""'),
        (VERDICTS + "good,,x,1,0\n", r'row 31: the column "model_b" is empty'),
        (VERDICTS + "good,good,x,1,0\n", "good"),
        (VERDICTS + "good,fair,0.jpg,1,0\n", r"0\.jpg"),
        ("model_a,model_b,path,a_correct,b_correct\n", "no rows"),
    ],
)
def test_mistakes_in_verdicts_are_named(tmp_path: Path, text: str, message: str) -> None:
    paths = write(tmp_path, v=text)
    with pytest.raises(CommandError, match=message):
        mad("rank", "--verdicts", paths["v"], "--out", str(tmp_path / "s.csv"))
    assert not (tmp_path / "s.csv").exists()


def test_truth_may_be_written_in_words(tmp_path: Path) -> None:
    words = VERDICTS.replace(",1", ",True").replace(",0\n", ",no\n")
    paths = write(tmp_path, v=VERDICTS, w=words)
    for stem in paths:
        mad("rank", "--verdicts", paths[stem], "--out", str(tmp_path / f"{stem}.out.csv"), "--replicates", "10")
    assert (tmp_path / "v.out.csv").read_bytes() == (tmp_path / "w.out.csv").read_bytes()


def test_real_networks_on_real_photographs(tmp_path: Path) -> None:
    files = sorted((SHARED / "imagenet1000").glob("predictions_*.csv"))
    if not files:
        pytest.skip(f"{SHARED / 'imagenet1000'} is not there")
    out = tmp_path / "e.csv"
    mad(
        "select",
        "--predictions",
        *map(str, files),
        "--threshold",
        "0.5",
        "--k",
        "5",
        "--reserve",
        "0",
        "--out",
        str(out),
    )
    table = rows(out)
    assert len({(row["model_a"], row["model_b"]) for row in table}) == 28
    assert all(float(row["confidence_a"]) >= 0.5 <= float(row["confidence_b"]) for row in table)
    assert all(row["class_a"] != row["class_b"] for row in table)


def test_a_taxonomy_of_wordnet_classes_is_built_by_its_command(tmp_path: Path) -> None:
    if not Path("/usr/share/wordnet/data.noun").exists():
        pytest.skip("the WordNet database (wordnet-base) is not installed")
    (tmp_path / "ids.csv").write_text("index,wnid\n1,n01443537\n0,n01440764\n")
    call_command("taxonomy_build_imagenet", classes=tmp_path / "ids.csv", out=tmp_path / "two.csv", stdout=StringIO())
    assert mad("distance", "tench", "goldfish", "--taxonomy", str(tmp_path / "two.csv"))[0].startswith(
        "6.103515625e-05"
    )
    (tmp_path / "ids.csv").write_text("index,wnid\n1,n01443537\n")
    with pytest.raises(CommandError, match="numbered 0 to 0"):
        call_command("taxonomy_build_imagenet", classes=tmp_path / "ids.csv", out=tmp_path / "x.csv")
    with pytest.raises(CommandError, match="wordnet-base"):
        call_command("taxonomy_build_imagenet", wordnet=tmp_path, out=tmp_path / "x.csv")
