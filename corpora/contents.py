"""Which rows show the same source content, and which row is the pristine reference of which.

Two int64 arrays beside the manifest, one entry a row, -1 = none: `references.npy` (row of the reference; a pristine
image refers to itself) and `contents.npy` (number of the content group, by first occurrence). Each is written where the
manifest has any reference or group; rows by group are in `sources.*.npy` (`corpora.grouped`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpora import grouped
from corpora.files import save_npy
from corpora.manifest import Manifest

REFERENCES = "references.npy"
CONTENTS = "contents.npy"
_EXAMPLES = 5

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """n_groups: source contents; n_referred: rows whose reference is a row; n_lost: rows whose reference is not."""

    n_groups: int = 0
    n_referred: int = 0
    n_lost: int = 0
    lost: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        return {
            "groups": self.n_groups,
            "referred": self.n_referred,
            "lost_references": {"rows": self.n_lost, "examples": list(self.lost)},
        }


def write_contents(directory: Path) -> Contents:
    """Derive both arrays from the finished manifest."""
    manifest = Manifest(directory)
    groups, names = _numbered(manifest, "group")
    if len(names):
        save_npy(directory / CONTENTS, groups)
        grouped.write_by_value(directory, grouped.SOURCES, groups.astype(np.int32))
    numbers, paths = _numbered(manifest, "reference")
    if not len(paths):
        return Contents(n_groups=len(names))
    row_of = np.append(manifest.rows_of_paths(paths), -1)  # the last entry serves rows without a reference
    references = row_of[numbers]
    save_npy(directory / REFERENCES, references)
    lost = (references < 0) & (numbers >= 0)
    examples = tuple(paths[number] for number in np.unique(numbers[lost])[:_EXAMPLES])
    return Contents(len(names), int((references >= 0).sum()), int(lost.sum()), examples)


def _numbered(manifest: Manifest, column: str) -> tuple[Rows, list[str]]:
    """A text column as numbers by first occurrence (-1 = null), and the texts by number."""
    encoded = pa.chunked_array([batch.column(0) for batch in manifest.batches([column])], pa.string())
    encoded = encoded.dictionary_encode().combine_chunks()
    numbers = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.int64), encoded.dictionary.to_pylist()
