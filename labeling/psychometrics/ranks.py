"""Intervals of scores from bootstrap replicates, and the ranks that intervals allow."""

import numpy as np
from numpy.typing import NDArray

from labeling.psychometrics.intervals import FloatArray

IntArray = NDArray[np.int64]

EQUAL = 1e-9


def percentile_intervals(scores: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Bounds (low, high), each (m,), of the replicates (R, m); NaN without replicates."""
    if len(scores) == 0:
        return np.full(scores.shape[1], np.nan), np.full(scores.shape[1], np.nan)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def rank_ranges(low: FloatArray, high: FloatArray, component: IntArray | None = None) -> tuple[IntArray, IntArray]:
    """Best and worst rank of each model, both (m,).

    best = 1 + number of models whose interval lies entirely above this one's; worst = m - number of models whose
    interval lies entirely below. Models of different components were never compared, so neither is above the other.
    Without intervals (NaN) every rank is possible.
    """
    comparable = np.ones((low.size, low.size), dtype=np.bool_)
    if component is not None:
        comparable = component[:, None] == component[None, :]
    above = (low[None, :] > high[:, None]) & comparable
    below = (high[None, :] < low[:, None]) & comparable
    return 1 + above.sum(axis=1), low.size - below.sum(axis=1)


def ranks_within(score: FloatArray, component: IntArray | None = None) -> IntArray:
    """(m,) rank of each score among those of its component, 1 = best; equal scores share the better rank."""
    better = score[None, :] > score[:, None] + EQUAL
    if component is not None:
        better &= component[:, None] == component[None, :]
    return 1 + better.sum(axis=1)
