"""The zoo from the command line."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from corpora.models import Corpus
from models_zoo.models import Model, Version
from models_zoo.reading import score_columns
from tests.models_zoo.builders import SIDE, make_pictures, save_weights

PREPROCESSING = f'{{"resize": {SIDE}, "crop": {SIDE}}}'


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_add_then_score_a_corpus_and_a_folder_alike(admin: User, corpus: Corpus, tmp_path: Path, capsys):
    weights = save_weights(tmp_path / "w.pt")
    call_command(
        "version_add", str(weights), "--model", "from shell", "--taxonomy", corpus.taxonomy.name,
        "--architecture", "tiny_cnn", "--preprocessing", PREPROCESSING, verbosity=0,
    )  # fmt: skip
    version = Version.objects.get()
    assert '"from shell v1" (1) is verified' in capsys.readouterr().out.replace(f"({version.pk})", "(1)")
    by_name, by_number, bare = (tmp_path / name for name in ("a.csv", "b.parquet", "c.csv"))
    call_command("score", version="from shell v1", corpus="pictures", out=by_name, verbosity=0)
    call_command("score", version=str(version.pk), corpus=corpus.root, out=by_number, verbosity=0)
    call_command(
        "score", weights=weights, architecture="tiny_cnn", classes=3, preprocessing=PREPROCESSING,
        corpus=corpus.root, out=bare, verbosity=0,
    )  # fmt: skip
    classes, _ = score_columns(version.scores.get())
    said = {row["path"]: int(row["class"]) for row in rows_of(by_name)}
    assert list(said.values()) == classes.tolist()
    assert {row["path"]: int(row["class"]) for row in rows_of(bare)} == said
    assert {row["path"]: row["class"] for row in pq.read_table(by_number).to_pylist()} == said


def test_a_folder_needs_no_database(tmp_path: Path):
    """No ``db`` fixture: a query would be an error."""
    folder = make_pictures(tmp_path / "pictures", 4)
    (folder / "broken, file.jpg").write_bytes(b"\xff\xd8 no picture")
    out = tmp_path / "out.csv"
    call_command(
        "score", weights=save_weights(tmp_path / "w.pt"), architecture="tiny_cnn", classes=3,
        preprocessing=PREPROCESSING, corpus=str(folder), out=out, verbosity=0,
    )  # fmt: skip
    assert [row["path"] for row in rows_of(out)] == ["cat/0000.png", "cat/0003.png", "dog/0001.png", "ship/0002.png"]
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows_of(out))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": "nobody v9", "corpus": "pictures"}, "There are: none yet"),
        ({"version": "x", "weights": "w.pt", "corpus": "pictures"}, "Give one of"),
        ({"weights": Path("/none.pt"), "corpus": "/nowhere"}, "is no folder"),
    ],
)
def test_score_says_what_is_missing(admin: User, tmp_path: Path, values: dict, words: str):
    with pytest.raises(CommandError, match=words):
        call_command("score", out=tmp_path / "o.csv", **values)


def test_score_writes_csv_or_parquet_only(tmp_path: Path):
    with pytest.raises(CommandError, match=r"neither \.csv nor \.parquet"):
        call_command("score", weights=Path("w.pt"), corpus=str(tmp_path), out=tmp_path / "o.txt")


def test_a_refused_version_is_an_error_of_the_command(admin: User, model: Model, tmp_path: Path):
    with pytest.raises(CommandError, match="do not fit"):
        call_command(
            "version_add", str(save_weights(tmp_path / "w.pt", widths=[4])), "--model", "tiny",
            "--architecture", "tiny_cnn", verbosity=0,
        )  # fmt: skip
