"""Tables in files: what is read is what was written, and what cannot be used is named by its row."""

import numpy as np
import pyarrow as pa
import pytest

from corpora.tables import FileError, no_doubles, read_numbers, read_table, read_truth, require_columns, write_table

COLUMNS = {"name": pa.string(), "score": pa.float64(), "good": pa.bool_(), "n": pa.int64()}
ROWS = [("a,b", 0.1, True, 3), ('say "ü"', float("nan"), False, None), ("", 1e-300, None, 0)]


@pytest.mark.parametrize("ending", ["csv", "parquet", "pq"])
def test_a_table_comes_back_as_it_was_written(tmp_path, ending):
    path = tmp_path / "new" / f"table.{ending}"
    write_table(path, COLUMNS, iter(ROWS))
    table = read_table(path, text=["name"])
    assert table["name"].to_pylist() == [row[0] for row in ROWS]
    np.testing.assert_array_equal(table["score"].to_numpy(), [row[1] for row in ROWS])
    assert table["good"].to_pylist() == [True, False, None]
    assert table["n"].to_pylist() == [3, None, 0]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_csv_says_true_and_false_and_nan(tmp_path):
    write_table(tmp_path / "t.csv", COLUMNS, ROWS[:2])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines() == [
        "name,score,good,n", '"a,b",0.1,true,3', '"say ""ü""",nan,false,',
    ]  # fmt: skip


def test_a_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, COLUMNS, ROWS[:1])
    before = path.read_bytes()

    def breaks():
        yield ROWS[0]
        raise OSError("no space left on device")

    with pytest.raises(FileError, match=r"t\.csv cannot be written: no space left"):
        write_table(path, COLUMNS, breaks())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_numbers_are_read_from_text_and_from_typed_columns(tmp_path):
    path = tmp_path / "x.csv"
    for column in (pa.chunked_array([[" 1", "2.5", "1e3 "]]), pa.chunked_array([[1.0], [2.5, 1000.0]])):
        np.testing.assert_array_equal(read_numbers(path, column, "v"), [1, 2.5, 1000])
    gaps = read_numbers(path, pa.chunked_array([["1", "", None]]), "v", gaps=True)
    np.testing.assert_array_equal(gaps, [1, np.nan, np.nan])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", "two"], 'x.csv, row 2: the column "v" holds "two"; give a finite number'),
        (["1", "1,5"], 'row 2: the column "v" holds "1,5"'),
        (["nan"], 'row 1: the column "v" holds "nan"'),
        (["1", "-inf"], 'row 2: the column "v" holds "-inf"'),
        (["1", " "], 'row 2: the column "v" is empty'),
    ],
)
def test_what_is_no_number_is_named(tmp_path, cells, message):
    with pytest.raises(FileError) as refused:
        read_numbers(tmp_path / "x.csv", pa.chunked_array([cells]), "v")
    assert message in str(refused.value)


def test_what_cannot_be_a_table_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(FileError, match="does not exist"):
        read_table(path)
    path.write_text("a,b\n")
    with pytest.raises(FileError, match="has no rows"):
        read_table(path)
    path.write_text("a,b\n1,2,3\n")
    with pytest.raises(FileError, match="cannot be read as csv"):
        read_table(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(FileError, match='the column "a" twice'):
        require_columns(path, read_table(path), ["a"])
    with pytest.raises(FileError, match='has no column "b"; needed are a,b, found a,a'):
        require_columns(path, read_table(path), ["a", "b"])
    with pytest.raises(FileError, match="the ending decides the format"):
        read_table(tmp_path / "t.xlsx")
    with pytest.raises(FileError, match="names 1 images more than once"):
        no_doubles(path, pa.chunked_array([["x", "y", "x"]]))
    assert read_truth(path, "a", 0, " Yes ") is True
    with pytest.raises(FileError, match='row 1: the column "a" holds "maybe"; give 1 or 0'):
        read_truth(path, "a", 0, "maybe")
