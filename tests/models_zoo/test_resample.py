import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from corpora.imaging.decode import decode_rgb
from models_zoo.adapters import Preprocessing
from models_zoo.engine.decode import MixedSizes, decode_batch, fit

MODES = {
    "nearest": transforms.InterpolationMode.NEAREST,
    "box": transforms.InterpolationMode.BOX,
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
    "lanczos": transforms.InterpolationMode.LANCZOS,
}


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    resize=st.none() | st.integers(1, 70),
    crop=st.none() | st.integers(1, 70),
    interpolation=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 9),
)
def test_equals_pillow_across_then_down_and_torchvisions_sizes(width, height, resize, crop, interpolation, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if resize:
        new_width, new_height = transforms.Resize(resize)(image).size
        across = transforms.functional.resize(image, (height, new_width), MODES[interpolation])
        image = transforms.functional.resize(across, (new_height, new_width), MODES[interpolation])
    expected = np.asarray(transforms.CenterCrop(crop)(image) if crop else image)
    found = fit(pixels, Preprocessing(resize=resize, crop=crop, interpolation=interpolation))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", [(500, 400), (375, 500), (288, 384), (300, 300), (640, 360)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvision_on_photographs(size, interpolation):
    coarse = np.random.default_rng(4).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    usual = transforms.Compose([transforms.Resize(256, MODES[interpolation]), transforms.CenterCrop(224)])
    found = fit(np.asarray(image), Preprocessing(resize=256, crop=224, interpolation=interpolation))
    assert np.array_equal(found, np.asarray(usual(image)))


def test_stretch_equals_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (37, 81, 3), dtype=np.uint8)
    across = Image.fromarray(pixels).resize((24, 37), Image.Resampling.BILINEAR)
    expected = np.asarray(across.resize((24, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(fit(pixels, Preprocessing(resize=24, resize_mode="stretch")), expected)


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


def test_bad_images_are_black_and_say_why():
    images = [jpeg(40, 30), b"no image", OSError(2, "No such file"), jpeg(30, 50)]
    pixels, failures = decode_batch(images, Preprocessing(resize=16, crop=16))
    assert pixels.shape == (4, 16, 16, 3)
    assert sorted(failures) == [1, 2]
    assert "No such file" in failures[2]
    assert not pixels[1:3].any()
    assert np.array_equal(pixels[3], fit(decode_rgb(images[3]), Preprocessing(resize=16, crop=16)))


def test_whole_images_must_have_one_size():
    with pytest.raises(MixedSizes, match=r"30 x 50 and 40 x 30.*set resize and crop"):
        decode_batch([jpeg(40, 30), jpeg(30, 50)], Preprocessing())


def test_packed_images_pass_untouched():
    packed = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    pixels, failures = decode_batch(packed, Preprocessing())
    assert np.array_equal(pixels, packed)
    assert not failures
