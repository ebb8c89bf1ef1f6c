"""Zip and tar archives (gzip, bzip2, xz), unpacked under the corpus's own directory and then read as a folder.

Nothing an archive says is believed: names are checked part by part, links and devices are left out, sizes are counted
while unpacking. Only what looks like an image by its name or first bytes is written at all. Of an archive that is cut
off or damaged in its middle, what stands before that place is unpacked; the rest is one line of the quarantine list.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from corpora.imaging.inspect import is_image_name, looks_like_image
from corpora.importers.base import ArchiveLimits, Candidate, ImportRefused, ImportRequest, Listing
from corpora.importers.cut import Entry, is_cut_zip, salvaged, the_rest
from corpora.importers.folder import walk

_BLOCK = 1 << 20
# zipfile raises NotImplementedError for a compression method that it does not know
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
_NAME_BYTES, _PATH_BYTES = 255, 3_000
_IGNORED = ("__MACOSX",)


@dataclass
class Budget:
    """Counts what comes out of an archive and stops at the limits."""

    limits: ArchiveLimits
    archive: Path
    entries: int = 0
    unpacked: int = 0

    def count_entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise ImportRefused(
                f'"{self.archive.name}" holds more than {self.limits.entries:,} entries: unpack it, import the folder'
            )

    def count_bytes(self, n_bytes: int) -> None:
        self.unpacked += n_bytes
        if self.unpacked > self.limits.total_bytes:
            raise ImportRefused(
                f'"{self.archive.name}" unpacks to more than the limit of {_gigabytes(self.limits.total_bytes)}: '
                "unpack it by hand and import the folder"
            )
        ratio = self.limits.ratio
        if self.unpacked > self.limits.ratio_from and self.unpacked > ratio * self.archive.stat().st_size:
            raise ImportRefused(
                f'"{self.archive.name}" unpacks to more than {ratio} times its size, as decompression bombs do: '
                "if you trust it, unpack it by hand and import the folder"
            )


@dataclass
class Unpacker:
    """Writes entries below `folder`: images, and what `also` wants by its name.

    refused: what was left out and why; skipped: what was never an image.
    """

    folder: Path
    budget: Budget
    skipped: Counter[str]
    also: Callable[[str], bool] = lambda name: False
    refused: list[Candidate] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)

    def take(self, entry: Entry, prefix: str = "") -> str | None:
        """Unpack one entry if it is an image; its path below `folder`, or None."""
        self.budget.count_entry()
        parts, problem = safe_parts(entry.name)
        path = prefix + "/".join(parts)
        if any(part.startswith(".") or part in _IGNORED for part in parts) and problem is None:
            self.skipped["hidden"] += 1
            return None
        problem = problem or entry.problem or self._size_problem(entry)
        if problem is None and path in self.written:
            problem = "the archive holds this name twice; the first one is taken"
        if problem is None:
            problem = self._write(entry, path)
        if problem is not None:
            self.refused.append(Candidate(path or entry.name, problem))
        return path if problem is None and path in self.written else None

    def _size_problem(self, entry: Entry) -> str | None:
        limits = self.budget.limits
        if entry.size > limits.file_bytes:
            return f"{entry.size:,} bytes unpacked are more than the limit of {limits.file_bytes:,} bytes a file"
        if entry.packed is not None and entry.size > max(1 << 20, limits.ratio * max(1, entry.packed)):
            return f"unpacks to more than {limits.ratio} times its size, as decompression bombs do"
        return None

    def _write(self, entry: Entry, path: str) -> str | None:
        """Copy the entry's content; a file that is whole already, from an earlier start, stays."""
        target = self.folder / path
        try:
            if target.is_file() and target.stat().st_size == entry.size:
                self.budget.count_bytes(entry.size)
                self.written.add(path)
                return None
            with entry.open() as source:
                head = source.read(_BLOCK)
                if not (is_image_name(path) or looks_like_image(head) or self.also(path)):
                    self.skipped[os.path.splitext(path)[1].lower()[:16] or "no ending"] += 1
                    return None
                if target.parent not in self.folders:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.folders.add(target.parent)
                return self._copy(source, head, target, path)
        except _DAMAGE as error:
            return f"damaged in the archive: {error or type(error).__name__}"
        except RuntimeError as error:  # zipfile's word for encrypted entries
            return f"cannot be unpacked: {error}"
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "its name is both a file and a folder in this archive"

    def _copy(self, source: IO[bytes], head: bytes, target: Path, path: str) -> str | None:
        if target.is_dir():
            raise IsADirectoryError(target)
        part = self.folder / ".part"
        size = 0
        try:
            with part.open("wb") as file:
                while head:
                    size += len(head)
                    self.budget.count_bytes(len(head))
                    if size > self.budget.limits.file_bytes:
                        part.unlink()
                        return f"unpacks to more than the limit of {self.budget.limits.file_bytes:,} bytes a file"
                    file.write(head)
                    head = source.read(_BLOCK)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self.written.add(path)
        return None


