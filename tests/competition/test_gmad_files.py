"""The command `gmad`: real files in, real files out, and every mistake in a table named."""

import csv
import os
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from scipy.optimize import curve_fit

from competition import gmad_files

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
UPSCALING = SHARED / "subjective" / "ai_upscaling_mos_9_biqa_scores.csv"
NINE = ("BRISQUE", "CNNIQA", "DBCNN", "HYPERIQA", "ILNIQE", "MANIQA", "MUSIQ", "NIQE", "paq2piq")
LOWER_IS_BETTER = ("BRISQUE", "ILNIQE", "NIQE")
SCORES = "path,A,B\nw,0,50\nx,10,40\ny,90,60\nz,100,\nv,55,45\n"
PAIR_HEADER = "attacker,defender,level,worst_path,best_path,attacker_worst,attacker_best,defender_worst,defender_best"
LEVELS = "defender,level,centre,count\nA,1,25,9\nA,2,75,3\nB,1,25,4\nB,2,75,8\n"
JUDGEMENTS = (
    "attacker,defender,level,person,score\nA,B,1,ann,40\nA,B,1,bob,20\nB,A,2,ann,-10\nB,A,1,ann,30\nB,A,1,bob,10\n"
)


def gmad(*arguments: str | Path) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("gmad", *map(str, arguments), stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_select_writes_pairs_and_levels(tmp_path: Path) -> None:
    scores = write(tmp_path / "scores.csv", SCORES)
    out = tmp_path / "new" / "pairs.csv"
    told, warned = gmad("select", "--scores", scores, "--levels", "2", "--half-width", "26", "--out", out)
    assert out.read_text().splitlines() == [
        PAIR_HEADER,
        "A,B,1,w,y,0.0,90.0,50.0,60.0",
        "A,B,2,w,y,0.0,90.0,50.0,60.0",
        "B,A,1,x,w,40.0,50.0,10.0,0.0",
        "B,A,2,v,y,45.0,60.0,55.0,90.0",
    ]
    assert (out.parent / "levels.csv").read_text().splitlines() == [
        "defender,level,centre,count",
        "A,1,25.0,2",
        "A,2,75.0,3",
        "B,1,45.0,4",
        "B,2,55.0,4",
    ]
    assert "pairs of 2 models over 5 images" in told
    assert warned == ""


def slow_pairs(columns: dict[str, np.ndarray], paths: list[str], n_levels: int, half: float) -> list[tuple[Any, ...]]:
    """The definition, one cell at a time: a mask, an argmin and an argmax."""
    found = []
    for attacker, defender in product(columns, repeat=2):
        own, said = columns[defender], columns[attacker]
        low, high = np.nanmin(own), np.nanmax(own)
        for k in range(1, n_levels + 1):
            inside = np.flatnonzero(np.abs(own - (low + (high - low) / n_levels * (k - 0.5))) < half)
            inside = inside[~np.isnan(said[inside])]
            if attacker == defender or not len(inside):
                continue
            worst, best = inside[said[inside].argmin()], inside[said[inside].argmax()]
            if said[worst] < said[best]:
                found.append((attacker, defender, k, paths[worst], paths[best], said[worst], said[best]))
    return sorted(found)


@pytest.fixture
def upscaling() -> pa.Table:
    if not UPSCALING.exists():
        pytest.skip(f"{UPSCALING} is not there")
    return pa.csv.read_csv(UPSCALING)


def logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2


def images_of(table: pa.Table) -> list[str]:
    """A name for every image: the file names repeat from upscaler to upscaler."""
    parts = (table[name].to_pylist() for name in ("upscaler", "factor", "f"))
    return ["/".join(part) for part in zip(*parts, strict=True)]


def upscaling_files(table: pa.Table, folder: Path, rated: int | None = None) -> tuple[Path, Path]:
    """A scores file of the nine measures over 1,360 images, and a calibration file of some of them."""
    scores = table.select(NINE).add_column(0, "path", [images_of(table)])
    calibration = scores.append_column("mos", table["mos"].cast(pa.float64()))
    pa.csv.write_csv(scores, folder / "scores.csv")
    pa.csv.write_csv(calibration.slice(0, rated), folder / "calibration.csv")
    return folder / "scores.csv", folder / "calibration.csv"


def test_nine_measures_of_a_real_study_attack_each_other(upscaling: pa.Table, tmp_path: Path) -> None:
    scores, calibration = upscaling_files(upscaling, tmp_path)
    arguments = ("select", "--scores", scores, "--calibration", calibration, "--mos-range", "1", "5")
    arguments += ("--lower-is-better", *LOWER_IS_BETTER, "--out", tmp_path / "pairs.csv")
    with pytest.raises(
        CommandError, match=r'the fit of model "ILNIQE" falls: .* or calibrate by quantiles \(--quantiles'
    ):
        gmad(*arguments)
    _, warned = gmad(*arguments, "--quantiles", "ILNIQE")
    mos = 25 * (upscaling["mos"].to_numpy() - 1)
    columns = {}
    for name in NINE:
        x = upscaling[name].to_numpy().astype(float) * (-1 if name in LOWER_IS_BETTER else 1)
        scored = ~np.isnan(x)
        if name == "ILNIQE":
            knots = np.sort(x[scored])[np.round(np.linspace(0, scored.sum() - 1, 1001)).astype(int)]
            columns[name] = np.interp(x, knots, np.linspace(0, 100, 1001))
            continue
        start = [mos.max(), mos.min(), x[scored].mean(), x[scored].std()]
        with np.errstate(over="ignore"):
            b = curve_fit(logistic, x[scored], mos[scored], p0=start, maxfev=20000)[0]
        columns[name] = logistic(x, *b)
    expected = slow_pairs(columns, images_of(upscaling), 6, 9.0)
    found = rows(tmp_path / "pairs.csv")
    keys = ("attacker", "defender", "level", "worst_path", "best_path")
    assert [tuple(row[key] for key in keys) for row in found] == [
        (*pair[:2], str(pair[2]), *pair[3:5]) for pair in expected
    ]
    assert [float(row["attacker_best"]) for row in found] == pytest.approx([pair[6] for pair in expected], rel=1e-3)
    assert len(found) > 300
    assert warned.count("the logistic explains") == 8


def test_equal_count_levels_and_a_newcomer(upscaling: pa.Table, tmp_path: Path) -> None:
    scores, _ = upscaling_files(upscaling, tmp_path)
    arguments = ("select", "--scores", scores, "--calibration", "quantiles", "--quantile-levels", "--levels", "5")
    gmad(*arguments, "--lower-is-better", *LOWER_IS_BETTER, "--out", tmp_path / "all.csv")
    gmad(*arguments, "--lower-is-better", *LOWER_IS_BETTER, "--out", tmp_path / "new.csv", "--newcomer", "MUSIQ")
    counts = [int(row["count"]) for row in rows(tmp_path / "levels.csv")]
    assert len(counts) == 45
    assert sum(counts) == 5 * 1360 + 4 * 1158  # four measures could not score the largest images
    assert min(counts) >= 231
    everything = rows(tmp_path / "all.csv")
    assert len(everything) == 9 * 8 * 5
    assert rows(tmp_path / "new.csv") == [row for row in everything if "MUSIQ" in (row["attacker"], row["defender"])]


def test_parquet_ints_and_late_decimals_give_what_csv_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 60_000  # more than one block of CSV: whole numbers first, decimals and empty cells behind
    a = np.where(np.arange(n) < n - 50, rng.integers(0, 101, n), rng.random(n) * 100)
    b = rng.integers(0, 101, n).astype(np.float64)
    b[-3] = np.nan
    paths = [f"images/{number:06d}.png" for number in range(n)]
    lines = [f"{path},{x:g},{'' if y != y else f'{y:g}'}" for path, x, y in zip(paths, a, b, strict=True)]
    write(tmp_path / "scores.csv", "\n".join(["path,a,b", *lines]) + "\n")
    a = np.array([float(f"{x:g}") for x in a])
    pq.write_table(pa.table({"path": paths, "a": a, "b": pa.array(b, from_pandas=True)}), tmp_path / "scores.parquet")
    gmad("select", "--scores", tmp_path / "scores.csv", "--out", tmp_path / "one.csv")
    gmad("select", "--scores", tmp_path / "scores.parquet", "--out", tmp_path / "two.parquet")
    one, two = rows(tmp_path / "one.csv"), pq.read_table(tmp_path / "two.parquet").to_pylist()
    assert [{key: str(value) for key, value in row.items()} for row in two] == one
    assert len(one) == 12


def test_missing_pairs_are_told_and_nothing_fails(tmp_path: Path) -> None:
    text = "path,A,B\nu,0,7\nv,50,7\nw,51,7\nx,100,8\n"
    scores = write(tmp_path / "scores.csv", text)
    told, warned = gmad("select", "--scores", scores, "--levels", "5", "--half-width", "5", "--out", tmp_path / "p.csv")
    assert 'No pair: level 1 of "A" is empty' in warned
    assert 'level 3 of "A", attacked by "B": "B" gives its 2 images the same score' in warned
    assert "0 pairs of 2 models" not in told


def test_top_cap_and_groups(upscaling: pa.Table, tmp_path: Path) -> None:
    scores, _ = upscaling_files(upscaling, tmp_path)
    groups = pa.table({"path": images_of(upscaling), "group": upscaling["base_img"]})
    pa.csv.write_csv(groups, tmp_path / "groups.csv")
    gmad(
        "select", "--scores", scores, "--calibration", "quantiles", "--lower-is-better", *LOWER_IS_BETTER,
        "--top", "2", "--cap", "2", "--groups", tmp_path / "groups.csv", "--out", tmp_path / "pairs.csv",
    )  # fmt: skip
    source = dict(zip(groups["path"].to_pylist(), groups["group"].to_pylist(), strict=True))
    found = rows(tmp_path / "pairs.csv")
    exhibits = {frozenset((row["worst_path"], row["best_path"])) for row in found}
    uses = [path for pair in exhibits for path in pair]
    assert max(uses.count(path) for path in set(uses)) == 2
    assert all(len({source[path] for path in pair}) == 2 for pair in exhibits)
    assert len(found) > 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,A\nx,1\ny,2\n", r"scores.csv has 1 column\(s\) of scores"),
        ("image,A,B\nx,1,2\n", 'no column "path"'),
        (SCORES.replace("10,40", "ten,40"), 'scores.csv, row 2: the column "A" holds "ten"'),
        (SCORES.replace("10,40", "inf,40"), r'scores.csv, row 2: the score of model "A" is infinite, as in 1 row\(s\)'),
        (SCORES.replace("x,", "w,"), 'names 1 images more than once, such as "w"'),
        (SCORES.replace("x,", ","), 'row 2: the column "path" is empty'),
        ("path,A,B\nx,1,2\ny,1,3\n", 'model "A" gives all 2 images the same score, 1'),
        ("path,A,B\nx,1,2\ny,,3\n", 'model "A" has scored 1 images'),
        ("path,A,B\nx,,2\ny,,3\n", 'the column "A" is empty'),
        ("path,A,A\nx,1,2\ny,2,3\n", 'the column "A" twice'),
        ("path,A,B\n", "has no rows"),
    ],
)
def test_scores_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    scores = write(tmp_path / "scores.csv", text)
    with pytest.raises(CommandError, match=message):
        gmad("select", "--scores", scores, "--out", tmp_path / "pairs.csv")
    assert not (tmp_path / "pairs.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lower-is-better", "C"), '--lower-is-better names "C"; scores.csv has the models A, B'),
        (("--newcomer", "C"), '--newcomer names "C"'),
        (("--quantiles", "C"), '--quantiles names "C"'),
        (("--levels", "0"), "0 levels: at least one"),
        (("--half-width", "0"), "half width is 0"),
        (("--cap", "0"), "cap is 0"),
        (("--top", "0"), "top is 0"),
        (("--calibration", "nowhere.csv"), "nowhere.csv does not exist"),
        (("--out", "levels.csv"), "cannot be levels.csv"),
        (("--out", "pairs.txt"), "the ending decides the format"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = write(tmp_path / "scores.csv", SCORES)
    with pytest.raises(CommandError, match=message):
        gmad("select", "--scores", scores, "--out", "pairs.csv", *arguments)


GOOD = "path,mos,A,B\n" + "".join(f"r{n},{20 + 60 / (1 + np.exp(-(n - 10) / 3)):.3f},{n},{n * n}\n" for n in range(20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace(",B\n", ",C\n"), 'calibration.csv has no column "B"'),
        (GOOD.replace("mos", "mean"), 'calibration.csv has no column "mos"'),
        (GOOD.replace("r4,27.1", "r4,127.1"), "calibration.csv, row 5: the MOS is 127.1"),
        (GOOD.replace("r4,27.1", "r4,high"), 'calibration.csv, row 5: the column "mos" holds "high'),
        ("\n".join(GOOD.splitlines()[:5]) + "\n", 'model "A" has scored 4 rated images; .* needs at least 5'),
        ("path,mos,A,B\n" + "".join(f"r{n},{n},7,{n}\n" for n in range(20)), 'model "A": all 20 .* the same score, 7'),
        ("path,mos,A,B\n" + "".join(f"r{n},50,{n},{n}\n" for n in range(20)), "the same MOS, 50"),
        ("path,mos,A,B\n" + "".join(f"r{n},{n * n / 9},{-n},{n}\n" for n in range(20)), 'the fit of model "A" falls'),
        (GOOD.replace("r3,", "r2,"), 'names 1 images more than once, such as "r2"'),
        (GOOD.replace(",4,16", ",inf,16"), r'calibration.csv, row 5: the score of model "A" is infinite'),
    ],
)
def test_a_bad_calibration_stops_everything(tmp_path: Path, text: str, message: str) -> None:
    scores, calibration = write(tmp_path / "scores.csv", SCORES), write(tmp_path / "calibration.csv", text)
    with pytest.raises(CommandError, match=message):
        gmad("select", "--scores", scores, "--calibration", calibration, "--out", tmp_path / "pairs.csv")
    assert not (tmp_path / "pairs.csv").exists()


