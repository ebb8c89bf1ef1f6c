"""The images on which two models disagree most, without caps: what one browses before any label is spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from competition.selection.columns import (
    Column,
    SelectionError,
    check_columns,
    confidence_kind,
    gather,
    read_classes,
    read_confidences,
    threshold_bits,
)
from corpora.taxonomy import LevelTable

BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Disagreements:
    """Rows best first: distance descending, smaller confidence descending, row ascending.

    rows: (n,) int64; class_i, class_j: (n,); distance: (n,) float64; confidence_i, confidence_j: (n,) as stored, or
    None; n_matching: how many rows pass the filters in all, beyond the page that is returned.
    """

    rows: npt.NDArray[np.int64]
    class_i: npt.NDArray[np.int64]
    class_j: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    confidence_i: npt.NDArray[Any] | None
    confidence_j: npt.NDArray[Any] | None
    n_matching: int


def explore(
    classes: tuple[Column, Column],
    confidences: tuple[Column, Column] | None,
    levels: LevelTable,
    *,
    n: int = 100,
    offset: int = 0,
    label: int | None = None,
    label_i: int | None = None,
    label_j: int | None = None,
    min_confidence: float = 0.0,
    min_distance: float = 0.0,
    max_distance: float = np.inf,
) -> Disagreements:
    """Rows offset .. offset + n of the disagreements of two models that pass every filter.

    label: one of the two predicts it; label_i, label_j: the first or the second model predicts it; min_confidence: both
    are at least that confident (no filter without confidences); distances are bounds on the distance, both inclusive.
    One pass in blocks; memory grows with offset + n. Raises SelectionError as `mad.select` does.
    """
    if n < 1 or offset < 0:
        raise SelectionError(f"{n} rows from {offset} on: at least one row, from 0 on")
    n_rows = check_columns(classes, confidences, None)
    kept_keys, kept_rows = np.empty(0, np.uint64), np.empty(0, np.int64)
    n_matching, wanted = 0, offset + n
    for start in range(0, n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n_rows)
        a, b = (read_classes(column, start, stop, levels.n_classes, at) for at, column in enumerate(classes))
        keep = (a != b) & _labels_pass(a, b, label, label_i, label_j)
        bits = _smaller_confidence(confidences, start, stop)
        if bits is not None and confidences is not None:
            keep &= bits >= threshold_bits(min_confidence, confidence_kind(confidences))
        at = np.flatnonzero(keep)
        rank = levels.ranks[a[at], b[at]]
        near = (levels.distances[rank] >= min_distance) & (levels.distances[rank] <= max_distance)
        at, rank = at[near], rank[near]
        n_matching += len(at)
        keys = rank.astype(np.uint64) << np.uint64(32)
        if bits is not None:
            keys |= bits[at].astype(np.uint64)
        kept_keys, kept_rows = _best(
            np.concatenate([kept_keys, keys]), np.concatenate([kept_rows, at.astype(np.int64) + start]), wanted
        )
    return _page((classes[0], classes[1]), confidences, levels, kept_rows[offset:], n_matching)


def _best(
    keys: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64], wanted: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The `wanted` highest keys, in order; equal ones in the order in which they stand."""
    if len(keys) > 4 * wanted:  # sort only what reaches the last place
        reaching = keys >= np.partition(keys, len(keys) - wanted)[len(keys) - wanted]
        keys, rows = keys[reaching], rows[reaching]
    order = np.argsort(~keys, kind="stable")[:wanted]
    return keys[order], rows[order]


def _labels_pass(
    a: npt.NDArray[Any], b: npt.NDArray[Any], label: int | None, label_i: int | None, label_j: int | None
) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(a), np.bool_)
    if label is not None:
        keep &= (a == label) | (b == label)
    if label_i is not None:
        keep &= a == label_i
    if label_j is not None:
        keep &= b == label_j
    return keep


def _smaller_confidence(confidences: Sequence[Column] | None, start: int, stop: int) -> npt.NDArray[Any] | None:
    if confidences is None:
        return None
    kind = confidence_kind(confidences)
    first, second = (read_confidences(column, start, stop, kind, at) for at, column in enumerate(confidences))
    smaller: npt.NDArray[Any] = np.minimum(first, second)
    return smaller


def _page(
    classes: tuple[Column, Column],
    confidences: tuple[Column, Column] | None,
    levels: LevelTable,
    rows: npt.NDArray[np.int64],
    n_matching: int,
) -> Disagreements:
    a, b = (gather(column, rows).astype(np.int64) for column in classes)
    first, second = (None, None) if confidences is None else (gather(column, rows) for column in confidences)
    return Disagreements(rows, a, b, levels.distance(a, b), first, second, n_matching)
