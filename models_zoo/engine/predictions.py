"""Predictions files: what a model said about a corpus, made elsewhere, entering as scores.

A predictions file is CSV or Parquet by its ending, in one of two shapes:

* one model, named after the file: columns `path` (or `row`), `class`, and optionally `confidence`;
* several models: `path` (or `row`) and one column of classes for each, no confidences.

Classes are numbers from 0, or names where the taxonomy's names are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from models_zoo.engine.scores import ScoreHeader, ScoreStore

_SHARD = 1 << 16
_SHOWN = 3


class PredictionsRefused(ValueError):
    """The predictions do not fit the corpus or the taxonomy; the message names the first rows that do not."""


@dataclass(frozen=True)
class Predictions:
    """One model's predictions as the file gives them, in the file's order.

    `keys`: paths (string) or row numbers (int64). `classes`: integers or names. `confidences`: float64 or None.
    """

    name: str
    keys: pa.Array
    classes: pa.Array
    confidences: np.ndarray | None


@dataclass(frozen=True)
class Aligned:
    """Predictions in the order of a corpus' rows. `classes`: int64; `confidences`: float32 or None; both (n_rows,)."""

    name: str
    classes: np.ndarray
    confidences: np.ndarray | None


def read_predictions(file: Path) -> list[Predictions]:
    """The models of a predictions file. Raises PredictionsRefused for an unreadable file or missing columns."""
    table = read_table(file)
    keys, others = key_and_others(file.name, table)
    if "class" in others:
        confidences = _confidences(file.name, table) if "confidence" in others else None
        return [Predictions(file.stem, keys, _flat(table["class"]), confidences)]
    if not others:
        raise PredictionsRefused(f'predictions "{file.name}": no column "class" and no column of a model')
    return [Predictions(name, keys, _flat(table[name]), None) for name in others]


def align(
    predictions: Predictions,
    paths: Sequence[str] | pa.ChunkedArray,
    *,
    n_classes: int,
    class_names: Sequence[str] | None = None,
) -> Aligned:
    """Bring predictions into the order of the corpus' rows, whose paths are given.

    Raises PredictionsRefused for doubled, unknown or missing rows, a class outside 0..n_classes - 1, an unknown class
    name, and a confidence that is NaN or outside 0..1.
    """
    rows = rows_of_keys(predictions.name, predictions.keys, paths, complete=True)
    classes = _class_numbers(predictions, n_classes, class_names)
    _check_confidences(predictions)
    ordered = np.empty(len(rows), np.int64)
    ordered[rows] = classes
    if predictions.confidences is None:
        return Aligned(predictions.name, ordered, None)
    confidences = np.empty(len(rows), np.float32)
    confidences[rows] = predictions.confidences
    return Aligned(predictions.name, ordered, confidences)


def store_predictions(aligned: Aligned, folder: Path, *, n_classes: int, version: str, corpus: str) -> ScoreStore:
    """Write aligned predictions as a complete score store. Without confidences 1 is stored and the header says so."""
    header = ScoreHeader(
        n_rows=len(aligned.classes),
        shard_size=_SHARD,
        n_classes=n_classes,
        version=version,
        corpus=corpus,
        backend="predictions",
        has_confidence=aligned.confidences is not None,
    )
    store = ScoreStore.create(folder, header)
    confidences = aligned.confidences
    if confidences is None:
        confidences = np.ones(len(aligned.classes), np.float32)
    for shard in store.unfinished_shards():
        rows = slice(header.rows_of(shard).start, header.rows_of(shard).stop)
        store.write_shard(shard, aligned.classes[rows], confidences[rows])
    store.assemble()
    return store


def write_predictions(
    file: Path, paths: Sequence[str] | pa.ChunkedArray, classes: np.ndarray, confidences: np.ndarray | None
) -> None:
    """Write `path,class[,confidence]`, CSV or Parquet by the ending; the inverse of `read_predictions`."""
    columns: dict[str, object] = {"path": paths, "class": classes}
    if confidences is not None:
        columns["confidence"] = confidences
    table = pa.table(columns)
    if file.suffix.lower() == ".parquet":
        pq.write_table(table, file)
    else:
        pyarrow.csv.write_csv(table, file)


def key_and_others(name: str, table: pa.Table) -> tuple[pa.Array, list[str]]:
    """Paths (string) or row numbers (int64), and the names of the other columns. Raises PredictionsRefused."""
    key = next((column for column in ("path", "row") if column in table.column_names), None)
    if key is None:
        raise PredictionsRefused(
            f'predictions "{name}": no column "path" or "row"; found {", ".join(table.column_names[:6])}'
        )
    try:
        keys = _flat(table[key]).cast(pa.string() if key == "path" else pa.int64())
    except pa.ArrowException as error:
        raise PredictionsRefused(f'predictions "{name}": a row is no whole number: {error}') from error
    return keys, [column for column in table.column_names if column != key]


