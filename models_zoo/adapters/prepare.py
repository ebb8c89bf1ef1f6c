"""From uint8 pixels to network input, as a torch module, so that it travels inside exported graphs."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from models_zoo.adapters.spec import Preprocessing

# ITU-R 601 luma in 16 fractional bits, as Pillow's convert("L"); every sum stays below 2**24, so float32 is exact.
_LUMA = (19_595.0, 38_470.0, 7_471.0)
_LUMA_HALF, _LUMA_ONE = 32_768.0, 65_536.0


class Prepared(nn.Module):
    """pixels: uint8 (N, H, W, 3) in RGB -> what the inner network makes of the normalised float32 (N, C, H, W).

    Mean and deviation become one multiplication and one addition on the 0..255 scale.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.channels = preprocessing.channels
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        unit = preprocessing.range / 255
        shape = (1, preprocessing.n_channels, 1, 1)
        self.register_buffer("scale", (unit / std).float().expand(preprocessing.n_channels).reshape(shape).clone())
        self.register_buffer("shift", (-mean / std).float().expand(preprocessing.n_channels).reshape(shape).clone())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.permute(0, 3, 1, 2).float()
        if self.channels == "bgr":
            x = torch.cat((x[:, 2:3], x[:, 1:2], x[:, 0:1]), dim=1)
        elif self.channels == "grey":
            weighted = x[:, 0:1] * _LUMA[0] + x[:, 1:2] * _LUMA[1] + x[:, 2:3] * _LUMA[2]
            x = torch.floor((weighted + _LUMA_HALF) / _LUMA_ONE)
        return self.network(x * self.scale + self.shift)


def in_batches(run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, batch: int | None) -> np.ndarray:
    """Scores of all images through a network of fixed batch size; the last batch is filled with its last image."""
    if batch is None:
        return run(pixels)
    padded = -len(pixels) % batch
    filled = np.concatenate([pixels, np.repeat(pixels[-1:], padded, axis=0)]) if padded else pixels
    parts = [run(filled[start : start + batch]) for start in range(0, len(filled), batch)]
    return np.concatenate(parts)[: len(pixels)]
