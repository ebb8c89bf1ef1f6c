"""Resize and central crop in one step, on uint8, equal to Pillow's pixel by pixel.

Pillow's resampling (and therefore torchvision's Resize on Pillow images) is two passes of fixed-point sums, rounded to
uint8 after each. The same sums are computed here, but only for the pixels that survive the crop, straight from the
decoder's array, and without holding the GIL. The pass across always comes first; Pillow 13 takes the pass down first
for some images that lose far more height than width, which moves a few values by one level.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numba import njit

_BITS = 22  # fractional bits of the weights, as in Pillow
_HALF = np.int32(1 << (_BITS - 1))


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _cubic(x: float, a: float = -0.5) -> float:
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def _lanczos3(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(x * math.pi) / (x * math.pi)


_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {  # the kernel and its radius
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos3, 3.0),
}


def resize_and_crop(
    pixels: np.ndarray,
    *,
    resize: int | None,
    crop: int | None,
    interpolation: str,
    mode: str,
    long_side: int | None = None,
) -> np.ndarray:
    """pixels: uint8 (H, W, 3) -> uint8 (h, w, 3), contiguous.

    `resize`, `crop`, `interpolation`, `mode`, `long_side`: as in `Preprocessing`. Sizes and offsets are those of
    torchvision's Resize(int) and CenterCrop; where the resized image is smaller than the crop, zeros fill the rest.
    """
    height, width = pixels.shape[:2]
    new_height, new_width = _limited(*_resized(height, width, resize, mode), long_side)
    top, bottom = _window(new_height, crop)
    left, right = _window(new_width, crop)
    if (new_height, new_width) == (height, width):
        kept = pixels[top:bottom, left:right]
    elif interpolation == "nearest":
        rows, columns = _nearest(height, new_height), _nearest(width, new_width)
        kept = pixels[rows[top:bottom, None], columns[left:right]]
    else:
        across = _weights(width, new_width, interpolation, left, right)
        down = _weights(height, new_height, interpolation, top, bottom)
        kept = _resample(np.ascontiguousarray(pixels), *across, *down)
    if crop is None or kept.shape[:2] == (crop, crop):
        return np.ascontiguousarray(kept)
    return _on_black(kept, crop)


def _resized(height: int, width: int, resize: int | None, mode: str) -> tuple[int, int]:
    if resize is None:
        return height, width
    if mode == "stretch":
        return resize, resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _limited(height: int, width: int, long_side: int | None) -> tuple[int, int]:
    """The same proportions with neither side above the limit."""
    longest = max(height, width)
    if long_side is None or longest <= long_side:
        return height, width
    return max(1, round(height * long_side / longest)), max(1, round(width * long_side / longest))


def _window(side: int, crop: int | None) -> tuple[int, int]:
    """First and one past the last pixel of the central crop; the whole side where it is smaller."""
    if crop is None or crop >= side:
        return 0, side
    first = round((side - crop) / 2.0)
    return first, first + crop


def _on_black(kept: np.ndarray, crop: int) -> np.ndarray:
    page = np.zeros((crop, crop, 3), np.uint8)
    top, left = ((crop - side) // 2 for side in kept.shape[:2])
    page[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    return page


@lru_cache(maxsize=1024)
def _nearest(n_in: int, n_out: int) -> np.ndarray:
    """The input position of each output pixel; steps are summed one by one, as Pillow does."""
    scale = n_in / n_out
    steps = np.full(n_out, scale)
    steps[0] = scale * 0.5
    return np.add.accumulate(steps).astype(np.intp)


@lru_cache(maxsize=1024)
def _weights(n_in: int, n_out: int, interpolation: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """For each output pixel first..last: where its window begins (int32), and its fixed-point weights (int32, 2-D).

    Rows are padded with zero weights to the longest window; padding never reaches beyond the input.
    """
    kernel, radius = _FILTERS[interpolation]
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    reach = radius * stretch
    starts = np.zeros(last - first, np.int32)
    windows = []
    for index, position in enumerate(range(first, last)):
        centre = (position + 0.5) * scale
        begin = max(int(centre - reach + 0.5), 0)
        end = min(int(centre + reach + 0.5), n_in)
        values = [kernel((x - centre + 0.5) / stretch) for x in range(begin, end)]
        total = sum(values)
        fixed = [value / total * (1 << _BITS) if total else value * (1 << _BITS) for value in values]
        starts[index] = begin
        windows.append([int(value - 0.5) if value < 0 else int(value + 0.5) for value in fixed])
    longest = max(len(window) for window in windows)
    weights = np.zeros((len(windows), longest), np.int32)
    for index, window in enumerate(windows):
        shift = max(starts[index] + longest - n_in, 0)
        starts[index] -= shift
        weights[index, shift : shift + len(window)] = window
    return starts, weights


@njit(nogil=True, cache=True)
def _resample(
    pixels: np.ndarray, lefts: np.ndarray, across: np.ndarray, tops: np.ndarray, down: np.ndarray
) -> np.ndarray:
    """Horizontal, then vertical pass; only the input rows that some output row needs."""
    n_rows, n_columns = len(tops), len(lefts)
    taps_x, taps_y = across.shape[1], down.shape[1]
    first = tops[0]
    last = tops[n_rows - 1] + taps_y
    narrow = np.empty((last - first, n_columns * 3), np.uint8)
    for y in range(first, last):
        for x in range(n_columns):
            red = green = blue = _HALF
            start = lefts[x]
            for tap in range(taps_x):
                weight = across[x, tap]
                red += weight * np.int32(pixels[y, start + tap, 0])
                green += weight * np.int32(pixels[y, start + tap, 1])
                blue += weight * np.int32(pixels[y, start + tap, 2])
            narrow[y - first, 3 * x] = min(max(red >> _BITS, 0), 255)
            narrow[y - first, 3 * x + 1] = min(max(green >> _BITS, 0), 255)
            narrow[y - first, 3 * x + 2] = min(max(blue >> _BITS, 0), 255)
    out = np.empty((n_rows, n_columns, 3), np.uint8)
    flat = out.reshape(n_rows, n_columns * 3)
    sums = np.empty(n_columns * 3, np.int32)
    for y in range(n_rows):
        sums[:] = _HALF
        for tap in range(taps_y):
            weight = down[y, tap]
            row = narrow[tops[y] - first + tap]
            for i in range(n_columns * 3):
                sums[i] += weight * np.int32(row[i])
        for i in range(n_columns * 3):
            flat[y, i] = min(max(sums[i] >> _BITS, 0), 255)
    return out