def test_a_model_turned_round_is_calibrated_turned_round(tmp_path: Path) -> None:
    scores = write(tmp_path / "scores.csv", SCORES)
    turned = write(tmp_path / "turned.csv", SCORES.replace(",10,40", ",-10,40").replace(",90,", ",-90,").replace(",100,", ",-100,").replace(",55,", ",-55,"))  # fmt: skip  # noqa: E501
    calibration = write(tmp_path / "calibration.csv", GOOD)
    other = write(tmp_path / "other.csv", "".join(f"{line.rsplit(',', 2)[0]},{'A' if not n else -n + 1},{line.rsplit(',', 1)[1]}\n" for n, line in enumerate(GOOD.splitlines())))  # fmt: skip  # noqa: E501
    _, told = gmad("select", "--scores", scores, "--calibration", calibration, "--out", tmp_path / "one.csv")
    gmad(
        "select", "--scores", turned, "--calibration", other, "--lower-is-better", "A", "--out", tmp_path / "two.csv"
    )  # fmt: skip
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()
    assert '"A": the logistic explains 100% of the variance of the MOS of 20 images' in told
    _, told = gmad(
        "select", "--scores", scores, "--calibration", calibration, "--mos-range", "0", "1000",
        "--out", tmp_path / "three.csv",
    )  # fmt: skip
    assert "on a scale from 0 to 100: is --mos-range right?" in told


