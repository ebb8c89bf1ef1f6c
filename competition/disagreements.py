"""The rows on which two models differ, bounded: of every two classes the most confident ones. Arrays in, arrays out."""

from collections.abc import Callable, Sequence

import numpy as np

from corpora.taxonomy import LevelTable
from models_zoo.engine.scores import missing_class

ROW = np.dtype(
    [
        ("row", "<i8"), ("class_a", "<u4"), ("class_b", "<u4"), ("confidence_a", "<f4"), ("confidence_b", "<f4"),
        ("level", "<u2"),
    ]
)  # fmt: skip
BLOCK_ROWS = 1 << 18


def collect_disagreements(
    classes: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray | None],
    levels: LevelTable,
    *,
    per_label_pair: int,
    most: int,
    progress: Callable[[int, int], None] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> tuple[np.ndarray, int]:
    """The rows on which two models predict different classes, best first, and how many there are in all.

    classes, confidences: of the two models, (n_rows,) each; no confidences count as 1. Order: distance descending, the
    smaller confidence descending, row ascending. Of rows with the same two predictions the first ``per_label_pair`` are
    kept, of all rows the first ``most``; memory is bounded by ``most`` and the block. Rows without an answer of either
    model are no disagreement.
    """
    n_rows, total = len(classes[0]), 0
    kept = np.empty(0, ROW)
    for start in range(0, n_rows, block_rows):
        stop = min(start + block_rows, n_rows)
        found = _block(classes, confidences, levels, start, stop)
        total += len(found)
        kept = _best(np.concatenate([kept, found]), per_label_pair, most)
        if progress is not None:
            progress(stop, n_rows)
    return kept, total


def _block(
    classes: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray | None],
    levels: LevelTable,
    start: int,
    stop: int,
) -> np.ndarray:
    a, b = (np.asarray(column[start:stop]) for column in classes)
    differs = (a != b) & (a != missing_class(a.dtype)) & (b != missing_class(b.dtype))
    at = np.flatnonzero(differs)
    rows = np.empty(len(at), ROW)
    rows["row"] = at + start
    rows["class_a"], rows["class_b"] = a[at], b[at]
    for name, column in zip(("confidence_a", "confidence_b"), confidences, strict=True):
        rows[name] = 1.0 if column is None else column[start:stop][at]
    rows["level"] = levels.ranks[a[at], b[at]]
    return rows


def _best(rows: np.ndarray, per_label_pair: int, most: int) -> np.ndarray:
    """In order, cut per pair of labels and in all. Cutting early loses nothing: the order of rows never changes, and a
    row leaves its pair of labels only for better ones."""
    least = np.minimum(rows["confidence_a"], rows["confidence_b"])
    rows = rows[np.lexsort((rows["row"], -least, -rows["level"].astype(np.int32)))]
    label = rows["class_a"].astype(np.uint64) << np.uint64(32) | rows["class_b"]
    by_label = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(label[by_label]) != 0]) if len(rows) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, len(rows)])
    place = np.empty(len(rows), np.int64)
    place[by_label] = np.arange(len(rows)) - np.repeat(starts, sizes)
    return rows[place < per_label_pair][:most]
