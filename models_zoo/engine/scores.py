"""The score store: what one version says about every row of one corpus, as columns on disk.

A store is a folder::

    scores.json              the header: what was scored, by what, in which shape
    parts/000000.npy ...     one file per finished shard, written atomically
    parts/000000.json ...    of shards with rows that have no score: why, where the engine says so
    problems.json            after `assemble`: why rows have no score, each reason with its count and first rows

and, after `assemble`, one memory-mapped file per column. What the columns are, the header's `kind` says:

    "classes"                classes.npy: uint16 or uint32; confidences.npy: float32 in 0..1
    "values"                 values.npy: float32, a quality score as the version gives it

Confidences are float32: float16 has a spacing of 2**-11 just below 1, where most confidences lie, and would turn the
selection's tie-break by confidence into a lottery for the sake of two bytes a row.

A row without a score (its image could not be decoded, say) holds the sentinel `missing_class(dtype)` (the largest value
of the class type) and confidence 0; as a value, NaN. **Such a row never counts as a disagreement**: selection must skip
it for every pair of versions that includes this one.

Files hold nothing that depends on when or how often the work was interrupted: equal input gives equal bytes.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np

_HEADER = "scores.json"
_PARTS = "parts"
_PROBLEMS = "problems.json"
_ROWS_NAMED = 20  # of each reason
# By kind: the files of the columns, and their fields in a part.
_COLUMNS = {
    "classes": (("classes.npy", "class"), ("confidences.npy", "confidence")),
    "values": (("values.npy", "value"),),
}

Kind = Literal["classes", "values"]


class ScoreStoreError(ValueError):
    """The store does not fit what is asked of it, is unfinished or damaged."""


class DiskFull(ScoreStoreError):
    """No room for a part or a column; what was finished before is intact."""


@dataclass(frozen=True)
class ScoreHeader:
    """`version`: fingerprint of the version; `corpus`: digest of the manifest; `n_classes`: classes it can say, 0 of
    values; `backend`: what computed the scores; `has_confidence`: False for predictions given without (stored as 1)."""

    n_rows: int
    shard_size: int
    n_classes: int
    version: str
    corpus: str
    backend: str = ""
    has_confidence: bool = True
    kind: Kind = "classes"

    def __post_init__(self) -> None:
        if self.kind not in _COLUMNS:
            raise ScoreStoreError(f"score store: kind is {self.kind!r}: choose one of {', '.join(_COLUMNS)}")
        for name, least in (("n_rows", 0), ("shard_size", 1), ("n_classes", int(self.kind == "classes"))):
            if getattr(self, name) < least:
                raise ScoreStoreError(f"score store: {name} is {getattr(self, name)}: at least {least} is needed")

    @property
    def class_dtype(self) -> np.dtype:
        return class_dtype(self.n_classes)

    @property
    def part_dtype(self) -> np.dtype:
        """One record per row: the fields are the columns."""
        if self.kind == "values":
            return np.dtype([("value", np.float32)])
        return np.dtype([("class", self.class_dtype), ("confidence", np.float32)])

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """(file, field) of each column, in the order of `ScoreStore.read`."""
        return _COLUMNS[self.kind]

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
            for name in ("version", "corpus", "n_rows", "shard_size", "kind", "n_classes", "has_confidence"):
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

    def write_shard(self, shard: int, *columns: np.ndarray, problems: Mapping[int, str] | None = None) -> None:
        """Write one shard atomically: temporary name, fsync, rename. Writing the same shard again replaces it.

        `columns`: classes (integers) and confidences (0..1), or values (floats, NaN where there is no score), each
        (rows of the shard,). `problems`: why a row has no score, by row number.
        Raises ScoreStoreError for a wrong length or value, DiskFull when there is no room.
        """
        rows = self.header.rows_of(shard)
        names = [Path(name).stem for name, _ in self.header.columns]
        if len(columns) != len(names) or any(len(column) != len(rows) for column in columns):
            given = " and ".join(f"{len(column)} {name}" for column, name in zip(columns, names, strict=False))
            raise ScoreStoreError(f"shard {shard} has {len(rows)} rows, not {given}")
        if self.header.kind == "values":
            self._check_scores(shard, *columns)
        else:
            self._check_values(shard, *columns)
        part = np.empty(len(rows), self.header.part_dtype)
        for (_, field), column in zip(self.header.columns, columns, strict=True):
            part[field] = column
        reasons = self._part(shard).with_suffix(".json")
        reasons.unlink(missing_ok=True)
        if problems:
            with _replacing(reasons) as file:
                file.write(json.dumps({str(row): problems[row] for row in sorted(problems)}).encode())
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
        return all((self.folder / name).exists() for name, _ in self.header.columns)

    def assemble(self) -> None:
        """Join the parts into the columns, streaming, then remove the parts. Does nothing when it is done already.

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
        self._write_problems()
        for name, field in reversed(self.header.columns):
            self._write_column(name, field)
        return self._remove_parts()

    def read(self) -> tuple[np.ndarray, ...]:
        """(classes, confidences) or (values,), each (n_rows,), memory-mapped and read-only.

        Raises ScoreStoreError when the store is not assembled or a column does not fit the header.
        """
        if not self.is_complete():
            raise ScoreStoreError(f'score store "{self.folder.name}" is not complete: run "score" to finish it')
        columns = tuple(self._column(name) for name, _ in self.header.columns)
        for column, (_, field) in zip(columns, self.header.columns, strict=True):
            dtype = self.header.part_dtype[field]
            if column.shape != (self.header.n_rows,) or column.dtype != dtype:
                raise ScoreStoreError(
                    f'score store "{self.folder.name}": a column is {column.dtype}{column.shape}, not '
                    f"{dtype}({self.header.n_rows},): delete the folder and score again"
                )
        return columns

    def missing_rows(self) -> np.ndarray:
        """Row numbers without a score, ascending."""
        first = self.read()[0]
        return np.flatnonzero(np.isnan(first) if self.header.kind == "values" else first == missing_class(first.dtype))

    def problems(self) -> dict[str, dict[str, Any]]:
        """Why rows have no score, as far as the engine said: by reason `n` and the first `rows`; most frequent first.

        Raises ScoreStoreError when the store is not assembled.
        """
        if not self.is_complete():
            raise ScoreStoreError(f'score store "{self.folder.name}" is not complete: run "score" to finish it')
        file = self.folder / _PROBLEMS
        return json.loads(file.read_bytes()) if file.exists() else {}

    def digest(self) -> str:
        """sha256 of header and columns: equal exactly when two stores say the same of the same corpus."""
        summary = hashlib.sha256(json.dumps(asdict(self.header), sort_keys=True).encode())
        for column in self.read():
            for start in range(0, len(column), 1 << 20):
                summary.update(np.ascontiguousarray(column[start : start + (1 << 20)]).data)
        return summary.hexdigest()

    def _part(self, shard: int) -> Path:
        return self.folder / _PARTS / f"{shard:06d}.npy"

    def _load_part(self, shard: int) -> np.ndarray:
        try:
            part = np.load(self._part(shard), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            part, reason = None, str(error)
        else:
            reason = f"{part.dtype}{part.shape}"
        if part is None or part.dtype != self.header.part_dtype or len(part) != len(self.header.rows_of(shard)):
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

    def _check_scores(self, shard: int, values: np.ndarray) -> None:
        if np.isinf(values).any():
            where = int(np.flatnonzero(np.isinf(values))[0])
            raise ScoreStoreError(
                f"row {self.header.rows_of(shard)[where]}: the score is {values[where]}: a row without a score is NaN"
            )

    def _write_problems(self) -> None:
        """Gather the reasons of all shards; no file where there are none."""
        gathered: dict[str, dict[str, Any]] = {}
        for shard in range(self.header.n_shards):
            file = self._part(shard).with_suffix(".json")
            for row, reason in json.loads(file.read_bytes()).items() if file.exists() else ():
                entry = gathered.setdefault(reason, {"n": 0, "rows": []})
                entry["n"] += 1
                if len(entry["rows"]) < _ROWS_NAMED:
                    entry["rows"].append(int(row))
        if gathered:
            ordered = dict(sorted(gathered.items(), key=lambda item: (-item[1]["n"], item[0])))
            with _replacing(self.folder / _PROBLEMS) as target:
                target.write(json.dumps(ordered, indent=1).encode())

    def _column(self, name: str) -> np.ndarray:
        if self.header.n_rows == 0:  # an empty file cannot be mapped
            return np.load(self.folder / name, allow_pickle=False)
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)

    def _write_column(self, name: str, field: str) -> None:
        dtype = self.header.part_dtype[field]
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        with _replacing(self.folder / name) as file:
            np.lib.format.write_array_header_1_0(file, {**description, "shape": (self.header.n_rows,)})
            for shard in range(self.header.n_shards):
                file.write(np.ascontiguousarray(self._load_part(shard)[field]).data)

    def _remove_parts(self) -> None:
        for pattern in ("*.npy", "*.json"):
            for part in (self.folder / _PARTS).glob(pattern):
                part.unlink(missing_ok=True)

    def _sweep(self, *, everything: bool) -> None:
        """Remove what a killed writer left behind; with `everything`, parts and columns too."""
        patterns = ["*.tmp", f"{_PARTS}/*.tmp"]
        if everything:
            patterns += ["*.npy", _PROBLEMS, f"{_PARTS}/*.npy", f"{_PARTS}/*.json"]
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
