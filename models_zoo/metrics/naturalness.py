"""Natural-scene statistics that BRISQUE and NIQE share.

*MSCN coefficients*: each grey value less its local mean, divided by its local deviation plus 1 (mean-subtracted,
contrast-normalised); the window is a 7 x 7 Gaussian of sigma 7/6. In a good photograph they follow a generalised
Gaussian distribution (GGD), products of neighbours an asymmetric one (AGGD); both are fitted by matching moments
(Mittal, Moorthy and Bovik 2012, equations 1 to 14). Shapes are looked up on the published grid 0.2, 0.201 .. 10.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import gamma

from models_zoo.metrics.planes import FAST, add_powers, gaussian_window

MAPS = 5  # the coefficients, and their products with the right, lower, lower right and lower left neighbour
_WINDOW = gaussian_window(7, 7 / 6)
_FLAT = 1e-9  # differences from the local mean below this are rounding errors of a flat area

_SHAPES = np.arange(200, 10_001) / 1000
_MOMENT_RATIO = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))  # rises with the shape
_SPREAD = np.sqrt(gamma(1 / _SHAPES) / gamma(3 / _SHAPES))  # scale parameter over standard deviation
_LEAN = gamma(2 / _SHAPES) / gamma(1 / _SHAPES)  # mean over the difference of the scale parameters


@dataclass(frozen=True)
class Fits:
    """AGGD parameters of each map; arrays of one shape, NaN where a map lacks negative or positive values.

    `left`, `right`: root mean square of the negative and of the positive values. `power`: mean square of all.
    `shape`: of the AGGD. `shape_ggd`: of the symmetric fit to the same values.
    """

    shape: np.ndarray
    shape_ggd: np.ndarray
    left: np.ndarray
    right: np.ndarray
    power: np.ndarray
    spread: np.ndarray
    lean: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean of the fitted distribution (equation 11)."""
        return (self.right - self.left) * self.lean * self.spread


@njit(nogil=True, cache=True)
def contrast_sums(plane: np.ndarray, side_y: int, side_x: int, replicate: bool) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) -> what the fits of each block need, (n_blocks, MAPS, 5), and mean local deviations, (n_blocks,).

    The five: sum of squares below 0, above 0, sum of magnitudes, number below 0, above 0. Blocks go row by row; what
    does not fill one is left out. Neighbours wrap around within a block, as in the published measures. Beyond its
    border the plane is zero (BRISQUE), or its last value with `replicate` (NIQE). Extra memory: a few rows.
    """
    width = plane.shape[1]
    down, across = plane.shape[0] // side_y, width // side_x
    sums, deviations = np.zeros((down * across, MAPS, 5)), np.zeros(down * across)
    padded, window = np.empty((2, width + 6)), np.empty((2, width))
    first, above, row, deviation = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    for y in range(down * side_y):
        _mscn_row(plane, y, replicate, padded, window, row, deviation)
        blocks = slice(y // side_y * across, (y // side_y + 1) * across)
        for block in range(across):
            deviations[blocks][block] += deviation[block * side_x : (block + 1) * side_x].sum()
        if y % side_y == 0:
            first[:] = row
        else:
            _add_rows(above, row, side_x, sums[blocks])
        if y % side_y == side_y - 1:
            _add_rows(row, first, side_x, sums[blocks])
        above, row = row, above
    return sums, deviations / (side_y * side_x)


@njit(nogil=True, cache=True)
def _mscn_row(
    plane: np.ndarray,
    y: int,
    replicate: bool,
    padded: np.ndarray,
    window: np.ndarray,
    mscn: np.ndarray,
    deviation: np.ndarray,
) -> None:
    """Row `y` of the coefficients and deviations; `padded`, `window`: scratch for sums of values and of squares."""
    height = len(plane)
    padded[:] = 0
    for tap in range(7):
        row = y + tap - 3
        if replicate or 0 <= row < height:
            add_powers(plane[min(max(row, 0), height - 1)], _WINDOW[tap], padded[0, 3:-3], padded[1, 3:-3])
    for kind in range(2):
        if replicate:
            padded[kind, :3], padded[kind, -3:] = padded[kind, 3], padded[kind, -4]
        _across(padded[kind], window[kind])
    _normalise(plane[y], window[0], window[1], mscn, deviation)


@njit(nogil=True, cache=True, fastmath=FAST)
def _across(padded: np.ndarray, out: np.ndarray) -> None:
    w = _WINDOW
    for x in range(len(out)):
        out[x] = (
            w[3] * padded[x + 3]
            + w[2] * (padded[x + 2] + padded[x + 4])
            + w[1] * (padded[x + 1] + padded[x + 5])
            + w[0] * (padded[x] + padded[x + 6])
        )


@njit(nogil=True, cache=True, fastmath=FAST)
def _normalise(row: np.ndarray, mean: np.ndarray, power: np.ndarray, mscn: np.ndarray, deviation: np.ndarray) -> None:
    for x in range(len(row)):
        spread = np.sqrt(abs(power[x] - mean[x] * mean[x]))
        difference = row[x] - mean[x]
        deviation[x] = spread
        mscn[x] = (difference if abs(difference) > _FLAT else 0.0) / (spread + 1)


@njit(nogil=True, cache=True)
def _add_rows(upper: np.ndarray, lower: np.ndarray, side: int, sums: np.ndarray) -> None:
    """Add each block's share of one row and its products with the row itself and with the row below."""
    row, below = np.empty(side + 2), np.empty(side + 2)
    ones = np.ones(side)
    for block in range(len(sums)):
        _wrap(upper[block * side : (block + 1) * side], row)
        _wrap(lower[block * side : (block + 1) * side], below)
        middle = row[1:-1]
        _add(middle, ones, sums[block, 0])
        _add(middle, row[2:], sums[block, 1])
        _add(middle, below[1:-1], sums[block, 2])
        _add(middle, below[2:], sums[block, 3])
        _add(middle, below[:-2], sums[block, 4])


