"""Pictures of several sizes, quality weights and measures for the tests of quality versions."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = ((96, 64), (64, 96), (96, 64), (80, 80), (96, 64), (20, 90), (64, 96))  # width and height, in turn


def photograph(number: int, width: int, height: int) -> np.ndarray:
    """A smooth random picture with some noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = [np.sin(x * rng.uniform(0.2, 2) + y * rng.uniform(0.2, 2) + rng.uniform(0, 6)) for _ in range(3)]
    noise = rng.normal(0, 1 + 6 * (number % 5), (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def save_photographs(folder: Path, n: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[str]:
    """``n`` PNG files, sizes in turn; their names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.png" for number in range(n)]
    for number, name in enumerate(names):
        Image.fromarray(photograph(number, *sizes[number % len(sizes)])).save(folder / name)
    return names


def save_quality_weights(file: Path, *, architecture: str = "unique_small", seed: int = 0, **kwargs: Any) -> Path:
    """A freshly initialised quality network whose scores differ well between pictures."""
    import torch

    from models_zoo.architectures import build

    torch.manual_seed(seed)
    module = build(architecture, **kwargs)
    for name, value in module.named_parameters():
        if name == "fc.weight":
            value.data.mul_(30)
    torch.save(module.state_dict(), file)
    return file


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