def list_archive(request: ImportRequest) -> Listing:
    """Every image of one archive. Raises ImportRefused for what is no archive or hostile as a whole."""
    listing = Listing(request.unpacked, iter(()))
    listing.candidates = _unpack_then_walk(request, listing.skipped)
    return listing


def _unpack_then_walk(request: ImportRequest, skipped: Counter[str]) -> Iterator[Candidate]:
    unpacker = Unpacker(request.unpacked, Budget(request.limits, request.location), skipped)
    with entries_of(request.location) as entries:
        for entry in entries:
            unpacker.take(entry)
            request.tick(len(unpacker.written), "files unpacked")
    yield from walk(request, request.unpacked, Counter())
    yield from sorted(unpacker.refused, key=lambda candidate: candidate.path)


@contextmanager
def entries_of(archive: Path) -> Iterator[Iterator[Entry]]:
    """The members of a zip or tar file, found by content. Raises ImportRefused when it is neither or holds nothing."""
    if not archive.is_file():
        raise ImportRefused(f'"{archive}" is not a file on the server: check the path')
    if is_cut_zip(archive):
        with archive.open("rb") as file:
            yield salvaged(file, archive)
        return
    opened: zipfile.ZipFile | tarfile.TarFile
    try:
        opened = zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)  # noqa: SIM115
    except (*_DAMAGE, OSError) as error:
        raise ImportRefused(f'"{archive.name}" is neither a zip nor a tar archive, or is damaged: {error}') from error
    with opened:
        yield _zip_entries(opened) if isinstance(opened, zipfile.ZipFile) else _tar_entries(opened, archive)


def safe_parts(name: str) -> tuple[list[str], str | None]:
    """The parts of a member's name, and why it may not be unpacked."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return parts, "absolute name in the archive"
    if ".." in parts:
        return parts, 'name that leaves the archive ("..")'
    try:
        encoded = [part.encode() for part in parts]
    except UnicodeEncodeError:
        return [part.encode("utf-8", "replace").decode() for part in parts], "the file name is not UTF-8: rename it"
    if any(len(part) > _NAME_BYTES for part in encoded) or sum(map(len, encoded)) > _PATH_BYTES:
        return parts, f"name longer than {_NAME_BYTES} bytes"
    if not parts or "\0" in name:
        return parts, "name that no file can have"
    return parts, None


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        kind = info.external_attr >> 28
        problem = "symbolic link or device in the archive" if kind not in {0, 0o10} else None
        if info.flag_bits & 1:
            problem = "encrypted: unpack it by hand and import the folder"
        yield Entry(info.filename, info.file_size, info.compress_size, problem, lambda info=info: archive.open(info))  # type: ignore[misc]


def _tar_entries(archive: tarfile.TarFile, path: Path) -> Iterator[Entry]:
    limit = ArchiveLimits().total_bytes
    seen = n_entries = 0
    try:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header in memory
            if info.isdir():
                continue
            seen += info.size
            n_entries += 1
            if seen > limit:
                raise ImportRefused(f'"{path.name}" holds more than {_gigabytes(limit)}: unpack it by hand')
            problem = None if info.isreg() else "link or device in the archive"
            yield Entry(info.name, info.size, None, problem, lambda info=info: _open(archive, info))  # type: ignore[misc]
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if not n_entries:
            raise ImportRefused(f'"{path.name}" is damaged or cut off: {error or type(error).__name__}') from error
        yield the_rest(path, str(error or type(error).__name__))


def _open(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.TarError("no content")
    return file


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.0f} GiB"
