"""Scores as a predictions file: ``path,class[,confidence]`` or ``path,score``, a row per scored image, in order."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from accounts.errors import DomainError
from corpora.files import written_whole
from corpora.reading import manifest_of
from models_zoo.engine.scores import missing_class
from models_zoo.models import Scores, Task
from models_zoo.reading import quality_column, score_columns

BATCH = 8_192


def prediction_tables(
    paths: Iterable[list[str]], classes: np.ndarray, confidences: np.ndarray | None
) -> Iterator[pa.Table]:
    """Tables of path, class and, where known, confidence; rows without a score are left out.

    Args:
        paths: all paths in row order, in lists of any length.
        classes: (n,) class indices, with ``missing_class`` where there is none; confidences: (n,) or None.
    """
    start = 0
    for names in paths:
        part = slice(start, start + len(names))
        kept = np.flatnonzero(classes[part] != missing_class(classes.dtype))
        columns = {
            "path": pa.array(names, pa.string()).take(pa.array(kept)),
            "class": pa.array(np.asarray(classes[part])[kept].astype(np.int64)),
        }
        if confidences is not None:
            columns["confidence"] = pa.array(np.asarray(confidences[part])[kept].astype(np.float32))
        yield pa.table(columns)
        start += len(names)


def quality_tables(paths: Iterable[list[str]], values: np.ndarray) -> Iterator[pa.Table]:
    """Tables of path and score; rows without a score are left out. values: (n,) float32, NaN where there is none"""
    start = 0
    for names in paths:
        part = np.asarray(values[start : start + len(names)])
        kept = np.flatnonzero(~np.isnan(part))
        yield pa.table(
            {"path": pa.array(names, pa.string()).take(pa.array(kept)), "score": pa.array(part[kept], pa.float32())}
        )
        start += len(names)


def scores_tables(scores: Scores) -> Iterator[pa.Table]:
    """Complete scores of a corpus as tables. Raises DomainError while they are incomplete."""
    is_quality = scores.version.model.task == Task.QUALITY
    columns = (quality_column(scores),) if is_quality else score_columns(scores)
    batches = manifest_of(scores.corpus).batches(["path"])
    paths = (batch.column(0).to_pylist() for batch in batches)
    return quality_tables(paths, *columns) if is_quality else prediction_tables(paths, *columns)


def prediction_lines(scores: Scores) -> Iterator[str]:
    """The CSV file of complete scores, in pieces of many lines. Raises DomainError while they are incomplete."""
    return csv_pieces(scores_tables(scores))


def csv_pieces(tables: Iterable[pa.Table]) -> Iterator[str]:
    """Tables as one CSV text, header first; confidences and scores with the digits that make a float32 exact."""
    header: list[str] = []
    for table in tables:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not header:
            header = table.column_names
            writer.writerow(header)
        columns = [
            [f"{value:.9g}" for value in column.to_pylist()]
            if pa.types.is_floating(column.type)
            else column.to_pylist()
            for column in table.columns
        ]
        writer.writerows(zip(*columns, strict=True))
        yield buffer.getvalue()


def predictions_write(target: Path, tables: Iterable[pa.Table]) -> None:
    """Write a predictions file atomically; CSV or Parquet by its ending.

    Raises:
        DomainError: for another ending.
    """
    require_table_ending(target)
    with written_whole(target) as file:
        if target.suffix.lower() == ".csv":
            for piece in csv_pieces(tables):
                file.write(piece.encode())
            return
        tables = iter(tables)
        first = next(tables)
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)


def require_table_ending(target: Path) -> None:
    """Raise DomainError unless the name ends in .csv or .parquet."""
    if target.suffix.lower() not in {".csv", ".parquet"}:
        raise DomainError(f'"{target}" ends in neither .csv nor .parquet: choose one of the two.')
