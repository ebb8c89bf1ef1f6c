"""Looking at one image before it may enter a corpus: is it whole, what is it, what had to be done to show it.

An image is accepted by its content, whatever its name says, and really decoded: a file whose header is fine but whose
end is missing is found here and not months later by a network. What had to be done to make it upright 8-bit RGB is
*noted*, so that a surprising score can be traced to a surprising file.
"""

import hashlib
import io
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from corpora.imaging.decode import PIXEL_LIMIT, UndecodableImage, decode_rgb
from corpora.imaging.phash import phash

FILE_LIMIT = 512 * 2**20  # bytes read into memory for one image
TINY_SIDE = 64  # images up to this size are packed into one array when all have the same size
_ORIENTATION_TAG = 0x0112
_SNIFF_BYTES = 32

Pixels = npt.NDArray[np.uint8]


class Note(StrEnum):
    """What had to be done to an image; shown on the corpus page."""

    MISLABELLED = "name says another format"
    SIXTEEN_BIT = "16 bits per sample, rounded to 8"
    CMYK = "CMYK, turned into RGB"
    GREYSCALE = "greyscale"
    ANIMATED = "animated, first frame taken"
    ROTATED = "turned upright as its EXIF says"
    TRANSPARENT = "transparent, laid over white"


# Ending -> format, as Pillow names it. Everything that a browser, camera or data set is likely to hold.
FORMAT_OF_ENDING = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG",
    ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".dib": "BMP",
    ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".jp2": "JPEG2000", ".j2k": "JPEG2000",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".tga": "TGA", ".ico": "ICO",
}  # fmt: skip
_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"GIF87a", 0, "GIF"),
    (b"GIF89a", 0, "GIF"),
    (b"WEBP", 8, "WEBP"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"ftypavif", 4, "AVIF"),
    (b"ftypavis", 4, "AVIF"),
    (b"\x00\x00\x00\x0cjP  ", 0, "JPEG2000"),
)


@dataclass(frozen=True)
class Inspection:
    """What an import keeps of one image.

    size: bytes of the file; width, height: upright; sha256: of the file (of the pixels where there is no file);
    pixels: uint8 (height, width, 3), kept for tiny images only.
    """

    size: int
    width: int
    height: int
    sha256: str
    phash: int
    notes: tuple[Note, ...]
    pixels: Pixels | None = None


def inspect_file(path: Path, *, pixel_limit: int = PIXEL_LIMIT) -> Inspection:
    """Read, hash and decode one file. Raises UndecodableImage with the reason for the quarantine list."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise UndecodableImage("not a regular file")
        if facts.st_size > FILE_LIMIT:
            raise UndecodableImage(f"{facts.st_size:,} bytes are more than the limit of {FILE_LIMIT:,} bytes a file")
        data = path.read_bytes()
    except OSError as error:
        raise UndecodableImage(f"the file cannot be read: {error.strerror or error}") from error
    return inspect_bytes(data, path.name, pixel_limit=pixel_limit)


def inspect_bytes(data: bytes, name: str, *, pixel_limit: int = PIXEL_LIMIT) -> Inspection:
    """As `inspect_file`, for content that is in memory; `name` serves only to notice a wrong ending."""
    pixels = decode_rgb(data, pixel_limit=pixel_limit)
    height, width = pixels.shape[:2]
    return Inspection(
        size=len(data),
        width=width,
        height=height,
        sha256=hashlib.sha256(data).hexdigest(),
        phash=phash(pixels),
        notes=notes_of(data, name),
        pixels=pixels if max(width, height) <= TINY_SIDE else None,
    )


def inspect_pixels(pixels: Pixels) -> Inspection:
    """For an image that never was a file: uint8 (height, width, 3)."""
    height, width = pixels.shape[:2]
    return Inspection(
        size=pixels.nbytes,
        width=width,
        height=height,
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        phash=phash(pixels),
        notes=(),
        pixels=pixels if max(width, height) <= TINY_SIDE else None,
    )


def notes_of(data: bytes, name: str) -> tuple[Note, ...]:
    """What had to be done to this decodable image, in the order of `Note`."""
    found = _notes_of_plain_jpeg(data)
    if found is None:
        found = _notes_of_header(data)
    format_, notes = found
    claimed = FORMAT_OF_ENDING.get(PurePosixPath(name).suffix.lower())
    if claimed is not None and claimed != format_:
        notes.add(Note.MISLABELLED)
    return tuple(note for note in Note if note in notes)


def looks_like_image(head: bytes) -> bool:
    """Whether a file's first bytes are those of a picture; for files whose name does not say."""
    return any(head[offset : offset + len(magic)] == magic for magic, offset, _ in _MAGIC)


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in FORMAT_OF_ENDING


def read_head(path: Path) -> bytes:
    """The first bytes of a file; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_SNIFF_BYTES)
    except OSError:
        return b""


def _notes_of_plain_jpeg(data: bytes) -> tuple[str, set[Note]] | None:
    """Without Pillow, for the JPEG without EXIF that most corpora are made of; None for everything else."""
    if data[:2] != b"\xff\xd8" or b"Exif\x00\x00" in data[:131_072]:
        return None
    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
    except ValueError:
        return None
    if colours not in {"YCbCr", "Gray", "RGB"}:
        return None
    return "JPEG", {Note.GREYSCALE} if colours == "Gray" else set()


def _notes_of_header(data: bytes) -> tuple[str, set[Note]]:
    with Image.open(io.BytesIO(data)) as image:
        format_ = "JPEG" if image.format == "MPO" else image.format or ""
        tests = {
            Note.SIXTEEN_BIT: image.mode.startswith("I"),
            Note.CMYK: image.mode == "CMYK",
            Note.GREYSCALE: image.mode in {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L"},
            Note.ANIMATED: format_ != "JPEG" and bool(getattr(image, "is_animated", False)),
            Note.ROTATED: image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9),
            Note.TRANSPARENT: image.has_transparency_data,
        }
    return format_, {note for note, holds in tests.items() if holds}
