"""Synthetic distortions: four kinds in five strengths, as in the original gMAD study.

Kinds and parameters: "Group MAD Competition: A New Methodology to Compare Objective Image Quality Models" (CVPR 2016)
and the generator that its authors released for distorting photographs in the same four ways. The paper names no
parameters of JPEG 2000; the generator has 0.46, 0.16, 0.07, 0.04 and 0.02 bits per pixel, which are compression to
1/52, 1/150, 1/343, 1/600 and 1/1200 of 24-bit pixels.

The same photograph, key and seed give the same bytes (with the same versions of NumPy, Pillow and their codecs).
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate1d

PRISTINE = "pristine"
LEVELS = 5

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Distortion:
    """One kind. parameter: what `values` are, by level 1 to 5; ending: of the files it gives.

    apply: (pixels, value, seeds of the random numbers) -> encoded file.
    """

    name: str
    title: str
    parameter: str
    values: tuple[float, ...]
    ending: str
    apply: Callable[[Pixels, float, list[int]], bytes]


def distort(pixels: Pixels, name: str, level: int, *, seed: int, key: str) -> tuple[bytes, str]:
    """(the encoded distorted image, its file's ending); "pristine" at level 0 gives the image itself.

    pixels: uint8 (height, width, 3). key: names the photograph, so that no two get the same noise.
    """
    if name == PRISTINE:
        return png(pixels), "png"
    kind = DISTORTIONS[name]
    digest = hashlib.sha256(f"{seed}\0{key}\0{name}\0{level}".encode()).digest()
    seeds = np.frombuffer(digest, np.uint32).tolist()
    return kind.apply(pixels, kind.values[level - 1], seeds), kind.ending


def blurred(pixels: Pixels, window: int) -> Pixels:
    """Gaussian blur: a window of `window` pixels a side, a standard deviation of a sixth of it, edges mirrored."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-0.5 * (offsets / (window / 6)) ** 2).astype(np.float32)
    weights /= weights.sum()
    smooth = pixels.astype(np.float32)
    for axis in (0, 1):
        smooth = correlate1d(smooth, weights, axis=axis, mode="reflect")
    return _to_bytes(smooth)


def noisy(pixels: Pixels, variance: float, seeds: list[int]) -> Pixels:
    """White Gaussian noise of this variance on the range [0, 1], independent in every pixel and channel."""
    noise = np.random.default_rng(seeds).standard_normal(pixels.shape, dtype=np.float32)
    return _to_bytes(pixels.astype(np.float32) + noise * np.float32(255 * variance**0.5))


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """libjpeg's quality 0 to 100 (0 is the same as 1), colours halved in both directions."""
    return _encoded(pixels, "JPEG", quality=quality, subsampling=2)


def jpeg2000(pixels: Pixels, ratio: float) -> Pixels:
    """Coded to 1/ratio of 24 bits per pixel (or as near as the coder gets on a small image) and decoded again."""
    data = _encoded(pixels, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def fitted(pixels: Pixels, size: tuple[int, int] | None) -> Pixels:
    """Scaled down, never up, until it just covers (width, height), then cut to at most that from its middle."""
    if size is None:
        return pixels
    height, width = pixels.shape[:2]
    scale = min(1.0, max(size[0] / width, size[1] / height))
    image = Image.fromarray(pixels)
    if scale < 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    wide, high = min(size[0], image.width), min(size[1], image.height)
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    return np.asarray(image.crop((left, top, left + wide, top + high)))


def png(pixels: Pixels) -> bytes:
    return _encoded(pixels, "PNG", compress_level=4)


def _encoded(pixels: Pixels, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _to_bytes(values: npt.NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


DISTORTIONS = {
    kind.name: kind
    for kind in (
        Distortion(
            "blur", "Gaussian blur", "window in pixels; standard deviation a sixth of it", (7, 15, 39, 91, 199), "png",
            lambda pixels, window, seeds: png(blurred(pixels, int(window))),
        ),
        Distortion(
            "noise", "White noise", "variance on [0, 1]", (2**-10, 2**-7.5, 2**-5.5, 2**-3.5, 1.0), "png",
            lambda pixels, variance, seeds: png(noisy(pixels, variance, seeds)),
        ),
        Distortion(
            "jpeg", "JPEG", "quality", (43, 12, 7, 4, 0), "jpg",
            lambda pixels, quality, seeds: jpeg(pixels, int(quality)),
        ),
        Distortion(
            "jpeg2000", "JPEG 2000", "compression ratio", (52, 150, 343, 600, 1200), "png",
            lambda pixels, ratio, seeds: png(jpeg2000(pixels, ratio)),
        ),
    )
}  # fmt: skip
