"""Reading a corpus: its manifest, its images by row, and the source that scoring runs over."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accounts.errors import DomainError
from corpora.contents import CONTENTS, REFERENCES
from corpora.files import load_npy
from corpora.grouped import GroupedRows
from corpora.imaging.decode import UndecodableImage
from corpora.imaging.inspect import FILE_LIMIT
from corpora.importing import PACKED
from corpora.manifest import MANIFEST, QUARANTINE, Manifest, PagedTable
from corpora.models import Corpus, CorpusState
from corpora.opinions import OpinionTable, read_opinions

Encoded = bytes | OSError  # as models_zoo.engine.rows has it


def manifest_of(corpus: Corpus) -> Manifest:
    """The open manifest, shared between requests. Raises DomainError until the import has ended."""
    if corpus.state != CorpusState.READY:
        raise DomainError(f'Corpus "{corpus}" is not imported: see its page for why, and retry or wait.')
    directory = corpus.directory
    return _manifest(directory, (directory / MANIFEST).stat().st_mtime_ns)


def quarantine_of(corpus: Corpus) -> PagedTable | None:
    """The open quarantine list; None before the import got so far."""
    file = corpus.directory / QUARANTINE
    return _quarantine(file, file.stat().st_mtime_ns) if file.exists() else None


def groups_of(corpus: Corpus, name: str) -> GroupedRows | None:
    """Rows by label or near-duplicate group (`corpora.grouped`); None where the corpus has no such grouping."""
    try:
        return GroupedRows(corpus.directory, name)
    except FileNotFoundError:
        return None


def opinion_table(corpus: Corpus) -> OpinionTable:
    """The corpus's mean opinion scores. Raises DomainError when it has none."""
    found = opinions_of(corpus)
    if found is None:
        raise DomainError(
            f'Corpus "{corpus}" has no opinion scores: attach a CSV with the columns path and mos on its page, or '
            "import a corpus that has them."
        )
    return found


def opinions_of(corpus: Corpus) -> OpinionTable | None:
    """As `opinion_table`; None when the corpus has no opinion scores."""
    try:
        return read_opinions(corpus.directory)
    except FileNotFoundError:
        return None


def reference_rows(corpus: Corpus) -> npt.NDArray[np.int64]:
    """(n_rows,) the row of each row's pristine reference, -1 where it has none; a pristine image refers to itself."""
    return _by_row(corpus, REFERENCES)


def content_groups(corpus: Corpus) -> npt.NDArray[np.int64]:
    """(n_rows,) the number of each row's source content, -1 where the corpus does not say."""
    return _by_row(corpus, CONTENTS)


def _by_row(corpus: Corpus, name: str) -> npt.NDArray[np.int64]:
    file = corpus.directory / name
    n_rows = len(manifest_of(corpus))
    return load_npy(file) if file.exists() else np.full(n_rows, -1, dtype=np.int64)


class FileRows:
    """Image files under a folder, by row; the paths are read from the manifest as they are needed."""

    def __init__(self, manifest: Manifest, root: Path, *, digest: str) -> None:
        self.digest = digest
        self._manifest = manifest
        self._root = root

    def __len__(self) -> int:
        return len(self._manifest)

    def read(self, rows: range) -> list[Encoded]:
        """The content of consecutive rows' files; an OSError in place of one that cannot be read."""
        paths = self._manifest.slice(rows.start, rows.stop, ["path"])["path"].to_pylist()
        return [read_file(self._root / path) for path in paths]


class PackedRows:
    """Tiny images in one array, by row."""

    def __init__(self, pixels: npt.NDArray[np.uint8], *, digest: str) -> None:
        self.digest = digest
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, rows: range) -> npt.NDArray[np.uint8]:
        """uint8 (n, height, width, 3)."""
        return np.array(self._pixels[rows.start : rows.stop])


def row_source(corpus: Corpus) -> FileRows | PackedRows:
    """The corpus as the scoring engine reads it (it satisfies models_zoo.engine.rows.RowSource)."""
    manifest = manifest_of(corpus)
    if corpus.is_packed:
        return PackedRows(load_npy(corpus.directory / PACKED), digest=corpus.digest)
    return FileRows(manifest, Path(corpus.root), digest=corpus.digest)


def content_of(corpus: Corpus, row: int, path: str) -> bytes | npt.NDArray[np.uint8]:
    """One row's encoded file, or its pixels where tiny images are packed.

    Raises UndecodableImage with the reason when the file has gone.
    """
    if corpus.is_packed:
        return np.array(load_npy(corpus.directory / PACKED)[row])
    data = read_file(Path(corpus.root) / path)
    if isinstance(data, OSError):
        raise UndecodableImage(f"the file cannot be read: {data.strerror or data}")
    return data


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_file(file: Path) -> Encoded:
    """The content; the error when it cannot be read or has grown beyond what the import accepts."""
    try:
        if file.stat().st_size > FILE_LIMIT:
            return OSError(f"{file.name} has grown beyond {FILE_LIMIT:,} bytes since the import")
        return file.read_bytes()
    except OSError as error:
        return error


def records_of(corpus: Corpus, rows: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Manifest rows as dicts, in the order asked for. Raises DomainError for a row that does not exist."""
    try:
        records: list[dict[str, Any]] = manifest_of(corpus).read(rows, columns).to_pylist()
    except IndexError as error:
        raise DomainError(f'Corpus "{corpus}": {error}.') from error
    return records


@lru_cache(maxsize=8)
def _manifest(directory: Path, changed: int) -> Manifest:
    return Manifest(directory)


@lru_cache(maxsize=8)
def _quarantine(file: Path, changed: int) -> PagedTable:
    return PagedTable(file)
