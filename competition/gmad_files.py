"""gMAD with files alone: scores in, pairs and levels out; judgements or matrices in, standings out. No Django.

Tables are read and written as `corpora.tables` does; docs/formats.md documents every column. A *scores file* has
`path` and one column per model, a *calibration file* also the `mos` of each rated image.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from corpora.tables import (
    FileError,
    examples,
    file_ending,
    no_doubles,
    no_gaps,
    read_numbers,
    read_table,
    require_columns,
)
from labeling.psychometrics.logistic import SCALE, CalibrationError, Logistic, fit_logistic

PAIR_COLUMNS = {
    "attacker": pa.string(),
    "defender": pa.string(),
    "level": pa.int64(),
    "worst_path": pa.string(),
    "best_path": pa.string(),
    "attacker_worst": pa.float64(),
    "attacker_best": pa.float64(),
    "defender_worst": pa.float64(),
    "defender_best": pa.float64(),
}
LEVEL_COLUMNS = {"defender": pa.string(), "level": pa.int64(), "centre": pa.float64(), "count": pa.int64()}
STANDING_COLUMNS = {
    "model": pa.string(),
    "aggressiveness": pa.float64(),
    "aggr_low": pa.float64(),
    "aggr_high": pa.float64(),
    "resistance": pa.float64(),
    "res_low": pa.float64(),
    "res_high": pa.float64(),
}
JUDGEMENT_COLUMNS = ("attacker", "defender", "level", "person", "score")
SCORE_RANGE = (-100.0, 100.0)
_NONE = ("", "-", "nan", "na", "null", "none")  # what an empty cell of a square table may hold

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What several models say about the same images, oriented: higher = better, NaN = not scored.

    paths: (n,) strings; columns: per model (n,) float32 or float64
    """

    file: str
    models: tuple[str, ...]
    paths: pa.ChunkedArray
    columns: tuple[npt.NDArray[Any], ...]

    def column(self, model: str) -> npt.NDArray[Any]:
        return self.columns[self.models.index(model)]


@dataclass(frozen=True)
class LevelCounts:
    """The levels file of a selection: models in its order, and (M, K) images in each level."""

    file: str
    models: tuple[str, ...]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Judgements:
    """One entry per row of a judgements file; attacker and defender are positions in the models of the levels file."""

    attacker: npt.NDArray[np.int64]
    defender: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]
    person: npt.NDArray[Any]
    score: FloatArray


def read_scores(path: Path, lower_is_better: Sequence[str] = (), besides: Sequence[str] = ()) -> Scores:
    """Read a scores file; the columns of `lower_is_better` are turned round, those of `besides` are no models.

    Raises FileError for images named twice, columns that hold no numbers, infinite scores and unknown names.
    """
    table = _read_wide(path)
    require_columns(path, table, ("path", *besides))
    no_gaps(path, table["path"], "path")
    no_doubles(path, table["path"])
    models = tuple(name for name in table.column_names if name != "path" and name not in besides)
    if len(models) < 2:
        raise FileError(f"{path.name} has {len(models)} column(s) of scores; a competition needs at least two models")
    unknown = [name for name in lower_is_better if name not in models]
    if unknown:
        raise FileError(f'--lower-is-better names "{unknown[0]}"; {path.name} has the models {", ".join(models)}')
    columns = [_numbers(path, table, name) for name in models]
    turned = [-column if name in lower_is_better else column for name, column in zip(models, columns, strict=True)]
    return Scores(path.name, models, table["path"], tuple(turned))


def read_calibration(
    path: Path, models: Sequence[str], lower_is_better: Sequence[str], mos_range: tuple[float, float]
) -> tuple[dict[str, Logistic], float]:
    """The fitted logistic of every model from a calibration file, whose MOS are mapped from `mos_range` to 0..100, and
    the highest of them.

    Raises FileError where a model is missing, MOS lie outside of the range, or a fit cannot be used.
    """
    low, high = mos_range
    if not low < high:
        raise FileError(f"--mos-range {low:g} {high:g}: give the lower end first")
    given = read_scores(path, besides=("mos",))
    missing = [model for model in models if model not in given.models]
    if missing:
        raise FileError(
            f'{path.name} has no column "{missing[0]}"; it needs path, mos and the scores of every model: '
            f"{', '.join(models)}"
        )
    mos = _mos(path, low, high)
    fits, troubles = {}, []
    for model in models:
        column = given.column(model)
        try:
            fit = fit_logistic(-column if model in lower_is_better else column, mos, model=model)
        except CalibrationError as error:
            raise FileError(f"{path.name}: {error}") from error
        fits[model] = fit
        if not fit.converged:
            troubles.append(fit.message)
    if troubles:
        raise FileError(f"{path.name}: {'; '.join(troubles)} (--quantiles NAME)")
    return fits, float(mos.max())


