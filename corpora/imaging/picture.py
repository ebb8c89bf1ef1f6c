"""Pictures as people get them: the pixels a model sees, in a format every browser shows, without a word about the file.

A browser applies EXIF orientation and colour profiles that a network never sees, and metadata names cameras, places and
files. So everything but the pixels goes: a plain JPEG keeps its compressed data and loses its other segments; whatever
else there is becomes a PNG of the upright 8-bit RGB pixels.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from corpora.imaging.decode import PIXEL_LIMIT, decode_rgb
from corpora.imaging.inspect import TINY_SIDE, Note, notes_of

THUMBNAIL_SIDE = 256
_SOS = 0xDA
_END = b"\xff\xd9"
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_INSIDE_SCAN = {0x00, *range(0xD0, 0xD8)}
_PRIVATE = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 (EXIF, XMP) to APP13, APP15, comment; not APP0 JFIF, APP14 Adobe

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """Encoded for a browser. ending: "jpg", "png" or "webp"."""

    data: bytes
    ending: str
    width: int
    height: int


def picture_of(source: bytes | Pixels, *, pixel_limit: int = PIXEL_LIMIT) -> tuple[Picture, Picture]:
    """The picture and its thumbnail, of an encoded file or of uint8 pixels (height, width, 3).

    Raises UndecodableImage when the file cannot be shown.
    """
    pixels = decode_rgb(source, pixel_limit=pixel_limit) if isinstance(source, bytes) else source
    height, width = pixels.shape[:2]
    plain = plain_jpeg(source) if isinstance(source, bytes) else None
    picture = Picture(plain, "jpg", width, height) if plain else Picture(_png(pixels), "png", width, height)
    return picture, thumbnail_of(pixels)


def thumbnail_of(pixels: Pixels) -> Picture:
    """WebP of at most THUMBNAIL_SIDE pixels a side; tiny images keep every pixel."""
    image = Image.fromarray(pixels)
    tiny = max(image.size) <= TINY_SIDE
    if not tiny:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=tiny, quality=80, method=2)
    return Picture(buffer.getvalue(), "webp", *image.size)


def plain_jpeg(data: bytes) -> bytes | None:
    """The JPEG without EXIF, comments, profiles and whatever follows its end; None where it needs more than that.

    JFIF and Adobe segments stay: they say how the colours are coded.
    """
    if data[:2] != b"\xff\xd8" or set(notes_of(data, "")) & {Note.CMYK, Note.ROTATED}:
        return None
    kept = [data[:2]]
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if marker == _SOS:
            end = _end_of_scan(data, end)
        if marker not in _PRIVATE:
            kept.append(data[place:end])
        if data[end : end + 2] == _END:
            return b"".join((*kept, _END))
        place = end
    return None


def _end_of_scan(data: bytes, place: int) -> int:
    """Where the next marker stands that is neither a stuffed zero nor a restart; the file's end if there is none."""
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        if data[place + 1] not in _INSIDE_SCAN:
            return place
        place += 2
    return len(data)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