def read_table(file: Path) -> pa.Table:
    """A CSV or Parquet file by its ending. Raises PredictionsRefused when it cannot be read."""
    try:
        if file.suffix.lower() == ".parquet":
            return pq.read_table(file)
        # Paths stay text, whatever they look like; everything else is inferred.
        options = pyarrow.csv.ConvertOptions(column_types={"path": pa.string()})
        return pyarrow.csv.read_csv(file, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise PredictionsRefused(f'predictions "{file.name}" cannot be read: {error}') from error


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _confidences(name: str, table: pa.Table) -> np.ndarray:
    try:
        column = _flat(table["confidence"]).cast(pa.float64())
    except pa.ArrowException as error:
        raise PredictionsRefused(f'predictions "{name}": confidence is not a number: {error}') from error
    return column.to_numpy(zero_copy_only=False)  # empty cells become NaN and are refused by align


def rows_of_keys(name: str, keys: pa.Array, paths: Sequence[str] | pa.ChunkedArray, *, complete: bool) -> np.ndarray:
    """The corpus row of each key, each row once; `complete`: every row of the corpus must be among them.

    Raises PredictionsRefused, naming the first keys that are empty, unknown, doubled or missing.
    """
    corpus = paths if isinstance(paths, pa.ChunkedArray) else pa.array(paths, pa.string())
    if keys.null_count:
        raise refusal(name, "rows without a path", pc.indices_nonzero(keys.is_null()), "line")
    if pa.types.is_string(keys.type):
        found = pc.index_in(keys, value_set=_flat(corpus) if isinstance(corpus, pa.ChunkedArray) else corpus)
        unknown = keys.filter(found.is_null())
        if len(unknown):
            raise refusal(name, "rows that are not in the corpus", unknown, "path")
        rows = found.to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        rows = keys.to_numpy(zero_copy_only=False)
        outside = keys.filter(pa.array((rows < 0) | (rows >= len(corpus))))
        if len(outside):
            raise refusal(name, f"rows outside 0..{len(corpus) - 1}", outside, "row")
    counts = np.bincount(rows, minlength=len(corpus))
    wrongs = {"doubled rows": counts > 1} | ({"missing rows": counts == 0} if complete else {})
    for what, wrong in wrongs.items():
        if wrong.any():
            named = corpus.take(pa.array(np.flatnonzero(wrong)))
            raise refusal(name, what, named, "path")
    return rows


def _class_numbers(predictions: Predictions, n_classes: int, names: Sequence[str] | None) -> np.ndarray:
    classes = predictions.classes
    if classes.null_count:
        raise refusal(predictions.name, "rows without a class", predictions.keys.filter(classes.is_null()), "key")
    if pa.types.is_string(classes.type):
        if names is None:
            raise PredictionsRefused(
                f'predictions "{predictions.name}": class {classes[0].as_py()!r} is a name: give class numbers, or '
                "choose a taxonomy that has names"
            )
        classes = pc.index_in(classes, value_set=pa.array(names, pa.string()))
        if classes.null_count:
            unknown = predictions.classes.filter(classes.is_null())
            raise refusal(predictions.name, "classes the taxonomy does not have", unknown, "name")
    try:
        numbers = classes.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise PredictionsRefused(f'predictions "{predictions.name}": a class is no whole number: {error}') from error
    outside = (numbers < 0) | (numbers >= n_classes)
    if outside.any():
        raise refusal(predictions.name, f"classes outside 0..{n_classes - 1}", pa.array(numbers[outside]), "class")
    return numbers


def _check_confidences(predictions: Predictions) -> None:
    confidences = predictions.confidences
    if confidences is None:
        return
    wrong = ~((confidences >= 0) & (confidences <= 1))
    if wrong.any():
        where = predictions.keys.filter(pa.array(wrong))
        raise refusal(predictions.name, "confidences that are NaN or outside 0..1", where, "key")


def refusal(name: str, what: str, culprits: pa.Array | pa.ChunkedArray, kind: str) -> PredictionsRefused:
    """How many rows of a predictions file are wrong, and the first of them."""
    shown = ", ".join(str(value) for value in culprits[:_SHOWN].to_pylist())
    return PredictionsRefused(
        f'predictions "{name}": {len(culprits):,} {what}, the first: {kind} {shown}'
        + (" …" if len(culprits) > _SHOWN else "")
    )
