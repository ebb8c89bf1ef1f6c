"""Score columns, read in blocks: checks, ranges, and exact order statistics without sorting.

A *score column* holds one float per row, higher = better, NaN where the model could not score the image. Scores are
compared in the precision in which they come: float32 if all columns fit into it, else float64.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from competition.selection import gmad_kernels as kernels
from competition.selection.columns import Column, SelectionError, gather

BLOCK_ROWS = 65_536  # sixteen models take 4 MB in float32

Report = Callable[[int], None]


@dataclass(frozen=True)
class Summary:
    """What a column holds: lowest and highest score, and how many rows are scored."""

    lowest: float
    highest: float
    n_scored: int


def check_scores(columns: Sequence[Column], names: Sequence[str]) -> int:
    """The number of rows that all columns have. Raises SelectionError where they differ or are no floats."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise SelectionError(
            f"models have different numbers of rows: {lengths}; score all of them over the same corpus"
        )
    for name, column in zip(names, columns, strict=True):
        if np.dtype(column.dtype).kind != "f":
            raise SelectionError(f'model "{name}": scores must be floating-point numbers, not {column.dtype}')
    return lengths[0]


def score_kind(columns: Sequence[Column]) -> np.dtype[Any]:
    """float32 if every column fits into it, float64 otherwise."""
    wide = any(np.dtype(column.dtype).itemsize > 4 for column in columns)
    return np.dtype(np.float64 if wide else np.float32)


def blocks(n_rows: int, block_rows: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive blocks."""
    for start in range(0, n_rows, block_rows):
        yield start, min(start + block_rows, n_rows)


def summarise(column: Column, name: str, *, block_rows: int = BLOCK_ROWS, report: Report | None = None) -> Summary:
    """Range and size of a column. Raises SelectionError for infinite scores, naming the model and how many."""
    kind = score_kind([column])
    lowest, highest, finite, infinite = kind.type(np.inf), kind.type(-np.inf), 0, 0
    for start, stop in blocks(len(column), block_rows):
        block = np.ascontiguousarray(column[start:stop], dtype=kind)
        lowest, highest, more, bad = kernels.summarise(block, lowest, highest)
        finite += more
        infinite += bad
        if report is not None:
            report(stop)
    if infinite:
        raise SelectionError(
            f'model "{name}" has {infinite:,} infinite scores: score those images anew, or leave them empty (NaN), '
            "which means not scored"
        )
    return Summary(float(lowest), float(highest), finite)


def order_statistics(
    column: Column, places: npt.NDArray[np.int64], *, block_rows: int = BLOCK_ROWS
) -> npt.NDArray[np.float64]:
    """(p,) the places-th smallest scores, 0 = the smallest, NaN left out; exact, and nothing is sorted.

    A radix search: every pass over the rows settles eleven more bits of each answer, three passes for float32.
    """
    kind = score_kind([column])
    bits = 8 * kind.itemsize
    prefix = np.zeros(len(places), np.uint64)
    rest = np.array(places, np.int64)
    known = 0
    while known < bits:
        width = min(kernels.DIGIT_BITS, bits - known)
        prefixes, which = np.unique(prefix, return_inverse=True)
        first = prefixes >> np.uint64(max(0, known - kernels.DIGIT_BITS))
        starts = np.searchsorted(first, np.arange((1 << kernels.DIGIT_BITS) + 1, dtype=np.uint64))
        counts = np.zeros((len(prefixes), 1 << kernels.DIGIT_BITS), np.int64)
        for start, stop in blocks(len(column), block_rows):
            block = np.ascontiguousarray(column[start:stop], dtype=kind)
            kernels.count_digits(_keys(block[block == block]), bits, known, width, prefixes, starts, counts)
        ends = counts.cumsum(axis=1)
        digit = np.array(
            [np.searchsorted(ends[p], r, side="right") for p, r in zip(which, rest, strict=True)], np.int64
        )
        rest -= ends[which, digit] - counts[which, digit]
        prefix = (prefix << np.uint64(width)) | digit.astype(np.uint64)
        known += width
    return _from_keys(prefix, kind)


def _keys(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Whole numbers in the order of the floats."""
    unsigned = values.view(f"u{values.dtype.itemsize}")
    sign = unsigned.dtype.type(1 << (8 * values.dtype.itemsize - 1))
    return np.where(unsigned & sign, ~unsigned, unsigned | sign).astype(np.uint64)


def _from_keys(keys: npt.NDArray[np.uint64], kind: np.dtype[Any]) -> npt.NDArray[np.float64]:
    unsigned = keys.astype(f"u{kind.itemsize}")
    sign = unsigned.dtype.type(1 << (8 * kind.itemsize - 1))
    return np.where(unsigned & sign, unsigned ^ sign, ~unsigned).view(kind).astype(np.float64)


def pick_rows(column: Column, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The values at a few rows, of any column; each row is read once."""
    unique, which = np.unique(rows, return_inverse=True)
    return gather(column, unique)[which]
