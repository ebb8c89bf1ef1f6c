"""Confidence intervals of shares; any shape, element by element."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

FloatArray = NDArray[np.float64]


class PsychometricsError(ValueError):
    """The judgements or settings given cannot be analysed; the message names the thing, the value and the way out."""


def wilson(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Score interval (low, high) of a share; (0, 1) where there are no trials.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", eq. 4.
    """
    k, n = _counts(successes, trials)
    z = float(ndtri((1 + level) / 2))
    safe = np.maximum(n, 1)
    share = k / safe
    scale = 1 + z**2 / safe
    centre = (share + z**2 / (2 * safe)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / safe + z**2 / (4 * safe**2))
    low = np.where((n == 0) | (k == 0), 0.0, centre - half)
    high = np.where((n == 0) | (k == n), 1.0, centre + half)
    return low, high


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Exact interval (low, high) of a share, never too short; (0, 1) where there are no trials.

    Clopper and Pearson 1934, through the beta quantiles.
    """
    k, n = _counts(successes, trials)
    tail = (1 - level) / 2
    low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return cast(FloatArray, low), cast(FloatArray, high)


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[FloatArray, FloatArray]:
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if ((k < 0) | (k > n)).any():
        raise PsychometricsError(f"successes must lie between 0 and trials, got {successes!r} of {trials!r}")
    return k, n
