"""Intervals from replicates, and the ranks that intervals allow."""

import numpy as np
import pytest

from labeling.psychometrics.ranks import percentile_intervals, rank_ranges, ranks_within


def test_percentiles():
    low, high = percentile_intervals(np.arange(101.0)[:, None], level=0.9)
    assert (low[0], high[0]) == pytest.approx((5, 95))


def test_rank_ranges_count_intervals_entirely_above_and_below():
    low, high = np.array([0.5, 0.3, 0.35, 0.1]), np.array([0.7, 0.4, 0.5, 0.2])
    best, worst = rank_ranges(low, high)
    assert best.tolist() == [1, 2, 1, 4]
    assert worst.tolist() == [2, 3, 3, 4]
    best, worst = rank_ranges(low, high, component=np.array([0, 0, 0, 1]))
    assert best.tolist() == [1, 2, 1, 1]
    assert worst.tolist() == [3, 4, 4, 4]
    best, worst = rank_ranges(np.full(3, np.nan), np.full(3, np.nan))
    assert (best.tolist(), worst.tolist()) == ([1, 1, 1], [3, 3, 3])


def test_intervals_without_replicates_are_unknown():
    assert np.isnan(percentile_intervals(np.empty((0, 2)))).all()


def test_ranks_are_counted_within_a_component():
    score = np.array([0.1, 3.0, -1.0, 3.0 + 1e-12, 2.0])
    assert ranks_within(score).tolist() == [4, 1, 5, 1, 3]
    assert ranks_within(score, np.array([0, 1, 0, 0, 1])).tolist() == [2, 1, 3, 1, 2]
