"""Measures of one property against slow recomputations, known answers and scikit-image."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.measure import blur_effect as judge_of_blur

from models_zoo.metrics import UnsuitableImage, get
from models_zoo.metrics.planes import luminance
from tests.models_zoo.metrics.pictures import NAMES, as_jpeg, blurred, constant, noisy, photograph
from tests.models_zoo.metrics.slow import grey, slow_blur, slow_jpeg_quality, slow_noise


@pytest.mark.parametrize("name", NAMES)
def test_luma_is_the_standards_to_half_a_level(name):
    image = photograph(name)
    exact = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luminance(image) - exact).max() <= 0.51


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", [lambda image: image, lambda image: as_jpeg(image, 15)], ids=["good", "jpeg"])
def test_jpeg_quality_follows_its_formula(name, spoil):
    image = spoil(photograph(name))
    assert get("jpeg_quality").build()(image) == pytest.approx(slow_jpeg_quality(grey(image)), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_jpeg_quality_falls_with_the_quality_setting(name):
    measure, image = get("jpeg_quality").build(), photograph(name)
    scores = [measure(as_jpeg(image, quality)) for quality in (90, 50, 25, 10, 4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 8
    assert scores[-1] < 3.5


def test_flat_blocks_are_the_worst_jpeg_and_not_a_complex_number():
    blocks = np.random.default_rng(1).integers(0, 256, (10, 10, 1), np.uint8).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    assert get("jpeg_quality").build()(blocks) == pytest.approx(get("jpeg_quality").low)


@pytest.mark.parametrize("name", NAMES)
def test_the_blur_effect_follows_its_definition(name):
    for image in (photograph(name), blurred(photograph(name), 2)):
        assert get("blur_effect").build()(image) == pytest.approx(slow_blur(grey(image)), abs=1e-9)


def test_the_blur_effect_orders_images_as_scikit_images():
    """Its gradients are Sobel's, so the values differ."""
    measure = get("blur_effect").build()
    images = [blurred(photograph(name)[:200, :200], sigma) for name in NAMES for sigma in (0.01, 0.5, 1, 2, 4)]
    ours, theirs = ([f(image) for image in images] for f in (measure, lambda image: judge_of_blur(grey(image))))
    assert spearmanr(ours, theirs).statistic > 0.97
    assert all(ours[start : start + 5] == sorted(ours[start : start + 5]) for start in range(0, 15, 5))


def test_an_image_with_steps_in_one_direction_only_is_judged_by_that_direction():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert get("blur_effect").build()(stripes) == pytest.approx(get("blur_effect").build()(stripes.swapaxes(0, 1)))


@pytest.mark.parametrize("sigma", [2, 5, 12, 30])
def test_the_noise_of_a_flat_image_is_found(sigma):
    found = get("noise_sigma").build()(noisy(constant(side=300), sigma)[..., [0, 0, 0]])
    assert found == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.03)  # rounding to whole levels adds to it


def test_noise_follows_its_definition():
    image = photograph("chelsea")
    assert get("noise_sigma").build()(image) == pytest.approx(slow_noise(grey(image)), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_contrast_and_colourfulness_follow_their_definitions(name):
    image = photograph(name)
    assert get("rms_contrast").build()(image) == pytest.approx((grey(image) / 255).std(), rel=1e-12)
    red, green, blue = np.moveaxis(image.astype(float), 2, 0)
    first, second = red - green, (red + green) / 2 - blue
    expected = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
    assert get("colourfulness").build()(image) == pytest.approx(expected, rel=1e-12)


def test_a_grey_image_has_no_colour_and_half_black_half_white_has_all_contrast():
    page = np.zeros((40, 40, 3), np.uint8)
    page[20:] = 255
    assert get("colourfulness").build()(page) == 0
    assert get("rms_contrast").build()(page) == 0.5


@pytest.mark.parametrize(("name", "words"), [("blur_effect", "neither sharp nor blurred"), ("jpeg_quality", "8 x 8")])
def test_a_constant_image_is_refused_in_words(name, words):
    with pytest.raises(UnsuitableImage, match=words):
        get(name).build()(constant())
