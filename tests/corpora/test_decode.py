import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpora.imaging.decode import UndecodableImage, decode_rgb


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(width: int = 61, height: int = 47) -> Image.Image:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_equals_pillow_pixel_by_pixel(subsampling):
    data = encoded(photograph(), "JPEG", quality=88, subsampling=subsampling)
    assert np.array_equal(decode_rgb(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_other_formats_equal_pillow(kind):
    data = encoded(photograph(), kind)
    assert np.array_equal(decode_rgb(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_path_reads_like_bytes(tmp_path: Path):
    data = encoded(photograph(), "JPEG")
    file = tmp_path / "ein Bild – ☃.jpg"
    file.write_bytes(data)
    assert np.array_equal(decode_rgb(file), decode_rgb(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation, kind):
    image = photograph()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, -1)[:, ::-1],
        8: lambda a: np.rot90(a, 1),
    }
    upright = decode_rgb(data)
    assert upright.shape == ((61, 47, 3) if orientation >= 5 else (47, 61, 3))
    expected = turns[orientation](stored)
    if orientation == 7:
        expected = stored[::-1, ::-1].swapaxes(0, 1)
    assert np.array_equal(upright, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_is_spread_over_three_channels(kind):
    image = photograph().convert("L")
    data = encoded(image, kind)
    upright = decode_rgb(data)
    grey = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(upright, np.repeat(grey[:, :, None], 3, axis=2))


def test_cmyk_looks_like_the_rgb_it_came_from():
    image = photograph()
    data = encoded(image.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode_rgb(data).astype(int) - np.asarray(image).astype(int)).mean() < 4


def test_sixteen_bits_are_rounded_to_eight():
    samples = np.linspace(0, 65_535, 40 * 30).reshape(30, 40).astype(np.uint16)
    upright = decode_rgb(encoded(Image.fromarray(samples), "PNG"))
    assert np.array_equal(upright[:, :, 0], np.round(samples / 257.0).astype(np.uint8))


def test_transparency_is_laid_over_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    upright = decode_rgb(encoded(Image.fromarray(pixels), "PNG"))
    assert (upright[:2] == 0).all()
    assert (upright[2:] == 255).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_rgb(data)[0, 0] == [255, 0, 0]).all()


def test_a_png_named_jpg_is_still_decoded(tmp_path: Path):
    file = tmp_path / "mislabelled.jpg"
    file.write_bytes(encoded(photograph(), "PNG"))
    assert decode_rgb(file).shape == (47, 61, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 not an image at all", "known format"),
        (encoded(photograph(), "JPEG")[:700], "damaged"),
        (encoded(photograph(), "PNG")[:700], "damaged"),
        (b"\xff\xd8\xff\xe0 nonsense", "known format|damaged"),
    ],
)
def test_bad_files_say_why(data, reason):
    with pytest.raises(UndecodableImage, match=reason):
        decode_rgb(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_from_the_header(kind):
    with pytest.raises(UndecodableImage, match=r"61 x 47 pixels are more than the limit of 1,000"):
        decode_rgb(encoded(photograph(), kind), pixel_limit=1000)


def test_a_bomb_beyond_pillows_own_limit_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UndecodableImage, match="pixels"):
        decode_rgb(encoded(photograph(), "PNG"))


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(UndecodableImage, match="cannot be read"):
        decode_rgb(tmp_path / "gone.png")


def test_float_samples_are_refused():
    with pytest.raises(UndecodableImage, match="32-bit float"):
        decode_rgb(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))
