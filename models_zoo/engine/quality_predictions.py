"""Predictions files of quality models: scores made elsewhere, entering as a score store.

CSV or Parquet with `path` (or `row`) and `score`, or `path` (or `row`) and one column of scores for each of several
models; or .npy: one score per row of the corpus, in its order. An empty cell or NaN means that a row has no score; rows
that are not in the file have none either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from models_zoo.engine.predictions import PredictionsRefused, key_and_others, read_table, refusal, rows_of_keys
from models_zoo.engine.scores import ScoreHeader, ScoreStore

_SHARD = 1 << 16
NOT_GIVEN = "not given by the predictions file"


@dataclass(frozen=True)
class PredictedScores:
    """One model's scores as the file gives them, in its order. `values`: float64, NaN where there is none."""

    name: str
    keys: pa.Array
    values: np.ndarray


def read_scores(file: Path, n_rows: int) -> list[PredictedScores]:
    """The models of a predictions file, for a corpus of `n_rows`.

    Raises PredictionsRefused for an unreadable file, missing columns, or scores that are no numbers or infinite.
    """
    if file.suffix.lower() == ".npy":
        found = [PredictedScores(file.stem, pa.array(np.arange(n_rows)), _read_array(file, n_rows))]
    else:
        table = read_table(file)
        keys, others = key_and_others(file.name, table)
        names = {"score": file.stem} if "score" in others else {name: name for name in others}
        if not names:
            raise PredictionsRefused(f'predictions "{file.name}": no column "score" and no column of a model')
        found = [PredictedScores(name, keys, _numbers(name, table[column])) for column, name in names.items()]
    for predictions in found:
        infinite = np.isinf(predictions.values)
        if infinite.any():
            where = predictions.keys.filter(pa.array(infinite))
            raise refusal(predictions.name, "infinite scores", where, "row")
        beyond = np.abs(np.nan_to_num(predictions.values)) > np.finfo(np.float32).max
        if beyond.any():
            where = predictions.keys.filter(pa.array(beyond))
            raise refusal(predictions.name, "scores beyond what 32 bits hold", where, "row")
    return found


def align_scores(predictions: PredictedScores, paths: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
    """(n_rows,) float32 in the order of the corpus' rows, whose paths are given; NaN where there is no score.

    Raises PredictionsRefused for doubled or unknown rows, and when no row has a score.
    """
    rows = rows_of_keys(predictions.name, predictions.keys, paths, complete=False)
    values = np.full(len(paths), np.nan, np.float32)
    values[rows] = predictions.values
    if len(values) and np.isnan(values).all():
        raise PredictionsRefused(f'predictions "{predictions.name}": not one row has a score')
    return values


def store_scores(values: np.ndarray, folder: Path, *, version: str, corpus: str) -> ScoreStore:
    """Write scores (n_rows,) as a complete store."""
    header = ScoreHeader(
        n_rows=len(values),
        shard_size=_SHARD,
        n_classes=0,
        version=version,
        corpus=corpus,
        backend="predictions",
        kind="values",
    )
    store = ScoreStore.create(folder, header)
    for shard in store.unfinished_shards():
        rows = header.rows_of(shard)
        part = values[rows.start : rows.stop]
        problems = {rows.start + int(position): NOT_GIVEN for position in np.flatnonzero(np.isnan(part))}
        store.write_shard(shard, part, problems=problems)
    store.assemble()
    return store


def _read_array(file: Path, n_rows: int) -> np.ndarray:
    try:
        values = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PredictionsRefused(f'predictions "{file.name}" cannot be read: {error}') from error
    if values.dtype.kind not in "fiu" or values.shape != (n_rows,):
        raise PredictionsRefused(
            f'predictions "{file.name}": {values.dtype}{values.shape}, not one number for each of the corpus\' '
            f"{n_rows:,} rows"
        )
    return values.astype(np.float64)


def _numbers(name: str, column: pa.ChunkedArray) -> np.ndarray:
    """float64, empty cells as NaN."""
    try:
        return column.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise PredictionsRefused(f'predictions "{name}": a score is no number: {error}') from error
