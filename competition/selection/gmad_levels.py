"""Levels of quality: the sets of images that a defender finds equally good (gMAD, CVPR 2016, section 3).

*Equal-width* levels cut the range of a defender's calibrated scores into K steps; level k holds the scores closer than
h to the middle of step k, so that levels overlap where h exceeds half a step and leave gaps where it is smaller.
*Equal-count* levels hold a K-th of the images each; equal scores stay together, in the higher of two levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from competition.selection.columns import Column, SelectionError
from competition.selection.gmad_columns import BLOCK_ROWS, Summary, order_statistics

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """K levels of M defenders, each array (M, K).

    centre      middle of a level; of an equal-count level, its median
    low, high   the scores s with low <= s <= high belong to the level; none where low > high
    count       images in it; an image may be in several levels, or in none
    half_width  h of equal-width levels, None for equal-count ones
    """

    centre: FloatArray
    low: FloatArray
    high: FloatArray
    count: npt.NDArray[np.int64]
    half_width: float | None

    @property
    def weight(self) -> FloatArray:
        """p (M, K): share of a defender's levelled images in each level; rows sum to one."""
        return self.count / np.maximum(1, self.count.sum(axis=1, keepdims=True))


def check_levels(n_levels: int, half_width: float | None) -> None:
    """Raises SelectionError for settings that make no levels."""
    if n_levels < 1:
        raise SelectionError(f"{n_levels} levels: at least one is needed")
    if half_width is not None and not 0 < half_width < np.inf:
        raise SelectionError(f"half width is {half_width}: a level reaches a positive distance to both sides")


def equal_width(summaries: Sequence[Summary], n_levels: int, half_width: float, kind: np.dtype[Any]) -> Levels:
    """Levels |score - centre| < half_width, strictly, around the centres min + step (k - 1/2), step = (max - min) / K.

    kind: the precision in which scores are compared. The ends are exact: a score lies between them if and only if the
    inequality holds in double precision.
    """
    lowest = np.array([[some.lowest] for some in summaries])
    step = (np.array([[some.highest] for some in summaries]) - lowest) / n_levels
    centre = lowest + step * (np.arange(1, n_levels + 1) - 0.5)
    low = _first_that(lambda score: centre - score < half_width, centre)
    high = -_first_that(lambda score: -score - centre < half_width, -centre)
    return _levels(centre, _rounded_up(low, kind), -_rounded_up(-high, kind), half_width)


def equal_count(
    columns: Sequence[Column],
    summaries: Sequence[Summary],
    n_levels: int,
    kind: np.dtype[Any],
    *,
    block_rows: int = BLOCK_ROWS,
    report: Callable[[int], None] | None = None,
) -> Levels:
    """Levels between the scores at places n k / K of each column; report(columns done)."""
    centres, lows, highs = [], [], []
    for number, (column, some) in enumerate(zip(columns, summaries, strict=True)):
        cuts = np.arange(n_levels + 1) * some.n_scored // n_levels
        middles = np.minimum((cuts[:-1] + np.maximum(cuts[1:] - 1, cuts[:-1])) // 2, some.n_scored - 1)
        places = np.concatenate([np.minimum(cuts[:-1], some.n_scored - 1), middles])
        found = order_statistics(column, places, block_rows=block_rows)
        low, centre = found[:n_levels], found[n_levels:]
        before = np.nextafter(low[1:].astype(kind), kind.type(-np.inf)).astype(np.float64)
        centres.append(centre)
        lows.append(low)
        highs.append(np.append(before, some.highest))
        if report is not None:
            report(number + 1)
    return _levels(np.array(centres), np.array(lows), np.array(highs), None)


def _levels(centre: FloatArray, low: FloatArray, high: FloatArray, half_width: float | None) -> Levels:
    return Levels(centre, low, high, np.zeros(centre.shape, np.int64), half_width)


def _first_that(holds: Callable[[FloatArray], npt.NDArray[np.bool_]], known: FloatArray) -> FloatArray:
    """The smallest finite scores at which `holds` is true, by bisection over all floats; it is true at `known`."""
    largest = float(np.finfo(np.float64).max)
    low, high = _ordinal(np.full(known.shape, -largest)), _ordinal(known)
    while (low < high).any():
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, rounded down, without overflow
        true = holds(_of_ordinal(middle))
        low, high = np.where(true, low, np.minimum(middle + 1, high)), np.where(true, middle, high)
    return _of_ordinal(high)


def _ordinal(score: FloatArray) -> npt.NDArray[np.int64]:
    """Whole numbers in the order of the floats, neighbours for neighbours."""
    bits = np.ascontiguousarray(score).view(np.int64)
    return np.where(bits < 0, np.int64(np.iinfo(np.int64).min) - bits, bits)


def _of_ordinal(number: npt.NDArray[np.int64]) -> FloatArray:
    bits = np.where(number < 0, np.int64(np.iinfo(np.int64).min) - number, number)
    return np.ascontiguousarray(bits).view(np.float64)


def _rounded_up(score: FloatArray, kind: np.dtype[Any]) -> FloatArray:
    """The smallest numbers of `kind` that are not below."""
    with np.errstate(over="ignore"):
        near = score.astype(kind)
    return np.where(near < score, np.nextafter(near, kind.type(np.inf)), near).astype(np.float64)
