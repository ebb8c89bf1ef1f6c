import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models_zoo.engine.predictions import (
    PredictionsRefused,
    align,
    read_predictions,
    store_predictions,
    write_predictions,
)

PATHS = ["a.jpg", "b.jpg", "007", "sub/ü.jpg"]


def written(folder, text, name="model one.csv"):
    (folder / name).write_text(text)
    return folder / name


def aligned(folder, text, **options):
    (predictions,) = read_predictions(written(folder, text))
    return align(predictions, PATHS, **{"n_classes": 10, **options})


def test_rows_come_in_the_order_of_the_corpus(tmp_path):
    found = aligned(tmp_path, "path,class,confidence\nsub/ü.jpg,3,0.5\n007,2,0.25\na.jpg,0,1\nb.jpg,9,0\n")
    assert found.name == "model one"
    assert found.classes.tolist() == [0, 9, 2, 3]
    assert found.confidences.tolist() == [1, 0, 0.25, 0.5]


def test_paths_that_look_like_numbers_stay_paths(tmp_path):
    (tmp_path / "p.csv").write_text("path,class\n007,1\n08,2\n")
    (predictions,) = read_predictions(tmp_path / "p.csv")
    assert align(predictions, ["08", "007"], n_classes=3).classes.tolist() == [2, 1]


def test_row_numbers_instead_of_paths(tmp_path):
    found = aligned(tmp_path, "row,class\n3,1\n2,2\n1,3\n0,4\n")
    assert found.classes.tolist() == [4, 3, 2, 1]
    assert found.confidences is None


def test_class_names_through_the_taxonomy(tmp_path):
    text = "path,class\na.jpg,cat\nb.jpg,dog\n007,cat\nsub/ü.jpg,dog\n"
    assert aligned(tmp_path, text, class_names=["dog", "cat"], n_classes=2).classes.tolist() == [1, 0, 1, 0]
    with pytest.raises(PredictionsRefused, match=r"2 classes the taxonomy does not have.*cat"):
        aligned(tmp_path, text, class_names=["dog", "cow"], n_classes=2)
    with pytest.raises(PredictionsRefused, match="'cat' is a name"):
        aligned(tmp_path, text)


def test_one_column_a_model(tmp_path):
    file = written(tmp_path, "path,first,second\na.jpg,1,2\nb.jpg,3,4\n")
    first, second = read_predictions(file)
    assert (first.name, second.name) == ("first", "second")
    assert align(second, ["a.jpg", "b.jpg"], n_classes=5).classes.tolist() == [2, 4]
    assert second.confidences is None


def test_parquet_and_chunked_paths(tmp_path):
    file = tmp_path / "m.parquet"
    write_predictions(file, PATHS, np.arange(4), np.full(4, 0.5, np.float32))
    (predictions,) = read_predictions(file)
    found = align(predictions, pa.chunked_array([PATHS[2:], PATHS[:2]]), n_classes=4)
    assert found.classes.tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_written_predictions_read_back(tmp_path, ending):
    file = tmp_path / f"m.{ending}"
    confidences = np.array([0.1, 0.2, 0.3, 1], np.float32)
    write_predictions(file, PATHS, np.array([3, 2, 1, 0], np.uint16), confidences)
    (predictions,) = read_predictions(file)
    found = align(predictions, PATHS, n_classes=4)
    assert found.classes.tolist() == [3, 2, 1, 0]
    assert np.array_equal(found.confidences, confidences)


WHOLE = "path,class,confidence\na.jpg,0,1\nb.jpg,1,1\n007,2,1\nsub/ü.jpg,3,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE.replace("b.jpg,1,1\n", ""), "1 missing rows, the first: path b.jpg"),
        (WHOLE + "a.jpg,0,1\n", "1 doubled rows, the first: path a.jpg"),
        (WHOLE + "z.jpg,0,1\n", "1 rows that are not in the corpus, the first: path z.jpg"),
        (WHOLE.replace("007,2", "007,10"), r"1 classes outside 0\.\.9, the first: class 10"),
        (WHOLE.replace("007,2", "007,-1"), r"1 classes outside 0\.\.9, the first: class -1"),
        (WHOLE.replace("007,2", "007,"), "1 rows without a class, the first: key 007"),
        (WHOLE.replace("007,2", "007,2.5"), "a class is no whole number"),
        (WHOLE.replace("007,2,1", "007,2,nan"), r"1 confidences that are NaN or outside 0\.\.1, the first: key 007"),
        (WHOLE.replace("007,2,1", "007,2,"), "1 confidences that are NaN"),
        (WHOLE.replace("007,2,1", "007,2,1.5"), "1 confidences that are NaN or outside"),
        (WHOLE.replace("007,2,1", "007,2,high"), "confidence is not a number"),
        ("row,class\n0,1\n1,1\n2,1\n4,1\n", r"1 rows outside 0\.\.3, the first: row 4"),
        ("row,class\n0,1\n1,1\n2,1\n2,1\n", "1 doubled rows, the first: path 007"),
        ("name,class\na,1\n", 'no column "path" or "row"; found name, class'),
        ("path\na.jpg\n", 'no column "class"'),
        ("path,class\na.jpg,1,7\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_bad_predictions_name_the_rows(tmp_path, text, message):
    with pytest.raises(PredictionsRefused, match=f'"model one(.csv)?".*{message}'):
        aligned(tmp_path, text)


def test_other_files_are_no_parquet(tmp_path):
    with pytest.raises(PredictionsRefused, match="cannot be read"):
        read_predictions(written(tmp_path, "hello", "m.parquet"))


def test_predictions_become_a_complete_store(tmp_path, monkeypatch):
    monkeypatch.setattr("models_zoo.engine.predictions._SHARD", 3)
    found = aligned(tmp_path, WHOLE)
    store = store_predictions(found, tmp_path / "s", n_classes=10, version="v", corpus="c")
    classes, confidences = store.read()
    assert classes.tolist() == [0, 1, 2, 3]
    assert confidences.tolist() == [1, 1, 1, 1]
    assert store.header.has_confidence


def test_absent_confidences_are_stated_in_the_header(tmp_path):
    found = aligned(tmp_path, "row,class\n0,1\n1,1\n2,1\n3,1\n")
    store = store_predictions(found, tmp_path / "s", n_classes=10, version="v", corpus="c")
    assert not store.header.has_confidence
    assert store.read()[1].tolist() == [1, 1, 1, 1]


def test_large_files_are_joined_by_path(tmp_path):
    count = 200_000
    order = np.random.default_rng(0).permutation(count)
    table = pa.table({"path": [f"images/{row:07d}.jpg" for row in order], "class": order % 1000})
    pq.write_table(table, tmp_path / "m.parquet")
    (predictions,) = read_predictions(tmp_path / "m.parquet")
    found = align(predictions, [f"images/{row:07d}.jpg" for row in range(count)], n_classes=1000)
    assert np.array_equal(found.classes, np.arange(count) % 1000)
