import errno
import json

import numpy as np
import pytest

from models_zoo.engine import scores
from models_zoo.engine.scores import DiskFull, ScoreHeader, ScoreStore, ScoreStoreError, class_dtype, missing_class

HEADER = ScoreHeader(n_rows=25, shard_size=10, n_classes=7, version="v", corpus="c", backend="b")


def columns(header=HEADER):
    rng = np.random.default_rng(5)
    return rng.integers(0, header.n_classes, header.n_rows), rng.random(header.n_rows).astype(np.float32)


def fill(store, shards=None):
    classes, confidences = columns(store.header)
    for shard in range(store.header.n_shards) if shards is None else shards:
        rows = store.header.rows_of(shard)
        store.write_shard(shard, classes[rows.start : rows.stop], confidences[rows.start : rows.stop])


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_goes_in_comes_out_memory_mapped(tmp_path):
    store = ScoreStore.create(tmp_path / "s", HEADER)
    fill(store)
    store.assemble()
    classes, confidences = ScoreStore.open(tmp_path / "s").read()
    assert isinstance(classes, np.memmap)
    assert classes.dtype == np.uint16
    assert np.array_equal(classes, columns()[0])
    assert np.array_equal(confidences, columns()[1])


def test_any_order_and_interruption_gives_the_same_bytes(tmp_path):
    straight = ScoreStore.create(tmp_path / "a", HEADER)
    fill(straight)
    straight.assemble()
    fill(ScoreStore.create(tmp_path / "b", HEADER), shards=[2])
    (tmp_path / "b" / "parts" / "000001.npy.77.tmp").write_bytes(b"left by a killed worker")
    resumed = ScoreStore.create(tmp_path / "b", HEADER)
    assert resumed.finished_shards() == [2]
    assert resumed.unfinished_shards() == [0, 1]
    fill(resumed, shards=[1, 0])
    resumed.assemble()
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert straight.digest() == resumed.digest()


def test_assembling_twice_or_after_a_kill_between_columns(tmp_path):
    store = ScoreStore.create(tmp_path / "s", HEADER)
    fill(store)
    store.assemble()
    digest = store.digest()
    (tmp_path / "s" / "parts" / "000000.npy").write_bytes(b"a part that was not removed yet")
    store.assemble()
    assert store.digest() == digest
    assert store.finished_shards() == [0, 1, 2]
    assert not list((tmp_path / "s" / "parts").iterdir())


def test_digest_sees_every_value(tmp_path):
    digests = set()
    for change in (0, 1):
        store = ScoreStore.create(tmp_path / str(change), HEADER)
        fill(store)
        rows = store.header.rows_of(2)
        classes, confidences = (column[rows.start : rows.stop].copy() for column in columns())
        classes[-1] = change
        store.write_shard(2, classes, confidences)
        store.assemble()
        digests.add(store.digest())
    assert len(digests) == 2


@pytest.mark.parametrize(("n_classes", "dtype"), [(2, np.uint16), (65_534, np.uint16), (65_535, np.uint32)])
def test_the_class_type_leaves_room_for_the_sentinel(n_classes, dtype):
    assert class_dtype(n_classes) == dtype
    assert missing_class(class_dtype(n_classes)) >= n_classes


def test_missing_rows_are_found(tmp_path):
    store = ScoreStore.create(tmp_path / "s", HEADER)
    fill(store)
    classes, confidences = columns()
    missing = missing_class(HEADER.class_dtype)
    classes[13], confidences[13] = missing, 0
    store.write_shard(1, classes[10:20], confidences[10:20])
    store.assemble()
    assert store.missing_rows().tolist() == [13]


@pytest.mark.parametrize(
    ("field", "value"), [("version", "w"), ("corpus", "d"), ("n_rows", 26), ("shard_size", 5), ("n_classes", 8)]
)
def test_scores_of_something_else_are_not_continued(tmp_path, field, value):
    ScoreStore.create(tmp_path / "s", HEADER)
    with pytest.raises(ScoreStoreError, match=f"{field} is .*another folder"):
        ScoreStore.create(tmp_path / "s", ScoreHeader(**{**HEADER.__dict__, field: value}))


def test_another_backend_begins_an_unfinished_store_anew(tmp_path):
    fill(ScoreStore.create(tmp_path / "s", HEADER), shards=[0])
    other = ScoreStore.create(tmp_path / "s", ScoreHeader(**{**HEADER.__dict__, "backend": "gpu"}))
    assert other.finished_shards() == []
    fill(other)
    other.assemble()
    kept = ScoreStore.create(tmp_path / "s", HEADER)
    assert kept.is_complete()
    assert kept.header.backend == "gpu"