def test_rank_from_judgements(tmp_path: Path) -> None:
    judgements, levels = write(tmp_path / "j.csv", JUDGEMENTS), write(tmp_path / "levels.csv", LEVELS)
    told, _ = gmad("rank", "--judgements", judgements, "--levels", levels, "--out", tmp_path / "standings.csv")
    found = rows(tmp_path / "standings.csv")
    assert list(found[0]) == [*gmad_files.STANDING_COLUMNS]
    assert [row["model"] for row in found] == ["A", "B"]  # 30 against (9 * 20 - 3 * 10) / 12 = 12.5
    assert float(found[0]["aggressiveness"]) == pytest.approx(-float(found[1]["aggressiveness"]), abs=1e-9)
    for row in found:
        assert float(row["aggr_low"]) <= float(row["aggressiveness"]) <= float(row["aggr_high"])
        assert float(row["res_low"]) <= float(row["resistance"]) <= float(row["res_high"])
    assert "2 models, exact, 1,000 bootstrap replicates" in told
    gmad("rank", "--judgements", judgements, "--levels", levels, "--replicates", "0", "--out", tmp_path / "plain.csv")
    assert rows(tmp_path / "plain.csv")[0]["aggr_low"] == "nan"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            JUDGEMENTS.replace("A,B,1,bob", "C,B,1,bob"),
            'row 2: attacker "C" is not among the models of levels.csv: A, B',
        ),
        (JUDGEMENTS.replace("B,A,2", "B,B,2"), 'row 3: model "B" attacks itself'),
        (JUDGEMENTS.replace("B,A,2", "B,A,3"), "row 3: the level is 3; levels.csv has levels 1 to 2"),
        (JUDGEMENTS.replace("B,A,2", "B,A,1.5"), 'row 3: the column "level" holds 1.5, no whole number'),
        (JUDGEMENTS.replace("ann,-10", "ann,-110"), "row 3: the score is -110; scores lie between -100 and 100"),
        (JUDGEMENTS.replace("ann,-10", "ann,"), 'row 3: the column "score" is empty'),
        (JUDGEMENTS.replace("ann,-10", ",-10"), 'row 3: the column "person" is empty'),
        (JUDGEMENTS.replace("person", "who"), 'no column "person"'),
    ],
)
def test_judgements_that_cannot_be_ranked_are_named(tmp_path: Path, text: str, message: str) -> None:
    judgements, levels = write(tmp_path / "j.csv", text), write(tmp_path / "levels.csv", LEVELS)
    with pytest.raises(CommandError, match=message):
        gmad("rank", "--judgements", judgements, "--levels", levels, "--out", tmp_path / "standings.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LEVELS.replace("A,2,75,3", "A,2,75,1"),
            'row 3: level 2 of "A" has 1 images in levels.csv, too few for a pair',
        ),
        (LEVELS.replace("A,2,75,3\n", ""), 'levels.csv has no level 2 of "A"'),
        (LEVELS.replace("A,2", "A,1"), 'levels.csv, row 2: level 1 of "A" stands in the file twice'),
        (LEVELS.replace("75,3", "75,-3"), "row 2: level 2 .* cannot be"),
        (LEVELS.replace("75,3", "75,many"), 'row 2: the column "count" holds "many"'),
        (LEVELS.replace("count", "n"), 'no column "count"'),
    ],
)
def test_levels_that_do_not_match_are_named(tmp_path: Path, text: str, message: str) -> None:
    judgements, levels = write(tmp_path / "j.csv", JUDGEMENTS), write(tmp_path / "levels.csv", text)
    with pytest.raises(CommandError, match=message):
        gmad("rank", "--judgements", judgements, "--levels", levels, "--out", tmp_path / "standings.csv")


