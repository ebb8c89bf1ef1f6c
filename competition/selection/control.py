"""The control arm: random rows, labelled under the same protocol, against which MAD selection is held."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from competition.selection.columns import SelectionError


def control_rows(
    n_rows: int, size: int, *, seed: int, exclude: npt.NDArray[np.int64] | Sequence[int] = ()
) -> npt.NDArray[np.int64]:
    """`size` different rows of 0..n_rows-1 in random order, none of `exclude`; fewer where there are not that many.

    The same arguments always give the same rows, whatever the order of `exclude`. Work and memory grow with `size` and
    `exclude`, not with `n_rows`. Raises SelectionError for negative numbers and excluded rows that do not exist.
    """
    if n_rows < 0 or size < 0:
        raise SelectionError(f"{size} rows out of {n_rows}: neither can be negative")
    taken = np.unique(np.asarray(exclude, dtype=np.int64))
    if len(taken) and (taken[0] < 0 or taken[-1] >= n_rows):
        raise SelectionError(
            f"excluded rows reach from {taken[0]} to {taken[-1]}; the corpus has rows 0 to {n_rows - 1}"
        )
    free = n_rows - len(taken)
    drawn = np.random.default_rng(seed).choice(free, min(size, free), replace=False).astype(np.int64)
    before = np.searchsorted(taken - np.arange(len(taken)), drawn, side="right")  # how many excluded rows lie below
    return drawn + before
