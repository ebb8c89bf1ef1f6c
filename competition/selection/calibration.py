"""The common scale of a gMAD competition: each model's scores mapped to 0..100, order kept (gMAD, CVPR 2016).

With a subject-rated set, a logistic of four parameters is fitted to it (`labeling.psychometrics.logistic`). Without
one, scores are mapped by their own quantiles over the corpus. Scores are oriented before: higher = better. NaN is a row
that a model did not score, and stays NaN; an infinite score is an error.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from competition.selection.columns import Column
from competition.selection.gmad_columns import order_statistics, summarise
from labeling.psychometrics.logistic import SCALE, CalibrationError, model_named

KNOTS = 1_001  # of a quantile map: a tenth of a point apart

FloatArray = npt.NDArray[np.float64]


class Scale(Protocol):
    """A monotone map of scores: NaN stays NaN."""

    def apply(self, x: npt.ArrayLike, /) -> FloatArray: ...


@dataclass(frozen=True)
class QuantileMap:
    """Scores to 0..100 by their place among the scores of a corpus: 0 the lowest, 100 the highest, linear in between.

    scores: (k,) rising; values: (k,) what they map to. Scores outside map to 0 and 100.
    """

    scores: FloatArray
    values: FloatArray

    def apply(self, x: npt.ArrayLike) -> FloatArray:
        """Calibrated scores, any shape."""
        return np.interp(np.asarray(x, dtype=np.float64), self.scores, self.values)


@dataclass(frozen=True)
class Calibrated:
    """A column seen through a scale: calibrated as it is read, block by block, and stored nowhere."""

    column: Column
    scale: Scale

    @property
    def dtype(self) -> Any:
        return np.dtype(np.float32 if np.dtype(self.column.dtype).itemsize <= 4 else np.float64)

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: slice, /) -> Any:
        return self.scale.apply(self.column[rows]).astype(self.dtype)


def quantile_map(column: Column, *, model: str = "", knots: int = KNOTS) -> QuantileMap:
    """The quantile map of a column, read in blocks. Scores that occur often map to the middle of their places.

    Raises CalibrationError for a column with fewer than two different scores, SelectionError for infinite ones.
    """
    n_scored = summarise(column, model).n_scored
    if n_scored < 2:
        raise CalibrationError(f"{model_named(model)} has scored {n_scored} images: a scale needs at least two")
    places = np.unique(np.round(np.linspace(0, n_scored - 1, min(n_scored, knots))).astype(np.int64))
    at = order_statistics(column, places)
    scores, which = np.unique(at, return_inverse=True)
    if scores.size < 2:
        raise CalibrationError(
            f"{model_named(model)} gives every image the same score, {scores[0]:g}: it cannot take part"
        )
    share = SCALE[0] + (SCALE[1] - SCALE[0]) * places / (n_scored - 1)
    values = np.bincount(which, weights=share) / np.bincount(which)
    values[0], values[-1] = SCALE
    return QuantileMap(scores, values)