A = ",GIST,AAF,Kong,Jin\nGIST,-,.216,.103,.031\nAAF,.314,-,.182,.160\nKong,.287,.292,-,.299\nJin,.459,.466,.578,-\n"
R = ",Jin,GIST,AAF,Kong\nGIST,.541,,.686,.713\nAAF,.534,.662,,.708\nKong,.422,.741,.648,\nJin,,.934,.810,.701\n"


@pytest.mark.parametrize(
    ("mode", "aggressive", "resistant"),
    [
        ("published", [0.621, 0.145, -0.189, -0.577], [0.260, -0.098, -0.064, -0.097]),
        ("exact", [0.590, 0.141, -0.180, -0.552], [0.230, -0.087, -0.057, -0.086]),
    ],
)
def test_rank_from_matrices_whatever_their_order(
    tmp_path: Path, mode: str, aggressive: list[float], resistant: list[float]
) -> None:
    a, r = write(tmp_path / "A.csv", A), write(tmp_path / "R.csv", R)
    out = tmp_path / "standings.csv"
    gmad("rank", "--aggressiveness", a, "--resistance", r, "--mode", mode, "--out", out)
    found = rows(out)
    assert [row["model"] for row in found] == ["Jin", "Kong", "AAF", "GIST"]
    assert [float(row["aggressiveness"]) for row in found] == pytest.approx(aggressive, abs=0.0012)
    assert [float(row["resistance"]) for row in found] == pytest.approx(resistant, abs=0.0012)
    assert {row["aggr_low"] for row in found} | {row["res_high"] for row in found} == {"nan"}


