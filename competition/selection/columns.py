"""What models said, read in blocks of rows: checks, and the integer form in which the kernels compare.

A *column* holds one value per row of the corpus: a numpy array, a memory map, or anything with a length, a dtype and
slices that give arrays. Confidences are compared by their bits: for numbers that are not negative, the order of IEEE
floats is the order of their bit patterns, so float16 needs no conversion and ties are exact.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

MAX_CONFIDENCE = 1.001  # a softmax in half precision may round a little above 1; percentages must not pass


class Column(Protocol):
    """One value per row; `column[start:stop]` gives them as an array."""

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class SelectionError(ValueError):
    """Input that selection cannot work on; the message names the model and the row."""


def check_columns(classes: Sequence[Column], confidences: Sequence[Column] | None, hashes: Column | None) -> int:
    """The number of rows that all columns have. Raises SelectionError where they differ or hold the wrong kind."""
    lengths = [len(column) for column in classes]
    if len(set(lengths)) > 1:
        raise SelectionError(
            f"models have different numbers of rows: {lengths}; score all of them over the same corpus"
        )
    for model, column in enumerate(classes):
        if np.dtype(column.dtype).kind not in "iu":
            raise SelectionError(f"model {model}: classes must be whole numbers, not {column.dtype}")
    if confidences is not None:
        if len(confidences) != len(classes):
            raise SelectionError(f"{len(classes)} models have classes but {len(confidences)} have confidences")
        for model, column in enumerate(confidences):
            if len(column) != lengths[0]:
                raise SelectionError(f"model {model} has {lengths[0]} classes but {len(column)} confidences")
            if np.dtype(column.dtype).kind != "f":
                raise SelectionError(f"model {model}: confidences must be floating-point numbers, not {column.dtype}")
    if hashes is not None and len(hashes) != lengths[0]:
        raise SelectionError(f"{lengths[0]} rows have {len(hashes)} perceptual hashes")
    return lengths[0]


@cache
def class_kind(n_classes: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every class and one mark beside them."""
    return np.dtype(np.uint16 if n_classes < np.iinfo(np.uint16).max else np.uint32)


def confidence_kind(confidences: Sequence[Column]) -> np.dtype[Any]:
    """float16 if every column is, float32 otherwise: what confidences are compared as."""
    half = all(np.dtype(column.dtype) == np.float16 for column in confidences)
    return np.dtype(np.float16 if half else np.float32)


@cache
def threshold_bits(threshold: float, kind: np.dtype[Any]) -> int:
    """The bits of `threshold` rounded to the precision of the confidences, so that a stored 0.8 passes 0.8."""
    return int(as_bits(np.array([threshold], dtype=kind))[0])


def as_bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats seen as unsigned integers of the same width, without a copy."""
    return values.view(f"u{values.dtype.itemsize}")


def read_classes(column: Column, start: int, stop: int, n_classes: int, model: int) -> npt.NDArray[Any]:
    """Rows start..stop of a class column in `class_kind`. Raises SelectionError for a class outside 0..n_classes-1."""
    block = np.asarray(column[start:stop])
    if block.size and (block.max() >= n_classes or (block.dtype.kind == "i" and block.min() < 0)):
        bad = int(np.flatnonzero((block < 0) | (block >= n_classes))[0])
        raise SelectionError(
            f"model {model} predicts class {block[bad]} at row {start + bad}; "
            f"the taxonomy has classes 0 to {n_classes - 1}"
        )
    return np.ascontiguousarray(block, dtype=class_kind(n_classes))


def read_confidences(column: Column, start: int, stop: int, kind: np.dtype[Any], model: int) -> npt.NDArray[Any]:
    """Rows start..stop of a confidence column as bits of `kind`. Raises SelectionError for NaN and outside of 0..1."""
    block = np.ascontiguousarray(column[start:stop], dtype=kind)
    bits = as_bits(block)
    if bits.size and bits.max() > threshold_bits(MAX_CONFIDENCE, kind):  # NaN and negative numbers have high bits too
        bad = np.flatnonzero(~((block >= 0) & (block <= MAX_CONFIDENCE)))
        if bad.size:
            raise SelectionError(
                f"model {model} has confidence {block[bad[0]]} at row {start + int(bad[0])}; "
                "confidences lie between 0 and 1"
            )
        bits = as_bits(np.abs(block))  # what is left is -0.0
    return bits


def gather(column: Column, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The values at a few rows, also of columns that only know slices."""
    if isinstance(column, np.ndarray):
        return column[rows]
    values = [np.asarray(column[row : row + 1])[0] for row in rows.tolist()]
    return np.array(values, dtype=column.dtype)