class FullDisk:
    """Files that take the first bytes and then meet a full disk."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def write(self, data):
        self.file.write(bytes(data)[:16])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    store = ScoreStore.create(tmp_path / "s", HEADER)
    fill(store, shards=[0])
    before = files(tmp_path)
    opened = scores.Path.open
    with monkeypatch.context() as patch:
        patch.setattr(scores.Path, "open", lambda self, mode="r": FullDisk(opened(self, mode)))
        with pytest.raises(DiskFull, match=r"disk is full.*000001\.npy.*finished shards are kept"):
            fill(store, shards=[1])
    assert files(tmp_path) == before
    fill(store)
    with monkeypatch.context() as patch:
        patch.setattr(scores.Path, "open", lambda self, mode="r": FullDisk(opened(self, mode)))
        with pytest.raises(DiskFull):
            store.assemble()
    assert store.finished_shards() == [0, 1, 2]
    store.assemble()
    assert np.array_equal(store.read()[0], columns()[0])


def test_unfinished_damaged_and_absent_stores_say_what_to_do(tmp_path):
    with pytest.raises(ScoreStoreError, match='holds no scores: run "score" first'):
        ScoreStore.open(tmp_path / "nothing")
    store = ScoreStore.create(tmp_path / "s", HEADER)
    fill(store, shards=[0])
    with pytest.raises(ScoreStoreError, match="2 of 3 shards are unfinished, the first is 1"):
        store.assemble()
    with pytest.raises(ScoreStoreError, match="not complete"):
        store.read()
    fill(store)
    (tmp_path / "s" / "parts" / "000001.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(ScoreStoreError, match=r'shard 1 is damaged.*delete "000001.npy"'):
        store.assemble()
    (tmp_path / "s" / "scores.json").write_text("{")
    with pytest.raises(ScoreStoreError, match="damaged header"):
        ScoreStore.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("classes", "confidences", "message"),
    [
        ([7, 0, 0, 0, 0], [0.5] * 5, "row 20: class 7 is not below 7"),
        ([0, -1, 0, 0, 0], [0.5] * 5, "row 21: class -1"),
        ([0] * 5, [0.5, 0.5, np.nan, 0.5, 0.5], "row 22: confidence nan"),
        ([0] * 5, [0.5, 0.5, 0.5, 1.5, 0.5], "row 23: confidence 1.5"),
        ([0] * 4, [0.5] * 4, "shard 2 has 5 rows, not 4 classes"),
    ],
)
def test_impossible_values_are_refused(tmp_path, classes, confidences, message):
    store = ScoreStore.create(tmp_path / "s", HEADER)
    with pytest.raises(ScoreStoreError, match=message):
        store.write_shard(2, np.array(classes), np.array(confidences))


def test_an_empty_corpus_has_empty_columns(tmp_path):
    store = ScoreStore.create(tmp_path / "s", ScoreHeader(0, 10, 7, "v", "c"))
    store.assemble()
    assert [len(column) for column in store.read()] == [0, 0]


def test_the_header_is_readable_json(tmp_path):
    ScoreStore.create(tmp_path / "s", HEADER)
    assert json.loads((tmp_path / "s" / "scores.json").read_text())["n_rows"] == 25


VALUES = ScoreHeader(n_rows=25, shard_size=10, n_classes=0, version="v", corpus="c", kind="values")


def fill_values(store, shards=(0, 1, 2)):
    """Rows 3, 13 and 23 have no score, for two reasons."""
    values = np.linspace(-4, 90, 25).astype(np.float32)
    values[3::10] = np.nan
    for shard in shards:
        rows = store.header.rows_of(shard)
        problems = {row: "too small" if row > 3 else "not decoded" for row in rows if row % 10 == 3}
        store.write_shard(shard, values[rows.start : rows.stop], problems=problems)
    return values


def test_values_are_one_float32_column_with_reasons_for_its_holes(tmp_path):
    store = ScoreStore.create(tmp_path / "s", VALUES)
    values = fill_values(store)
    store.assemble()
    (column,) = ScoreStore.open(tmp_path / "s").read()
    assert isinstance(column, np.memmap)
    assert column.dtype == np.float32
    assert np.array_equal(column, values, equal_nan=True)
    assert store.missing_rows().tolist() == [3, 13, 23]
    assert store.problems() == {"too small": {"n": 2, "rows": [13, 23]}, "not decoded": {"n": 1, "rows": [3]}}
    assert not list((tmp_path / "s" / "parts").iterdir())


def test_values_are_the_same_bytes_in_any_order_and_after_a_kill(tmp_path):
    straight, broken = (ScoreStore.create(tmp_path / name, VALUES) for name in "ab")
    fill_values(straight)
    fill_values(broken, shards=(2,))
    (tmp_path / "b" / "parts" / "000000.json").write_text('{"7": "left by a killed worker"}')
    fill_values(ScoreStore.create(tmp_path / "b", VALUES), shards=(0, 1))
    for store in (straight, broken):
        store.assemble()
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([np.full(10, np.inf)], "row 10: the score is inf"),
        ([np.zeros(9)], "10 rows, not 9 values"),
        ([np.zeros(10, int), np.zeros(10)], "10 rows, not 10 values"),
    ],
)
def test_impossible_columns_of_values_are_refused(tmp_path, columns, said):
    with pytest.raises(ScoreStoreError, match=said):
        ScoreStore.create(tmp_path / "s", VALUES).write_shard(1, *columns)


def test_a_store_of_classes_is_not_continued_as_values(tmp_path):
    ScoreStore.create(tmp_path / "s", HEADER)
    with pytest.raises(ScoreStoreError, match="kind is 'classes', not 'values'"):
        ScoreStore.create(tmp_path / "s", VALUES)
    with pytest.raises(ScoreStoreError, match="kind is 'numbers'"):
        ScoreHeader(n_rows=1, shard_size=1, n_classes=1, version="v", corpus="c", kind="numbers")
