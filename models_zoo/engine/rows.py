"""Where the images of a corpus come from, by row number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Encoded = bytes | OSError  # the file's content, or why it could not be read


class RowSource(Protocol):
    """`digest`: identifies the corpus content; it enters the header of the scores."""

    digest: str

    def __len__(self) -> int: ...

    def read(self, rows: range) -> "list[Encoded] | np.ndarray":
        """The images of consecutive rows: encoded files, or packed pixels uint8 (n, H, W, 3)."""
        ...


class FolderRows:
    """Image files under a folder, one path per row. Files that cannot be read become rows without a score."""

    def __init__(self, root: Path, paths: "Sequence[str] | pa.ChunkedArray", *, digest: str) -> None:
        self.root = root
        self.digest = digest
        self._paths = paths if isinstance(paths, pa.ChunkedArray) else pa.chunked_array([pa.array(paths, pa.string())])

    @classmethod
    def from_manifest(cls, manifest: Path, root: Path, *, digest: str, column: str = "path") -> Self:
        """Rows in the order of a Parquet manifest; only its path column is read."""
        return cls(root, pq.read_table(manifest, columns=[column]).column(column), digest=digest)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, rows: range) -> list[Encoded]:
        names = self._paths.slice(rows.start, len(rows)).to_pylist()
        return [_read(self.root / name) for name in names]


class PackedRows:
    """Small images of one size in a single uint8 array (rows, H, W) or (rows, H, W, 1 or 3), memory-mapped.

    Raises ValueError for an array of another type or shape.
    """

    def __init__(self, pixels: np.ndarray, *, digest: str) -> None:
        grey = pixels[..., None] if pixels.ndim == 3 else pixels
        if pixels.dtype != np.uint8 or grey.ndim != 4 or grey.shape[3] not in {1, 3}:
            raise ValueError(
                f"packed images are uint8 (rows, height, width[, 1 or 3]), not {pixels.dtype}{pixels.shape}"
            )
        self.digest = digest
        self._pixels = grey

    @classmethod
    def from_file(cls, file: Path, *, digest: str) -> Self:
        return cls(np.load(file, mmap_mode="r", allow_pickle=False), digest=digest)

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, rows: range) -> np.ndarray:
        pixels = np.asarray(self._pixels[rows.start : rows.stop])
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))


def _read(file: Path) -> Encoded:
    try:
        return file.read_bytes()
    except OSError as error:
        return error
