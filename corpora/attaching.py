"""What attaching a table of opinion scores to a corpus would do: which rows it rates, and what is wrong with it.

The table is a flat CSV or Parquet file: `path` (or image, image_name, file, filename), `mos`, and optionally `std`
(mos_std, sd) and `n` (mos_n, count). A path that is no row's is looked for by its file name, with or without its
ending, where it has no folder and only one row has it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpora.importers.base import ImportRefused, Scale
from corpora.importers.opinions import Opinion, opinion_columns, read_opinion
from corpora.importers.table import relative_path, rows_of
from corpora.manifest import Manifest
from corpora.opinions import SCHEMA, span

_NAMED = 20  # paths and problems that are listed


@dataclass(frozen=True)
class OpinionPlan:
    """What a table means for a corpus.

    table: of `corpora.opinions.SCHEMA`; n_lines: rows of the file; n_empty: of them without a score; n_by_name: matched
    by their file name; unmatched: paths that the corpus does not have (the first of n_unmatched); problems: what is
    wrong, line by line (the first of n_problems). low, high: ends of the scale, given or found.
    """

    table: pa.Table
    n_lines: int
    n_empty: int
    n_by_name: int
    n_unmatched: int
    unmatched: list[str]
    n_problems: int
    problems: list[str]
    scale: Scale
    low: float
    high: float

    @property
    def n_matched(self) -> int:
        return len(self.table)


def plan_opinions(manifest: Manifest, root: Path, file: Path, scale: Scale) -> OpinionPlan:
    """Read the table. Raises ImportRefused when it is none, or has no score."""
    problems: list[str] = []
    paths, opinions, numbers, n_lines, n_empty = _read(file, root, scale, problems)
    if not n_lines or (not opinions and not problems):
        raise ImportRefused(f'"{file.name}" has no score: name the column of mean opinion scores "mos"')
    rows = manifest.rows_of_paths(paths)
    lost = np.flatnonzero(rows < 0)
    rows[lost] = _rows_by_name(manifest, [paths[place] for place in lost])
    unmatched = [paths[place] for place in np.flatnonzero(rows < 0)]
    values, given = [], dict[int, int]()
    for row, path, opinion, number in zip(rows.tolist(), paths, opinions, numbers, strict=True):
        if row >= 0 and given.setdefault(row, number) != number:
            problems.append(f'row {number}: "{path}" is rated by row {given[row]} already')
        elif row >= 0:
            values.append({"row": row, **opinion_columns(opinion)})
    scores = [value["mos"] for value in values] or [opinion.mos for opinion in opinions] or [0.0]
    low, high = span(scores, scale.low, scale.high)
    return OpinionPlan(
        table=pa.Table.from_pylist(values, schema=SCHEMA),
        n_lines=n_lines,
        n_empty=n_empty,
        n_by_name=int((rows[lost] >= 0).sum()),
        n_unmatched=len(unmatched),
        unmatched=unmatched[:_NAMED],
        n_problems=len(problems),
        problems=problems[:_NAMED],
        scale=scale,
        low=low,
        high=high,
    )


def _read(
    file: Path, root: Path, scale: Scale, problems: list[str]
) -> tuple[list[str], list[Opinion], list[int], int, int]:
    """Paths, opinions and row numbers of the file's good rows; how many rows there are; how many without a score."""
    paths: list[str] = []
    opinions: list[Opinion] = []
    numbers: list[int] = []
    number = n_empty = 0
    for number, (text, cells) in enumerate(rows_of(file), start=1):
        path, problem = relative_path(text, root)
        opinion = read_opinion(cells["mos"], cells["mos_std"], cells["mos_n"], scale=scale)
        problem = problem or (opinion if isinstance(opinion, str) else None)
        if problem is not None:
            problems.append(f"row {number}{_quoted(text)}: {problem}")
        elif isinstance(opinion, Opinion):
            paths.append(path)
            opinions.append(opinion)
            numbers.append(number)
        else:
            n_empty += 1
    return paths, opinions, numbers, number, n_empty


def _quoted(text: str) -> str:
    return f' ("{text}")' if text else ""


def _rows_by_name(manifest: Manifest, names: list[str]) -> npt.NDArray[np.int64]:
    """The one row whose file has each name, with its ending or without; -1 where none has, or more than one."""
    rows = np.full(len(names), -1, dtype=np.int64)
    for left_off in (r"^.*/", r"^.*/|\.[^./]*$"):
        lost = [place for place in np.flatnonzero(rows < 0) if "/" not in names[place]]
        rows[lost] = _rows_called(manifest, [names[place] for place in lost], left_off)
    return rows


def _rows_called(manifest: Manifest, names: list[str], left_off: str) -> npt.NDArray[np.int64]:
    """The one row whose path, without what matches `left_off`, is each name; -1 otherwise."""
    if not names:
        return np.empty(0, np.int64)
    wanted = pa.array(sorted(set(names)), pa.string())
    found = np.full(len(wanted), -1, dtype=np.int64)
    often = np.zeros(len(wanted), dtype=np.int64)
    start = 0
    for batch in manifest.batches(["path"]):
        places = pc.index_in(pc.replace_substring_regex(batch.column(0), left_off, ""), value_set=wanted)
        hits = np.flatnonzero(np.asarray(places.is_valid()))
        which = places.take(pa.array(hits)).to_numpy()
        found[which] = start + hits
        np.add.at(often, which, 1)
        start += len(batch)
    found[often != 1] = -1
    row_of = dict(zip(wanted.to_pylist(), found.tolist(), strict=True))
    return np.array([row_of[name] for name in names], dtype=np.int64)
