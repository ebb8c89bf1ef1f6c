"""One image at a time: what is accepted, what is noted, what is refused and why."""

import hashlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from corpora.imaging.decode import UndecodableImage, decode_rgb
from corpora.imaging.inspect import Note, inspect_bytes, inspect_file, inspect_pixels
from corpora.imaging.picture import picture_of, plain_jpeg, thumbnail_of
from tests.corpora.pictures import encoded, photograph


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = "taken by somebody"
    return block


def bomb_png(side: int = 60_000) -> bytes:
    """A valid PNG header that promises 3.6 gigapixels; the file has a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def deep(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values.astype(np.uint16)), "PNG")


@pytest.mark.parametrize(
    ("data", "name", "notes"),
    [
        (encoded(photograph()), "a.jpg", set()),
        (encoded(photograph(), "PNG"), "a.png", set()),
        (encoded(photograph(), "PNG"), "a.jpg", {Note.MISLABELLED}),
        (encoded(photograph()), "a.png", {Note.MISLABELLED}),
        (encoded(photograph()), "no ending", set()),
        (encoded(photograph().convert("L")), "a.jpg", {Note.GREYSCALE}),
        (encoded(photograph().convert("CMYK")), "a.jpg", {Note.CMYK}),
        (deep(np.arange(12).reshape(3, 4) * 5000), "a.png", {Note.SIXTEEN_BIT, Note.GREYSCALE}),
        (encoded(photograph(), exif=exif(6)), "a.jpeg", {Note.ROTATED}),
        (encoded(photograph(), exif=exif(1)), "a.jpg", set()),
        (
            encoded(photograph(1), "GIF", save_all=True, append_images=[photograph(2)]),
            "a.gif",
            {Note.ANIMATED},
        ),
        (encoded(Image.new("RGBA", (9, 9), (200, 0, 0, 90)), "PNG"), "a.png", {Note.TRANSPARENT}),
    ],
)
def test_odd_images_are_accepted_and_noted(data, name, notes):
    assert set(inspect_bytes(data, name).notes) == notes


def test_facts_are_of_the_upright_image():
    data = encoded(photograph(3, 90, 70), exif=exif(6))
    found = inspect_bytes(data, "a.jpg")
    assert (found.width, found.height) == (70, 90)
    assert found.size == len(data)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.pixels is None
    assert 0 <= found.phash < 2**64


def test_sixteen_bits_are_scaled_not_cut():
    values = np.array([[0, 257, 32_896, 65_535]])
    assert decode_rgb(deep(values))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_first_frame_of_an_animation_counts():
    first = photograph(1).convert("P", palette=Image.Palette.ADAPTIVE)
    data = encoded(first, "GIF", save_all=True, append_images=[photograph(2)])
    assert np.array_equal(decode_rgb(data), np.asarray(first.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (encoded(photograph())[:900], "damaged"),
        (encoded(photograph(), "PNG")[:-300], "damaged"),
        (b"\x00" * 5000, "not an image"),
        (b"just text", "not an image"),
        (bomb_png(), "3,600,000,000|limit"),
    ],
)
def test_bad_images_are_refused_with_the_reason(data, reason):
    with pytest.raises(UndecodableImage, match=reason):
        inspect_bytes(data, "a.jpg")


def test_pixel_limit_is_decided_from_the_header():
    with pytest.raises(UndecodableImage, match="90 x 70 pixels are more than the limit of 6,299 pixels"):
        inspect_bytes(encoded(photograph()), "a.jpg", pixel_limit=6_299)
    assert inspect_bytes(encoded(photograph()), "a.jpg", pixel_limit=6_300).width == 90


def test_files_that_are_no_files_are_refused(tmp_path):
    with pytest.raises(UndecodableImage, match="No such file"):
        inspect_file(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UndecodableImage, match="not a regular file"):
        inspect_file(tmp_path / "pipe.jpg")


def test_huge_files_are_not_read(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(UndecodableImage, match="10,737,418,240 bytes"):
        inspect_file(tmp_path / "huge.jpg")


def test_pixels_without_a_file():
    pixels = np.asarray(photograph(1, 32, 32))
    found = inspect_pixels(pixels)
    assert (found.width, found.height, found.size) == (32, 32, 3072)
    assert np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_a_plain_jpeg_keeps_its_pixels_and_loses_its_words(options):
    data = encoded(photograph(), comment=b"somewhere", icc_profile=b"profile" * 40, exif=exif(1), **options)
    data += b"\xff\xd8 a preview that a phone appended"
    plain = plain_jpeg(data)
    assert np.array_equal(decode_rgb(plain), decode_rgb(data))
    for secret in (b"somewhere", b"profile", b"Exif", b"somebody", b"appended"):
        assert secret in data
        assert secret not in plain
    assert Image.open(io.BytesIO(plain)).getexif() == {}


@pytest.mark.parametrize(
    "data",
    [
        encoded(photograph(), exif=exif(6)),
        encoded(photograph().convert("CMYK")),
        encoded(photograph(), "TIFF"),
        encoded(photograph(), "PNG"),
        deep(np.arange(12).reshape(3, 4) * 5000),
    ],
)
def test_everything_else_becomes_a_png_of_what_a_model_sees(data):
    picture, _ = picture_of(data)
    shown = Image.open(io.BytesIO(picture.data))
    assert picture.ending == "png"
    assert shown.mode == "RGB"
    assert not shown.info
    assert np.array_equal(np.asarray(shown), decode_rgb(data))


def test_tiny_thumbnails_keep_every_pixel_and_large_ones_shrink():
    tiny = np.asarray(photograph(1, 32, 32))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(thumbnail_of(tiny).data)).convert("RGB")), tiny)
    large = thumbnail_of(np.asarray(photograph(1, 1000, 500)))
    assert (large.width, large.height) == (256, 128)
