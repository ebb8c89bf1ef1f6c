"""Reading manifests by row, also when there are a million rows."""

import resource
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from corpora import browsing, grouped
from corpora.manifest import MANIFEST, MANIFEST_SCHEMA, ROW_GROUP, Manifest, PagedTable, write_table
from corpora.models import Corpus, CorpusState

N = 1_000_000


def table_of(start: int, stop: int) -> pa.Table:
    numbers = np.arange(start, stop)
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 8, "0")
    thousands = pc.utf8_lpad(pc.cast(pa.array(numbers // 1000), pa.string()), 4, "0")
    columns = {
        "row": numbers,
        "path": pc.binary_join_element_wise("photos/", thousands, "/IMG_", digits, ".jpg", ""),
        "size": numbers * 7 + 1000,
        "width": np.full(len(numbers), 500, np.int32),
        "height": np.full(len(numbers), 400, np.int32),
        "sha256": pc.utf8_lpad(pc.cast(pa.array(numbers * 2_654_435_761), pa.string()), 64, "0"),
        "phash": numbers.astype(np.uint64) << np.uint64(20),
        "label": (numbers % 1000).astype(np.int32),
    }
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(numbers), field.type)
        for field in MANIFEST_SCHEMA
    ]
    return pa.table(arrays, schema=MANIFEST_SCHEMA)


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """A corpus directory with a million rows, each with one of a thousand labels."""
    folder = tmp_path_factory.mktemp("million")
    write_table(folder / MANIFEST, MANIFEST_SCHEMA, (table_of(start, start + 50_000) for start in range(0, N, 50_000)))
    grouped.write_by_value(folder, grouped.LABELS, (np.arange(N) % 1000).astype(np.int32))
    return folder


def test_bytes_depend_on_the_rows_alone(tmp_path):
    for name, cuts in (("a", [0, 20_000]), ("b", [0, 1, 8_192, 8_193, 19_999, 20_000])):
        tables = [table_of(start, stop) for start, stop in pairwise(cuts)]
        assert write_table(tmp_path / name, MANIFEST_SCHEMA, tables) == 20_000
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_come_in_the_order_asked_for(million):
    manifest = Manifest(million)
    rows = [N - 1, 0, ROW_GROUP, ROW_GROUP - 1, 5, 5, 777_777]
    table = manifest.read(rows, ["row", "path"])
    assert table["row"].to_pylist() == rows
    assert table["path"][6].as_py() == "photos/0777/IMG_00777777.jpg"
    assert len(manifest) == N
    assert manifest.slice(N - 2, N + 50)["row"].to_pylist() == [N - 2, N - 1]
    assert len(manifest.read([])) == 0
    with pytest.raises(IndexError, match="row 1000000 does not exist: there are rows 0 to 999999"):
        manifest.read([3, N])


def test_rows_of_paths(million):
    manifest = Manifest(million)
    paths = ["photos/0777/IMG_00777777.jpg", "nowhere.jpg", "photos/0000/IMG_00000000.jpg", "nowhere.jpg"]
    assert manifest.rows_of_paths(paths).tolist() == [777_777, -1, 0, -1]
    assert manifest.rows_of_paths([]).tolist() == []


def test_whole_columns(million):
    column = Manifest(million).column("size")
    assert column.dtype == np.int64
    assert column[[0, N - 1]].tolist() == [1000, (N - 1) * 7 + 1000]


def test_an_empty_table(tmp_path):
    write_table(tmp_path / "t", MANIFEST_SCHEMA, [])
    table = PagedTable(tmp_path / "t")
    assert (len(table), len(table.slice(0, 10))) == (0, 0)


def test_a_page_of_a_million_rows_costs_a_page(million, monkeypatch):
    """60 rows, anywhere, by number or by label, against the same 60 rows of a whole read."""
    monkeypatch.setattr(Corpus, "directory", million)
    corpus = Corpus(pk=1, n_rows=N, state=CorpusState.READY, digest="d")
    browsing.row_page(corpus, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    pages = [browsing.row_page(corpus, number) for number in (2, 9_000, 16_667, 99_999_999)]
    by_number = (time.process_time() - start) / 4
    start = time.process_time()
    labelled = browsing.row_page(corpus, 17, label=123)
    by_label = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert [page.records[0]["row"] for page in pages] == [60, 539_940, 999_960, 999_960]
    assert [record["row"] for record in labelled.records][:2] == [960_123, 961_123]
    assert (labelled.n_rows, labelled.n_pages, len(labelled.records)) == (1_000, 17, 40)
    assert by_number < 0.1
    assert by_label < 0.5
    assert grown < 64


def test_groups(tmp_path):
    values = np.array([2, -1, 0, 2, 2, -1, 0], np.int32)
    grouped.write_by_value(tmp_path, "labels", values)
    groups = grouped.GroupedRows(tmp_path, "labels")
    assert [groups.rows(group).tolist() for group in range(-1, 4)] == [[], [2, 6], [], [0, 3, 4], []]
    assert groups.rows(2, 1, 2).tolist() == [3]
    assert groups.rows(2, 5, 9).tolist() == []
    assert groups.sizes().tolist() == [2, 0, 3]
    grouped.write_groups(tmp_path, "duplicates", [])
    assert len(grouped.GroupedRows(tmp_path, "duplicates")) == 0