def read_groups(path: Path, paths: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """(n,) number of the source of each image of a scores file, -1 where the groups file (`path,group`) names none."""
    table = read_table(path, text=("path", "group"))
    require_columns(path, table, ("path", "group"))
    no_gaps(path, table["path"], "path")
    no_doubles(path, table["path"])
    position = pc.index_in(paths, value_set=table["path"].combine_chunks())
    numbers = table["group"].combine_chunks().dictionary_encode().indices
    known = pc.fill_null(pc.take(numbers, position), -1).to_numpy()
    return known.astype(np.int64)


def read_levels(path: Path) -> LevelCounts:
    """Read the levels file that `gmad select` wrote. Raises FileError for one that is no such file."""
    table = read_table(path, text=("defender", "level", "count"))
    require_columns(path, table, ("defender", "level", "count"))
    no_gaps(path, table["defender"], "defender")
    level, count = (_whole(path, table, name) for name in ("level", "count"))
    defender = table["defender"].to_pylist()
    models = tuple(dict.fromkeys(defender))
    n_levels = int(level.max())
    counts = np.full((len(models), n_levels), -1, np.int64)
    for row, (name, k, images) in enumerate(zip(defender, level.tolist(), count.tolist(), strict=True)):
        if k < 1 or images < 0:
            raise FileError(f'{path.name}, row {row + 1}: level {k} of "{name}" with {images} images cannot be')
        if counts[models.index(name), k - 1] >= 0:
            raise FileError(f'{path.name}, row {row + 1}: level {k} of "{name}" stands in the file twice')
        counts[models.index(name), k - 1] = images
    absent = np.argwhere(counts < 0)
    if len(absent):
        model, k = absent[0].tolist()
        raise FileError(f'{path.name} has no level {k + 1} of "{models[model]}"; every defender needs 1 to {n_levels}')
    return LevelCounts(path.name, models, counts)


def read_judgements(path: Path, levels: LevelCounts) -> Judgements:
    """Read a judgements file against the levels file of its selection.

    Raises FileError for unknown models and levels, levels without a pair, scores outside -100..100, and empty cells.
    """
    table = read_table(path, text=JUDGEMENT_COLUMNS)
    require_columns(path, table, JUDGEMENT_COLUMNS)
    for name in ("attacker", "defender", "person"):
        no_gaps(path, table[name], name)
    level = _whole(path, table, "level")
    score = read_numbers(path, table["score"], "score")
    roles = [_positions(path, table, name, levels) for name in ("attacker", "defender")]
    attacker, defender = roles
    n_levels = levels.counts.shape[1]
    _refuse(
        path,
        attacker == defender,
        lambda row: f'model "{levels.models[attacker[row]]}" attacks itself',
    )
    _refuse(
        path,
        (level < 1) | (level > n_levels),
        lambda row: f"the level is {level[row]}; {levels.file} has levels 1 to {n_levels}",
    )
    images = levels.counts[defender, level - 1]
    _refuse(
        path,
        images < 2,
        lambda row: (
            f'level {level[row]} of "{levels.models[defender[row]]}" has {images[row]} images in {levels.file}, too '
            "few for a pair: is it the levels file of this selection?"
        ),
    )
    low, high = SCORE_RANGE
    _refuse(
        path,
        ~((score >= low) & (score <= high)),
        lambda row: f"the score is {score[row]:g}; scores lie between {low:g} and {high:g}",
    )
    return Judgements(attacker, defender, level, np.array(table["person"].to_pylist()), score)


def read_square(path: Path) -> tuple[tuple[str, ...], FloatArray]:
    """Models and matrix (M, M) of a square table: a header of names, and in each row a name and M numbers.

    A row may stand anywhere; empty cells and "-" are NaN. Raises FileError for tables that are not square.
    """
    lines = [line for line in _cells(path) if line]
    names = tuple(name.strip() for name in lines[0][1:]) if lines else ()
    if len(names) < 2:
        raise FileError(f"{path.name} is no square table: the header names one model per column, after a first cell")
    rows = [line[0].strip() for line in lines[1:]]
    if sorted(rows) != sorted(set(names)) or len(set(names)) < len(names):
        raise FileError(
            f"{path.name} is no square table: its columns are {', '.join(names)}, its rows {', '.join(rows)}; each "
            "model needs one of both"
        )
    matrix = np.full((len(names), len(names)), np.nan)
    for number, line in enumerate(lines[1:]):
        if len(line) != len(names) + 1:
            raise FileError(f"{path.name}, row {number + 1} has {len(line) - 1} numbers; there are {len(names)} models")
        for column, text in enumerate(line[1:]):
            matrix[names.index(rows[number]), column] = _cell(path, number, names[column], text)
    return names, matrix


def _read_wide(path: Path) -> pa.Table:
    """A table of `path` and columns of numbers, which are read as such whatever their first rows look like."""
    if file_ending(path) != ".csv":
        return read_table(path, text=("path",))
    names = next(_cells(path), [])
    if "path" not in names:
        raise FileError(
            f'{path.name} has no column "path"; it needs path and a column of numbers per model, '
            f"found {','.join(names)}"
        )
    kinds = {name: pa.string() if name == "path" else pa.float64() for name in names}
    try:
        table = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=kinds))
    except (OSError, pa.ArrowException) as error:
        table = read_table(path, text=names)  # says why, unless a cell holds no number
        for name in names:
            if name != "path":
                read_numbers(path, table[name], name, gaps=True)
        raise FileError(f"{path.name} cannot be read as csv: {error}") from error
    if not table.num_rows:
        raise FileError(f"{path.name} has no rows")
    return table


