"""The measures once more, from their papers with numpy and scipy: obvious, and slow. Tests and benchmarks compare.

Planes are float64 (H, W), 0..255.
"""

import numpy as np
from scipy.ndimage import correlate, correlate1d, uniform_filter1d
from scipy.special import gamma

from models_zoo.metrics.planes import luminance

GRID = np.arange(0.2, 10.0005, 0.001)
SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def grey(image):
    return luminance(image).astype(float)


def slow_ssim(first, second):
    """Mean SSIM and mean contrast-structure, from the definition with a two-dimensional window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(plane):
        return correlate(plane, window)[5:-5, 5:-5]

    c1, c2 = 2.55**2, 7.65**2
    mu, nu = mean(first), mean(second)
    var, war = mean(first**2) - mu**2, mean(second**2) - nu**2
    contrast = (2 * (mean(first * second) - mu * nu) + c2) / (var + war + c2)
    return (contrast * (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)).mean(), contrast.mean()


def slow_halved(plane):
    """2 x 2 means at every second pixel; the last row and column stand twice where they have no partner."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="symmetric")
    return padded.reshape(len(padded) // 2, 2, -1, 2).mean(axis=(1, 3))


def slow_jpeg_quality(plane):
    """The published formula, array by array."""
    terms = []
    for along in (plane, plane.T):
        n = along.shape[1]
        steps = np.diff(along, axis=1)
        blockiness = np.abs(steps[:, 7 : 8 * (n // 8 - 1) : 8]).mean()
        activity = (8 * np.abs(steps).mean() - blockiness) / 7
        terms.append((blockiness, activity, (steps[:, :-1] * steps[:, 1:] < 0).mean()))
    b, a, z = np.mean(terms, axis=0)
    return -245.8909 + 261.9373 * b ** (-239.8886 / 10_000) * a ** (160.1664 / 10_000) * z ** (64.2859 / 10_000)


def slow_blur(plane):
    """A mean over nine, differences of neighbours, the share that stays; only where the nine are inside."""
    shares = []
    for axis in (0, 1):
        sharp, soft = (np.abs(np.diff(values, axis=axis)) for values in (plane, uniform_filter1d(plane, 9, axis=axis)))
        inside = tuple(slice(4, -4) if dimension == axis else slice(None) for dimension in (0, 1))
        sharp, soft = sharp[inside], soft[inside]
        shares.append(1 - np.maximum(sharp - soft, 0).sum() / sharp.sum())
    return max(shares)


def slow_mscn(plane, mode):
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def local(values):
        return correlate1d(correlate1d(values, window, axis=0, mode=mode), window, axis=1, mode=mode)

    mean = local(plane)
    deviation = np.sqrt(np.abs(local(plane**2) - mean**2))
    difference = plane - mean
    difference[np.abs(difference) < 1e-9] = 0  # rounding errors of flat areas
    return difference / (deviation + 1), deviation


def slow_ggd(values):
    ratio = gamma(1 / GRID) * gamma(3 / GRID) / gamma(2 / GRID) ** 2
    return GRID[np.argmin(np.abs(ratio - np.mean(values**2) / np.mean(np.abs(values)) ** 2))]


def slow_aggd(values):
    """Shape and the two deviations."""
    left, right = (np.sqrt(np.mean(side**2)) for side in (values[values < 0], values[values > 0]))
    skew = left / right
    ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    grid = gamma(2 / GRID) ** 2 / (gamma(1 / GRID) * gamma(3 / GRID))
    return GRID[np.argmin(np.abs(grid - ratio))], left, right


def slow_halve(plane):
    """Keys' cubic, stretched by two, at every second half position; mirrored borders."""

    def cubic(x):
        x = np.abs(x)
        return np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))

    taps = np.append(cubic((np.arange(8) - 3.5) / 2) / 2, 0)  # nine, so that the centre is the fifth: half a step left
    for axis in (0, 1):
        plane = correlate1d(plane, taps, axis=axis, mode="reflect", origin=-1)
        plane = plane[::2] if axis == 0 else plane[:, ::2]
    return plane


def slow_brisque(image):
    features, plane = [], luminance(image).astype(float)
    for _ in range(2):
        mscn, _ = slow_mscn(plane, "constant")
        features += [slow_ggd(mscn), np.mean(mscn**2)]
        for shift in SHIFTS:
            shape, left, right = slow_aggd(mscn * np.roll(mscn, shift, axis=(0, 1)))
            mean = (right - left) * gamma(2 / shape) / gamma(1 / shape) * np.sqrt(gamma(1 / shape) / gamma(3 / shape))
            features += [shape, mean, left**2, right**2]
        plane = slow_halve(plane)
    return np.array(features)


def slow_niqe_blocks(image):
    height, width = (side // 96 * 96 for side in image.shape[:2])
    plane = luminance(image)[:height, :width].astype(float)
    rows = [[] for _ in range(height * width // 96**2)]
    sharpness = []
    for side in (96, 48):
        mscn, deviation = slow_mscn(plane, "nearest")
        corners = [(y, x) for y in range(0, len(plane), side) for x in range(0, plane.shape[1], side)]
        for row, (y, x) in zip(rows, corners, strict=True):
            block = mscn[y : y + side, x : x + side]
            if side == 96:
                sharpness.append(deviation[y : y + side, x : x + side].mean())
            for shift in (None, *SHIFTS):
                values = block if shift is None else block * np.roll(block, shift, axis=(0, 1))
                shape, left, right = slow_aggd(values)
                left, right = (std * np.sqrt(gamma(1 / shape) / gamma(3 / shape)) for std in (left, right))
                mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
                row += [shape, (left + right) / 2] if shift is None else [shape, mean, left, right]
        plane = slow_halve(plane)
    return np.array(rows), np.array(sharpness)


def slow_ms_ssim(first, second):
    terms = []
    for _ in range(4):
        terms.append(slow_ssim(first, second)[1])
        first, second = slow_halved(first), slow_halved(second)
    terms.append(slow_ssim(first, second)[0])
    return float(np.prod(np.power(np.maximum(terms, 0), (0.0448, 0.2856, 0.3001, 0.2363, 0.1333))))


def slow_gmsd(first, second):
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for plane in (first, second):
        padded = np.pad(plane, [(0, side % 2) for side in plane.shape])
        low = padded.reshape(len(padded) // 2, 2, -1, 2).mean(axis=(1, 3))
        magnitudes.append(np.hypot(*(correlate(low, kernel, mode="constant") for kernel in (prewitt, prewitt.T))))
    one, other = magnitudes
    return ((2 * one * other + 170) / (one**2 + other**2 + 170)).std(ddof=1)


def slow_noise(plane):
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    return np.sqrt(np.pi / 2) * np.abs(correlate(plane, mask)[1:-1, 1:-1]).mean() / 6
