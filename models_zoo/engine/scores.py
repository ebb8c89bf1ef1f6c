"""The score store: what one version says about every row of one corpus, as columns on disk.

A store is a folder::

    scores.json              the header: what was scored, by what, in which shape
    parts/000000.npy ...     one file per finished shard, written atomically
    classes.npy              after `assemble`: uint16 or uint32, one per row, to be memory-mapped
    confidences.npy          after `assemble`: float32, one per row, to be memory-mapped

Confidences are float32: float16 has a spacing of 2**-11 just below 1, where most confidences lie, and would turn the
selection's tie-break by confidence into a lottery for the sake of two bytes a row.

A row whose image could not be decoded holds the sentinel `missing_class(dtype)` (the largest value of the class type)
and confidence 0. **Such a row never counts as a disagreement**: selection must skip it for every pair of versions that
includes this one.

Files hold nothing that depends on when or how often the work was interrupted: equal input gives equal bytes.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

_HEADER = "scores.json"
_PARTS = "parts"
_CLASSES = "classes.npy"
_CONFIDENCES = "confidences.npy"


class ScoreStoreError(ValueError):
    """The store does not fit what is asked of it, is unfinished or damaged."""


class DiskFull(ScoreStoreError):
    """No room for a part or a column; what was finished before is intact."""


@dataclass(frozen=True)
class ScoreHeader:
    """`version`: fingerprint of the version; `corpus`: digest of the manifest; `n_classes`: classes it can say;
    `backend`: what computed the scores; `has_confidence`: False for predictions given without (stored as 1)."""

    n_rows: int
    shard_size: int
    n_classes: int
    version: str
    corpus: str
    backend: str = ""
    has_confidence: bool = True

    def __post_init__(self) -> None:
        for name, least in (("n_rows", 0), ("shard_size", 1), ("n_classes", 1)):
            if getattr(self, name) < least:
                raise ScoreStoreError(f"score store: {name} is {getattr(self, name)}: at least {least} is needed")

    @property
    def class_dtype(self) -> np.dtype:
        return class_dtype(self.n_classes)

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_size)

    def rows_of(self, shard: int) -> range:
        """The row numbers of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_rows))


def class_dtype(n_classes: int) -> np.dtype:
    """uint16 where it holds all classes and the sentinel, else uint32."""
    return np.dtype(np.uint16 if n_classes < np.iinfo(np.uint16).max else np.uint32)


def missing_class(dtype: np.dtype) -> int:
    """The class that means "this row has no score"."""
    return int(np.iinfo(dtype).max)


