"""Full-reference measures: image and reference are uint8 (H, W, 3) of one size. All but PSNR look at luma alone."""

import math

import numpy as np
from numba import njit

from models_zoo.metrics.planes import FAST, add, gaussian_window, luminance, shrink, signed

PSNR_LIMIT = 100.0  # decibels; the ratio of identical images is infinite
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # MS-SSIM, finest scale first
_WINDOW = gaussian_window(11, 1.5)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_GMSD_C = 170.0


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """10 log10(255^2 / MSE) over pixels and colours, at most PSNR_LIMIT."""
    return _decibels(_squared_error(image.reshape(-1), reference.reshape(-1)) / image.size)


def psnr_y(image: np.ndarray, reference: np.ndarray) -> float:
    """As `psnr`, of luma alone."""
    first, second = luminance(image), luminance(reference)
    return _decibels(_squared_error(first.reshape(-1), second.reshape(-1)) / first.size)


def _decibels(error: float) -> float:
    return min(10 * math.log10(255**2 / error), PSNR_LIMIT) if error else PSNR_LIMIT


@njit(nogil=True, cache=True)
def _squared_error(first: np.ndarray, second: np.ndarray) -> int:
    total = 0
    for index in range(len(first)):
        difference = signed(first[index]) - signed(second[index])
        total += difference * difference
    return total


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity, -1..1, at the images' own size.

    Wang, Bovik, Sheikh and Simoncelli 2004, section III: 11 x 11 Gaussian of sigma 1.5, K = (0.01, 0.03), L = 255, only
    where the window fits. Each side must be at least 11.
    """
    return _similarity(luminance(image), luminance(reference))[0]


def ssim_downsampled(image: np.ndarray, reference: np.ndarray) -> float:
    """`ssim` after the authors' later rule: the mean over f x f pixels, every f-th kept, f = round(shorter side / 256).

    Images with a shorter side below 384 are compared as they are.
    """
    factor = max(1, int(min(image.shape[:2]) / 256 + 0.5))
    return _similarity(*(shrink(luminance(pixels), factor) for pixels in (image, reference)))[0]


def ms_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Multi-scale SSIM, 0..1. Wang, Simoncelli and Bovik 2003, equation 7.

    Contrast and structure of five scales, each half of the last, and luminance of the coarsest. Negative terms, whose
    powers are not defined, count as 0. Each side must be at least 176.
    """
    first, second = luminance(image), luminance(reference)
    result = 1.0
    for weight in SCALE_WEIGHTS[:-1]:
        _, contrast = _similarity(first, second)
        result *= max(contrast, 0.0) ** weight
        first, second = shrink(first, 2), shrink(second, 2)
    return result * max(_similarity(first, second)[0], 0.0) ** SCALE_WEIGHTS[-1]


@njit(nogil=True, cache=True, fastmath=FAST)
def _similarity(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """(H, W) twice -> mean SSIM (equation 13) and mean of its contrast-structure factor.

    Four moments of the window suffice: the means of a, b, a^2 + b^2 and a b.
    """
    height, width = first.shape
    row, across, down = np.empty((4, width)), np.empty((11, 4 * (width - 10))), np.empty(4 * (width - 10))
    total = total_contrast = 0.0
    for y in range(height):
        _moments(first[y], second[y], row)
        for moment in range(4):
            _slide(row[moment], across[y % 11].reshape(4, -1)[moment])
        if y >= 10:
            _weigh_rows(across, y % 11, down)
            similarity, contrast = _row_similarity(down.reshape(4, -1))
            total += similarity
            total_contrast += contrast
    n_windows = (height - 10) * (width - 10)
    return total / n_windows, total_contrast / n_windows


@njit(nogil=True, cache=True, fastmath=FAST)
def _moments(first: np.ndarray, second: np.ndarray, out: np.ndarray) -> None:
    for x in range(len(first)):
        a, b = np.float64(first[x]), np.float64(second[x])
        out[0, x] = a
        out[1, x] = b
        out[2, x] = a * a + b * b
        out[3, x] = a * b


@njit(nogil=True, cache=True, fastmath=FAST)
def _slide(row: np.ndarray, out: np.ndarray) -> None:
    """The window's weighted sums along one row; the window is symmetric."""
    w = _WINDOW
    for x in range(len(out)):
        inner = w[5] * row[x + 5] + w[4] * (row[x + 4] + row[x + 6]) + w[3] * (row[x + 3] + row[x + 7])
        outer = w[2] * (row[x + 2] + row[x + 8]) + w[1] * (row[x + 1] + row[x + 9]) + w[0] * (row[x] + row[x + 10])
        out[x] = inner + outer


@njit(nogil=True, cache=True, fastmath=FAST)
def _weigh_rows(ring: np.ndarray, newest: int, out: np.ndarray) -> None:
    """(11, n) rows in a ring -> their weighted sums, (n,)"""
    out[:] = 0
    add(ring[(newest + 6) % 11], _WINDOW[5], out)
    for tap in range(5):
        above, below = ring[(newest + 1 + tap) % 11], ring[(newest + 11 - tap) % 11]
        for x in range(len(out)):
            out[x] += _WINDOW[tap] * (above[x] + below[x])


@njit(nogil=True, cache=True, fastmath=FAST)
def _row_similarity(moments: np.ndarray) -> tuple[float, float]:
    total = total_contrast = 0.0
    for x in range(moments.shape[1]):
        a, b = moments[0, x], moments[1, x]
        squares, product = a * a + b * b, a * b
        contrast = (2 * (moments[3, x] - product) + _C2) / (moments[2, x] - squares + _C2)
        total_contrast += contrast
        total += contrast * (2 * product + _C1) / (squares + _C1)
    return total, total_contrast


def gmsd(image: np.ndarray, reference: np.ndarray) -> float:
    """Gradient magnitude similarity deviation, 0 = identical. Xue, Zhang, Mou and Bovik 2014, equations 4 to 6.

    Luma averaged over 2 x 2 pixels and halved, Prewitt gradients, c = 170; zeros beyond the border, as in the authors'
    software.
    """
    return _gradient_deviation(*(_halved_in_zeros(luminance(pixels)) for pixels in (image, reference)))


def _halved_in_zeros(plane: np.ndarray) -> np.ndarray:
    """The plane at half size, with a frame of zeros one pixel wide."""
    even = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)))
    return np.pad(shrink(even, 2), 1)


@njit(nogil=True, cache=True, fastmath=FAST)
def _gradient_deviation(first: np.ndarray, second: np.ndarray) -> float:
    """Two framed planes -> standard deviation (n - 1) of the similarities of their gradient magnitudes."""
    height, width = first.shape[0] - 2, first.shape[1] - 2
    similarity = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            one, other = _gradient(first[y : y + 3, x : x + 3]), _gradient(second[y : y + 3, x : x + 3])
            similarity[y, x] = (2 * np.sqrt(one * other) + _GMSD_C) / (one + other + _GMSD_C)
    return np.sqrt(np.sum((similarity - similarity.mean()) ** 2) / (similarity.size - 1))


@njit(nogil=True, cache=True, fastmath=FAST)
def _gradient(window: np.ndarray) -> float:
    """(3, 3) -> squared magnitude of the Prewitt gradient"""
    across = down = 0.0
    for index in range(3):
        across += window[index, 2] - window[index, 0]
        down += window[2, index] - window[0, index]
    return (across * across + down * down) / 9
