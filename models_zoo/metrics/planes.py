"""From RGB to the grey plane that measures work on, and to planes of half the size."""

from typing import Any

import numpy as np
from numba import njit

FAST = {"reassoc", "contract"}  # for numba: sums in any order, so that they become vector instructions
# Bicubic interpolation (Keys, a = -1/2) stretched by two, at the offsets 1/2, 3/2, 5/2, 7/2 of the eight taps.
_HALVING = np.array([111, 29, -9, -3]) / 256


@njit(nogil=True, cache=True)
def signed(level: Any) -> Any:
    """A grey level as int32: differences of uint8 would wrap around."""
    return np.int32(level)


@njit(nogil=True, cache=True)
def luminance(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> ITU-R BT.601 luma, uint8 (H, W).

    In whole levels, because the published measures were defined and trained on 8-bit grey images.
    """
    height, width = image.shape[:2]
    plane = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            luma = 0.298936021293776 * image[y, x, 0] + 0.587043074451121 * image[y, x, 1]
            plane[y, x] = np.uint8(luma + 0.114020904255103 * image[y, x, 2] + 0.5)
    return plane


@njit(nogil=True, cache=True)
def halve(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> float64 (ceil(H / 2), ceil(W / 2)), anti-aliased bicubic, the borders mirrored.

    Equal to the resize by 0.5 that BRISQUE and NIQE were published with. Each side must be at least 4.
    """
    height, width = plane.shape
    out = np.empty(((height + 1) // 2, (width + 1) // 2))
    low = np.empty(width + 8)  # one row, halved in height, with four values beyond either end
    for y in range(len(out)):
        low[:] = 0
        for tap in range(4):
            add(plane[_mirrored(2 * y - tap, height)], _HALVING[tap], low[4:-4])
            add(plane[_mirrored(2 * y + 1 + tap, height)], _HALVING[tap], low[4:-4])
        for x in range(4):
            low[3 - x], low[width + 4 + x] = low[4 + x], low[width + 3 - x]
        _halve_row(low, out[y])
    return out


@njit(nogil=True, cache=True, fastmath=FAST)
def _halve_row(low: np.ndarray, out: np.ndarray) -> None:
    w = _HALVING
    for x in range(len(out)):
        first = 2 * x
        out[x] = (
            w[0] * (low[first + 4] + low[first + 5])
            + w[1] * (low[first + 3] + low[first + 6])
            + w[2] * (low[first + 2] + low[first + 7])
            + w[3] * (low[first + 1] + low[first + 8])
        )


@njit(nogil=True, cache=True, fastmath=FAST)
def add(row: np.ndarray, weight: float, sums: np.ndarray) -> None:
    """sums += weight * row"""
    for x in range(len(row)):
        sums[x] += weight * row[x]


@njit(nogil=True, cache=True, fastmath=FAST)
def add_powers(row: np.ndarray, weight: float, sums: np.ndarray, squares: np.ndarray) -> None:
    """sums += weight * row, squares += weight * row ** 2"""
    for x in range(len(row)):
        weighted = weight * row[x]
        sums[x] += weighted
        squares[x] += weighted * row[x]


@njit(nogil=True, cache=True)
def _mirrored(index: int, length: int) -> int:
    """-1 is 0, -2 is 1; length is length - 1."""
    if index < 0:
        return -1 - index
    return 2 * length - 1 - index if index >= length else index


@njit(nogil=True, cache=True)
def shrink(plane: np.ndarray, factor: int) -> np.ndarray:
    """(H, W) -> float64 (ceil(H / factor), ceil(W / factor)): a mean over factor x factor pixels, every factor-th kept.

    Windows reach (factor - 1) // 2 pixels up and left of the pixel they belong to; the borders are mirrored.
    """
    height, width = plane.shape
    reach = (factor - 1) // 2
    out = np.empty(((height + factor - 1) // factor, (width + factor - 1) // factor))
    low = np.empty(width)
    for y in range(len(out)):
        low[:] = 0
        for tap in range(factor):
            add(plane[_mirrored(y * factor + tap - reach, height)], 1.0, low)
        for x in range(out.shape[1]):
            total = 0.0
            for tap in range(factor):
                total += low[_mirrored(x * factor + tap - reach, width)]
            out[y, x] = total / (factor * factor)
    return out


def gaussian_window(side: int, sigma: float) -> np.ndarray:
    """float64 (side,), sums to 1; the outer product with itself is the usual square window."""
    offsets = np.arange(side) - (side - 1) / 2
    window = np.exp(-(offsets**2) / (2 * sigma**2))
    return window / window.sum()
