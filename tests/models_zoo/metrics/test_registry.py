import subprocess
import sys

import numpy as np
import pytest

from models_zoo.metrics import MetricError, UnknownMetric, UnsuitableImage, UnsuitableParams, get, list_metrics
from models_zoo.metrics import registry as registry_module
from tests.models_zoo.metrics.pictures import constant, noisy, photograph

PLAIN = [card.name for card in list_metrics() if not card.params and not card.package]
RATING = [name for name in PLAIN if not get(name).needs_reference]
COMPARING = [name for name in PLAIN if get(name).needs_reference]


def score(name, image):
    """With the image's own noisy version as the reference of measures that want one."""
    return get(name).build()(image, noisy(image, 10) if get(name).needs_reference else None)


def test_a_card_says_what_a_person_needs_to_choose():
    cards = list_metrics()
    assert {"psnr", "ssim", "ms_ssim", "brisque", "niqe", "jpeg_quality", "blur_effect"} <= {
        card.name for card in cards
    }
    for card in cards:
        assert card.title
        assert card.summary
        assert card.licence
        assert card.source
        assert card.low is None or card.high is None or card.low < card.high
    assert [card.name for card in list_metrics("psnr*")] == ["psnr", "psnr_y"]


def test_listing_measures_loads_no_compiler():
    heavy = (
        "import sys, models_zoo.metrics; print([m for m in ('numba', 'scipy', 'sklearn', 'torch') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownMetric, match='no measure "brisk": there are brisque'):
        get("brisk")


def test_a_name_is_taken_once():
    card = get("psnr")
    fields = {name: getattr(card, name) for name in card.__dataclass_fields__ if name != "builder"}
    with pytest.raises(ValueError, match='"psnr" is registered twice'):
        registry_module.register_metric(**fields)(card.builder)


@pytest.mark.parametrize("name", RATING)
def test_grey_arrays_score_as_grey_rgb(name):
    grey = photograph("camera")[:200, :300]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert score(name, grey) == score(name, rgb) == score(name, grey[:, :, None])


@pytest.mark.parametrize("name", PLAIN)
def test_scores_stay_in_the_range_of_the_card(name):
    card = get(name)
    for image in (photograph("chelsea")[:180], noisy(constant(), 60)):
        value = score(name, image)
        assert isinstance(value, float)
        assert (card.low if card.low is not None else value) <= value <= (card.high if card.high is not None else value)


@pytest.mark.parametrize("name", PLAIN)
def test_an_image_below_the_least_side_is_refused_with_both_sizes(name):
    card = get(name)
    if card.min_side > 1:
        small = np.zeros((card.min_side - 1, 300, 3), np.uint8)
        with pytest.raises(UnsuitableImage, match=f"300 x {card.min_side - 1} pixels.*at least {card.min_side}"):
            card.build()(small, small)


@pytest.mark.parametrize("name", PLAIN)
def test_the_smallest_image_allowed_has_a_score(name):
    side = get(name).min_side
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert np.isfinite(score(name, image))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_image_has_a_defined_score_or_is_refused_in_words(name, level):
    image = constant(level)
    try:
        assert np.isfinite(get(name).build()(image, image))
    except UnsuitableImage as error:
        assert "constant" in str(error) or "nothing changes" in str(error)  # noqa: PT017, either outcome is right


@pytest.mark.parametrize("name", COMPARING)
def test_a_measure_that_compares_needs_a_reference_of_the_same_size(name):
    measure, image = get(name).build(), photograph("chelsea")
    with pytest.raises(UnsuitableImage, match="this image has none"):
        measure(image)
    with pytest.raises(UnsuitableImage, match="the image is 451 x 300, its reference 450 x 300 pixels"):
        measure(image, image[:, :-1])


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((50, 50, 3)), np.zeros((50, 50, 4), np.uint8), np.zeros(50, np.uint8)],
    ids=["float", "RGBA", "1D"],
)
def test_anything_but_8_bit_rgb_is_refused(pixels):
    with pytest.raises(UnsuitableImage, match="8-bit RGB: the image is"):
        get("colourfulness").build()(pixels)


def test_parameters_are_asked_for_and_not_taken_in_vain(tmp_path):
    with pytest.raises(UnsuitableParams, match='"niqe" needs a file of niqe parameters'):
        get("niqe").build()
    with pytest.raises(UnsuitableParams, match=r"leave out .x\.npz"):
        get("psnr").build(tmp_path / "x.npz")


def test_every_refusal_is_one_kind_of_value_error():
    assert issubclass(MetricError, ValueError)
    assert all(issubclass(kind, MetricError) for kind in (UnknownMetric, UnsuitableImage, UnsuitableParams))


@pytest.mark.parametrize("name", PLAIN)
def test_a_view_that_is_not_contiguous_scores_as_its_copy(name):
    view = photograph("chelsea")[:, ::-1]
    assert score(name, view) == score(name, view.copy())