def test_disconnected_models_are_told(tmp_path: Path) -> None:
    a = write(tmp_path / "A.csv", "m,A,B,C,D\nA,-,50,,\nB,20,-,,\nC,,,-,30\nD,,,40,-\n")
    r = write(tmp_path / "R.csv", "m,A,B,C,D\nA,-,50,,\nB,20,-,,\nC,,,-,30\nD,,,40,-\n")
    _, warned = gmad("rank", "--aggressiveness", a, "--resistance", r, "--out", tmp_path / "s.csv")
    assert "No ranking across these groups of models" in warned
    assert '"A" and "B"; "C" and "D"' in warned


@pytest.mark.parametrize(
    ("a", "r", "message"),
    [
        (A.replace(".216", "x"), R, 'A.csv, row 1: the column "AAF" holds "x", no number'),
        (A.replace("\nJin,", "\nJon,"), R, "A.csv is no square table"),
        (A.replace(",.031", ""), R, "A.csv, row 1 has 3 numbers; there are 4 models"),
        (A, R.replace("Jin", "Jon"), 'A.csv and R.csv do not name the same models: "Jin"'),
        (A, R.replace(".541", "-.541"), 'the resistance of "GIST" to "Jin" is -0.541'),
        (A.replace(".216", "inf"), R, 'the aggressiveness of "GIST" and "AAF" is infinite'),
        ("", R, "A.csv is no square table"),
    ],
)
def test_matrices_that_cannot_be_ranked_are_named(tmp_path: Path, a: str, r: str, message: str) -> None:
    paths = write(tmp_path / "A.csv", a), write(tmp_path / "R.csv", r)
    with pytest.raises(CommandError, match=message):
        gmad("rank", "--aggressiveness", paths[0], "--resistance", paths[1], "--out", tmp_path / "s.csv")


def test_rank_takes_judgements_or_matrices(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="either --judgements and --levels, or --aggressiveness and --resistance"):
        gmad("rank", "--judgements", tmp_path / "j.csv", "--out", tmp_path / "s.csv")
