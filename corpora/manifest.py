"""The manifest: one Parquet row per image of a corpus, in row groups small enough to read a page of ten million rows.

Columns: row, path (relative to the corpus root), size (bytes), width, height (upright), sha256 (hex), phash (uint64),
label (class index), mos, mos_std, mos_n (as imported; what counts is `corpora.opinions`), reference (path), group
(source content), distortion, level, notes. All from label on are null where the source gave nothing. The quarantine
table has path and reason. Both are documented in docs/formats.md.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpora.files import written_whole

ROW_GROUP = 8_192
MANIFEST = "manifest.parquet"
QUARANTINE = "quarantine.parquet"
_CACHED_GROUPS = 8

OPINION_FIELDS = (pa.field("mos", pa.float64()), pa.field("mos_std", pa.float64()), pa.field("mos_n", pa.int32()))
CONTENT_FIELDS = (
    pa.field("reference", pa.string()),
    pa.field("group", pa.string()),
    pa.field("distortion", pa.string()),
    pa.field("level", pa.int32()),
)
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("label", pa.int32()),
        *OPINION_FIELDS,
        *CONTENT_FIELDS,
        pa.field("notes", pa.string()),
    ]
)
QUARANTINE_SCHEMA = pa.schema([pa.field("path", pa.string()), pa.field("reason", pa.string())])


def write_table(target: Path, schema: pa.Schema, tables: Iterable[pa.Table], row_group: int = ROW_GROUP) -> int:
    """Write tables one after the other into row groups of `row_group` rows, atomically. The number of rows.

    The bytes depend on the rows alone, not on how they are cut into tables.
    """
    with written_whole(target) as file, pq.ParquetWriter(file, schema, **_FORMAT) as writer:
        waiting: list[pa.Table] = []
        n_waiting = n_rows = 0
        for table in tables:
            waiting.append(table)
            n_waiting += len(table)
            n_rows += len(table)
            if n_waiting >= row_group:
                together = pa.concat_tables(waiting)
                whole = n_waiting - n_waiting % row_group
                for start in range(0, whole, row_group):
                    writer.write_table(together.slice(start, row_group).combine_chunks(), row_group_size=row_group)
                waiting, n_waiting = [together.slice(whole)], n_waiting - whole
        if n_waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=row_group)
    return n_rows


_FEW_VALUES = ["group", "reference", "distortion", "notes", "reason"]
_FORMAT: dict[str, Any] = {"compression": "zstd", "use_dictionary": _FEW_VALUES}


class PagedTable:
    """A Parquet file read by row number; only the row groups that hold the rows are touched, the last few are kept.

    Safe to share between threads.
    """

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file, memory_map=True)
        self._lock = Lock()
        self._groups: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        metadata = self._file.metadata
        sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self.n_rows = int(self._starts[-1])
        self.schema: pa.Schema = self._file.schema_arrow

    def __len__(self) -> int:
        return self.n_rows

    def slice(self, start: int, stop: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows start <= row < stop, cut to what exists."""
        return self.read(range(max(0, start), min(stop, self.n_rows)), columns)

    def read(self, rows: Sequence[int] | npt.NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """These rows, in this order. Raises IndexError for a row that does not exist."""
        wanted = np.asarray(rows, dtype=np.int64)
        names = tuple(columns or self.schema.names)
        if not len(wanted):
            return self.schema.empty_table().select(names)
        if wanted.min() < 0 or wanted.max() >= self.n_rows:
            bad = int(wanted.min() if wanted.min() < 0 else wanted.max())
            raise IndexError(f"row {bad} does not exist: there are rows 0 to {self.n_rows - 1}")
        group_of = np.searchsorted(self._starts, wanted, side="right") - 1
        order = np.argsort(group_of, kind="stable")
        parts = []
        for group in np.unique(group_of):
            inside = wanted[order[group_of[order] == group]] - self._starts[group]
            parts.append(self._group(int(group), names).take(pa.array(inside)))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_tables(parts).take(pa.array(back)).combine_chunks()

    def column(self, name: str) -> npt.NDArray[Any]:
        """One whole column; texts as objects, nulls as NaN (numbers) or None (texts)."""
        with self._lock:
            column = self._file.read(columns=[name]).column(0)
        array: npt.NDArray[Any] = column.to_numpy()
        return array

    def batches(self, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """All rows, a row group at a time."""
        for group in range(len(self._starts) - 1):
            with self._lock:
                table = self._file.read_row_group(group, columns=list(columns))
            yield from table.to_batches()

    def _group(self, group: int, names: tuple[str, ...]) -> pa.Table:
        key = (group, names)
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
            table = self._file.read_row_group(group, columns=list(names))
            self._groups[key] = table
            while len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
            return table


class Manifest(PagedTable):
    """The manifest in a corpus directory. Raises FileNotFoundError before the import has ended."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / MANIFEST)

    def rows_of_paths(self, paths: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each path, -1 where the corpus has none; streams the path column once."""
        found = np.full(len(paths), -1, dtype=np.int64)
        wanted = pa.array(paths, pa.string()).dictionary_encode()
        row_of = np.full(len(wanted.dictionary), -1, dtype=np.int64)
        start = 0
        for batch in self.batches(["path"]):
            places = pc.index_in(batch.column(0), value_set=wanted.dictionary)
            hits = np.flatnonzero(np.asarray(places.is_valid()))
            row_of[places.take(pa.array(hits)).to_numpy()] = start + hits
            start += len(batch)
        if len(paths):
            found[:] = row_of[wanted.indices.to_numpy()]
        return found
