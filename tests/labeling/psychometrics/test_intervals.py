"""Intervals of shares, against the quadratic they solve and exact coverage."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from labeling.psychometrics.intervals import PsychometricsError, clopper_pearson, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 12), (12, 12), (7, 30), (29, 30), (450, 1000)])
def test_intervals_equal_scipy(k, n):
    test = binomtest(k, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(0.95, method=method)
        np.testing.assert_allclose(ours(k, n), (theirs.low, theirs.high), atol=1e-12)


def test_wilson_bounds_are_where_the_score_test_turns():
    low, high = wilson(7, 30)
    z = norm.ppf(0.975)
    for bound in (low, high):
        assert abs(7 / 30 - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / 30))


def test_no_trials_say_nothing():
    for interval in (wilson, clopper_pearson):
        low, high = interval([0, 3], [0, 4])
        assert (low[0], high[0]) == (0, 1)
        assert 0 < low[1] < 0.75 < high[1] < 1


def test_exact_interval_always_covers():
    n = 15
    low, high = clopper_pearson(np.arange(n + 1), n)
    for p in np.linspace(0.01, 0.99, 99):
        assert binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() >= 0.95


def test_more_successes_than_trials_are_refused():
    with pytest.raises(PsychometricsError, match="between 0 and trials"):
        wilson(3, 2)
