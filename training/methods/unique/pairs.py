"""Which images share a batch, and which of them are compared: only those of one scale."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from training.engine.labels import LabelledRows, LabelsError

Places = npt.NDArray[np.int64]


class Scales:
    """Rows by their scale, of which batches are drawn.

    Raises LabelsError when no scale has two images of different opinion scores.
    """

    def __init__(self, rows: LabelledRows, *, what: str = "the training split") -> None:
        groups = [np.flatnonzero(rows.scale == scale) for scale in np.unique(rows.scale)]
        self._groups = [group for group in groups if len(group) > 1 and np.ptp(rows.mos[group]) > 0]
        if not self._groups:
            raise LabelsError(
                f"{what} has {len(rows)} images and in no scale two of different opinion scores: there is no pair to "
                "learn from; add sources with others"
            )
        sizes = np.array([len(group) for group in self._groups], np.float64)
        self._shares = sizes / sizes.sum()

    def draw(self, n: int, rng: np.random.Generator) -> Places:
        """(n,) places in the rows, all of one scale, which is drawn in proportion to its images; none twice as long as
        there are enough."""
        group = self._groups[rng.choice(len(self._groups), p=self._shares)]
        return rng.choice(group, size=n, replace=len(group) < n)


def pairs_of(n: int, which: Literal["drawn", "all"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (first, second) in a batch of n: two and two, or every pair once."""
    if which == "all":
        first, second = torch.triu_indices(n, n, offset=1).unbind()
        return first, second
    places = torch.arange(n - n % 2)
    return places[0::2], places[1::2]
