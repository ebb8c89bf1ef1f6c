"""Zip archives whose end is missing: what stands before the cut can still be read.

A zip's table of contents is its last part, so a download that broke off has none. But every file has a header of its
own before its content (PKWARE APPNOTE 6.3.10, section 4.3.7), and these are walked here one after the other.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from corpora.importers.base import ImportRefused

_HEADER = struct.Struct("<4s2xHH4xIIIHH")  # flags, method, CRC-32, packed size, size, lengths of name and extra field
_LOCAL = b"PK\x03\x04"
_CENTRAL = b"PK\x01\x02"
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1, 8, 1 << 11
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One member of an archive. problem: why it may not be unpacked; packed: its bytes in the archive, where known."""

    name: str
    size: int
    packed: int | None
    problem: str | None
    open: Callable[[], IO[bytes]]


def the_rest(archive: Path, reason: str) -> Entry:
    """Stands in the quarantine list for everything behind the place where an archive breaks off."""
    problem = f"the archive is damaged or cut off here ({reason}): what stands before it is imported"
    return Entry(f"{archive.name}, the rest", 0, None, problem, io.BytesIO)


def is_cut_zip(archive: Path) -> bool:
    """Whether a file begins as a zip archive but lacks its table of contents."""
    with archive.open("rb") as file:
        return file.read(4) == _LOCAL and not zipfile.is_zipfile(file)


def salvaged(file: IO[bytes], archive: Path) -> Iterator[Entry]:
    """The members before the cut. Raises ImportRefused when there is none."""
    end = archive.stat().st_size
    place = 0
    while place < end:
        file.seek(place)
        header = file.read(_HEADER.size)
        if place and header.startswith(_CENTRAL):
            return  # only the table of contents is cut
        if len(header) < _HEADER.size or not header.startswith(_LOCAL):
            yield _broken(archive, place, "no further file begins there")
            return
        _, flags, method, crc, packed, size, name_length, extra_length = _HEADER.unpack(header)
        name = file.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        start = place + _HEADER.size + name_length + extra_length
        if flags & _SIZES_FOLLOW or _UNKNOWN in (packed, size):
            yield _broken(archive, place, f'the size of "{name}" stands in the missing end')
            return
        if start + packed > end:
            yield _broken(archive, place, f'in the middle of "{name}"')
            return
        if not name.endswith("/"):
            read = partial(_content, file, start, packed, size, method, crc)
            yield Entry(name, size, packed, _problem(flags, method), read)
        place = start + packed


def _broken(archive: Path, place: int, reason: str) -> Entry:
    if place == 0:
        raise ImportRefused(f'"{archive.name}" is damaged or cut off: {reason}; fetch it again')
    return the_rest(archive, reason)


def _problem(flags: int, method: int) -> str | None:
    if flags & _ENCRYPTED:
        return "encrypted: unpack it by hand and import the folder"
    return None if method in {_STORED, _DEFLATED} else f"packed by method {method}, which needs the whole archive"


def _content(file: IO[bytes], start: int, packed: int, size: int, method: int, crc: int) -> IO[bytes]:
    """The content of one member. Raises zlib.error when it is damaged."""
    file.seek(start)
    data = file.read(packed)
    if method == _DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    if len(data) != size or zlib.crc32(data) != crc:
        raise zlib.error("its check sum is wrong")
    return io.BytesIO(data)
