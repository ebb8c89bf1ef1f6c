"""A CSV or Parquet list of paths, in the order of the list.

Columns: `path` (or another of PATH_NAMES), and optionally `label`, `mos` with `mos_std` and `mos_n`, `reference`,
`group`, `distortion`, `level`. Paths are relative to the list's own folder, or to a given root. The format is
documented in docs/formats.md.
"""

import csv
import hashlib
import math
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpora.importers.base import Candidate, ImportRefused, ImportRequest, Listing, Scale, folder_label
from corpora.importers.opinions import COUNT, MOS, STD, opinion_columns, read_opinion

PATH_NAMES = ("path", "image", "image_name", "file", "filename")
OPTIONAL = {  # column -> the names that it may have
    "label": ("label",), "mos": MOS, "mos_std": STD, "mos_n": COUNT, "reference": ("reference",), "group": ("group",),
    "distortion": ("distortion",), "level": ("level",),
}  # fmt: skip
_TICK_EVERY = 1_000


def list_table(request: ImportRequest) -> Listing:
    """Every row of the list. Raises ImportRefused when it cannot be read or has no column of paths."""
    root = Path(request.options.root) if request.options.root else request.location.parent
    if not root.is_dir():
        raise ImportRefused(f'"{root}", which the paths of the list are relative to, is not a folder on the server')
    scale = request.options.scale()
    return Listing(root, _candidates(request, root, scale), scale=scale)


def _candidates(request: ImportRequest, root: Path, scale: Scale) -> Iterator[Candidate]:
    rows = rows_of(request.location)
    doubled = _doubled(path for path, _ in rows_of(request.location))
    first: dict[str, int] = {}
    with_labels = request.options.labels_from == "folder"
    for number, (text, row) in enumerate(rows, start=1):
        if number % _TICK_EVERY == 0:
            request.tick(number, "rows read")
        path, problem = relative_path(text, root)
        if problem is None:
            problem = _target_problem(root / path, request)
        opinion = read_opinion(row["mos"], row["mos_std"], row["mos_n"], scale=scale)
        level, level_problem = _level(row["level"])
        problem = problem or (opinion if isinstance(opinion, str) else None) or level_problem
        if problem is None and _hash(text) in doubled:
            seen = first.setdefault(path, number)
            problem = None if seen == number else f"listed twice; row {seen} of the list is taken"
        label = row["label"] or (folder_label(path) if with_labels else None)
        values = {} if opinion is None or isinstance(opinion, str) else opinion_columns(opinion)
        reference = _reference(row["reference"], root)
        yield Candidate(
            path, problem, label, reference=reference, group=row["group"], distortion=row["distortion"], level=level,
            **values,
        )  # fmt: skip


def rows_of(table: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    """(path, the optional columns) of every row of a CSV or Parquet file."""
    if not table.is_file():
        raise ImportRefused(f'"{table}" is not a file on the server: check the path')
    return _parquet_rows(table) if table.suffix.lower() in {".parquet", ".pq"} else _csv_rows(table)


def relative_path(text: str, root: Path) -> tuple[str, str | None]:
    """The path below `root` that a list means, normalised, and why it cannot be taken."""
    if not text:
        return text, "the path is empty"
    path = text
    if path.startswith("/"):
        for base in (str(root), str(root.resolve())):
            if path.startswith(base.rstrip("/") + "/"):
                path = path[len(base.rstrip("/")) + 1 :]
                break
        else:
            return text, f'outside "{root}", which the paths of this list are relative to'
    path = posixpath.normpath(path)
    if path == ".." or path.startswith("../"):
        return text, f'outside "{root}", which the paths of this list are relative to'
    return path, None


def _target_problem(target: Path, request: ImportRequest) -> str | None:
    try:
        exists = target.is_file()
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if not exists:
        return "no such file"
    allowed = request.within
    if allowed is None or any(target.resolve().is_relative_to(folder) for folder in allowed):
        return None
    return "leads out of the folders which may be imported"


def _csv_rows(table: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            named = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            path_column = _path_column(table, list(named))
            columns = _columns(named)
            for row in reader:
                values = {name: (row[column] or "").strip() or None if column is not None else None
                          for name, column in columns.items()}  # fmt: skip
                yield (row[named[path_column]] or "").strip(), values
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImportRefused(f'"{table.name}" is no CSV table in UTF-8: {error}') from error


def _parquet_rows(table: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    try:
        with pq.ParquetFile(table) as file:
            named = {name.lower(): name for name in file.schema_arrow.names}
            path_column = _path_column(table, list(named))
            columns = {name: column for name, column in _columns(named).items() if column is not None}
            for batch in file.iter_batches(columns=[named[path_column], *columns.values()]):
                values = {name: batch.column(column).to_pylist() for name, column in columns.items()}
                for place, path in enumerate(batch.column(named[path_column]).to_pylist()):
                    yield (
                        str(path or "").strip(),
                        {name: _text(values[name][place]) if name in values else None for name in OPTIONAL},
                    )
    except pa.ArrowException as error:
        raise ImportRefused(f'"{table.name}" is no Parquet table: {error}') from error


def _path_column(table: Path, names: list[str]) -> str:
    for name in PATH_NAMES:
        if name in names:
            return name
    raise ImportRefused(
        f'"{table.name}" has no column "path": it has {", ".join(names) or "no columns"}; name the column of paths '
        '"path"'
    )


def _text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of labels with gaps is often stored as floats
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip() or None


def _columns(named: dict[str, str]) -> dict[str, str | None]:
    """The table's own name of each optional column; None where it has none."""
    return {column: next((named[name] for name in names if name in named), None) for column, names in OPTIONAL.items()}


def _reference(text: str | None, root: Path) -> str | None:
    """A reference as the paths of rows are written; as it stands where it leads elsewhere."""
    return relative_path(text, root)[0] if text else None


def _level(text: str | None) -> tuple[int | None, str | None]:
    if text is None:
        return None, None
    if not text.isdecimal() or len(text) > 6:
        return None, f'level is "{text}", which is no whole number from 0 upwards'
    return int(text), None


def _doubled(paths: Iterator[str]) -> set[int]:
    """Hashes of paths that occur more than once; 8 bytes a path, so that ten million rows need 80 MB."""
    hashes = np.fromiter((_hash(path) for path in paths), dtype=np.uint64)
    values, counts = np.unique(hashes, return_counts=True)
    return {int(value) for value in values[counts > 1]}


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest())