@njit(nogil=True, cache=True)
def _wrap(row: np.ndarray, out: np.ndarray) -> None:
    out[1:-1] = row
    out[0], out[-1] = row[-1], row[0]


@njit(nogil=True, cache=True, fastmath=FAST)
def _add(first: np.ndarray, second: np.ndarray, sums: np.ndarray) -> None:
    squares_below = squares_above = magnitudes = below = above = 0.0
    for x in range(len(first)):
        value = first[x] * second[x]
        negative, positive = min(value, 0.0), max(value, 0.0)
        squares_below += negative * negative
        squares_above += positive * positive
        magnitudes += positive - negative
        below += 1.0 if value < 0 else 0.0
        above += 1.0 if value > 0 else 0.0
    sums[0] += squares_below
    sums[1] += squares_above
    sums[2] += magnitudes
    sums[3] += below
    sums[4] += above


def fit(sums: np.ndarray, n_values: int) -> Fits:
    """sums: (..., 5) as `contrast_sums` gives them, each over `n_values` values -> parameters of shape (...)."""
    squares_below, squares_above, magnitudes, below, above = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = np.sqrt(squares_below / below), np.sqrt(squares_above / above)
        power = (squares_below + squares_above) / n_values
        ratio = (magnitudes / n_values) ** 2 / power
        skew = left / right
        ratio_skewed = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
        inverse = 1 / ratio
    index = _nearest(_MOMENT_RATIO, ratio_skewed)
    symmetric = len(_SHAPES) - 1 - _nearest(1 / _MOMENT_RATIO[::-1], inverse)
    undefined = ~np.isfinite(ratio_skewed)
    arrays = (_SHAPES[index], _SHAPES[symmetric], left, right, power, _SPREAD[index], _LEAN[index])
    return Fits(*(np.where(undefined, np.nan, array) for array in arrays))


def _nearest(rising: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the entry of a rising table that is nearest to each wanted value."""
    above = np.clip(np.searchsorted(rising, wanted), 1, len(rising) - 1)
    return np.where(wanted - rising[above - 1] <= rising[above] - wanted, above - 1, above)
