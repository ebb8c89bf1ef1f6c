"""Small labelled images, all in memory: what robust training draws its batches from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models_zoo.adapters.spec import Preprocessing
from training.engine.labels import LabelledData, LabelledRows, LabelsError

MOST_BYTES = 4 * 2**30
_LUMA = np.array([19_595, 38_470, 7_471], np.uint32)  # ITU-R 601 in 16 fractional bits, as the zoo's "grey"


@dataclass(frozen=True)
class Pictures:
    """x: uint8 (N, C, side, side); y: int64 (N,) classes; indices: int64 (N,) places in the labelled set."""

    x: torch.Tensor
    y: torch.Tensor
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, side, side) of one image."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def preprocessing(self) -> Preprocessing:
        """How the zoo makes the same input from an image: fitted to the side, in [0, 1], nothing normalised."""
        channels, _, side = self.shape
        return _geometry(side, grey=channels == 1)

    def first(self, n: int) -> "Pictures":
        """The first n of them, all where there are fewer."""
        return Pictures(self.x[:n], self.y[:n], self.indices[:n])


def pictures(
    data: LabelledData,
    rows: LabelledRows,
    *,
    side: int | None = None,
    grey: bool = False,
    most: int | None = None,
    rng: np.random.Generator | None = None,
) -> Pictures:
    """The images of labelled rows, decoded once.

    side: pixels of the square that images are fitted to; None takes the shorter side of the first. most: at most so
    many, drawn by `rng` (without one: by a fixed seed), in the order of the rows.

    Raises LabelsError when there are none, one has no class, or they need more than 4 GiB.
    """
    if not len(rows):
        raise LabelsError("there are no images to learn from: the labelled set's split is empty")
    if most is not None and most < len(rows):
        drawn = (rng or np.random.default_rng(0)).choice(len(rows), most, replace=False)
        rows = rows.where(np.sort(drawn))
    if (rows.label < 0).any():
        path = rows.path[np.flatnonzero(rows.label < 0)[0]]
        raise LabelsError(f'image "{path}" has no class: choose a labelled set for classification')
    if side is None:
        side = min(data.pixels(int(rows.indices[0])).shape[:2])
    channels = 1 if grey else 3
    need = len(rows) * channels * side * side
    if need > MOST_BYTES:
        raise LabelsError(
            f"{len(rows):,} images of {side} x {side} pixels need {need / 2**30:.1f} GiB of memory, at most "
            f"{MOST_BYTES / 2**30:.0f} are taken: set a smaller side, or fewer images"
        )
    geometry = _geometry(side, grey=grey)
    x = np.empty((len(rows), channels, side, side), np.uint8)
    for at, index in enumerate(rows.indices):
        pixels = data.pixels(int(index), geometry)
        x[at] = _luma(pixels)[None] if grey else pixels.transpose(2, 0, 1)
    y = torch.from_numpy(rows.label.astype(np.int64))
    return Pictures(torch.from_numpy(x), y, rows.indices.astype(np.int64))


def plain_batch(p: Pictures, chosen: npt.NDArray[np.int64] | slice) -> torch.Tensor:
    """These images as they are: float32 (n, C, side, side) in [0, 1], channels_last."""
    return unit(p.x[torch.from_numpy(chosen) if isinstance(chosen, np.ndarray) else chosen])


def augmented(
    p: Pictures, chosen: npt.NDArray[np.int64], *, pad: int, flip: bool, rng: np.random.Generator
) -> torch.Tensor:
    """These images as they are learnt from: float32 (n, C, side, side) in [0, 1], channels_last.

    pad: each is shifted by up to so many pixels in both directions, black where it was not. flip: half are mirrored.
    """
    n, side = len(chosen), p.shape[2]
    x = p.x.numpy()[chosen]
    if pad:
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        top, left = rng.integers(2 * pad + 1, size=(2, n))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
        x = windows[np.arange(n), :, top, left]
    if flip:
        mirrored = rng.random(n) < 0.5
        x[mirrored] = x[mirrored, :, :, ::-1]
    return unit(torch.from_numpy(np.ascontiguousarray(x)))


def unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (n, C, H, W) -> float32 in [0, 1], channels_last."""
    return pixels.to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)


def _geometry(side: int, *, grey: bool) -> Preprocessing:
    return Preprocessing(resize=side, crop=side, channels="grey" if grey else "rgb")


def _luma(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return ((pixels.astype(np.uint32) @ _LUMA + 32_768) >> 16).astype(np.uint8)
