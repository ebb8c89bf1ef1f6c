"""Encoded image in, uint8 RGB array out: the one decoder that import, thumbnails and scoring share.

Whatever the file is, the result is what a person sees in a viewer: EXIF orientation applied, first frame of an
animation, transparency over white, CMYK and greyscale turned into RGB, 16 bits per sample rounded to 8. A model and a
person therefore look at the same pixels.

JPEG goes through simplejpeg (libjpeg-turbo; releases the GIL, equal to Pillow's decoder pixel by pixel); everything
else, and every JPEG that simplejpeg refuses, goes through Pillow.
"""

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

PIXEL_LIMIT = 178_956_970  # Pillow's own limit of a decompression bomb: 512 MiB as RGB
_ORIENTATION_TAG = 0x0112
_FAST_COLOURS = {"YCbCr", "Gray", "RGB"}
_UPRIGHT = {None, 0, 1}
# What Pillow's decoders raise on damaged files, besides UnidentifiedImageError.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, MemoryError, OverflowError)


class UndecodableImage(ValueError):
    """This file cannot be shown as an image; `reason` says why in words for the quarantine list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_rgb(source: bytes | Path, *, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """The image as uint8 (height, width, 3), upright.

    Raises UndecodableImage for an empty, truncated, damaged or unknown file and for one of more than `pixel_limit`
    pixels (decided from the header, before anything is allocated).
    """
    data = _read(source) if isinstance(source, Path) else source
    if not data:
        raise UndecodableImage("the file is empty")
    if data[:2] == b"\xff\xd8":
        pixels = _decode_plain_jpeg(data, pixel_limit)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, pixel_limit)


def to_rgb(image: Image.Image) -> Image.Image:
    """The opened Pillow image as upright 8-bit RGB.

    Raises UndecodableImage for 32-bit float samples, whose range is not defined.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB":
        return upright
    if upright.mode.startswith("I;16") or upright.mode == "I":
        return Image.fromarray(_to_eight_bits(np.asarray(upright))).convert("RGB")
    if upright.mode == "F":
        raise UndecodableImage("32-bit float samples have no defined range: save as 8 or 16 bits per sample")
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        page = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(page, layered).convert("RGB")
    return upright.convert("RGB")


def check_size(width: int, height: int, pixel_limit: int = PIXEL_LIMIT) -> None:
    """Raises UndecodableImage when width * height exceeds the limit."""
    if width * height > pixel_limit:
        raise UndecodableImage(f"{width} x {height} pixels are more than the limit of {pixel_limit:,} pixels")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UndecodableImage(f"the file cannot be read: {error.strerror or error}") from error


def _decode_plain_jpeg(data: bytes, pixel_limit: int) -> np.ndarray | None:
    """The fast path; None when Pillow has to decide (rotated, CMYK, damaged)."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    check_size(width, height, pixel_limit)
    if colours not in _FAST_COLOURS or _orientation(data) not in _UPRIGHT:
        return None
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None


def _orientation(data: bytes) -> int | None:
    """The EXIF orientation of a JPEG; None when it has no EXIF block, without parsing the rest of the file."""
    if b"Exif\x00\x00" not in data[:131_072]:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.getexif().get(_ORIENTATION_TAG)
    except (OSError, ValueError, SyntaxError):
        return None


def _decode_with_pillow(data: bytes, pixel_limit: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            check_size(*image.size, pixel_limit)
            return np.array(to_rgb(image))
    except UndecodableImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise UndecodableImage("not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UndecodableImage(f"more pixels than the limit of {pixel_limit:,} pixels") from error
    except _DAMAGE as error:
        raise UndecodableImage(f"the image is damaged: {error}") from error


def _to_eight_bits(samples: np.ndarray) -> np.ndarray:
    """(height, width) integers of 0..65535, rounded to 0..255; out-of-range 32-bit samples are clipped first."""
    wide = np.clip(samples.astype(np.int64), 0, 65_535)
    return ((wide * 255 + 32_767) // 65_535).astype(np.uint8)
