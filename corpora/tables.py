"""Tables in files: CSV or Parquet by the ending of their name, refused with the row and the way out, written whole.

Rows are counted from 1, the first one below the header (docs/formats.md).
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from corpora.files import written_whole

ENDINGS = (".csv", ".parquet", ".pq")
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class FileError(ValueError):
    """A table that cannot be used; the message names the file, the row and what to change."""


def read_table(path: Path, text: Sequence[str] = ()) -> pa.Table:
    """The table in a file, the columns in `text` as strings. Raises FileError when it cannot be read or is empty."""
    ending = file_ending(path)
    try:
        if ending == ".csv":
            options = pa.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
            table = pa.csv.read_csv(path, convert_options=options)
        else:
            table = pa.parquet.read_table(path)
            present = [name for name in text if name in table.column_names]
            for name in present:
                column = table[name].cast(pa.string())
                table = table.set_column(table.column_names.index(name), name, column)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist") from error
    except (OSError, pa.ArrowException) as error:
        raise FileError(f"{path.name} cannot be read as {ending[1:]}: {error}") from error
    if not table.num_rows:
        raise FileError(f"{path.name} has no rows")
    return table


def file_ending(path: Path) -> str:
    """The ending in lower case. Raises FileError for one that names no format."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise FileError(f'"{path.name}": the ending decides the format, and only {", ".join(ENDINGS)} are known')
    return ending


def require_columns(path: Path, table: pa.Table, columns: Sequence[str]) -> None:
    """Raises FileError naming the first of `columns` that is missing, and any column that stands there twice."""
    names = table.column_names
    missing = [name for name in columns if name not in names]
    if missing:
        raise FileError(
            f'{path.name} has no column "{missing[0]}"; needed are {",".join(columns)}, found {",".join(names)}'
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FileError(f'{path.name} has the column "{twice[0]}" twice: rename one of them')


def no_gaps(path: Path, column: pa.ChunkedArray, name: str) -> None:
    """Raises FileError naming the first row whose cell is empty."""
    empty = pc.is_null(column, nan_is_null=True)
    if pa.types.is_string(column.type):
        empty = pc.or_(empty, pc.equal(pc.fill_null(column, ""), ""))
    if pc.any(empty).as_py():
        first = pc.index(empty, True).as_py()
        raise FileError(f'{path.name}, row {first + 1}: the column "{name}" is empty (NaN counts as empty)')


def no_doubles(path: Path, paths: pa.ChunkedArray) -> None:
    """Raises FileError naming some of the images that stand in a column more than once."""
    if pc.count_distinct(paths).as_py() == len(paths):
        return
    counts = pc.value_counts(paths)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    raise FileError(f"{path.name} names {len(doubled):,} images more than once, such as {examples(doubled)}")


def examples(values: Any) -> str:
    """The first three of an Arrow array of texts, in quotes."""
    return ", ".join(f'"{text}"' for text in values[:3].to_pylist())


def read_numbers(path: Path, column: pa.ChunkedArray, name: str, *, gaps: bool = False) -> npt.NDArray[np.float64]:
    """A column of finite numbers, (n,) float64; with `gaps`, empty cells are NaN.

    Raises FileError naming the first row that holds anything else.
    """
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    cells = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
    empty = np.asarray(pc.equal(cells, ""))
    if empty.any() and not gaps:
        row = int(empty.argmax()) + 1
        raise FileError(f'{path.name}, row {row}: the column "{name}" is empty: give a number or leave the row out')
    try:
        values = np.array(pc.if_else(empty, "nan", cells).cast(pa.float64()))
    except pa.ArrowInvalid:
        values = np.array([_number(cell) for cell in cells.to_pylist()])
    wrong = ~np.isfinite(values) & ~empty
    if wrong.any():
        row = int(wrong.argmax())
        raise FileError(
            f'{path.name}, row {row + 1}: the column "{name}" holds "{cells[row].as_py()}"; give a finite number '
            'with "." for decimals, or leave the row out'
        )
    return values


def read_choice(path: Path, name: str, row: int, text: str | None, choices: dict[str, Any], wanted: str) -> Any:
    """What one cell says, by its text in lower case. Raises FileError naming the row and what is `wanted`."""
    found = choices.get((text or "").strip().lower())
    if found is None:
        raise FileError(f'{path.name}, row {row + 1}: the column "{name}" holds "{text or ""}"; give {wanted}')
    return found


def read_truth(path: Path, name: str, row: int, text: str | None) -> bool:
    """A cell that says yes or no. Raises FileError naming the row for any other."""
    return bool(read_choice(path, name, row, text, _TRUTH, "1 or 0"))


def write_table(path: Path, columns: dict[str, pa.DataType], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table by the ending of its name, whole or not at all. Raises FileError where it cannot be written.

    In CSV, None is an empty cell, truth values are `true` and `false`, and a number that is unknown is `nan`.
    """
    ending = file_ending(path)
    try:
        with written_whole(path) as file:
            if ending == ".csv":
                text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
                _write_csv(csv.writer(text, lineterminator="\n").writerow, columns, rows)
                text.detach()
            else:
                values = list(zip(*rows, strict=True)) or [() for _ in columns]
                arrays = [pa.array(value, kind) for value, kind in zip(values, columns.values(), strict=True)]
                pa.parquet.write_table(pa.table(arrays, names=list(columns)), file)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_csv(
    write: Callable[[Iterable[Any]], Any], columns: dict[str, pa.DataType], rows: Iterable[Sequence[Any]]
) -> None:
    write(columns)
    truths = [place for place, kind in enumerate(columns.values()) if pa.types.is_boolean(kind)]
    for row in rows:
        cells = list(row)
        for place in truths:
            cells[place] = None if cells[place] is None else str(bool(cells[place])).lower()
        write(cells)


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
