"""Photographs that scikit-image carries, and what spoils them."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

SHARED = Path(os.environ.get("FALSIFY_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
NAMES = ("astronaut", "coffee", "chelsea")


def photograph(name: str) -> np.ndarray:
    return np.ascontiguousarray(getattr(data, name)())


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(image, (sigma, sigma, 0))


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def constant(level: int = 128, side: int = 200) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)
