"""Batches of which the first half are base labels, the second half found ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from training.engine.labels import LabelledRows
from training.methods.unique.pairs import Scales, pairs_of

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """pixels: uint8 (n, h, w, 3); mos, std: (n,) float32, NaN where there is none; label: (n,) int64."""

    pixels: torch.Tensor
    mos: torch.Tensor
    std: torch.Tensor
    label: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(part.to(device) for part in (self.pixels, self.mos, self.std, self.label)))


@dataclass(frozen=True)
class Half:
    """The labels of one origin. scales: of quality labels, None for classes."""

    rows: LabelledRows
    scales: Scales | None

    @classmethod
    def of(cls, rows: LabelledRows, *, what: str, is_quality: bool) -> "Half":
        """Raises LabelsError when quality labels hold no pair."""
        return cls(rows, Scales(rows, what=what) if is_quality else None)

    def draw(self, n: int, rng: np.random.Generator) -> Places:
        """(n,) places in the rows: of one scale, if there are scales; none twice as long as there are enough."""
        if self.scales is not None:
            return self.scales.draw(n, rng)
        return rng.choice(len(self.rows), size=n, replace=len(self.rows) < n)


def pairs_within(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(first, second), each (2, pairs): all pairs inside the first half of a batch of n, and inside the second."""
    first, second = pairs_of(n // 2, "all")
    return torch.stack((first, first + n // 2)), torch.stack((second, second + n // 2))
