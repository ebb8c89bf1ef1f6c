"""Pictures that tests make."""

import io

import numpy as np
from PIL import Image


def photograph(seed: int = 0, width: int = 90, height: int = 70) -> Image.Image:
    """Smooth colours with some structure: compresses like a photograph, differs clearly between seeds."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
