"""Measures of one property each: how blurred, blocky, noisy, contrasty or colourful an image is.

Baselines, and useful attackers: each is blind to everything but its own property. uint8 (H, W, 3) -> float.
"""

import math

import numpy as np
from numba import njit

from models_zoo.metrics.planes import luminance, signed
from models_zoo.metrics.registry import UnsuitableImage

# Wang, Sheikh and Bovik 2002, the fit to their subjective experiment: alpha, beta, gamma_1, gamma_2, gamma_3
_JPEG_FIT = (-245.8909, 261.9373, -0.02398886, 0.01601664, 0.00642859)
_BLUR_TAPS = 9


def blur_effect(image: np.ndarray) -> float:
    """How little of the variation between neighbours is lost when the image is blurred once more: 0 sharp, 1 blurred.

    Crete et al. 2007, equations 1 to 5: a mean over nine pixels, in each direction; the worse of the two counts. Only
    pixels whose nine neighbours lie inside the image take part. Raises UnsuitableImage for a constant image.
    """
    plane = luminance(image)
    sums = [_variation(plane), _variation(np.ascontiguousarray(plane.T))]
    shares = [1 - lost / total for total, lost in sums if total]
    if not shares:
        raise UnsuitableImage("the image is constant: it is neither sharp nor blurred")
    return max(shares)


@njit(nogil=True, cache=True)
def _variation(plane: np.ndarray) -> tuple[float, float]:
    """Along the rows: the sum of differences of neighbours, and of how much each shrinks by a mean over nine pixels.

    The mean of nine changes by (plane[x + 4] - plane[x - 5]) / 9 from one pixel to the next.
    """
    total = lost = 0
    for y in range(plane.shape[0]):
        row = plane[y]
        inner = len(row) - _BLUR_TAPS
        for x in range(inner):
            sharp = abs(signed(row[x + 5]) - signed(row[x + 4]))
            blurred = abs(signed(row[x + 9]) - signed(row[x]))
            total += sharp
            lost += max(_BLUR_TAPS * sharp - blurred, 0)
    return float(total), lost / _BLUR_TAPS


def jpeg_quality(image: np.ndarray) -> float:
    """Quality of a JPEG image on the scale of the published experiment: 1 bad, 10 excellent; the formula may exceed it.

    Wang, Sheikh and Bovik 2002, equations 1 to 8; the 8 x 8 grid must begin in the corner. Without activity or zero
    crossings the formula tends to -245.9, which is returned. Raises UnsuitableImage where nothing changes from block
    to block (a constant image): the formula has no value there.
    """
    plane = luminance(image)
    along_x = _blockiness(plane)
    along_y = _blockiness(np.ascontiguousarray(plane.T))
    blockiness, activity, crossings = ((first + second) / 2 for first, second in zip(along_x, along_y, strict=True))
    if not blockiness:
        raise UnsuitableImage("nothing changes across the borders of 8 x 8 blocks: the JPEG measure has no value")
    alpha, beta, gamma_1, gamma_2, gamma_3 = _JPEG_FIT
    return alpha + beta * blockiness**gamma_1 * max(activity, 0.0) ** gamma_2 * crossings**gamma_3


@njit(nogil=True, cache=True)
def _blockiness(plane: np.ndarray) -> tuple[float, float, float]:
    """Along the rows: mean difference across block borders, activity within blocks, share of zero crossings."""
    height, width = plane.shape
    borders = width // 8 - 1
    total = across = crossings = 0
    for y in range(height):
        row = plane[y]
        for x in range(width - 1):
            total += abs(signed(row[x + 1]) - signed(row[x]))
        for border in range(1, borders + 1):
            across += abs(signed(row[8 * border]) - signed(row[8 * border - 1]))
        for x in range(width - 2):
            left, right = signed(row[x + 1]) - signed(row[x]), signed(row[x + 2]) - signed(row[x + 1])
            crossings += left * right < 0
    blockiness = across / (height * borders)
    activity = (8 * total / (height * (width - 1)) - blockiness) / 7
    return blockiness, activity, crossings / (height * (width - 2))


def noise_sigma(image: np.ndarray) -> float:
    """Standard deviation of the noise in grey levels, from the difference of two Laplacians.

    Immerkaer 1996, equation 3. Fine texture counts as noise.
    """
    plane = luminance(image)
    height, width = plane.shape
    return math.sqrt(math.pi / 2) * _laplacian_sum(plane) / (6 * (height - 2) * (width - 2))


@njit(nogil=True, cache=True)
def _laplacian_sum(plane: np.ndarray) -> int:
    total = 0
    for y in range(1, plane.shape[0] - 1):
        above, row, below = plane[y - 1], plane[y], plane[y + 1]
        for x in range(plane.shape[1] - 2):
            corners = signed(above[x]) + signed(above[x + 2]) + signed(below[x]) + signed(below[x + 2])
            sides = signed(above[x + 1]) + signed(below[x + 1]) + signed(row[x]) + signed(row[x + 2])
            total += abs(corners - 2 * sides + 4 * signed(row[x + 1]))
    return total


def rms_contrast(image: np.ndarray) -> float:
    """Standard deviation of luma, black 0 and white 1: 0 to 0.5. Peli 1990, equation 4."""
    plane = luminance(image)
    total, squares = _level_sums(plane.reshape(-1))
    return math.sqrt(max(squares / plane.size - (total / plane.size) ** 2, 0.0)) / 255


@njit(nogil=True, cache=True)
def _level_sums(levels: np.ndarray) -> tuple[int, int]:
    total = squares = 0
    for level in levels:
        value = signed(level)
        total += value
        squares += value * value
    return total, squares


def colourfulness(image: np.ndarray) -> float:
    """Spread plus 0.3 times the mean of the opponent colours red-green and yellow-blue; 0 for grey.

    Hasler and Süsstrunk 2003, their M with the simple opponent space.
    """
    sums = _opponents(image) / (image.shape[0] * image.shape[1])
    means, squares = sums[:2], sums[2:]
    spread = math.sqrt(max(float(np.sum(squares - means**2)), 0.0))
    return spread + 0.3 * float(np.hypot(*means))


@njit(nogil=True, cache=True)
def _opponents(image: np.ndarray) -> np.ndarray:
    """Sums of red-green and yellow-blue, then of their squares; (4,)"""
    first = second = first_squares = second_squares = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            red, green, blue = signed(image[y, x, 0]), signed(image[y, x, 1]), signed(image[y, x, 2])
            red_green, yellow_blue = red - green, red + green - 2 * blue  # the latter doubled, to stay whole
            first += red_green
            second += yellow_blue
            first_squares += red_green * red_green
            second_squares += yellow_blue * yellow_blue
    return np.array([first, second / 2, first_squares, second_squares / 4])
