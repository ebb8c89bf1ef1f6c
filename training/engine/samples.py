"""Pictures that a run shows while it trains: PNG files under ``samples/``, listed in ``samples.jsonl``."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.engine.metrics import JsonLines, Read, read_lines

FOLDER = "samples"
FILE = "samples.jsonl"


class Samples:
    """Keeps pictures; their number is their place in the list, so that a resumed run names them alike."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / FOLDER
        self.folder.mkdir(exist_ok=True)
        self.lines = JsonLines(directory / FILE)
        self._n = len(read_lines(directory / FILE).lines)

    def cut(self, length: int) -> None:
        self.lines.cut(length)
        self._n = len(read_lines(self.lines.path).lines)

    def add(self, name: str, images: Sequence[np.ndarray], entry: dict[str, Any]) -> None:
        """images: uint8 (H, W, 3), (H, W, 1) or (H, W) each; one line of the list names them all."""
        for image in images:
            _require_picture(name, image)
        files = [f"{self._n:05d}-{slug(name)}-{index}.png" for index in range(len(images))]
        for file, image in zip(files, images, strict=True):
            _write_png(self.folder / file, image)
        self.lines.append({"name": name, "files": files, **entry})
        self._n += 1


def read_samples(directory: Path, after: int = 0) -> Read:
    """The list of the pictures (``name``, ``files`` under ``samples/``, ``caption``, ``stage``, ``step``, ``t``)."""
    return read_lines(directory / FILE, after)


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "x"


def _require_picture(name: str, image: np.ndarray) -> None:
    is_grey = getattr(image, "ndim", 0) == 2
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not (is_grey or image.shape[2:] in {(1,), (3,)}):
        found = f"{image.dtype}{image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f'sample "{name}" is {found}: give uint8 arrays (height, width, 3) or (height, width)')


def _write_png(file: Path, image: np.ndarray) -> None:
    temporary = file.with_suffix(".tmp")
    Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(temporary, "PNG")
    os.replace(temporary, file)