class ScoreStore:
    """One folder of scores. `create` begins or continues it, `open` reads it."""

    def __init__(self, folder: Path, header: ScoreHeader) -> None:
        self.folder = folder
        self.header = header

    @classmethod
    def create(cls, folder: Path, header: ScoreHeader) -> Self:
        """Begin a store, or continue the one that was begun here with the same header.

        An unfinished store of another backend (another machine or library version) is begun anew, so that no store
        mixes two.
        Raises ScoreStoreError when the folder holds scores of something else, naming what differs.
        """
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        store = cls(folder, header)
        if (folder / _HEADER).exists():
            existing = cls.open(folder)
            found = existing.header
            for name in ("version", "corpus", "n_rows", "shard_size", "n_classes", "has_confidence"):
                if getattr(found, name) != getattr(header, name):
                    raise ScoreStoreError(
                        f'score store "{folder.name}": {name} is {getattr(found, name)!r}, not '
                        f"{getattr(header, name)!r}: it belongs to another scoring, choose another folder or delete it"
                    )
            store._sweep(everything=found.backend != header.backend and not existing.is_complete())
            if found == header or existing.is_complete():
                return existing
        with _replacing(folder / _HEADER) as file:
            file.write(json.dumps(asdict(header), indent=1, sort_keys=True).encode())
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store in a folder. Raises ScoreStoreError when there is none or its header is damaged."""
        try:
            return cls(folder, ScoreHeader(**json.loads((folder / _HEADER).read_bytes())))
        except FileNotFoundError as error:
            raise ScoreStoreError(f'"{folder}" holds no scores: run "score" first') from error
        except (TypeError, ValueError) as error:
            raise ScoreStoreError(
                f'score store "{folder.name}": damaged header ({error}): delete the folder'
            ) from error

    def write_shard(self, shard: int, classes: np.ndarray, confidences: np.ndarray) -> None:
        """Write one shard atomically: temporary name, fsync, rename. Writing the same shard again replaces it.

        `classes`: integers, `confidences`: 0..1, both (rows of the shard,).
        Raises ScoreStoreError for a wrong length or value, DiskFull when there is no room.
        """
        rows = self.header.rows_of(shard)
        if len(classes) != len(rows) or len(confidences) != len(rows):
            raise ScoreStoreError(
                f"shard {shard} has {len(rows)} rows, not {len(classes)} classes and {len(confidences)} confidences"
            )
        self._check_values(shard, classes, confidences)
        part = np.empty(len(rows), self._part_dtype)
        part["class"] = classes
        part["confidence"] = confidences
        with _replacing(self._part(shard)) as file:
            np.save(file, part, allow_pickle=False)

    def finished_shards(self) -> list[int]:
        """Numbers of the shards that are on disk, ascending; all of them once the store is assembled."""
        if self.is_complete():
            return list(range(self.header.n_shards))
        return [shard for shard in range(self.header.n_shards) if self._part(shard).exists()]

    def unfinished_shards(self) -> list[int]:
        finished = set(self.finished_shards())
        return [shard for shard in range(self.header.n_shards) if shard not in finished]

    def is_complete(self) -> bool:
        """Whether the columns are there (and `read` works)."""
        return (self.folder / _CLASSES).exists() and (self.folder / _CONFIDENCES).exists()

    def assemble(self) -> None:
        """Join the parts into the two columns, streaming, then remove the parts. Does nothing when it is done already.

        Raises ScoreStoreError naming the first unfinished shard, DiskFull when there is no room.
        """
        if self.is_complete():
            return self._remove_parts()
        unfinished = self.unfinished_shards()
        if unfinished:
            raise ScoreStoreError(
                f'score store "{self.folder.name}": {len(unfinished)} of {self.header.n_shards} shards are unfinished, '
                f'the first is {unfinished[0]}: run "score" again to finish them'
            )
        self._write_column(_CONFIDENCES, "confidence")
        self._write_column(_CLASSES, "class")
        return self._remove_parts()

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(classes, confidences), each (n_rows,), memory-mapped and read-only.

        Raises ScoreStoreError when the store is not assembled or a column does not fit the header.
        """
        if not self.is_complete():
            raise ScoreStoreError(f'score store "{self.folder.name}" is not complete: run "score" to finish it')
        columns = (self._column(_CLASSES), self._column(_CONFIDENCES))
        for column, dtype in zip(columns, (self.header.class_dtype, np.dtype(np.float32)), strict=True):
            if column.shape != (self.header.n_rows,) or column.dtype != dtype:
                raise ScoreStoreError(
                    f'score store "{self.folder.name}": a column is {column.dtype}{column.shape}, not '
                    f"{dtype}({self.header.n_rows},): delete the folder and score again"
                )
        return columns

    def missing_rows(self) -> np.ndarray:
        """Row numbers whose image could not be decoded, ascending."""
        classes, _ = self.read()
        return np.flatnonzero(classes == missing_class(classes.dtype))

    def digest(self) -> str:
        """sha256 of header and columns: equal exactly when two stores say the same of the same corpus."""
        classes, confidences = self.read()
        summary = hashlib.sha256(json.dumps(asdict(self.header), sort_keys=True).encode())
        for column in (classes, confidences):
            for start in range(0, len(column), 1 << 20):
                summary.update(np.ascontiguousarray(column[start : start + (1 << 20)]).data)
        return summary.hexdigest()

    @property
    def _part_dtype(self) -> np.dtype:
        return np.dtype([("class", self.header.class_dtype), ("confidence", np.float32)])

    def _part(self, shard: int) -> Path:
        return self.folder / _PARTS / f"{shard:06d}.npy"

    def _load_part(self, shard: int) -> np.ndarray:
        try:
            part = np.load(self._part(shard), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            part, reason = None, str(error)
        else:
            reason = f"{part.dtype}{part.shape}"
        if part is None or part.dtype != self._part_dtype or len(part) != len(self.header.rows_of(shard)):
            raise ScoreStoreError(
                f'score store "{self.folder.name}": shard {shard} is damaged ({reason}): delete '
                f'"{self._part(shard).name}" and run "score" again'
            )
        return part

    def _check_values(self, shard: int, classes: np.ndarray, confidences: np.ndarray) -> None:
        missing = classes == missing_class(self.header.class_dtype)
        outside = ~missing & ((classes < 0) | (classes >= self.header.n_classes))
        if outside.any():
            where = int(np.flatnonzero(outside)[0])
            raise ScoreStoreError(
                f"row {self.header.rows_of(shard)[where]}: class {classes[where]} is not below {self.header.n_classes}"
            )
        if not ((confidences >= 0) & (confidences <= 1)).all():
            where = int(np.flatnonzero(~((confidences >= 0) & (confidences <= 1)))[0])
            raise ScoreStoreError(
                f"row {self.header.rows_of(shard)[where]}: confidence {confidences[where]} is not within 0..1"
            )

    def _column(self, name: str) -> np.ndarray:
        if self.header.n_rows == 0:  # an empty file cannot be mapped
            return np.load(self.folder / name, allow_pickle=False)
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)

    def _write_column(self, name: str, field: str) -> None:
        dtype = self._part_dtype[field]
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        with _replacing(self.folder / name) as file:
            np.lib.format.write_array_header_1_0(file, {**description, "shape": (self.header.n_rows,)})
            for shard in range(self.header.n_shards):
                file.write(np.ascontiguousarray(self._load_part(shard)[field]).data)

    def _remove_parts(self) -> None:
        for part in (self.folder / _PARTS).glob("*.npy"):
            part.unlink(missing_ok=True)

    def _sweep(self, *, everything: bool) -> None:
        """Remove what a killed writer left behind; with `everything`, parts and columns too."""
        patterns = ["*.tmp", f"{_PARTS}/*.tmp"] + (["*.npy", f"{_PARTS}/*.npy"] if everything else [])
        for pattern in patterns:
            for leftover in self.folder.glob(pattern):
                leftover.unlink(missing_ok=True)


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name complete and on disk, or not at all. Raises DiskFull for ENOSPC and EDQUOT."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(
                f'the disk is full: "{target.name}" could not be written to "{target.parent}"; free some space and '
                "start again, the finished shards are kept"
            ) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
