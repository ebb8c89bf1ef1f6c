"""Rows by group: which have label 7, which are near-duplicates, which show the same; a page costs what it shows.

Two memory-mapped arrays beside the manifest: `<name>.rows.npy` (the rows, group after group, ascending inside) and
`<name>.offsets.npy` (groups + 1; group g is rows[offsets[g]:offsets[g + 1]]).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpora.files import load_npy, save_npy

LABELS = "labels"
DUPLICATES = "duplicates"
SOURCES = "sources"  # by source content

Rows = npt.NDArray[np.int64]


class GroupedRows:
    """Reads groups. Raises FileNotFoundError when the corpus has no such grouping."""

    def __init__(self, directory: Path, name: str) -> None:
        self._rows = load_npy(directory / f"{name}.rows.npy")
        self._offsets = load_npy(directory / f"{name}.offsets.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def size(self, group: int) -> int:
        return int(self._offsets[group + 1] - self._offsets[group]) if 0 <= group < len(self) else 0

    def sizes(self) -> Rows:
        return np.diff(self._offsets)

    def rows(self, group: int, start: int = 0, stop: int | None = None) -> Rows:
        """Rows `start` to `stop` of one group; empty for a group that does not exist."""
        if not 0 <= group < len(self):
            return np.empty(0, np.int64)
        first, last = int(self._offsets[group]), int(self._offsets[group + 1])
        stop = last if stop is None else min(last, first + stop)
        return np.array(self._rows[min(last, first + start) : stop])


def write_by_value(directory: Path, name: str, values: npt.NDArray[np.int32]) -> None:
    """Group rows by a value 0, 1, ... each; -1 belongs to none."""
    kept = np.flatnonzero(values >= 0)
    order = kept[np.argsort(values[kept], kind="stable")]
    counts = np.bincount(values[kept]) if len(kept) else np.empty(0, np.int64)
    _write(directory, name, order, counts)


def write_groups(directory: Path, name: str, groups: list[list[int]]) -> None:
    """Keep groups as they are given."""
    rows = np.array([row for group in groups for row in group], dtype=np.int64)
    _write(directory, name, rows, np.array([len(group) for group in groups], dtype=np.int64))


def _write(directory: Path, name: str, rows: Rows, counts: Rows) -> None:
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    save_npy(directory / f"{name}.rows.npy", rows.astype(np.int64))
    save_npy(directory / f"{name}.offsets.npy", offsets)
