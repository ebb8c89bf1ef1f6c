"""Full-reference measures against scikit-image, piq and slow recomputations of their definitions."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from models_zoo.metrics import get
from models_zoo.metrics.planes import shrink
from tests.models_zoo.metrics.pictures import NAMES, as_jpeg, blurred, noisy, photograph
from tests.models_zoo.metrics.slow import grey, slow_gmsd, slow_halved, slow_ms_ssim, slow_ssim

SPOILERS = {"blur": blurred, "noise": noisy, "jpeg": as_jpeg}
STEPS = {"blur": (0.7, 1.5, 3), "noise": (5, 15, 40), "jpeg": (70, 30, 8)}
COMPARING = ("psnr", "psnr_y", "ssim", "ssim_downsampled", "ms_ssim", "gmsd")


def crop(name):
    """Odd on one side; enough for five scales."""
    return photograph(name)[60:258, 100:301]


@pytest.mark.parametrize("name", NAMES)
def test_psnr_is_scikit_images(name):
    image = crop(name)
    spoilt = noisy(image, 12)
    assert get("psnr").build()(spoilt, image) == pytest.approx(peak_signal_noise_ratio(image, spoilt), abs=1e-9)
    expected = peak_signal_noise_ratio(grey(image), grey(spoilt), data_range=255)
    assert get("psnr_y").build()(spoilt, image) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", SPOILERS)
def test_ssim_is_scikit_images_and_follows_its_definition(name, kind):
    image = crop(name)
    spoilt = SPOILERS[kind](image, STEPS[kind][1])
    value = get("ssim").build()(spoilt, image)
    expected = structural_similarity(
        grey(image), grey(spoilt), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert value == pytest.approx(expected, abs=1e-10)
    assert value == pytest.approx(slow_ssim(grey(spoilt), grey(image))[0], abs=1e-10)


def test_ssim_reduces_large_images_only_under_the_name_that_says_so():
    image = photograph("astronaut")[:400]  # reduced by two
    spoilt = noisy(image, 20)
    expected, _ = slow_ssim(slow_halved(grey(spoilt)), slow_halved(grey(image)))
    assert get("ssim_downsampled").build()(spoilt, image) == pytest.approx(expected, abs=1e-10)
    small, spoilt_small = image[:300], spoilt[:300]
    assert get("ssim_downsampled").build()(spoilt_small, small) == get("ssim").build()(spoilt_small, small)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_shrinking_is_a_mirrored_mean_filter_and_every_nth_pixel(factor):
    plane = grey(photograph("chelsea"))[:47, :61]
    reach = (factor - 1) // 2
    padded = np.pad(plane, factor, mode="symmetric")
    slow = np.array(
        [
            [
                padded[y + factor - reach : y + 2 * factor - reach, x + factor - reach : x + 2 * factor - reach].mean()
                for x in range(0, 61, factor)
            ]
            for y in range(0, 47, factor)
        ]
    )
    np.testing.assert_allclose(shrink(plane, factor), slow, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", SPOILERS)
def test_ms_ssim_follows_its_definition(name, kind):
    image = crop(name)
    spoilt = SPOILERS[kind](image, STEPS[kind][1])
    expected = slow_ms_ssim(grey(spoilt), grey(image))
    assert get("ms_ssim").build()(spoilt, image) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("spoil", "step", "ssim", "downsampled", "scales", "gmsd"),
    [
        (noisy, 20, 0.5235948, 0.7867296, 0.9254618, 0.0869809),
        (blurred, 2, 0.8230704, 0.9062647, 0.9542761, 0.1144555),
    ],
)
def test_scores_are_those_of_piq(spoil, step, ssim, downsampled, scales, gmsd):
    """What piq 0.8.0 gives for the same luma; all sides even, where its borders do not differ from the papers'."""
    image = photograph("astronaut")
    spoilt = spoil(image, step)
    expected = {"ssim": ssim, "ssim_downsampled": downsampled, "ms_ssim": scales}
    for name, value in expected.items():
        assert get(name).build()(spoilt, image) == pytest.approx(value, abs=1e-7)
    assert get("gmsd").build()(spoilt, image) == pytest.approx(gmsd, abs=2e-6)  # its constant is rounded


def test_ms_ssim_of_a_negative_is_zero_not_a_complex_number():
    image = photograph("astronaut")
    assert get("ms_ssim").build()(255 - image, image) == 0


@pytest.mark.parametrize("size", [(120, 160), (121, 159)])
def test_gmsd_follows_its_definition(size):
    image = photograph("coffee")[: size[0], : size[1]]
    spoilt = as_jpeg(image, 20)
    assert get("gmsd").build()(spoilt, image) == pytest.approx(slow_gmsd(grey(spoilt), grey(image)), abs=1e-12)


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("kind", SPOILERS)
def test_the_more_an_image_is_spoilt_the_worse_its_score(name, kind):
    card, image = get(name), crop("astronaut")
    measure = card.build()
    scores = [measure(version, image) for version in (image, *(SPOILERS[kind](image, step) for step in STEPS[kind]))]
    assert scores == sorted(scores, reverse=card.higher_is_better)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize("name", COMPARING)
def test_an_image_is_a_perfect_copy_of_itself(name):
    card, image = get(name), crop("coffee")
    perfect = card.high if card.higher_is_better else card.low
    assert card.build()(image, image) == pytest.approx(perfect, abs=1e-12)


def test_one_grey_level_in_one_pixel_is_not_better_than_the_limit_of_psnr():
    image = photograph("astronaut")
    other = image.copy()
    other[0, 0, 0] ^= 1
    assert get("psnr").build()(other, image) == 100
