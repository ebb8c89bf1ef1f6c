"""Predictions made elsewhere enter as scores, or say which rows are wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accounts.errors import DomainError
from accounts.models import User
from corpora.models import Corpus
from corpora.reading import manifest_of
from models_zoo.models import Model, Scores, Version
from models_zoo.reading import score_columns
from models_zoo.services import scores_request, version_add
from tests.models_zoo.builders import NAMES, checked, make_corpus


@pytest.fixture
def paths(corpus: Corpus) -> list[str]:
    return manifest_of(corpus).column("path").tolist()


@pytest.fixture
def add(admin: User, model: Model, corpus: Corpus, tmp_path: Path):
    """Write lines as a CSV file, add and check it."""

    def run(lines: list[str], *, label: str = "theirs") -> Version:
        file = tmp_path / "theirs.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return checked(version_add(model=model, label=label, kind="predictions", by=admin, file=file, corpus=corpus))

    return run


def test_predictions_in_any_order_become_scores(add, corpus: Corpus, paths: list[str]):
    said = {path: (row % 3, 0.5 + row / 100) for row, path in enumerate(paths)}
    shuffled = [paths[row] for row in np.random.default_rng(0).permutation(len(paths))]
    version = add(["path,class,confidence", *(f"{path},{said[path][0]},{said[path][1]}" for path in shuffled)])
    assert version.state == "verified", version.refusal
    scores = Scores.objects.get(version=version)
    classes, confidences = score_columns(scores)
    assert classes.tolist() == [row % 3 for row in range(len(paths))]
    assert confidences == pytest.approx([0.5 + row / 100 for row in range(len(paths))])
    labels = manifest_of(corpus).column("label")
    assert scores.accuracy == pytest.approx(float((classes == labels).mean()))


def test_without_confidences_the_scores_say_so(add, paths: list[str]):
    version = add(["path,class", *(f"{path},{NAMES[0]}" for path in paths)])
    assert version.state == "verified", version.refusal
    assert "no confidences" in version.notes[0]
    scores = Scores.objects.get(version=version)
    assert not scores.has_confidence
    assert score_columns(scores)[1] is None


def test_row_numbers_and_parquet_do_as_well(admin: User, model: Model, corpus: Corpus, tmp_path: Path):
    file = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"row": list(range(12))[::-1], "class": [1] * 12, "confidence": [0.25] * 12}), file)
    version = checked(version_add(model=model, label="p", kind="predictions", by=admin, file=file, corpus=corpus))
    assert version.state == "verified", version.refusal


def test_one_of_several_models_is_chosen_by_name(add, paths: list[str]):
    lines = ["path,left,right", *(f"{path},0,1" for path in paths)]
    version = add(lines, label="right")
    assert set(score_columns(Scores.objects.get(version=version))[0].tolist()) == {1}
    refused = add(lines, label="neither")
    assert refused.state == "refused"
    assert "2 models (left, right)" in refused.refusal


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines[:-1], "1 missing rows"),
        (lambda lines: [*lines, lines[1]], "1 doubled rows"),
        (lambda lines: [*lines, "no/such/picture.png,0,0.5"], "not in the corpus"),
        (lambda lines: [*lines[:-1], lines[-1].replace("0.5", "nan")], "NaN"),
        (lambda lines: [*lines[:-1], lines[-1].replace("0.5", "1.5")], "outside 0..1"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",0,", ",3,")], "outside 0..2"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",0,", ",,")], "without a class"),
        (lambda lines: ["name,class", *lines[1:]], "cannot be read"),
        (lambda lines: ["name,class,confidence", *lines[1:]], 'no column "path" or "row"'),
    ],
)
def test_predictions_that_do_not_fit_are_refused_with_the_rows(add, paths: list[str], spoil, words: str):
    version = add(spoil(["path,class,confidence", *(f"{path},0,0.5" for path in paths)]))
    assert version.state == "refused"
    assert words in version.refusal
    assert "theirs.csv" in version.refusal or "theirs" in version.refusal
    assert version.sha256 not in version.refusal
    assert not Scores.objects.filter(state="complete").exists()


def test_predictions_for_one_corpus_say_nothing_about_another(add, admin: User, paths: list[str], tmp_path: Path):
    version = add(["path,class", *(f"{path},0" for path in paths)])
    other = make_corpus(admin, tmp_path, n=3, name="others")
    with pytest.raises(DomainError, match='for corpus "pictures" and says nothing about "others"'):
        scores_request(versions=[version], corpus=other, by=admin)
