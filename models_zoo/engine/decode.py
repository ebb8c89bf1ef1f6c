"""Rows of a corpus as uint8 batches of one geometry."""

from collections.abc import Sequence

import numpy as np

from corpora.imaging.decode import UndecodableImage, decode_rgb
from models_zoo.adapters.spec import Preprocessing
from models_zoo.engine.resample import resize_and_crop


class MixedSizes(ValueError):
    """Images of several sizes for a version that sees them whole."""


def fit(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (h, w, 3) as the geometry of the preprocessing demands."""
    return resize_and_crop(
        pixels,
        resize=preprocessing.resize,
        crop=preprocessing.crop,
        interpolation=preprocessing.interpolation,
        mode=preprocessing.resize_mode,
        long_side=preprocessing.long_side,
    )


def decode_batch(
    images: "Sequence[bytes | OSError] | np.ndarray", preprocessing: Preprocessing
) -> tuple[np.ndarray, dict[int, str]]:
    """(pixels uint8 (n, h, w, 3), why some could not be decoded by their position); those are black.

    `images`: encoded files or what went wrong reading them, or packed pixels (n, H, W, 3).
    Raises MixedSizes when images are taken whole and differ in size.
    """
    failures: dict[int, str] = {}
    fitted: list[np.ndarray | None] = []
    for position, image in enumerate(images):
        try:
            fitted.append(fit(pixels_of(image), preprocessing))
        except UndecodableImage as error:
            failures[position] = error.reason
            fitted.append(None)
    sizes = {image.shape for image in fitted if image is not None}
    if len(sizes) > 1:
        seen = " and ".join(sorted(f"{width} x {height}" for height, width, _ in list(sizes)[:2]))
        raise MixedSizes(
            f"a version that sees images whole got images of {seen}: set resize and crop in its preprocessing"
        )
    side = preprocessing.input_size or 1
    shape = sizes.pop() if sizes else (side, side, 3)
    batch = np.zeros((len(fitted), *shape), np.uint8)
    for position, pixels in enumerate(fitted):
        if pixels is not None:
            batch[position] = pixels
    return batch, failures


def pixels_of(image: bytes | OSError | np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of an encoded file or packed pixels. Raises UndecodableImage, also for a file not read."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, OSError):
        raise UndecodableImage(f"the file cannot be read: {image.strerror or image}")
    return decode_rgb(image)