def _numbers(path: Path, table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of scores as float32 or float64; empty cells are NaN."""
    column = table[name]
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise FileError(f'{path.name}: the column "{name}" must hold numbers, not {kind}')
    wanted = pa.float32() if pa.types.is_float16(kind) or pa.types.is_float32(kind) else pa.float64()
    values: npt.NDArray[Any] = pc.fill_null(column.cast(wanted, safe=False), float("nan")).to_numpy()
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise FileError(
            f'{path.name}, row {infinite[0] + 1}: the score of model "{name}" is infinite, as in {infinite.size:,} '
            "row(s) altogether; leave a cell empty where there is no score"
        )
    if np.isnan(values).all():
        raise FileError(f'{path.name}: the column "{name}" is empty')
    return values


def _whole(path: Path, table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    values = read_numbers(path, table[name], name)
    _refuse(path, values != np.floor(values), lambda row: f'the column "{name}" holds {values[row]:g}, no whole number')
    return values.astype(np.int64)


def _mos(path: Path, low: float, high: float) -> FloatArray:
    """(n,) MOS of a calibration file on 0..100."""
    mos = read_numbers(path, _read_wide(path)["mos"], "mos")
    _refuse(
        path,
        ~((mos >= low) & (mos <= high)),
        lambda row: (
            f"the MOS is {mos[row]:g}; it lies between {low:g} and {high:g}: name the ends of its scale (--mos-range)"
        ),
    )
    return SCALE[0] + (SCALE[1] - SCALE[0]) * (mos - low) / (high - low)


def _positions(path: Path, table: pa.Table, name: str, levels: LevelCounts) -> npt.NDArray[np.int64]:
    """(n,) positions of the models named in a column."""
    found = pc.index_in(table[name], value_set=pa.array(levels.models))
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        raise FileError(
            f'{path.name}, row {row + 1}: {name} "{table[name][row]}" is not among the models of {levels.file}: '
            f"{examples(pa.array(levels.models)) if len(levels.models) > 3 else ', '.join(levels.models)}"
        )
    return found.to_numpy().astype(np.int64)


def _refuse(path: Path, wrong: npt.NDArray[np.bool_], say: Callable[[int], str]) -> None:
    """Raise FileError about the first row that is wrong."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise FileError(f"{path.name}, row {row + 1}: {say(row)}")


def _cells(path: Path) -> Iterator[list[str]]:
    """The rows of a table as text, header first."""
    if file_ending(path) != ".csv":
        table = read_table(path)
        yield list(table.column_names)
        columns = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
        yield from (list(line) for line in zip(*columns, strict=True))
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path.name} cannot be read as csv: {error}") from error


def _cell(path: Path, row: int, name: str, text: str) -> float:
    if text.strip().lower() in _NONE:
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise FileError(f'{path.name}, row {row + 1}: the column "{name}" holds "{text}", no number') from error
